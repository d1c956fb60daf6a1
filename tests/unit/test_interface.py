"""What the package exports is the interface, and its types say what a caller gets."""

from __future__ import annotations

import ast
import functools
import inspect
import subprocess
import sys
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import pylab_container
from pylab_container import errors
from pylab_container.containers import root_filesystem

EXPORTED = {name: getattr(pylab_container, name) for name in pylab_container.__all__}
CLASSES = [value for value in EXPORTED.values() if inspect.isclass(value)]

WIRING = {"Engine.bridge", "Engine.registries", "Network.bridge", "Exec.session"}
"""Mechanisms behind the interface, which modules of the engine reach through it."""


def functions() -> Iterator[tuple[str, Callable[..., object]]]:
    """Every public function and property of an exported class, by "Class.name"."""
    for owner in CLASSES:
        for name, value in vars(owner).items():
            function: object = value
            if isinstance(value, property):
                function = value.fget
            elif isinstance(value, functools.cached_property):
                function = value.func
            elif isinstance(value, staticmethod | classmethod):
                function = value.__func__
            qualified = f"{owner.__name__}.{name}"
            if not name.startswith("_") and inspect.isfunction(function) and qualified not in WIRING:
                yield qualified, inspect.unwrap(function)


FUNCTIONS = dict(functions())


def returned(function: Callable[..., object]) -> object:
    """The type that a function returns. A name that is neither imported nor exported raises NameError."""
    annotated = types.SimpleNamespace(__annotations__={"return": function.__annotations__["return"]})
    names = {**EXPORTED, "root_filesystem": root_filesystem}  # the module is imported late, its classes are exported
    return typing.get_type_hints(annotated, function.__globals__, names)["return"]


def parts(annotation: object) -> Iterator[object]:
    """A type and those that it is made of. A JSON document counts as a whole."""
    yield annotation
    if annotation != EXPORTED["Json"]:
        for argument in typing.get_args(annotation):
            yield from parts(argument)


def test_there_are_functions_to_look_at() -> None:
    assert len(FUNCTIONS) > 150
    assert {"Engine.info", "ContainerCollection.run", "Container.logs", "Volume.remove"} <= set(FUNCTIONS)


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_a_public_function_returns_one_exported_type_or_none(name: str) -> None:
    annotation = returned(FUNCTIONS[name])
    found = list(parts(annotation))
    assert typing.Any not in found
    ours = [part for part in found if inspect.isclass(part) and part.__module__.startswith("pylab_container")]
    assert [part for part in ours if part not in CLASSES] == [], "not exported"
    if isinstance(annotation, types.UnionType):
        assert len([one for one in typing.get_args(annotation) if one is not types.NoneType]) == 1


def test_every_error_is_exported() -> None:
    tree = {name for name, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.LabError)}
    assert tree <= set(EXPORTED)


def test_the_list_of_exports_is_sorted_and_complete() -> None:
    assert pylab_container.__all__ == sorted(set(pylab_container.__all__))
    assert set(pylab_container.__all__) <= set(dir(pylab_container))
    lazy = {name for names in pylab_container._PLACES.values() for name in names.split()}
    assert {name for name in EXPORTED if not hasattr(errors, name)} == lazy


def test_type_checkers_and_the_interpreter_import_from_the_same_places(repository: Path) -> None:
    tree = ast.parse((repository / "pylab_container/__init__.py").read_text())
    checked = next(node for node in tree.body if isinstance(node, ast.If))
    places = {
        node.module: [alias.name for alias in node.names] for node in checked.body if isinstance(node, ast.ImportFrom)
    }
    assert places == {f"pylab_container.{place}": names.split() for place, names in pylab_container._PLACES.items()}


def test_a_name_that_is_not_exported_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'pylab_container' has no attribute 'Motor'"):
        pylab_container.Motor  # type: ignore[attr-defined]  # noqa: B018


def test_importing_the_package_imports_no_library_and_no_engine() -> None:
    script = "import sys; before = {*sys.modules}; import pylab_container; print(*({*sys.modules} - before))"
    modules = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    ours = {name for name in modules if name.startswith("pylab_container")}
    assert ours == {"pylab_container", "pylab_container.errors", "pylab_container.version"}
    assert not {"msgspec", "click", "isal", "zstandard", "importlib.util"} & set(modules)


def test_a_type_checker_sees_the_types_of_the_package(tmp_path: Path) -> None:
    # mypy reads the engine's source, which takes seconds: nothing less shows that py.typed and the exports work.
    (tmp_path / "used.py").write_text(
        "from pylab_container import Container, Engine, Image\n"
        "engine = Engine('/nowhere')\n"
        "output: bytes = engine.containers.run('a:1')\n"
        "running: Container = engine.containers.run_detached('a:1')\n"
        "image: Image = engine.images.pull('a:1')\n"
        "wrong: str = engine.containers.run('a:1')\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path / "cache", "used.py"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    complaints = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert len(complaints) == 1, done.stdout + done.stderr
    assert complaints[0].startswith("used.py:6: error: Incompatible types in assignment")
