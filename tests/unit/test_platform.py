"""Which image of an index runs here."""

from __future__ import annotations

import pytest

from pylab_container.errors import InvalidArchive, InvalidInput
from pylab_container.oci import manifest as manifests
from pylab_container.oci.manifest import Descriptor
from pylab_container.oci.platform import Platform


def listed(*platforms: str) -> list[Descriptor]:
    found = []
    for number, text in enumerate(platforms):
        system, architecture, *variant = text.split("/")
        document = {"os": system, "architecture": architecture} | ({"variant": variant[0]} if variant else {})
        found.append(Descriptor(manifests.MANIFEST, f"sha256:{number:064x}", 1, platform=document))
    return found


def chosen(wanted: str, *platforms: str) -> str | None:
    found = manifests.choose(listed(*platforms), Platform.parse(wanted, architecture="amd64"))
    return platforms[int(found.digest[7:], 16)] if found else None


@pytest.mark.parametrize(
    ("text", "platform"),
    [
        ("linux/amd64", "linux/amd64"),
        ("linux/x86_64", "linux/amd64"),
        ("LINUX/AArch64", "linux/arm64"),
        ("arm64", "linux/arm64"),
        ("linux", "linux/amd64"),
        ("linux/arm/v7", "linux/arm/v7"),
        ("armhf", "linux/arm/v7"),
    ],
)
def test_a_platform_has_many_spellings(text: str, platform: str) -> None:
    assert str(Platform.parse(text, architecture="amd64")) == platform


@pytest.mark.parametrize("text", ["", "a/b/c/d", "linux//x", "linux/am d64", "../etc"])
def test_what_is_no_platform_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="invalid platform"):
        Platform.parse(text, architecture="amd64")


def test_the_very_platform_is_chosen() -> None:
    assert chosen("linux/amd64", "windows/amd64", "linux/arm64", "linux/amd64") == "linux/amd64"


def test_an_arm_runs_what_older_ones_run_the_newest_first() -> None:
    assert chosen("linux/arm/v7", "linux/arm/v5", "linux/arm/v6", "linux/arm64") == "linux/arm/v6"
    assert chosen("linux/arm/v6", "linux/arm/v7") is None
    assert chosen("linux/arm", "linux/arm/v7") == "linux/arm/v7"


def test_variants_that_are_usual_need_not_be_named() -> None:
    assert chosen("linux/arm64", "linux/arm64/v8") == "linux/arm64/v8"
    assert chosen("linux/amd64", "linux/amd64/v3") is None


def test_an_attestation_is_no_image() -> None:
    assert chosen("linux/amd64", "unknown/unknown") is None


@pytest.mark.parametrize(
    ("raw", "said", "kind"),
    [
        (b'{"manifests":[]}', "", manifests.INDEX),
        (b'{"layers":[]}', manifests.DOCKER_MANIFEST, manifests.DOCKER_MANIFEST),
        (b'{"layers":[],"mediaType":"' + manifests.MANIFEST.encode() + b'"}', "text/plain", manifests.MANIFEST),
    ],
)
def test_a_manifest_says_its_kind_or_the_registry_does(raw: bytes, said: str, kind: str) -> None:
    assert manifests.kind_of(raw, said) == kind


@pytest.mark.parametrize(
    "raw",
    [
        b"<html>",
        b"[]",
        b'{"schemaVersion":1,"fsLayers":[]}',
        b'{"mediaType":"application/pdf"}',
        b'{"manifests":[],"mediaType":"' + manifests.MANIFEST.encode() + b'"}',
    ],
)
def test_what_is_no_manifest_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidArchive):
        manifests.kind_of(raw)


@pytest.mark.parametrize(
    "kind",
    [
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
        "text/html",
    ],
)
def test_layers_that_no_registry_gives_are_refused(kind: str) -> None:
    config = Descriptor(manifests.CONFIG, f"sha256:{1:064x}", 1)
    manifest = manifests.Manifest(config, (Descriptor(kind, f"sha256:{2:064x}", 1),))
    with pytest.raises(InvalidArchive):
        manifests.check_layers(manifest)


def test_an_artifact_is_no_image() -> None:
    config = Descriptor("application/vnd.cncf.helm.config.v1+json", f"sha256:{1:064x}", 1)
    with pytest.raises(InvalidArchive, match="not an image"):
        manifests.check_layers(manifests.Manifest(config, ()))
