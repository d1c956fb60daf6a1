"""Pull and push with Debian's docker-registry; skopeo verifies the results."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from pylab_container import Engine, events
from pylab_container.docker import progress
from pylab_container.errors import (
    ImageNotFound,
    InUse,
    InvalidArchive,
    InvalidInput,
    MissingProgram,
    Unauthorized,
    Unreachable,
)
from pylab_container.host import programs
from pylab_container.images.image import Image
from pylab_container.registry.settings import RegistrySettings
from tests.support.commands import Labctr
from tests.support.dockerd import Docker, run_dockerd
from tests.support.network import forwarded
from tests.support.registries import PASSWORD, USER, RunningRegistry, running
from tests.support.waiting import PATIENCE, eventually

AUTH = {"username": USER, "password": PASSWORD}


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of a config.json that does not exist yet."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    return tmp_path / "docker/config.json"


@pytest.fixture
def other(tmp_path: Path) -> Engine:
    """A second engine, on another data root."""
    return Engine(tmp_path / "other")


def layered(engine: Engine, folder: Path, name: str, *, layers: int = 3) -> Image:
    """Build an image with a number of layers on busybox:1, each with its own file."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["FROM busybox:1", *(f"COPY {number} /layer/" for number in range(layers)), 'CMD ["cat", "/layer/0"]']
    (folder / "Dockerfile").write_text("\n".join(lines))
    for number in range(layers):
        (folder / str(number)).write_bytes(f"{name} {number}\n".encode() + os.urandom(300_000))
    return engine.images.build(folder, tag=name)


def told(engine: Engine, act: Callable[[], Any]) -> list[events.RegistryRequest]:
    """The requests that something takes."""
    with engine.events.collected() as seen:
        act()
    return [event for event in seen if isinstance(event, events.RegistryRequest)]


def statuses(seen: list[events.Event]) -> list[str]:
    """Return the reported statuses of layers and of the whole transfer, without byte counts."""
    found = [event.status for event in seen if isinstance(event, events.LayerTransfer | events.TransferMessage)]
    return [status for status in found if status not in ("Downloading", "Extracting", "Pushing")]


# -- digests -----------------------------------------------------------------------------------


def test_an_image_survives_push_and_pull_to_the_last_byte(
    engine: Engine, image: Image, other: Engine, registry: RunningRegistry, tmp_path: Path
) -> None:
    name = f"{registry.host}/layered:1"
    made = layered(engine, tmp_path / "context", name)
    (result,) = engine.images.push(name)
    pulled = other.images.pull(name)
    assert pulled.id == made.id
    assert pulled.config.raw == made.config.raw
    assert pulled.digests == made.digests == [f"{registry.host}/layered@{result.digest}"]
    assert registry.digest("layered:1") == result.digest
    assert other.fsck(deep=True) == engine.fsck(deep=True) == []


def test_what_skopeo_fetches_of_our_push_is_the_image(
    engine: Engine, image: Image, other: Engine, registry: RunningRegistry, tmp_path: Path
) -> None:
    made = layered(engine, tmp_path / "context", f"{registry.host}/fetched:1")
    engine.images.push(f"{registry.host}/fetched:1")
    registry.fetch("fetched:1", f"docker-archive:{tmp_path}/archive.tar:fetched:1")
    assert [loaded.id for loaded in other.images.load(tmp_path / "archive.tar")] == [made.id]
    with tarfile.open(tmp_path / "archive.tar") as archive:
        assert f"{made.id[7:]}.json" in archive.getnames()


@pytest.mark.parametrize("format_", ["v2s2", "oci"])
@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_what_skopeo_pushes_is_pulled_with_skopeos_digest(
    engine: Engine,
    image: Image,
    other: Engine,
    registry: RunningRegistry,
    tmp_path: Path,
    format_: str,
    compression: str,
) -> None:
    if (format_, compression) == ("v2s2", "zstd"):
        format_ = "oci"  # Docker's format has no zstd
    engine.images.save("busybox:1", tmp_path / "saved.tar", format="oci-archive")
    name = f"skopeo-{format_}-{compression}:1"
    registry.copy(
        f"oci-archive:{tmp_path}/saved.tar", name, f"--dest-compress-format={compression}", f"--format={format_}"
    )
    pulled = other.images.pull(f"{registry.host}/{name}")
    assert pulled.id == f"sha256:{registry.inspect(name)['config']['digest'][7:]}"
    assert pulled.digests == [f"{registry.host}/{name[:-2]}@{registry.digest(name)}"]
    assert other.containers.run(pulled, ["echo", "runs"], remove=True, network_mode="none") == b"runs\n"
    assert other.fsck(deep=True) == []


def test_a_pull_and_a_push_to_another_repository_keep_the_digest(
    engine: Engine, image: Image, other: Engine, registry: RunningRegistry, tmp_path: Path
) -> None:
    name = f"{registry.host}/kept/one:1"
    layered(engine, tmp_path / "context", name)
    engine.images.push(name)
    other.images.pull(name).tag(f"{registry.host}/kept/two:1")
    other.images.push(f"{registry.host}/kept/two:1")
    assert registry.digest("kept/two:1") == registry.digest("kept/one:1")


def test_equal_images_have_equal_digests_at_every_registry(
    engine: Engine, image: Image, registry: RunningRegistry, locked: RunningRegistry
) -> None:
    image.tag(f"{registry.host}/equal:1")
    image.tag(f"{locked.host}/equal:1")
    (here,) = engine.images.push(f"{registry.host}/equal:1")
    (there,) = engine.images.push(f"{locked.host}/equal:1", auth_config=AUTH)
    assert here.digest == there.digest


def test_dockerd_pulls_what_we_push_and_we_what_it_pushes(
    engine: Engine,
    image: Image,
    registry: RunningRegistry,
    tmp_path: Path,
    dockerd: Docker,
) -> None:
    name = f"{registry.host}/docker:1"
    made = layered(engine, tmp_path / "context", name)
    engine.images.push(name)
    with forwarded(dockerd.pid, registry.port):
        dockerd.run("pull", name)
        assert dockerd.json("inspect", name)[0]["Id"] == made.id
        assert dockerd.json("inspect", name)[0]["RepoDigests"] == made.digests
        dockerd.run("tag", name, f"{registry.host}/back:1")
        dockerd.run("push", f"{registry.host}/back:1")
    assert registry.digest("back:1") == registry.digest("docker:1")
    engine.images.remove(name, force=True)
    assert engine.images.pull(f"{registry.host}/back:1").id == made.id


def test_what_is_known_of_layers_is_written_as_dockerd_writes_it(
    engine: Engine,
    image: Image,
    registry: RunningRegistry,
    tmp_path: Path,
) -> None:
    name = f"{registry.host}/metadata:1"
    image.tag(name)
    engine.images.push(name)
    engine.images.remove("busybox:1")
    engine.images.remove(name)
    engine.images.pull(name)
    with run_dockerd(tmp_path / "docker-root") as docker:  # one that has not pulled anything before
        docker.run("pull", name)
    for path in ("diffid-by-digest", "v2metadata-by-diffid"):
        ours, theirs = (
            {file.name: file.read_text() for file in (root / "image/overlay2/distribution" / path / "sha256").iterdir()}
            for root in (engine.data_root, tmp_path / "docker-root")
        )
        if path == "v2metadata-by-diffid":  # ours knows of its push, too
            assert {key: json.loads(value)[-1] for key, value in ours.items()} == {
                key: json.loads(value)[-1] for key, value in theirs.items()
            }
        else:
            assert ours == theirs
    ours, theirs = (
        json.loads((root / "image/overlay2/repositories.json").read_text())
        for root in (engine.data_root, tmp_path / "docker-root")
    )
    assert ours == theirs


# -- which image -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def index(registry: RunningRegistry, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Push an index with images for amd64, arm64 and two variants of arm, created with buildah."""
    top = tmp_path_factory.mktemp("index")
    storage = [f"--root={top}/storage", f"--runroot={top}/run"]
    environment = {**os.environ, "STORAGE_DRIVER": "vfs"}

    def buildah(*words: str) -> str:
        done = subprocess.run(
            ["buildah", *storage, *words], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout.strip()

    buildah("manifest", "create", "many")
    for architecture, variant in (("arm64", ""), ("amd64", ""), ("arm", "v5"), ("arm", "v7")):
        (top / "file").write_text(f"{architecture}{variant}\n")
        container = buildah("from", "scratch")
        buildah("copy", container, str(top / "file"), "/file")
        chosen = [f"--variant={variant}"] if variant else []
        buildah("config", f"--arch={architecture}", "--os=linux", *chosen, container)
        image_id = buildah("commit", "--quiet", container, f"made-{architecture}{variant}")
        buildah("manifest", "add", f"--arch={architecture}", *chosen, "many", image_id)
    buildah("manifest", "push", "--all", "--tls-verify=false", "many", f"docker://{registry.host}/many:1")
    return f"{registry.host}/many:1"


@pytest.mark.parametrize(
    ("platform", "content"),
    [("", b"amd64\n"), ("linux/arm64", b"arm64\n"), ("linux/arm/v7", b"armv7\n"), ("linux/arm/v6", b"armv5\n")],
)
def test_of_an_index_the_platform_asked_for_is_pulled(
    engine: Engine, index: str, platform: str, content: bytes
) -> None:
    pulled = engine.images.pull(index, platform=platform)
    (layer,) = pulled.layers
    assert (engine.data.driver.diff_path(layer.cache_id) / "file").read_bytes() == content
    _, platforms = engine.images.get_registry_data(index)
    assert sorted(platforms) == ["linux/amd64", "linux/arm/v5", "linux/arm/v7", "linux/arm64"]


def test_an_index_is_known_by_its_own_digest(engine: Engine, index: str, registry: RunningRegistry) -> None:
    pulled = engine.images.pull(index)
    assert pulled.digests == [f"{registry.host}/many@{registry.digest('many:1')}"]
    again = engine.images.pull(pulled.digests[0])
    assert again == pulled


def test_a_platform_that_an_index_lacks_is_told_in_dockers_words(engine: Engine, index: str) -> None:
    with pytest.raises(ImageNotFound, match="no matching manifest for linux/s390x in the manifest list entries"):
        engine.images.pull(index, platform="linux/s390x")
    with pytest.raises(InvalidInput, match="invalid platform"):
        engine.images.pull(index, platform="a/b/c/d")
    assert engine.images.list() == []


def test_an_image_of_another_platform_is_not_taken_for_the_one_asked_for(
    engine: Engine, image: Image, registry: RunningRegistry
) -> None:
    image.tag(f"{registry.host}/plain:1")
    engine.images.push(f"{registry.host}/plain:1")
    with pytest.raises(ImageNotFound, match="does not match the specified platform: wanted linux/arm64"):
        engine.images.pull(f"{registry.host}/plain:1", platform="linux/arm64")


def test_a_digest_is_pulled_and_removed_by_its_name(
    engine: Engine, image: Image, registry: RunningRegistry, cli: Labctr
) -> None:
    image.tag(f"{registry.host}/digest:1")
    (result,) = engine.images.push(f"{registry.host}/digest:1")
    for name in ("busybox:1", f"{registry.host}/digest:1"):
        engine.images.remove(name)
    by_digest = f"{registry.host}/digest@{result.digest}"
    pulled = engine.images.pull(f"{registry.host}/digest", result.digest)
    assert (pulled.tags, pulled.digests) == ([], [by_digest])
    assert [found.id for found in engine.images.list(f"{registry.host}/digest")] == [pulled.id]
    assert cli("images", "--digests", "--format", "{{.Repository}} {{.Tag}} {{.Digest}}").stdout.split("\n")[0] == (
        f"{registry.host}/digest <none> {result.digest}"
    )
    assert [removal.name for removal in engine.images.remove(by_digest)][:2] == [by_digest, pulled.id]
    assert engine.images.list(all=True) == []


def test_the_last_tag_of_a_repository_takes_its_digests_along(
    engine: Engine, image: Image, registry: RunningRegistry
) -> None:
    image.tag(f"{registry.host}/untagged:1")
    (result,) = engine.images.push(f"{registry.host}/untagged:1")
    removed = engine.images.remove(f"{registry.host}/untagged:1")
    assert [(removal.action, removal.name) for removal in removed] == [
        ("Untagged", f"{registry.host}/untagged:1"),
        ("Untagged", f"{registry.host}/untagged@{result.digest}"),
    ]
    assert image.tags == ["busybox:1"]
    image.tag(f"{registry.host}/untagged:2")
    with pytest.raises(InUse, match="multiple repositories"):
        engine.images.remove(image.id)


def test_every_tag_of_a_repository_is_pushed_and_pulled(
    engine: Engine, image: Image, other: Engine, registry: RunningRegistry
) -> None:
    for tag in ("1", "2", "latest"):
        image.tag(f"{registry.host}/all:{tag}")
    assert [result.tag for result in engine.images.push(f"{registry.host}/all", all_tags=True)] == ["1", "2", "latest"]
    pulled = other.images.pull_all_tags(f"{registry.host}/all")
    assert [found.id for found in pulled] == [image.id] * 3
    assert pulled[0].tags == [f"{registry.host}/all:{tag}" for tag in ("1", "2", "latest")]


# -- what is spared ----------------------------------------------------------------------------


def test_a_second_pull_asks_for_the_manifest_alone_and_is_up_to_date(
    engine: Engine, image: Image, other: Engine, registry: RunningRegistry
) -> None:
    name = f"{registry.host}/twice:1"
    image.tag(name)
    engine.images.push(name)
    other.images.pull(name)
    seen: list[events.Event] = []
    requests = told(other, lambda: other.images.pull(name, progress=seen.append))
    assert [request.path for request in requests] == ["/v2/", "/v2/twice/manifests/1"]
    assert statuses(seen)[-1] == f"Status: Image is up to date for {name}"


def test_layers_that_are_here_are_not_pulled(
    engine: Engine, image: Image, other: Engine, registry: RunningRegistry, tmp_path: Path
) -> None:
    for name in ("below:1", "above:1"):
        layered(engine, tmp_path / "context", f"{registry.host}/{name}", layers=2)
        engine.images.push(f"{registry.host}/{name}")
    other.images.pull(f"{registry.host}/below:1")
    seen: list[events.Event] = []
    other.images.pull(f"{registry.host}/above:1", progress=seen.append)
    assert [status for status in statuses(seen) if status in ("Already exists", "Pull complete")] == [
        "Already exists",
        "Pull complete",
        "Pull complete",
    ]


def test_a_second_push_sends_no_layer(engine: Engine, image: Image, registry: RunningRegistry) -> None:
    name = f"{registry.host}/again:1"
    image.tag(name)
    engine.images.push(name)
    seen: list[events.Event] = []
    requests = told(engine, lambda: engine.images.push(name, progress=seen.append))
    assert "PATCH" not in [request.method for request in requests]
    assert statuses(seen)[:3] == [
        f"The push refers to repository [{registry.host}/again]",
        "Preparing",
        "Layer already exists",
    ]


def test_a_layer_of_another_repository_is_mounted(engine: Engine, image: Image, registry: RunningRegistry) -> None:
    for name in ("origin", "target"):
        image.tag(f"{registry.host}/mount/{name}:1")
    engine.images.push(f"{registry.host}/mount/origin:1")
    seen: list[events.Event] = []
    requests = told(engine, lambda: engine.images.push(f"{registry.host}/mount/target:1", progress=seen.append))
    assert "Mounted from mount/origin" in statuses(seen)
    assert "PATCH" not in [request.method for request in requests]
    assert registry.digest("mount/target:1") == registry.digest("mount/origin:1")


def test_a_registry_that_lost_a_layer_gets_it_again(engine: Engine, image: Image, registry: RunningRegistry) -> None:
    name = f"{registry.host}/lost:1"
    image.tag(name)
    engine.images.push(name)
    for path in (registry.data / "docker/registry/v2/repositories").glob("lost/_layers/sha256/*/link"):
        path.unlink()
    seen: list[events.Event] = []
    engine.images.push(name, progress=seen.append)
    assert "Pushed" in statuses(seen)


def test_two_pulls_at_once_of_one_image_both_get_it(
    engine: Engine, image: Image, tmp_path: Path, registry: RunningRegistry
) -> None:
    made = layered(engine, tmp_path / "context", f"{registry.host}/parallel:1", layers=5)
    engine.images.push(f"{registry.host}/parallel:1")
    root = tmp_path / "both"
    found: list[str] = []
    engines = [Engine(root), Engine(root)]
    threads = [
        threading.Thread(
            target=lambda engine=engine: found.append(engine.images.pull(f"{registry.host}/parallel:1").id)
        )
        for engine in engines
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [made.id, made.id]
    assert engines[0].fsck(deep=True) == []


# -- who may -----------------------------------------------------------------------------------


def test_a_registry_with_a_password_opens_to_who_knows_it(
    engine: Engine, image: Image, other: Engine, locked: RunningRegistry
) -> None:
    name = f"{locked.host}/secret:1"
    image.tag(name)
    nobody, wrong = "no basic auth credentials", "unauthorized: authentication required"
    for auth, words in ((None, nobody), ({}, nobody), ({"username": USER, "password": "wrong"}, wrong)):
        with pytest.raises(Unauthorized, match=words):
            engine.images.push(name, auth_config=auth)
        with pytest.raises(Unauthorized, match=words):
            other.images.pull(name, auth_config=auth)
    engine.images.push(name, auth_config=AUTH)
    assert other.images.pull(name, auth_config=AUTH).id == image.id


def test_a_login_is_remembered_where_docker_remembers_it(
    engine: Engine, image: Image, labctr: Labctr, locked: RunningRegistry, config: Path
) -> None:
    name = f"{locked.host}/login:1"
    image.tag(name)
    refused = labctr("login", "-u", USER, "-p", "wrong", locked.host, check=False)
    assert refused.returncode == 1
    assert "401" in refused.stderr or "unauthorized" in refused.stderr
    assert not config.exists()
    done = labctr("login", "-u", USER, "--password-stdin", locked.host, input=f"{PASSWORD}\n")
    assert done.stdout == "Login Succeeded\n"
    assert config.stat().st_mode & 0o777 == 0o600
    labctr("push", name)
    environment = {**os.environ, "DOCKER_CONFIG": str(config.parent)}
    listed = subprocess.run(
        ["skopeo", "list-tags", "--tls-verify=false", f"--authfile={config}", f"docker://{locked.host}/login"],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    assert json.loads(listed.stdout)["Tags"] == ["1"]
    assert labctr("logout", locked.host).stdout == f"Removing login credentials for {locked.host}\n"
    assert labctr("logout", locked.host).stdout == f"Not logged in to {locked.host}\n"
    assert labctr("pull", name, check=False).returncode == 1


def test_a_credential_helper_is_asked_for_the_password(
    engine: Engine, image: Image, locked: RunningRegistry, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    kept = tmp_path / "kept"
    helper = programs / "docker-credential-lab"
    helper.write_text(
        "#!/bin/sh\n"
        f"case $1 in store) cat > {kept};; erase) cat > /dev/null; rm -f {kept};;\n"
        f'get) read host; echo "$host" >> {tmp_path}/asked\n'
        f"test -e {kept} && cat {kept} || {{ echo none; exit 1; }};; esac\n"
    )
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    config.parent.mkdir()
    config.write_text(json.dumps({"credHelpers": {locked.host: "lab"}}))
    name = f"{locked.host}/helper:1"
    image.tag(name)
    with pytest.raises(Unauthorized):
        engine.images.push(name)
    engine.login(USER, PASSWORD, locked.host)
    assert json.loads(kept.read_text()) == {"ServerURL": locked.host, "Username": USER, "Secret": PASSWORD}
    assert PASSWORD not in config.read_text()
    engine.images.push(name)
    assert set((tmp_path / "asked").read_text().split()) == {locked.host}
    assert engine.logout(locked.host)
    assert not kept.exists()


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    """A registry with TLS on an address outside of 127.0.0.0/8, where every registry may do without."""
    address = "198.51.100.77"  # TEST-NET-2 (RFC 5737)
    programs.run(["ip", "address", "add", f"{address}/32", "dev", "lo"])
    try:
        with (
            pytest.MonkeyPatch.context() as patch,
            running(tmp_path_factory.mktemp("secure") / "tls", tls=True, address=address) as started,
        ):
            patch.setenv("NO_PROXY", address)
            yield started
    finally:
        programs.run(["ip", "address", "delete", f"{address}/32", "dev", "lo"])


def test_without_the_credential_helper_that_is_named_one_comes_as_nobody(
    engine: Engine, image: Image, other: Engine, registry: RunningRegistry, config: Path
) -> None:
    config.parent.mkdir()
    config.write_text('{"credsStore": "of-another-machine"}')
    image.tag(f"{registry.host}/anybody:1")
    engine.images.push(f"{registry.host}/anybody:1")
    assert other.images.pull(f"{registry.host}/anybody:1").id == image.id
    with pytest.raises(MissingProgram, match="docker-credential-of-another-machine"):
        engine.login(USER, PASSWORD, registry.host)


def test_tls_is_verified_with_the_certificate_that_dockers_directory_has(
    engine: Engine, image: Image, other: Engine, secure: RunningRegistry, tmp_path: Path
) -> None:
    assert secure.tls
    name = f"{secure.host}/tls:1"
    image.tag(name)
    with pytest.raises(Unreachable, match=r"tls: .*certificate"):
        engine.images.push(name)
    (tmp_path / "certs.d").mkdir()
    (tmp_path / "certs.d" / secure.host).symlink_to(secure.tls)
    for each in (engine, other):
        each.registries = replace(RegistrySettings(), certificates=tmp_path / "certs.d")
    engine.images.push(name)
    assert other.images.pull(name).id == image.id
    assert secure.digest("tls:1") == image.digests[0].partition("@")[2]


def test_a_certificate_that_is_none_is_told(
    engine: Engine, image: Image, secure: RunningRegistry, tmp_path: Path
) -> None:
    image.tag(f"{secure.host}/tls:1")
    (tmp_path / "certs.d" / secure.host).mkdir(parents=True)
    (tmp_path / "certs.d" / secure.host / "ca.crt").write_text("hello")
    engine.registries = replace(RegistrySettings(), certificates=tmp_path / "certs.d")
    with pytest.raises(InvalidInput, match=r"ca\.crt is not a certificate"):
        engine.images.push(f"{secure.host}/tls:1")


def test_an_insecure_registry_may_have_a_certificate_that_nobody_vouches_for(
    engine: Engine, image: Image, tmp_path: Path, secure: RunningRegistry
) -> None:
    name = f"{secure.host}/tls:1"
    image.tag(name)
    for named in (secure.host, "198.51.100.0/24"):
        engine.registries = RegistrySettings(insecure=(named,))
        engine.images.push(name)
    loopback = Engine(tmp_path / "loopback")
    with running(tmp_path / "local", tls=True) as local:
        image.tag(f"{local.host}/tls:1")
        engine.images.push(f"{local.host}/tls:1")
        assert loopback.images.pull(f"{local.host}/tls:1").id == image.id


# -- where -------------------------------------------------------------------------------------


def test_a_mirror_is_asked_first_and_only_for_dockers_images(
    engine: Engine, image: Image, tmp_path: Path, registry: RunningRegistry
) -> None:
    image.tag(f"{registry.host}/library/mirrored:1")
    engine.images.push(f"{registry.host}/library/mirrored:1")
    other = Engine(tmp_path / "other", registry_mirrors=["http://127.0.0.1:9", f"http://{registry.host}"])
    pulled = other.images.pull("mirrored:1")
    assert pulled.id == image.id
    assert pulled.tags == ["mirrored:1"]
    assert pulled.digests[0].startswith("mirrored@sha256:")
    with other.events.collected() as seen, pytest.raises(Unreachable):
        other.images.pull("localhost:9/library/mirrored:1")
    hosts = {event.host for event in seen if isinstance(event, events.RegistryRequest)}
    assert hosts == {"localhost:9"}


def test_a_proxy_that_does_not_answer_is_told(other: Engine) -> None:
    with pytest.raises(Unreachable, match="the proxy: connection refused") as caught:
        other.images.pull("registry.example/nobody:1")
    assert "NO_PROXY" in caught.value.hint


def test_a_registry_elsewhere_is_not_asked_without_tls_unless_it_is_named(tmp_path: Path) -> None:
    places = Engine(tmp_path / "a").registries
    named = Engine(tmp_path / "b", insecure_registries=["10.0.0.5:5000", "10.1.0.0/16"]).registries
    assert places.endpoint("10.0.0.5:5000").addresses == ("https://10.0.0.5:5000",)
    assert named.endpoint("10.0.0.5:5000").addresses == ("https://10.0.0.5:5000", "http://10.0.0.5:5000")
    assert named.endpoint("10.1.2.3").addresses == ("https://10.1.2.3", "http://10.1.2.3")
    assert named.endpoint("10.2.2.3").addresses == ("https://10.2.2.3",)
    for loopback in ("localhost:5000", "127.0.0.2:1", "[::1]:5000"):
        assert f"http://{loopback}" in places.endpoint(loopback).addresses
    assert places.endpoint("localhost.example:5000").addresses == ("https://localhost.example:5000",)


def test_what_is_not_there_is_told_in_dockers_words(engine: Engine, image: Image, registry: RunningRegistry) -> None:
    image.tag(f"{registry.host}/there:1")
    engine.images.push(f"{registry.host}/there:1")
    for name in (f"{registry.host}/there:2", f"{registry.host}/nobody/has:2"):
        with pytest.raises(ImageNotFound) as caught:
            engine.images.pull(name)
        assert caught.value.message == f"manifest for {name} not found: manifest unknown: manifest unknown"
    with pytest.raises(ImageNotFound, match=f"An image does not exist locally with the tag: {registry.host}/nosuch"):
        engine.images.push(f"{registry.host}/nosuch:1")
    with pytest.raises(InvalidInput, match="cannot search"):
        engine.images.search("httpd")


# -- the command line --------------------------------------------------------------------------


def test_run_and_build_pull_what_is_missing(
    engine: Engine, image: Image, cli: Labctr, registry: RunningRegistry, tmp_path: Path
) -> None:
    name = f"{registry.host}/missing:1"
    image.tag(name)
    engine.images.push(name)

    def forget() -> None:
        for known in engine.images.list(all=True):
            engine.images.remove(known.id, force=True)

    forget()
    done = cli("run", "--rm", "--network", "none", name, "echo", "here")
    assert done.stdout == "here\n"
    lines = done.stderr.splitlines()
    assert lines[:2] == [f"Unable to find image '{name}' locally", "1: Pulling from missing"]
    assert lines[-1] == f"Status: Downloaded newer image for {name}"
    forget()
    assert cli("run", "--rm", "--network", "none", "--quiet", name, "echo", "here").stderr == ""
    forget()
    assert cli("run", "--pull", "never", name, "true", check=False).returncode == 125
    assert cli("create", "--network", "none", name, "true").stdout.strip()
    again = cli("run", "--rm", "--network", "none", "--pull", "always", name, "true")
    assert again.stderr.splitlines()[-1] == f"Status: Image is up to date for {name}"
    for container in engine.containers.list(all=True):
        container.remove()
    forget()
    (tmp_path / "Dockerfile").write_text(f"FROM {name}\nENV A=1\n")
    built = cli("build", "-t", "built", str(tmp_path)).stdout
    assert f"Step 1/2 : FROM {name}\n1: Pulling from missing\n" in built
    forget()
    assert engine.containers.run(name, ["echo", "python"], remove=True, network_mode="none") == b"python\n"
    with pytest.raises(ImageNotFound):
        engine.containers.create(f"{registry.host}/missing:2")


def test_pull_and_push_print_what_docker_prints(
    engine: Engine,
    image: Image,
    cli: Labctr,
    registry: RunningRegistry,
    empty_dockerd: Docker,
) -> None:
    name = f"{registry.host}/printed:latest"
    image.tag(name)
    pushed = cli("push", name.removesuffix(":latest")).stdout
    forget = [known for known in image.tags if known != name]
    for known in forget:
        engine.images.remove(known)
    engine.images.remove(name)
    pulled = cli("pull", name.removesuffix(":latest")).stdout
    again = cli("pull", name).stdout
    with forwarded(empty_dockerd.pid, registry.port):
        assert said(empty_dockerd.run("pull", name.removesuffix(":latest")).decode()) == said(pulled)
        assert empty_dockerd.run("pull", name).decode() == again
        theirs = empty_dockerd.run("push", name.removesuffix(":latest")).decode()
    assert theirs.replace("Layer already exists", "Pushed") == pushed
    assert cli("pull", "-q", name).stdout == f"{name}\n"
    refused = cli("pull", "-a", name, check=False)
    assert (refused.returncode, refused.stderr.splitlines()[0]) == (
        1,
        "Error: tag can't be used with --all-tags/-a",
    )


def said(output: str) -> list[str]:
    """The lines that dockerd never leaves out: of two reports on one layer in a row, it may drop the first."""
    return [line for line in output.splitlines() if not line.endswith(("Verifying Checksum", "Download complete"))]


def test_the_events_are_dockers_json_lines_and_its_event_log_tells_names(
    engine: Engine, image: Image, registry: RunningRegistry, cli: Labctr
) -> None:
    name = f"{registry.host}/told:1"
    image.tag(name)
    seen: list[events.Event] = []
    (result,) = engine.images.push(name, progress=seen.append)
    documents = [document for event in seen if (document := progress.document(event))]
    assert documents[-1] == {
        "progressDetail": {},
        "aux": {"Tag": "1", "Digest": result.digest, "Size": result.size},
    }
    assert documents[-2] == {"status": f"1: digest: {result.digest} size: {result.size}"}
    engine.images.pull(name)
    log = cli("events", "--since", "5m", "--until", "0s", "--format", "{{.Action}} {{.Actor.ID}}").stdout.splitlines()
    assert [line for line in log if line.endswith(name)] == [f"push {name}", f"pull {name}"]


def test_a_class_is_fed_from_local_images(
    engine: Engine, image: Image, command: list[str], repository: Path, tmp_path: Path
) -> None:
    process = subprocess.Popen(
        [*command, "registry", "serve", "--port", "0"], stdout=subprocess.PIPE, text=True, cwd=repository
    )
    assert process.stdout
    try:
        lines = iter(process.stdout.readline, "")
        address = next(line for line in lines if "LABCTR_REGISTRY_MIRRORS=" in line).strip().partition("=")[2]
        student = Engine(tmp_path / "student", registry_mirrors=[address])
        assert student.images.pull("busybox:1").id == image.id
    finally:
        process.kill()
        process.wait(PATIENCE)
        process.stdout.close()
    assert image.digests == []
    eventually(lambda: not listens(int(address.rpartition(":")[2])))  # even after SIGKILL the registry exits, too


def test_a_port_that_is_taken_is_told_before_anything_is_served(image: Image, labctr: Labctr) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        done = labctr("registry", "serve", "--port", str(other.getsockname()[1]), check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "address already in use" in done.stderr


def listens(port: int) -> bool:
    """Return whether a server listens on a port on loopback."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_an_artifact_is_no_image(engine: Engine, registry: RunningRegistry, tmp_path: Path) -> None:
    layout = tmp_path / "artifact"
    (layout / "blobs/sha256").mkdir(parents=True)
    config = b"{}"
    digest = f"sha256:{hashlib.sha256(config).hexdigest()}"
    (layout / "blobs/sha256" / digest[7:]).write_bytes(config)
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.cncf.helm.config.v1+json", "digest": digest, "size": 2},
            "layers": [],
        }
    ).encode()
    named = hashlib.sha256(manifest).hexdigest()
    (layout / "blobs/sha256" / named).write_bytes(manifest)
    (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (layout / "index.json").write_text(
        json.dumps(
            {
                "schemaVersion": 2,
                "manifests": [
                    {
                        "mediaType": "application/vnd.oci.image.manifest.v1+json",
                        "digest": f"sha256:{named}",
                        "size": len(manifest),
                    }
                ],
            }
        )
    )
    registry.copy(f"oci:{layout}", "artifact:1")
    with pytest.raises(InvalidArchive, match="this is not an image"):
        engine.images.pull(f"{registry.host}/artifact:1")
