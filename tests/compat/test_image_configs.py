"""Image configs whose fields have other types than Docker's: both engines refuse the same ones, in the same words."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.dockerd import environment

EMPTY_LAYER = bytes(1024)
DIFF_ID = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"


def archive(config: bytes, **entry: Any) -> bytes:
    """A `docker save` archive of one image with one empty layer; entry: what manifest.json says otherwise."""
    described = {"Config": "config.json", "RepoTags": None, "Layers": ["layer.tar"], **entry}
    manifest = json.dumps([described]).encode()
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as tar:
        for name, content in (("manifest.json", manifest), ("config.json", config), ("layer.tar", EMPTY_LAYER)):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return written.getvalue()


def document(**fields: Any) -> bytes:
    base = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [DIFF_ID]}}
    return json.dumps({**base, **fields}).encode()


def load(socket: Path, config: bytes, **entry: Any) -> str:
    content = archive(config, **entry)
    done = subprocess.run(["docker", "load"], input=content, capture_output=True, env=environment(socket))
    return done.stderr.decode().strip() if done.returncode else "loaded"


CASES: dict[str, dict[str, Any]] = {
    "labels list": {"config": {"Labels": ["a"]}},
    "labels number": {"config": {"Labels": {"a": 1}}},
    "labels null": {"config": {"Labels": None}},
    "label null": {"config": {"Labels": {"a": None}}},
    "env numbers": {"config": {"Env": [1]}},
    "env text": {"config": {"Env": "A=1"}},
    "env null": {"config": {"Env": [None]}},
    "volumes list": {"config": {"Volumes": ["/a"]}},
    "volumes text": {"config": {"Volumes": {"/a": "x"}}},
    "volumes object": {"config": {"Volumes": {"/a": {"x": 1}}}},
    "volumes null": {"config": {"Volumes": {"/a": None}}},
    "ports list": {"config": {"ExposedPorts": ["80"]}},
    "healthcheck text": {"config": {"Healthcheck": "x"}},
    "healthcheck test": {"config": {"Healthcheck": {"Test": "x"}}},
    "healthcheck interval": {"config": {"Healthcheck": {"Interval": "30s"}}},
    "healthcheck fraction": {"config": {"Healthcheck": {"Interval": 1.5}}},
    "healthcheck retries": {"config": {"Healthcheck": {"Retries": True}}},
    "cmd text": {"config": {"Cmd": "sh"}},
    "cmd number": {"config": {"Cmd": 1}},
    "entrypoint object": {"config": {"Entrypoint": {}}},
    "entrypoint numbers": {"config": {"Entrypoint": [1]}},
    "shell bool": {"config": {"Shell": True}},
    "user number": {"config": {"User": 0}},
    "tty text": {"config": {"Tty": "yes"}},
    "workdir null": {"config": {"WorkingDir": None, "User": None, "Tty": None}},
    "stop timeout": {"config": {"StopTimeout": "1"}},
    "stop timeout large": {"config": {"StopTimeout": 2**70}},
    "onbuild": {"config": {"OnBuild": {"a": 1}}},
    "config list": {"config": []},
    "container config": {"container_config": {"Labels": ["a"]}},
    "author": {"author": 5},
    "os": {"os": []},
    "size": {"Size": "1"},
    "created": {"created": 5},
    "created text": {"created": "yesterday"},
    "history object": {"history": {}},
    "history null": {"history": [None]},
    "history numbers": {"history": [1]},
    "history by": {"history": [{"created_by": []}]},
    "history empty": {"history": [{"empty_layer": "true"}]},
    "history created": {"history": [{"created": "x"}]},
    "history nulls": {"history": [{"created": None, "created_by": None, "comment": None, "author": None}]},
    "rootfs": {"rootfs": []},
    "rootfs type": {"rootfs": {"type": 1, "diff_ids": [DIFF_ID]}},
    "diff ids": {"rootfs": {"type": "layers", "diff_ids": {"a": 1}}},
    "diff id": {"rootfs": {"type": "layers", "diff_ids": [1]}},
    "os features": {"os.features": "x"},
    "id": {"id": 1},
    "unknown": {"x-vendor": [1], "config": {"x-vendor": {"a": [1]}}},
}


@pytest.mark.parametrize("fields", CASES.values(), ids=CASES.keys())
def test_both_engines_say_the_same_of_a_config(sockets: tuple[Path, Path], fields: dict[str, Any]) -> None:
    docker, ours = (load(socket, document(**fields)) for socket in sockets)
    assert ours == docker


def test_both_engines_refuse_a_diff_id_that_is_none(sockets: tuple[Path, Path]) -> None:
    for socket in sockets:
        config = document(rootfs={"type": "layers", "diff_ids": ["../../x"]})
        assert load(socket, config).startswith("invalid diffID for layer 0: ")


MANIFESTS: dict[str, dict[str, Any]] = {
    "layers null": {"Layers": None},
    "layers empty": {"Layers": []},
    "layers number": {"Layers": [1]},
    "layers text": {"Layers": "layer.tar"},
    "config null": {"Config": None},
    "tags null": {"RepoTags": [None]},
    "tag up": {"RepoTags": ["../../x"]},
    "tag up 2": {"RepoTags": ["x:../../x"]},
    "tag digest": {"RepoTags": [f"x@{DIFF_ID}"]},
    "tag id": {"RepoTags": ["a" * 64]},
}


@pytest.mark.parametrize("entry", MANIFESTS.values(), ids=MANIFESTS.keys())
def test_both_engines_refuse_a_manifest(sockets: tuple[Path, Path], entry: dict[str, Any]) -> None:
    docker, ours = (load(socket, document(), **entry) for socket in sockets)
    assert "loaded" not in (docker, ours)
    if docker.startswith(("json: ", "invalid manifest, ")):
        assert ours == docker


def test_both_engines_load_an_image_without_layers_whose_manifest_says_null(sockets: tuple[Path, Path]) -> None:
    config = document(rootfs={"type": "layers", "diff_ids": None})
    assert [load(socket, config, Layers=None) for socket in sockets] == ["loaded", "loaded"]
