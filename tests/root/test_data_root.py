"""Images and builds over a DataRoot alone: no engine, no containers, no registry."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from pylab_container.build import builder
from pylab_container.build.recipe import BuildOptions
from pylab_container.build.runner import Output, RunRequest
from pylab_container.build.services import Services
from pylab_container.errors import BuildFailed, Conflict, ImageNotFound, InvalidInput, LabError, NotFound
from pylab_container.events import ignore
from pylab_container.images import lookup
from pylab_container.images.image import Image
from pylab_container.images.import_ import import_
from pylab_container.images.load import load
from pylab_container.images.obtain import PullPolicy, obtain
from pylab_container.images.removal import remove
from pylab_container.images.save import save
from pylab_container.oci import reference as references
from pylab_container.oci.ids import ContainerId
from pylab_container.store.data_root import DataRoot
from tests.support.contexts import write_context
from tests.support.waiting import eventually

PARTS = ("engine", "containers", "runtime", "registry", "docker", "maintenance", "daemon", "cli", "networks", "volumes")


class FakeRunner:
    """A Runner without a runtime: it writes each command into /ran of the step's writable layer."""

    def __init__(self, data: DataRoot, *, status: int = 0) -> None:
        self._data = data
        self._status = status
        self.requests: list[RunRequest] = []

    def find_network(self, name: str) -> str:
        raise NotFound(f"network {name} not found", hint="")

    def secrets_directory(self, container_id: ContainerId) -> Path:
        return self._data.path / "tmp" / container_id

    def create(self, request: RunRequest) -> None:
        self.requests.append(request)
        chain_id = self._data.images.get(request.image_id).chain_id if request.image_id else ""
        with self._data.images_lock():
            self._data.layers.create_writable(request.container_id, chain_id)

    def run(self, container_id: ContainerId, output: Output, is_cancelled: Callable[[], bool]) -> int:
        assert not is_cancelled()
        command = self.requests[-1].config.cmd[-1]
        upper = self._data.driver.diff_path(self._data.layers.writable(container_id).mount_id)
        (upper / "ran").write_text(f"{command}\n")
        output("stdout", b"ran\n")
        return self._status

    def kill(self, container_id: ContainerId) -> None:
        raise AssertionError("a build that is not stopped kills no command")

    def remove(self, container_id: ContainerId) -> None:
        self._data.layers.remove_writable(container_id)

    def discard(self, container_id: ContainerId) -> None:
        self._data.layers.remove_writable(container_id)


@pytest.fixture
def data(tmp_path: Path, isolation: None) -> DataRoot:
    return DataRoot(tmp_path / "root", emit=ignore)


def services(data: DataRoot, runner: FakeRunner) -> Services:
    def missing(name: str) -> Image:
        raise ImageNotFound(f"No such image: {name}", hint="")

    def base_image(name: str, policy: PullPolicy, platform: str) -> Image:
        return obtain(data, name, policy, partial(missing, name))

    return Services(runner, base_image, check=lambda recipe: (), command_line=lambda *words: " ".join(words))


def test_an_image_is_imported_saved_removed_and_loaded_again(data: DataRoot, busybox_tar: Path) -> None:
    image = import_(data, busybox_tar, "busybox:1")
    archive = io.BytesIO()
    save(data, ["busybox:1"], archive, format="docker-archive", compress="")
    assert [removal.action for removal in remove(data, "busybox:1")] == ["Untagged", "Deleted", "Deleted"]
    assert data.layers.all() == []
    archive.seek(0)
    assert [(loaded.id, loaded.tags) for loaded in load(data, archive)] == [(image.id, ["busybox:1"])]


def test_a_build_runs_its_commands_through_the_runner(data: DataRoot, busybox_tar: Path, tmp_path: Path) -> None:
    import_(data, busybox_tar, "busybox:1")
    runner = FakeRunner(data)
    context = write_context(tmp_path / "context", "ENV A=b\nRUN make\nCOPY file /\n", {"file": "content\n"})
    options = BuildOptions(names=(references.parse_tag("built:1"),))
    image = builder.build(data, services(data, runner), context, options)
    assert lookup.find(data, "built:1") == image.id
    [request] = runner.requests
    assert (request.network, request.config.cmd) == ("bridge", ("/bin/sh", "-c", "make"))
    assert "A=b" in request.config.env
    ran, copied = (data.driver.diff_path(layer.cache_id) for layer in image.layers[1:])
    assert ((ran / "ran").read_text(), (copied / "file").read_text()) == ("make\n", "content\n")
    again = builder.build(data, services(data, runner), context, options)
    assert (again.id, len(runner.requests)) == (image.id, 1)


def test_a_command_that_fails_leaves_its_root_as_an_image(data: DataRoot, busybox_tar: Path, tmp_path: Path) -> None:
    import_(data, busybox_tar, "busybox:1")
    context = write_context(tmp_path / "context", "RUN make\n")
    with pytest.raises(BuildFailed) as caught:
        builder.build(data, services(data, FakeRunner(data, status=2)), context, BuildOptions())
    assert (caught.value.status, caught.value.output) == (2, b"ran\n")
    assert lookup.config(data, caught.value.image_id).history[-1]["created_by"] == "#(failed) /bin/sh -c make"


def test_a_base_image_that_cannot_be_pulled_is_named(data: DataRoot, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", "FROM missing:1\n")
    with pytest.raises(ImageNotFound, match="Dockerfile:1: No such image: missing:1"):
        builder.build(data, services(data, FakeRunner(data)), context, BuildOptions())


def test_a_data_root_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInput, match=r"cannot create the data root .*/file/root: not a directory") as caught:
        DataRoot(tmp_path / "file" / "root", emit=ignore)
    assert "--root" in caught.value.hint


def test_images_and_builds_import_neither_a_runtime_nor_an_engine() -> None:
    script = (
        "import pylab_container.build.builder, pylab_container.images.load, pylab_container.images.import_\n"
        "import pylab_container.images.removal, pylab_container.images.commit, sys; print(*sys.modules)"
    )
    modules = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    layers = {name.split(".")[1] for name in modules if name.startswith("pylab_container.")}
    assert not layers & set(PARTS)


class LateRunner(FakeRunner):
    """Its command has exited when the build that it belongs to is stopped, so that the kill comes too late."""

    def __init__(self, data: DataRoot, stop: threading.Event) -> None:
        super().__init__(data)
        self._stop = stop

    def run(self, container_id: ContainerId, output: Output, is_cancelled: Callable[[], bool]) -> int:
        self._stop.set()
        eventually(is_cancelled)
        raise Conflict("the container is not running", hint="")

    def kill(self, container_id: ContainerId) -> None:
        raise Conflict("the container is not running", hint="")


def test_the_container_of_a_stopped_build_does_not_stay_as_that_of_a_failed_step(
    data: DataRoot, busybox_tar: Path, tmp_path: Path
) -> None:
    import_(data, busybox_tar, "busybox:1")
    stop = threading.Event()
    context = write_context(tmp_path / "context", "RUN make\n", {})
    with pytest.raises(LabError):
        builder.build(data, services(data, LateRunner(data, stop)), context, BuildOptions(keep="failed"), stop=stop)
    assert data.layers.writable_layers() == []
