"""volumes/mounting.py: volumes with their own file system, mounted while a container uses them."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from pylab_container import Engine
from pylab_container.engine.containers import Container
from pylab_container.errors import InUse, InvalidInput, RuntimeFailed
from pylab_container.images.image import Image
from pylab_container.volumes import mounting as volume_mounts
from tests.support.api import Daemon

pytestmark = pytest.mark.shared_engine

TMPFS = {"type": "tmpfs", "device": "tmpfs", "o": "size=1m,mode=1777"}


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Path]:
    directory = tmp_path / "shared"
    directory.mkdir()
    (directory / "file").write_text("hello\n")
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(autouse=True)
def clean(engine: Engine) -> Iterator[None]:
    """Remove all containers and volumes after the test, and fail if a volume stays mounted."""
    yield
    for container in engine.containers.list(all=True):
        container.remove(force=True)
    for volume in engine.volumes.list():
        volume.remove()
        assert not volume_mounts.is_mounted(volume.path)


def sleeper(engine: Engine, image: Image, name: str = "data") -> Container:
    container: Container = engine.containers.run_detached(
        image, ["sleep", "600"], network_mode="none", volumes=[f"{name}:/data"]
    )
    return container


def test_it_is_mounted_from_the_first_start_to_the_last_end(engine: Engine, image: Image) -> None:
    volume = engine.volumes.create("data", driver_opts=TMPFS)
    assert (volume.attrs["Options"], volume_mounts.is_mounted(volume.path)) == (TMPFS, False)
    first, second = sleeper(engine, image), sleeper(engine, image)
    first.exec_run(["sh", "-c", "echo x > /data/x"])
    assert second.exec_run(["cat", "/data/x"]).output == b"x\n"
    assert b"size=1024k" in second.exec_run(["grep", " /data ", "/proc/mounts"]).output
    first.stop(timeout=0)
    assert volume_mounts.is_mounted(volume.path)
    second.stop(timeout=0)
    assert not volume_mounts.is_mounted(volume.path)
    assert list(volume.path.iterdir()) == []


def test_a_bind_shows_a_directory_of_the_host_and_its_files_outlive_the_volume(
    engine: Engine, image: Image, shared: Path
) -> None:
    engine.volumes.create("data", driver_opts={"type": "none", "device": str(shared), "o": "bind"})
    container = sleeper(engine, image)
    assert container.exec_run(["cat", "/data/file"]).output == b"hello\n"
    with pytest.raises(InUse):
        engine.volumes.remove("data")
    container.remove(force=True)
    engine.volumes.remove("data")
    assert (shared / "file").read_text() == "hello\n"


def test_what_is_still_mounted_is_unmounted_before_a_volume_is_deleted(engine: Engine, shared: Path) -> None:
    volume = engine.volumes.create("data", driver_opts={"type": "none", "device": str(shared), "o": "bind"})
    volume_mounts._mount(engine.data.volumes.get("data"))  # as a crash of another program could leave it
    engine.volumes.remove("data")
    assert (shared / "file").exists()
    assert not volume_mounts.is_mounted(volume.path)


def test_a_bind_may_be_read_only(engine: Engine, image: Image, shared: Path) -> None:
    engine.volumes.create("data", driver_opts={"type": "none", "device": str(shared), "o": "bind,ro"})
    assert sleeper(engine, image).exec_run(["touch", "/data/new"]).exit_code != 0
    assert not (shared / "new").exists()


@pytest.mark.parametrize(
    "options",
    [
        {"type": "none", "device": "/nosuch/directory", "o": "bind"},
        {"type": "nosuch", "device": "none"},
        {"type": "tmpfs", "device": "tmpfs", "o": "nosuch=1"},
        {"type": "nfs", "device": ":/x", "o": "addr=127.0.0.1,soft,timeo=1,retrans=1,password=secret"},
    ],
    ids=lambda options: options["type"],
)
def test_what_the_kernel_refuses_ends_the_start_with_its_words(
    engine: Engine, image: Image, options: dict[str, str]
) -> None:
    volume = engine.volumes.create("data", driver_opts=options)
    with pytest.raises(RuntimeFailed, match="error while mounting volume") as raised:
        sleeper(engine, image)
    assert "secret" not in str(raised.value)
    assert not volume_mounts.is_mounted(volume.path)


def test_options_that_mean_nothing_are_refused_and_make_no_volume(engine: Engine) -> None:
    with pytest.raises(InvalidInput, match='create data: invalid option: "x"'):
        engine.volumes.create("data", driver_opts={"x": "y"})
    assert engine.volumes.list() == []


def test_copying_finds_the_files_also_while_nothing_runs(engine: Engine, image: Image, shared: Path) -> None:
    engine.volumes.create("data", driver_opts={"type": "none", "device": str(shared), "o": "bind"})
    container = engine.containers.create(image, ["true"], network_mode="none", volumes=["data:/data"])
    pieces, _ = container.get_archive("/data/file")
    assert b"hello" in b"".join(pieces)
    assert not volume_mounts.is_mounted(engine.volumes.get("data").path)


def test_a_killed_starter_leaves_nothing_mounted(engine: Engine, image: Image) -> None:
    volume = engine.volumes.create("data", driver_opts=TMPFS)
    container = engine.containers.create(image, ["true"], network_mode="none", volumes=["data:/data"])

    def start_and_die(data_root: Path, container_id: str) -> None:
        child = Engine(data_root)
        record = child.containers.get(container_id).record
        child.runtime.bundle(container_id).mkdir(parents=True)  # as a start does first
        volume_mounts.mount(child.data, record)
        os.kill(os.getpid(), signal.SIGKILL)

    process = multiprocessing.get_context("fork").Process(target=start_and_die, args=(engine.data_root, container.id))
    process.start()
    process.join()
    assert volume_mounts.is_mounted(volume.path)
    assert container.status == "created"  # whoever looks gives back what it left
    assert not volume_mounts.is_mounted(volume.path)


def test_a_volume_without_a_name_is_made_by_mount_with_its_options_and_goes_with_its_container(
    daemon: Daemon, engine: Engine, image: Image
) -> None:
    mount = {
        "Type": "volume",
        "Target": "/data",
        "VolumeOptions": {"DriverConfig": {"Name": "local", "Options": TMPFS}},
    }
    host = {"Mounts": [mount], "NetworkMode": "none"}
    body = {"Image": image.id, "Cmd": ["grep", " /data tmpfs ", "/proc/mounts"], "HostConfig": host}
    container_id = daemon.api.post("/containers/create", body).document["Id"]
    assert daemon.api.post(f"/containers/{container_id}/start").status == 204
    assert daemon.api.post(f"/containers/{container_id}/wait").document["StatusCode"] == 0
    [volume] = engine.volumes.list()
    assert (volume.options, volume_mounts.is_mounted(volume.path)) == (TMPFS, False)
    assert daemon.api.delete(f"/containers/{container_id}", v=1).status == 204
    assert engine.volumes.list() == []


def test_the_image_fills_what_was_mounted_empty(engine: Engine, image: Image) -> None:
    made = engine.containers.create(image, ["sh", "-c", "mkdir /data; echo hi > /data/file"], network_mode="none")
    made.start()
    made.wait()
    furnished = made.commit("furnished")
    engine.volumes.create("data", driver_opts=TMPFS)
    assert sleeper(engine, furnished).exec_run(["cat", "/data/file"]).output == b"hi\n"
