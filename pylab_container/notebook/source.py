"""The source of the engine in a notebook: find a definition, and show it highlighted with its file and line."""

from __future__ import annotations

import functools
import importlib
import inspect
import itertools
import sys
import textwrap
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec import Struct

from pylab_container.errors import InvalidInput
from pylab_container.host.extras import extra
from pylab_container.notebook.markup import Html, joined, markup, output
from pylab_container.notebook.trees import MONOSPACE
from pylab_container.text.visible import visible, visible_lines

with extra("labs"):
    from pygments.lexers.python import PythonLexer
    from pygments.token import Comment, Keyword, Name, Number, String

_PACKAGE = __name__.partition(".")[0]
_EXAMPLE = 'lab.source("images.import_") shows a method of the engine'

# JupyterLab's variables follow its light and dark themes; the second colour is for a page of nbconvert.
_COLOURS = {
    Comment: "var(--jp-mirror-editor-comment-color, #408080)",
    Keyword: "var(--jp-mirror-editor-keyword-color, #008000)",
    Name.Class: "var(--jp-mirror-editor-def-color, #0000ff)",
    Name.Decorator: "var(--jp-mirror-editor-meta-color, #aa22ff)",
    Name.Function: "var(--jp-mirror-editor-def-color, #0000ff)",
    Number: "var(--jp-mirror-editor-number-color, #008800)",
    String: "var(--jp-mirror-editor-string-color, #ba2121)",
}


class Source(Struct, frozen=True):
    """The text of one definition. Displays itself as text and as highlighted HTML.

    path  relative to the directory of the package, with slashes: "pylab_container/store/overlay2.py"
    line  number of the first line, a decorator included
    text  the definition without the indentation of its first line
    """

    path: str
    line: int
    text: str

    def __repr__(self) -> str:
        return f"{visible(self._title)}\n\n{visible_lines(self.text)}"

    def _repr_html_(self) -> Html:
        template = '<div style="font-weight: bold">{title}</div><pre style="{style}">{code}</pre>'
        style = f"margin: .3em 0; white-space: pre; overflow-x: auto; {MONOSPACE}"
        return output(markup(template, title=self._title, style=style, code=_highlighted(self.text)))

    @property
    def _title(self) -> str:
        return f"{self.path}, line {self.line}"


def find(subject: object, engine: object = None) -> Source:
    """Return the source of a function, class, method or property of the engine.

    subject  the object, or a dotted name: "images.import_" from engine, "Engine.info" or "store.overlay2.Overlay2"
             from the package

    Raises InvalidInput for an unknown name, and for an object that the engine does not define.
    """
    definition = _definition(_named(subject, engine) if isinstance(subject, str) else subject)
    module = getattr(definition, "__module__", None) or ""
    if module.partition(".")[0] != _PACKAGE:
        raise InvalidInput(f"{_description(definition)} is not defined by the engine", hint=_EXAMPLE)
    try:
        lines, line = inspect.getsourcelines(definition)
        file = inspect.getsourcefile(definition)
    except (OSError, TypeError) as error:
        raise InvalidInput(f"{_description(definition)} has no source: it was generated", hint=_EXAMPLE) from error
    path = Path(file or "").relative_to(Path(__file__).parents[2])
    return Source(path.as_posix(), line, textwrap.dedent("".join(lines)).rstrip("\n"))


def _definition(subject: Any) -> Callable[..., Any]:
    """Return the function or class behind a method, a property or a decorated function.

    Raises InvalidInput.
    """
    match subject:
        case property(fget=getter):
            subject = getter
        case functools.cached_property(func=getter):
            subject = getter
        case staticmethod() | classmethod() | types.MethodType():
            subject = subject.__func__
    subject = inspect.unwrap(subject) if callable(subject) else subject
    if isinstance(subject, types.ModuleType):
        hint = f'name a definition in it: lab.source("{subject.__name__}.NAME")'
        raise InvalidInput(f"{subject.__name__} is a module", hint=hint)
    if not isinstance(subject, type | types.FunctionType | types.BuiltinFunctionType):
        kind = type(subject)
        hint = f"lab.source({kind.__name__}) shows its class" if kind.__module__.startswith(_PACKAGE) else _EXAMPLE
        raise InvalidInput(f"{_description(subject)} is a value, not a function, class or method", hint=hint)
    definition: Callable[..., Any] = subject
    return definition


def _description(subject: object) -> str:
    """Return the name of a definition, or "an object of the class NAME".

    A repr could contain an address, which differs between runs.
    """
    name = getattr(subject, "__qualname__", None)
    return str(name) if name else f"an object of the class {type(subject).__name__}"


# ---- dotted names ------------------------------------------------------------------------------


def _named(name: str, engine: object) -> object:
    """Resolve a dotted name, first in the engine and then in the package."""
    words = name.removeprefix(f"{_PACKAGE}.").split(".")
    for start in (engine, sys.modules[_PACKAGE]):
        try:
            return functools.reduce(_member, words, start)
        except AttributeError:
            continue
    raise InvalidInput(f"the engine has no {name}", hint=_EXAMPLE)


def _member(owner: object, name: str) -> object:
    """Return an attribute or a submodule. A property is returned itself, without a call.

    Raises AttributeError.
    """
    if isinstance(owner, types.ModuleType):
        return _module_member(owner, name)
    kind = owner if isinstance(owner, type) else type(owner)
    static = inspect.getattr_static(kind, name, None)
    if isinstance(static, property | functools.cached_property):
        return static
    return getattr(owner, name)


def _module_member(module: types.ModuleType, name: str) -> object:
    with_submodules = hasattr(module, "__path__")
    try:
        return getattr(module, name)
    except AttributeError:
        if not with_submodules or not name.isidentifier():
            raise
    try:
        return importlib.import_module(f"{module.__name__}.{name}")
    except ModuleNotFoundError as error:
        raise AttributeError(name) from error


# ---- highlighting ------------------------------------------------------------------------------


def _highlighted(text: str) -> Html:
    """Return the text with a span around each run of tokens of one colour."""
    tokens = PythonLexer(stripnl=False, ensurenl=False).get_tokens(text)
    coloured = ((_colour(kind), value) for kind, value in tokens)
    parts = []
    for colour, run in itertools.groupby(coloured, key=lambda token: token[0]):
        value = "".join(value for _, value in run)
        parts.append(
            markup('<span style="color: {colour}">{value}</span>', colour=colour, value=value)
            if colour
            else markup("{value}", value=value)
        )
    return joined(parts)


def _colour(kind: Any) -> str:
    """Return the colour of a token type of pygments, "" for the text's own."""
    return next((colour for token, colour in _COLOURS.items() if kind in token), "")
