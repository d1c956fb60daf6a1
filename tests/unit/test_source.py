"""lab.source(): which definition an object or a name means, and how a notebook shows it."""

from __future__ import annotations

import inspect
import pathlib
import re
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import pytest

import pylab_container
from pylab_container import Container, ContainerCollection, Engine, Image, ImageCollection, InvalidInput
from pylab_container.notebook import source
from pylab_container.notebook.source import Source
from pylab_container.oci import reference
from pylab_container.text.visible import visible

ENGINE: Any = SimpleNamespace(images=ImageCollection.__new__(ImageCollection))


def first_line(shown: Source) -> str:
    return next(line for line in shown.text.splitlines() if line.startswith(("def ", "class ")))


@pytest.mark.parametrize(
    ("subject", "path", "line"),
    [
        (reference.parse, "oci/reference.py", "def parse(text: str) -> Reference:"),
        ("oci.reference.parse", "oci/reference.py", "def parse(text: str) -> Reference:"),
        ("pylab_container.oci.reference.parse", "oci/reference.py", "def parse(text: str) -> Reference:"),
        (ImageCollection, "engine/images.py", "class ImageCollection:"),
        ("ImageCollection", "engine/images.py", "class ImageCollection:"),
        (pylab_container.LabError, "errors.py", "class LabError(Exception):"),
        (Engine.df, "engine/__init__.py", "def df(self) -> DiskUsage:"),
        (ENGINE.images.import_, "engine/images.py", "def import_("),
        ("images.import_", "engine/images.py", "def import_("),
        ("images.image.Image", "images/image.py", "class Image:"),
        (Container.__dict__["image"], "engine/container.py", "def image(self)"),
        ("Container.image", "engine/container.py", "def image(self)"),
        ("Engine.registries", "engine/__init__.py", "def registries(self) -> RegistrySettings:"),
        ("errors.LabError.__str__", "errors.py", "def __str__(self) -> str:"),
    ],
)
def test_a_definition_is_found(subject: object, path: str, line: str) -> None:
    shown = source.find(subject, ENGINE)
    assert shown.path == f"pylab_container/{path}"
    assert first_line(shown).startswith(line)


def test_the_line_is_the_first_of_the_definition(repository: pathlib.Path) -> None:
    shown = source.find("store.reading.corrupt")
    lines = (repository / shown.path).read_text().splitlines()
    assert (
        lines[shown.line - 1] == shown.text.splitlines()[0] == "def corrupt(path: Path, reason: str) -> CorruptStore:"
    )


def test_decorators_are_shown_and_seen_through() -> None:
    shown = source.find("host.files.locked")
    assert shown.text.splitlines()[0] == "@contextlib.contextmanager"
    cached = Engine.__dict__["registries"]
    assert isinstance(cached, cached_property)
    assert source.find(cached).text.startswith("@cached_property\ndef registries")


@pytest.mark.parametrize(
    ("subject", "message", "hint"),
    [
        (len, "len is not defined by the engine", "images.import_"),
        (str, "str is not defined by the engine", "images.import_"),
        (pathlib.PurePath.is_absolute, "PurePath.is_absolute is not defined by the engine", "images.import_"),
        (7, "an object of the class int is a value, not a function, class or method", "images.import_"),
        (ENGINE.images, "an object of the class ImageCollection is a value", "lab.source(ImageCollection)"),
        ("images.nosuch", "the engine has no images.nosuch", "images.import_"),
        ("nosuch", "the engine has no nosuch", "images.import_"),
        ("store..x", "the engine has no store..x", "images.import_"),
        ("", "the engine has no ", "images.import_"),
        ("store.reading", "pylab_container.store.reading is a module", "pylab_container.store.reading.NAME"),
        ("__version__", "an object of the class str is a value", "images.import_"),
        (lambda: None, "is not defined by the engine", "images.import_"),
    ],
)  # fmt: skip
def test_another_object_is_refused_with_a_hint(subject: object, message: str, hint: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        source.find(subject, ENGINE)
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")
    assert "0x" not in str(caught.value)


def test_a_property_is_not_called() -> None:
    class Refusing:
        @property
        def state(self) -> str:
            raise AssertionError("called")

    with pytest.raises(InvalidInput, match=r"Refusing\.state is not defined by the engine"):
        source.find("state", Refusing())


def test_text_and_html_say_the_same_and_are_stable() -> None:
    shown = source.find(visible)
    assert repr(shown) == f"pylab_container/text/visible.py, line {shown.line}\n\n{inspect.getsource(visible)[:-1]}"
    html = shown._repr_html_()
    assert html == source.find(visible)._repr_html_()
    assert "pylab_container/text/visible.py, line" in html
    assert ">def</span>" in html


def test_source_is_escaped() -> None:
    hostile = 'x = "<script>\x1b[2J</script>"  # <b>\u202e'
    shown = Source("<i>", 1, hostile)
    assert "<script>" not in shown._repr_html_()
    assert "<i>" not in shown._repr_html_()
    assert "<b>" not in shown._repr_html_()
    assert "\x1b" not in repr(shown) + shown._repr_html_()


def test_every_public_method_has_a_source() -> None:
    for owner in (Container, ContainerCollection, Engine, Image, ImageCollection):
        for name in (name for name in vars(owner) if not name.startswith("_")):
            static = inspect.getattr_static(owner, name)
            if callable(static) or isinstance(static, property | cached_property):
                assert source.find(f"{owner.__name__}.{name}").path.startswith("pylab_container/")


def test_every_name_that_a_lab_suggests_has_a_source(repository: pathlib.Path) -> None:
    labs = sorted((repository / "labs").glob("*.ipynb"))
    for page in [*labs, repository / "READING.md"]:
        names = re.findall(r'`lab\.source\(\\?"([\w.]+)\\?"\)`', page.read_text())
        assert names, page
        for name in names:
            assert source.find(name, ENGINE).text
