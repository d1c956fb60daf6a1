"""The data roots of the two old storage drivers are Docker's too."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pylab_container import Engine
from pylab_container.store import layer_content
from tests.support.dockerd import copy_of, run_dockerd

CHANGES = "echo new > /new; rm /bin/plain; rm -r /home; mkdir /home; ln /new /hard; chmod 4755 /etc/group"
CHECK = "cat /hard; ls /home; test -e /bin/plain || echo gone; stat -c %a:%h /etc/group /hard"
SEEN = b"new\ngone\n4755:1\n644:2\n"


@pytest.fixture(params=["overlay", "vfs"])
def name(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


def commit(engine: Engine, image: str, script: str, tag: str) -> str:
    container = engine.containers.run_detached(image, ["sh", "-c", script], network_mode="none")
    container.wait()
    child: str = container.commit(tag).id
    container.remove()
    return child


def test_dockerd_opens_our_data_root_and_goes_on_with_it(
    engine: Engine, busybox_tar: Path, tmp_path: Path, name: str
) -> None:
    ours = Engine(engine.data_root, storage_driver=name)
    ids = [ours.images.import_(busybox_tar, "busybox:1").id, commit(ours, "busybox:1", CHANGES, "changed:1")]
    with run_dockerd(copy_of(engine.data_root, tmp_path / "copy"), name) as docker:
        assert sorted(docker.lines("images", "--no-trunc", "--quiet")) == sorted(ids)
        assert docker.run("run", "--rm", "--network=none", "changed:1", "sh", "-c", CHECK) == SEEN
        for each in ids:
            (theirs,) = docker.json("inspect", each)
            data = ours.images.get(each).attrs["GraphDriver"]["Data"]
            assert theirs["GraphDriver"]["Name"] == name
            assert set(theirs["GraphDriver"]["Data"] or ()) == set(data or ())
        assert docker.run("save", "changed:1").count(b"layer.tar") >= 2, "dockerd rebuilds each layer and checks it"
        (tmp_path / "context").mkdir()
        (tmp_path / "context/Dockerfile").write_text("FROM changed:1\nRUN echo more >> /new\n")
        docker.run("build", "--network=none", "-t", "built:1", tmp_path / "context")
        assert docker.run("run", "--rm", "--network=none", "built:1", "cat", "/new") == b"new\nmore\n"


def test_we_open_a_data_root_that_dockerd_made_and_dockerd_takes_it_back(
    engine: Engine, busybox_tar: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "context").mkdir()
    (tmp_path / "context/Dockerfile").write_text(f"FROM busybox:1\nRUN {CHANGES}\n")
    with run_dockerd(tmp_path / "docker", name) as docker:
        docker.run("import", busybox_tar, "busybox:1")
        docker.run("build", "--network=none", "-t", "built:1", tmp_path / "context")
        (theirs,) = docker.json("inspect", "built:1")
    shutil.rmtree(engine.data_root)
    copy_of(tmp_path / "docker", engine.data_root)
    ours = Engine(engine.data_root)
    assert ours.data.driver.name == name, "found out by itself"
    assert ours.images.get("built:1").id == theirs["Id"]
    for layer in ours.images.get("built:1").layers:
        size = sum(map(len, layer_content.tar_stream(ours.data.layers, layer.chain_id)))
        assert size == layer_content.tar_size(ours.data.layers, layer.chain_id)
    assert ours.containers.run("built:1", ["sh", "-c", CHECK], remove=True, network_mode="none") == SEEN
    child = commit(ours, "built:1", "echo ours > /ours; rm /new", "ours:1")
    with run_dockerd(copy_of(engine.data_root, tmp_path / "back"), name) as docker:
        assert json.loads(docker.run("inspect", "ours:1"))[0]["Id"] == child
        script = "cat /ours /hard; test -e /new || echo gone"
        assert docker.run("run", "--rm", "--network=none", "ours:1", "sh", "-c", script) == b"ours\nnew\ngone\n"
