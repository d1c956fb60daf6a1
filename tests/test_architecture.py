"""The layers of the package point one way, and each outside thing has one door.

                faces: cli  notebook  daemon
                             │
                          engine
                 ┌───────────┼──────────┐
               store      runtime    registry
                 └───────────┼──────────┘
                    host          formats
                          errors

The rules are the three tables below; the rest of this file reads imports and calls out
of the source and holds them against the tables. Imports inside functions count too.
"""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = "pylab_container"

# What each layer may import from the package, as prefixes of dotted names. The layer is the
# first part of a module's path; "" stands for pylab_container.__version__ alone.
MECHANISM = {"errors", "formats", "host"}
FACE = {"", "errors", "formats", "host", "engine"}
MAY_IMPORT = {
    "errors": set(),
    "formats": {"errors", "formats"},
    "host": {"errors", "formats.events", "formats.ids", "host"},
    "store": MECHANISM | {"store"},
    "runtime": MECHANISM | {"runtime"},
    "registry": MECHANISM | {"registry"},
    "engine": MECHANISM | {"", "engine", "store", "runtime", "registry"},
    "notebook": FACE | {"notebook"},
    "daemon": FACE | {"daemon"},
    "cli": FACE | {"cli", "daemon"},
    "__main__": {"cli", "errors"},
    "__init__": {"errors", "formats", "store", "runtime", "engine", "notebook"},
}

# Which modules may import a library, as path prefixes. A build that ADDs a URL is what speaks HTTP.
DOORS: dict[str, tuple[str, ...]] = {
    "ctypes": ("host/linux.py",),
    "subprocess": ("host/programs.py",),
    "pyroute2": ("runtime/network/netlink.py",),
    "dnslib": ("runtime/names/messages.py",),
    "IPython": ("notebook/",),
    "ipywidgets": ("notebook/",),
    "requests": ("registry/",),
    "urllib3": ("registry/",),
    "urllib.request": ("engine/builder/download.py",),
    "http.client": ("engine/builder/download.py",),
    "aiohttp": ("daemon/",),
    "httpx": (),
}

# formats/ are values: what reads a disk, a clock or chance is no business of theirs. Of `os`
# they may use what only converts, and of other people's libraries the one that makes values.
EFFECTS = ("time", "random", "secrets", "uuid", "socket", "shutil", "tempfile", "glob", "fcntl", "threading", "asyncio")
EFFECT_NAMES = tuple(
    "os open pathlib.Path datetime.date.today datetime.datetime.now datetime.datetime.today "
    "datetime.datetime.utcnow".split()
)
VALUES = "msgspec"
CONVERSIONS = ("os", "os.fsencode", "os.fsdecode", "os.fspath")

# Other ways to run a program than subprocess.
PROGRAM_CALLS = ("os.system", "os.popen", "os.exec", "os.spawn", "os.posix_spawn", "asyncio.create_subprocess")

# Only a command prints and ends the process.
COMMANDS = ("cli.py", "cli_", "cli/", "__main__.py", "notebook/regenerate.py")
ENDINGS = ("print", "exit", "quit", "sys.exit", "SystemExit")

LONGEST_MODULE = 700


@dataclass(frozen=True)
class Module:
    """One source file; path is relative to the package, with slashes."""

    path: str
    source: str

    @property
    def layer(self) -> str:
        first = self.path.split("/")[0].removesuffix(".py")
        return "cli" if first.startswith("cli") else first

    @property
    def nodes(self) -> tuple[ast.AST, ...]:
        """Every node of the syntax tree, parents first."""
        return _nodes(self.source)


@functools.cache
def _nodes(source: str) -> tuple[ast.AST, ...]:
    # Every rule walks every module: parsing and walking once takes a third of the time.
    return tuple(ast.walk(ast.parse(source)))


@dataclass(frozen=True)
class Mention:
    """A dotted name and the line where it stands."""

    name: str
    line: int


Rule = Callable[[Module], Iterator[Mention]]
"""Yields what a module does against the rule."""


# -- reading source ----------------------------------------------------------------------------


def imports(module: Module) -> Iterator[Mention]:
    """Every absolute name that the module imports: `from a import b` is a.b."""
    for node in module.nodes:
        if isinstance(node, ast.Import):
            yield from (Mention(alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = absolute(module, node)
            yield from (Mention(f"{start}.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.Call) and dotted(node.func).split(".")[-1] in ("import_module", "__import__"):
            names = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
            yield from (Mention(str(name), node.lineno) for name in names[:1])


def absolute(module: Module, node: ast.ImportFrom) -> str:
    """The module that an ImportFrom starts at, its leading dots resolved."""
    if not node.level:
        return node.module or ""
    here = [PACKAGE, *module.path.split("/")]
    return ".".join([*here[: len(here) - node.level], *([node.module] if node.module else [])])


def names(module: Module) -> Iterator[Mention]:
    """Every name and attribute chain that the module uses, with import aliases undone."""
    meant: dict[str, str] = {}
    for node in module.nodes:
        if isinstance(node, ast.ImportFrom):
            meant |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            meant |= {alias.asname: alias.name for alias in node.names if alias.asname}
    for node in module.nodes:
        if isinstance(node, ast.Name | ast.Attribute) and (name := dotted(node)):
            first, *rest = name.split(".")
            yield Mention(".".join([meant.get(first, first), *rest]), node.lineno)


def dotted(node: ast.AST) -> str:
    """The chain a.b.c as text; empty where it starts at something else than a name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (start := dotted(node.value)):
        return f"{start}.{node.attr}"
    return ""


def within(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


# -- the rules ---------------------------------------------------------------------------------


def imports_against_the_layers(module: Module) -> Iterator[Mention]:
    allowed = MAY_IMPORT[module.layer]
    for mention in imports(module):
        if within(mention.name, PACKAGE):
            inner = mention.name.removeprefix(PACKAGE).removeprefix(".")
            own = "" in allowed and inner.startswith("__")  # pylab_container.__version__
            if not own and not any(prefix and within(inner, prefix) for prefix in allowed):
                yield mention


def effects_in_values(module: Module) -> Iterator[Mention]:
    if module.layer not in ("formats", "errors"):
        return
    for mention in imports(module):
        first = mention.name.split(".")[0]
        if first in EFFECTS or (first not in (PACKAGE, VALUES) and first not in sys.stdlib_module_names):
            yield mention
    for mention in [*imports(module), *names(module)]:
        if mention.name not in CONVERSIONS and any(within(mention.name, effect) for effect in EFFECT_NAMES):
            yield mention


def imports_past_a_door(module: Module) -> Iterator[Mention]:
    for mention in imports(module):
        for library, doors in DOORS.items():
            if within(mention.name, library) and not module.path.startswith(doors or ("no door",)):
                yield mention


def programs_run_past_the_door(module: Module) -> Iterator[Mention]:
    if module.path not in DOORS["subprocess"]:
        yield from (mention for mention in names(module) if mention.name.startswith(PROGRAM_CALLS))


def endings_outside_a_command(module: Module) -> Iterator[Mention]:
    if not module.path.startswith(COMMANDS):
        yield from (mention for mention in names(module) if mention.name in ENDINGS)


def lines_too_many(module: Module) -> Iterator[Mention]:
    length = len(module.source.splitlines())
    if length > LONGEST_MODULE:
        yield Mention(f"{length} lines", LONGEST_MODULE)


RULES: list[Rule] = [
    imports_against_the_layers,
    effects_in_values,
    imports_past_a_door,
    programs_run_past_the_door,
    endings_outside_a_command,
    lines_too_many,
]


# -- the package obeys -------------------------------------------------------------------------


@functools.cache
def modules() -> list[Module]:
    top = Path(__file__).resolve().parent.parent / PACKAGE
    return [Module(path.relative_to(top).as_posix(), path.read_text()) for path in sorted(top.rglob("*.py"))]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_package_has_no(rule: Rule) -> None:
    found = [f"{module.path}:{at.line}: {at.name}" for module in modules() for at in rule(module)]
    assert not found, "\n".join(found)


def test_every_module_belongs_to_a_layer() -> None:
    assert {module.layer for module in modules()} <= set(MAY_IMPORT)


def test_the_modules_that_the_doors_name_are_found() -> None:
    paths = {module.path for module in modules()}
    assert {"host/linux.py", "host/programs.py", "errors.py"} <= paths


# -- the rules see -----------------------------------------------------------------------------

VIOLATIONS = [
    (imports_against_the_layers, "formats/image.py", "from pylab_container.host import files"),
    (imports_against_the_layers, "formats/image.py", "import pylab_container.host.files"),
    (imports_against_the_layers, "formats/image.py", "from ..host import files"),
    (imports_against_the_layers, "host/files.py", "from pylab_container.formats.image import ImageConfig"),
    (imports_against_the_layers, "host/files.py", "from pylab_container import formats"),
    (imports_against_the_layers, "store/layers.py", "from pylab_container.runtime import runc"),
    (imports_against_the_layers, "store/layers.py", "def f():\n    from pylab_container.engine import Engine"),
    (imports_against_the_layers, "store/__init__.py", "from ..runtime import runc"),
    (imports_against_the_layers, "runtime/runc.py", "from pylab_container import store"),
    (imports_against_the_layers, "runtime/runc.py", "import_module('pylab_container.store.layers')"),
    (imports_against_the_layers, "registry.py", "from pylab_container.store import images"),
    (imports_against_the_layers, "engine/__init__.py", "from pylab_container.cli import main"),
    (imports_against_the_layers, "engine/images/collection.py", "from pylab_container.notebook import display"),
    (imports_against_the_layers, "notebook/lab.py", "from pylab_container.store.overlay2 import Driver"),
    (imports_against_the_layers, "cli.py", "from pylab_container.runtime import runc"),
    (imports_against_the_layers, "cli/images.py", "from pylab_container.notebook import display"),
    (imports_against_the_layers, "errors.py", "from pylab_container.formats import events"),
    (imports_against_the_layers, "host/linux.py", "from pylab_container import Engine"),
    (effects_in_values, "formats/tar.py", "import os.path"),
    (effects_in_values, "formats/tar.py", "import os\nos.stat('/')"),
    (effects_in_values, "formats/tar.py", "from os import stat"),
    (effects_in_values, "formats/tar.py", "open('/etc/passwd')"),
    (effects_in_values, "formats/tar.py", "from pathlib import Path"),
    (effects_in_values, "formats/tar.py", "from datetime import UTC, datetime\ndatetime.now(UTC)"),
    (effects_in_values, "formats/tar.py", "from time import time"),
    (effects_in_values, "formats/tar.py", "import zstandard"),
    (effects_in_values, "errors.py", "import click"),
    (imports_past_a_door, "host/files.py", "import ctypes"),
    (imports_past_a_door, "host/files.py", "from ctypes import CDLL"),
    (imports_past_a_door, "runtime/runc.py", "import subprocess as s"),
    (imports_past_a_door, "runtime/runc.py", "from pyroute2 import IPRoute"),
    (imports_past_a_door, "engine/events.py", "from IPython.display import display"),
    (imports_past_a_door, "cli.py", "import ipywidgets"),
    (imports_past_a_door, "engine/images/collection.py", "from urllib import request"),
    (imports_past_a_door, "registry.py", "from http.client import HTTPConnection"),
    (imports_past_a_door, "registry.py", "__import__('requests')"),
    (programs_run_past_the_door, "store/layers.py", "import os\nos.system('true')"),
    (programs_run_past_the_door, "store/layers.py", "from os import execvp as run\nrun('true', [])"),
    (endings_outside_a_command, "engine/images/collection.py", "print('done')"),
    (endings_outside_a_command, "engine/images/collection.py", "show = print"),
    (endings_outside_a_command, "engine/images/collection.py", "import sys\nsys.exit(1)"),
    (endings_outside_a_command, "engine/images/collection.py", "from sys import exit as leave\nleave(1)"),
    (endings_outside_a_command, "notebook/lab.py", "raise SystemExit(1)"),
    (lines_too_many, "engine/images/collection.py", "\n" * (LONGEST_MODULE + 1)),
]

INNOCENT = [
    (imports_against_the_layers, "formats/image.py", "from pylab_container.formats import reference"),
    (imports_against_the_layers, "host/files.py", "from pylab_container.formats.events import Emit"),
    (imports_against_the_layers, "host/files.py", "from pylab_container.formats import events"),
    (imports_against_the_layers, "engine/__init__.py", "from pylab_container.store.images import ImageStore"),
    (imports_against_the_layers, "cli.py", "from pylab_container import __version__"),
    (imports_against_the_layers, "store/layers.py", "import pylab_container_tools"),
    (effects_in_values, "formats/image.py", "import json\nfrom pathlib import PurePosixPath"),
    (effects_in_values, "formats/tar.py", "import os\nos.fsencode('name')"),
    (effects_in_values, "formats/tar.py", "from datetime import datetime\ndatetime.fromisoformat('2026-01-01')"),
    (effects_in_values, "host/files.py", "import os\nos.stat('/')"),
    (imports_past_a_door, "host/linux.py", "import ctypes"),
    (imports_past_a_door, "notebook/widgets.py", "import ipywidgets"),
    (imports_past_a_door, "engine/images/collection.py", "from urllib.parse import urlsplit"),
    (programs_run_past_the_door, "host/programs.py", "import os\nos.execvp('true', [])"),
    (endings_outside_a_command, "cli_images.py", "print('done')"),
    (endings_outside_a_command, "engine/images/collection.py", "console.print('done'); fingerprint('x')"),
    (lines_too_many, "engine/images/collection.py", "\n" * LONGEST_MODULE),
]


@pytest.mark.parametrize(("rule", "path", "source"), VIOLATIONS)
def test_a_violation_is_seen(rule: Rule, path: str, source: str) -> None:
    assert list(rule(Module(path, source)))


@pytest.mark.parametrize(("rule", "path", "source"), INNOCENT)
def test_what_is_allowed_is_not_reported(rule: Rule, path: str, source: str) -> None:
    assert not list(rule(Module(path, source)))
