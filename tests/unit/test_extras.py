"""A feature whose libraries are missing names the extra to install."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from pylab_container.errors import ImageNotFound, MissingExtra
from pylab_container.host import extras

DOORS = {
    "run": [
        "pylab_container.runtime.network.bridge",
        "pylab_container.runtime.dns.messages",
    ],
    "registry": ["pylab_container.registry.client", "pylab_container.registry.pull"],
    "cli": ["pylab_container.cli"],
    "daemon": ["pylab_container.daemon.server", "pylab_container.daemon.shapes"],
    "labs": ["pylab_container.notebook.lab", "pylab_container.notebook.regenerate"],
}
"""Extra → modules of ours that do not work without it."""

LAYERS = {
    "runtime": "run",
    "docker": "run",
    "registry": "registry",
    "cli": "cli",
    "daemon": "daemon",
    "notebook": "labs",
}
"""Which layer may import libraries of which extra; the others get along with the base dependencies."""


def without(libraries: tuple[str, ...], program: str) -> str:
    """The output of a Python program in an interpreter in which these libraries cannot be imported."""
    block = f"import sys; sys.modules.update(dict.fromkeys({libraries!r}))\n"
    done = subprocess.run([sys.executable, "-c", block + program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("name", "module"), [(name, module) for name, modules in DOORS.items() for module in modules])
def test_a_module_without_its_libraries_names_the_extra(name: str, module: str) -> None:
    program = (
        "from pylab_container import MissingExtra\n"
        f"try: import {module}\n"
        "except MissingExtra as error: print(error.extra, error, sep='\\n')\n"
    )
    lines = without(extras.LIBRARIES[name], program).splitlines()
    assert lines[0] == name
    assert re.fullmatch(r"the Python library \w+ is not installed", lines[1])
    assert lines[2:] == [f'Hint: pip install "pylab-container[{name}]"']


def test_a_regular_expression_without_its_library_names_the_extra() -> None:
    program = (
        "from pylab_container import MissingExtra\n"
        "from pylab_container.docker import filters\n"
        "filters.text_test(['web'])\n"
        "try: filters.text_test(['w.b'])\n"
        "except MissingExtra as error: print(error.extra)\n"
    )
    assert without(("re2",), program) == "run\n"


def test_images_need_no_extra() -> None:
    everything = tuple(library for libraries in extras.LIBRARIES.values() for library in libraries)
    program = (
        "import pylab_container as package\n"
        "for name in package.__all__: getattr(package, name)\n"
        "import pylab_container.build.builder, pylab_container.images.save, pylab_container.images.load\n"
    )
    assert without(everything, program) == ""


def test_labctr_without_click_says_so_in_one_line() -> None:
    block = "import sys; sys.modules['click'] = None; sys.argv[1:] = ['images']\n"
    run = "from pylab_container.__main__ import entry; entry()"
    done = subprocess.run([sys.executable, "-c", block + run], capture_output=True, text=True, check=False)
    expected = 'Error: the Python library click is not installed: pip install "pylab-container[cli]"\n'
    assert (done.returncode, done.stdout, done.stderr) == (1, "", expected)


def test_a_missing_module_of_our_own_is_no_missing_extra() -> None:
    with pytest.raises(ModuleNotFoundError) as caught, extras.extra("run"):
        import pylab_container.nonsense  # type: ignore[import-not-found]  # noqa: F401
    assert not isinstance(caught.value, MissingExtra)


def test_other_errors_pass() -> None:
    with pytest.raises(ImageNotFound), extras.extra("run"):
        raise ImageNotFound("x")


def test_require_does_not_import(monkeypatch: pytest.MonkeyPatch) -> None:
    extras.require("run")
    monkeypatch.setitem(extras.LIBRARIES, "run", ("dnslib", "no_such_library"))
    with pytest.raises(MissingExtra, match="no_such_library is not installed"):
        extras.require("run")
    assert "no_such_library" not in sys.modules


def test_require_names_what_cannot_be_imported() -> None:
    program = (
        "from pylab_container.host.extras import require\n"
        "try: require('daemon')\n"
        "except ImportError as error: print(error)\n"
    )
    assert without(("aiohttp",), program).startswith("the Python library aiohttp is not installed\n")


# -- against pyproject.toml --------------------------------------------------------------------


def dependencies(repository: Path) -> dict[str, set[str]]:
    """Extra → the distributions that it names itself, in lower case; "" for the base."""
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    listed = {"": project["dependencies"], **project["optional-dependencies"]}
    return {name: {re.split(r"[^\w.-]", one)[0].lower() for one in ones} for name, ones in listed.items()}


def test_the_base_is_what_images_need(repository: Path) -> None:
    assert dependencies(repository)[""] == {"fastcrc", "isal", "msgspec", "zstandard"}


def test_every_extra_brings_its_libraries(repository: Path) -> None:
    bring = importlib.metadata.packages_distributions()
    listed = dependencies(repository)
    for name, libraries in extras.LIBRARIES.items():
        named = [
            one for one in libraries if one not in ("IPython", "nbformat", "pygments")
        ]  # those come with ipywidgets and nbconvert
        missing = [one for one in named if not {distribution.lower() for distribution in bring[one]} & listed[name]]
        assert missing == [], name


def imported(source: str) -> Iterator[str]:
    """The top-level names of the modules that a source file imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0]


@pytest.mark.parametrize(
    "layer",
    [
        "text",
        "oci",
        "dockerfile",
        "docker",
        "host",
        "store",
        "images",
        "build",
        "runtime",
        "networks",
        "volumes",
        "containers",
        "maintenance",
        "engine",
        "registry",
        "cli",
        "daemon",
        "notebook",
        "__init__.py",
    ],
)
def test_a_layer_imports_only_libraries_of_its_extra(repository: Path, layer: str) -> None:
    place = repository / "pylab_container" / layer
    files = [place] if place.is_file() else list(place.rglob("*.py"))
    used = {name for file in files for name in imported(file.read_text())} - set(sys.stdlib_module_names)
    allowed = {
        "pylab_container",
        "fastcrc",
        "isal",
        "msgspec",
        "zstandard",
        *extras.LIBRARIES.get(LAYERS.get(layer, ""), ()),
    }
    # A library is used with what it is built on, and labs includes cli.
    allowed |= {"daemon": {"multidict"}, "notebook": {"jupyter_client", "nbclient", "tqdm", "traitlets"}}.get(
        layer, set()
    )
    assert used <= allowed
