"""The engine with only the base dependencies, which suffice for images."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pylab_container import Engine, Image
from pylab_container.host.extras import LIBRARIES

pytestmark = pytest.mark.usefixtures("image")

EVERYTHING = tuple(library for libraries in LIBRARIES.values() for library in libraries)


def without_libraries(engine: Engine, program: str) -> list[str]:
    """The lines that a program prints in an interpreter without the extras; its engine is e."""
    begin = (
        f"import sys; sys.modules.update(dict.fromkeys({EVERYTHING!r}))\n"
        "from pylab_container import Engine, MissingExtra; e = Engine(sys.argv[1])\n"
        "def attempt(call):\n"
        "    try: call()\n"
        "    except MissingExtra as error: print(error.extra)\n"
    )
    command = [sys.executable, "-c", begin + program, str(engine.data_root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_a_container_with_a_network_needs_the_extra_run_and_is_left_as_it_was(engine: Engine) -> None:
    program = "attempt(lambda: e.containers.run('busybox:1', ['true'], name='box'))"
    assert without_libraries(engine, program) == ["run"]
    container = engine.containers.get("box")
    assert container.status == "created"
    assert not container.merged.is_mount()
    assert without_libraries(engine, "e.containers.get('box').remove()") == []
    assert engine.containers.list(all=True) == []


def test_a_build_step_with_a_network_needs_the_extra_run(engine: Engine) -> None:
    program = (
        "import io\n"
        "attempt(lambda: e.images.build(io.BytesIO(b'FROM busybox:1\\nRUN true')))\n"
        "attempt(lambda: e.images.build(io.BytesIO(b'FROM busybox:1\\nRUN true'), network_mode='none'))\n"
    )
    assert without_libraries(engine, program) == ["run"]
    assert engine.containers.list(all=True) == []


def test_a_container_without_a_network_needs_no_extra(engine: Engine) -> None:
    program = "print(e.containers.run('busybox:1', ['echo', 'ran'], network_mode='none', remove=True))"
    assert without_libraries(engine, program) == [r"b'ran\n'"]


def test_networks_need_the_extra_run(engine: Engine) -> None:
    assert without_libraries(engine, "attempt(lambda: e.networks.create('web'))") == ["run"]
    assert [network.name for network in engine.networks.list()] == ["bridge", "host", "none"]


def test_registries_need_the_extra_registry(engine: Engine) -> None:
    calls = ("images.pull('127.0.0.1:9/a')", "images.push('busybox:1')", "login('me', 'secret', '127.0.0.1:9')")
    program = "\n".join(f"attempt(lambda: e.{call})" for call in calls)
    assert without_libraries(engine, program) == ["registry"] * 3


def test_the_engine_describes_itself_without_extras(engine: Engine) -> None:
    program = "e.info(), e.df(), e.check(), e.fsck(), e.images.prune(), e.containers.prune(), e.networks.list()"
    assert without_libraries(engine, program) == []


def test_labctr_names_the_extra_in_its_error(engine: Engine, image: Image) -> None:
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({LIBRARIES['registry']!r}))\n"
        "from pylab_container.__main__ import entry; entry()"
    )
    command = [sys.executable, "-c", program, "--root", str(engine.data_root), "pull", "127.0.0.1:9/a:1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    expected = 'Error: the Python library requests is not installed\nHint: pip install "pylab-container[registry]"\n'
    assert (done.returncode, done.stderr) == (1, expected)
