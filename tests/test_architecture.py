"""The listing of the package is its architecture: imports point one way, and each outside thing has one door.

    faces       cli  daemon  notebook
    façade      engine
    periphery   registry  maintenance  docker  dockerfile/lint
    ─────────────────────────────────────────────────────────────────── core above the values, periphery above the core
    core        containers            build
                networks  volumes     images
                runtime               store
                host                  dockerfile
                oci  text  events  errors

A package imports packages of its own row's column and of rows below it; the table MAY_IMPORT has it exactly. The rest
of this file reads imports and calls out of the source and holds them against the tables. Imports inside functions and
under TYPE_CHECKING count.
"""

from __future__ import annotations

import ast
import functools
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = "pylab_container"

# What each layer may import from the package, as prefixes of dotted names. The layer is the first part of a module's
# path. One part of a core package is periphery, dockerfile.lint: PERIPHERY and the rule for it are below.
VALUES_ONLY = {"errors", "text", "oci"}
MECHANISM = VALUES_ONLY | {"events", "host"}
STORED = MECHANISM | {"store"}
ATTACHED = STORED | {"runtime", "networks", "volumes"}
CORE = ATTACHED | {"dockerfile", "images", "build", "containers"}
FACE = CORE | {"version", "docker", "registry", "maintenance", "engine"}
MAY_IMPORT = {
    "errors": set(),
    "version": set(),
    "events": {"errors"},
    "text": {"errors", "text"},
    "oci": VALUES_ONLY,
    "dockerfile": VALUES_ONLY | {"dockerfile"},
    "host": {"errors", "events", "oci.ids", "host"},
    "store": STORED,
    "images": STORED | {"dockerfile", "images"},
    "build": STORED | {"dockerfile", "images", "build"},
    "runtime": MECHANISM | {"runtime"},
    "networks": STORED | {"runtime", "networks"},
    "volumes": STORED | {"volumes"},
    "containers": ATTACHED | {"containers"},
    "docker": CORE | {"docker"},
    "registry": CORE | {"docker", "registry"},
    "maintenance": CORE | {"docker", "maintenance"},
    "engine": CORE | {"version", "docker", "registry", "maintenance", "engine"},
    "notebook": FACE | {"notebook"},
    "daemon": FACE | {"daemon"},
    "cli": FACE | {"cli", "daemon"},
    "__main__": {"cli", "errors"},
    "__init__": CORE | {"version", "maintenance", "engine", "notebook"},
}
PERIPHERY = ("docker", "registry", "maintenance", "engine", "cli", "daemon", "notebook", "dockerfile.lint")
"""What the core never imports."""

LATE = ("engine/", "cli/", "__main__.py", "__init__.py", "images/image.py")
"""Where an import may stand inside a function: what a command does not use must not cost it time.

images/image.py is the face of one image, with docker-py's methods, of which save() alone needs the libraries for
checksums and compression.
"""

READING = Path(__file__).resolve().parent.parent / "READING.md"

# Which modules may import a library, as path prefixes. A build that ADDs a URL is what speaks HTTP.
DOORS: dict[str, tuple[str, ...]] = {
    "ctypes": ("host/linux.py",),
    "subprocess": ("host/programs.py",),
    "pyroute2": ("runtime/network/netlink.py",),
    "dnslib": ("runtime/dns/messages.py",),
    "IPython": ("notebook/",),
    "ipywidgets": ("notebook/",),
    "requests": ("registry/",),
    "urllib3": ("registry/",),
    "urllib.request": ("build/download.py",),
    "http.client": ("build/download.py", "notebook/sandbox.py"),
    "aiohttp": ("daemon/",),
    "httpx": (),
}

# These hold values only: they read no disk, no clock and no randomness. Of `os` they may use what only converts, and of
# other people's libraries the one that makes values.
PURE = ("errors", "events", "text", "oci", "dockerfile")
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

LONGEST_MODULE = 700  # lines
LONGEST_FUNCTION = 40  # lines of the body of a function of the core: with its docstring it fits a screen

# The modules that READING.md leads through, and what they import besides each other, host/, errors and events.
READING_PATH = tuple(
    f"{path}.py"
    for path in """
    oci/reference oci/ids oci/image oci/tar oci/lifecycle oci/bundle
    store/data_root store/transactions store/leases store/image_store store/layer_store store/layer_content
    store/layertar store/extractor store/treetar store/tarsplit store/changes store/whiteouts
    store/driver store/overlay2 store/overlayfs
    images/import_ images/creation images/commit images/lookup
    dockerfile/parser dockerfile/instructions dockerfile/stages
    build/builder build/recipe build/stage build/step build/cache build/running
    runtime/__init__ runtime/runc runtime/conmon runtime/monitor
    containers/create containers/start containers/launch containers/process containers/mounts containers/settle
    containers/restart_policy containers/release containers/removal
    """.split()
)
LONGEST_READING_PATH = 10_000  # lines: a weekend
# Reason why a module that the path imports is not on it → these modules.
BESIDE_THE_PATH = {
    "how a value is written as text": "text.golang text.jsontext text.timestamps oci.environment",
    "a document as a list of fields": """oci.config_shape oci.container_config oci.host_config oci.network_settings
        oci.mounts store.record_shape images.build_report build.report dockerfile.warning""",
    "one part of config.json each": """oci.blockio oci.capabilities oci.users containers.devices
        containers.init_program containers.limits containers.namespaces containers.rights""",
    "a form of tar or of compression, behind the interface of those on the path": "oci.sparse store.compression",
    "a store in the form of those on the path": """store.container_store store.distribution_store store.network_store
        store.volume_store store.drivers store.init_layer""",
    "what happens when a file is damaged": "store.reading store.damage",
    "a step of one line in its caller": """images.naming images.reporting images.source containers.change_events
        containers.commands containers.deletion containers.lookup containers.signals containers.out_of_memory""",
    "instructions that only change the config": "images.configuration images.image",
    "the words of one instruction": "dockerfile.expansion dockerfile.heredocs dockerfile.ports dockerfile.runmount",
    "the files that COPY, ADD and RUN --mount may use": """build.context build.copy_instruction build.download
        build.mounts build.opened_context build.platforms build.remote""",
    "what a build is given by its caller": "build.runner build.services build.workspace",
    "an option of a container, in one function on the path": """containers.health containers.health_watcher
        containers.remap containers.rootfs containers.shared_memory containers.volume_parts""",
    "networks: a subject of their own": """networks.attachment_events networks.container_files networks.dns_records
        networks.endpoint_documents networks.endpoints networks.links runtime.network""",
    "volumes: a subject of their own": "volumes.creation volumes.mounting",
    "logs: a subject of their own": "runtime.log_archive runtime.logdriver",
    "what /proc says of a process": "runtime.procfs",
}

MODULES_IN_CYCLES = 0


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
            if not any(within(inner, prefix) for prefix in allowed):
                yield mention


def imports_of_the_periphery(module: Module) -> Iterator[Mention]:
    if module.layer in CORE and not module.path.startswith("dockerfile/lint/"):
        for mention in imports(module):
            if any(within(mention.name, f"{PACKAGE}.{part}") for part in PERIPHERY):
                yield mention


def late_imports(module: Module) -> Iterator[Mention]:
    if module.path.startswith(LATE) or module.path.endswith("__init__.py"):
        return
    functions = [node for node in module.nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    for node in {node for function in functions for node in ast.walk(function)}:
        if isinstance(node, ast.ImportFrom) and within(absolute(module, node), PACKAGE):
            yield from (Mention(f"{absolute(module, node)}.{alias.name}", node.lineno) for alias in node.names)


def effects_in_values(module: Module) -> Iterator[Mention]:
    if module.layer not in PURE:
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


def functions_too_long(module: Module) -> Iterator[Mention]:
    if module.layer in CORE:
        for node in module.nodes:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = node.body[1 if ast.get_docstring(node) and len(node.body) > 1 else 0]
                length = (node.end_lineno or node.lineno) - first.lineno + 1
                if length > LONGEST_FUNCTION:
                    yield Mention(f"{node.name} has {length} lines", node.lineno)


def lines_too_many(module: Module) -> Iterator[Mention]:
    length = len(module.source.splitlines())
    if length > LONGEST_MODULE:
        yield Mention(f"{length} lines", LONGEST_MODULE)


RULES: list[Rule] = [
    imports_against_the_layers,
    imports_of_the_periphery,
    late_imports,
    effects_in_values,
    imports_past_a_door,
    programs_run_past_the_door,
    endings_outside_a_command,
    functions_too_long,
    lines_too_many,
]


# -- the package obeys -------------------------------------------------------------------------


def import_graph() -> dict[str, set[str]]:
    """Dotted module → the modules that it imports, late and type-only imports included."""
    dotted_names = {_dotted_path(module.path): module for module in modules()}
    graph: dict[str, set[str]] = {}
    for name, module in dotted_names.items():
        wanted = [mention.name for mention in imports(module) if within(mention.name, PACKAGE)]
        found = {one if one in dotted_names else one.rpartition(".")[0] for one in wanted}
        graph[name] = (found & dotted_names.keys()) - {name}
    return graph


def _dotted_path(path: str) -> str:
    return f"{PACKAGE}/{path}".removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def cycles_of(graph: Mapping[str, set[str]]) -> list[set[str]]:
    """The sets of modules that import each other: the strongly connected components of more than one."""
    reached = {start: _reachable(graph, start) for start in graph}
    found: list[set[str]] = []
    for start in graph:
        if start in reached[start] and not any(start in cycle for cycle in found):
            found.append({other for other in reached[start] if start in reached[other]})
    return found


def _reachable(graph: Mapping[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        for name in graph[waiting.pop()] - seen:
            seen.add(name)
            waiting.append(name)
    return seen


@functools.cache
def modules() -> list[Module]:
    top = Path(__file__).resolve().parent.parent / PACKAGE
    return [Module(path.relative_to(top).as_posix(), path.read_text()) for path in sorted(top.rglob("*.py"))]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_package_has_no(rule: Rule) -> None:
    found = [f"{module.path}:{at.line}: {at.name}" for module in modules() for at in rule(module)]
    assert not found, "\n".join(found)


def test_no_module_imports_itself_by_a_detour() -> None:
    cycles = cycles_of(import_graph())
    assert not cycles, "\n".join(" ".join(sorted(cycle)) for cycle in cycles)


def test_a_cycle_is_seen() -> None:
    assert cycles_of({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [{"a", "b", "c"}]
    assert cycles_of({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_every_module_belongs_to_a_layer() -> None:
    assert {module.layer for module in modules()} <= set(MAY_IMPORT)


def test_the_modules_that_the_doors_name_are_found() -> None:
    paths = {module.path for module in modules()}
    assert {"host/linux.py", "host/programs.py", "errors.py"} <= paths


# -- the reading path --------------------------------------------------------------------------


def lines_of(paths: Iterable[str]) -> int:
    sources = {module.path: module.source for module in modules()}
    return sum(len(sources[path].splitlines()) for path in paths)


def test_the_reading_path_fits_into_a_weekend(capsys: pytest.CaptureFixture[str]) -> None:
    length = lines_of(READING_PATH)
    with capsys.disabled():
        sys.stdout.write(f"\nreading path: {len(READING_PATH)} modules, {length:,} lines\n")
    assert length <= LONGEST_READING_PATH


def test_the_reading_path_imports_only_itself_and_what_is_named_with_a_reason() -> None:
    graph = import_graph()
    on_path = {_dotted_path(path) for path in READING_PATH}
    reasons = {f"{PACKAGE}.{name}" for names in BESIDE_THE_PATH.values() for name in names.split()}
    everywhere = (f"{PACKAGE}.errors", f"{PACKAGE}.events", f"{PACKAGE}.host")
    beside = {
        name for path in on_path for name in graph[path] - on_path if not any(within(name, one) for one in everywhere)
    }
    assert sorted(beside - reasons) == []
    assert sorted(reasons - beside) == [], "a reason that nothing needs any more"


def test_the_tours_lead_through_the_whole_reading_path() -> None:
    text = READING.read_text()
    assert [path for path in READING_PATH if f"`{path}`" not in text] == []


def test_the_files_that_the_tours_name_exist() -> None:
    paths = {module.path for module in modules()}
    tours = READING.read_text().partition("## Tour")[2]
    assert [name for name in re.findall(r"`([a-z0-9_]+/[a-z0-9_/]+\.py)`", tours) if name not in paths] == []


def test_the_sizes_on_the_page_are_those_of_the_parts() -> None:
    rows = re.findall(r"^\| `([^|]+)` \| ([\d,]+) \|", READING.read_text(), re.MULTILINE)
    sizes = {part.strip("`/"): int(number.replace(",", "")) for part, number in rows}
    layers = {module.layer for module in modules()} - {"__init__", "__main__", "version"}
    assert layers <= {name for part in sizes for name in part.split("/` `")}
    for part, written in sizes.items():
        names = part.split("/` `")
        length = lines_of(module.path for module in modules() if module.layer in names)
        assert abs(length - written) <= max(100, length // 20), f"{part} has {length} lines"


# -- the rules see -----------------------------------------------------------------------------

VIOLATIONS = [
    (imports_against_the_layers, "oci/image.py", "from pylab_container.host import files"),
    (imports_against_the_layers, "oci/image.py", "import pylab_container.host.files"),
    (imports_against_the_layers, "oci/image.py", "from ..host import files"),
    (imports_against_the_layers, "host/files.py", "from pylab_container.oci.image import ImageConfig"),
    (imports_against_the_layers, "host/files.py", "from pylab_container import text"),
    (imports_against_the_layers, "store/layer_store.py", "from pylab_container.runtime import runc"),
    (imports_against_the_layers, "store/layer_store.py", "def f():\n    from pylab_container.engine import Engine"),
    (imports_against_the_layers, "store/__init__.py", "from ..runtime import runc"),
    (imports_against_the_layers, "runtime/runc.py", "from pylab_container import store"),
    (imports_against_the_layers, "runtime/runc.py", "import_module('pylab_container.store.layer_store')"),
    (imports_against_the_layers, "registry/pull.py", "from pylab_container.maintenance import pruning"),
    (imports_against_the_layers, "engine/__init__.py", "from pylab_container.cli import main"),
    (imports_against_the_layers, "engine/images.py", "from pylab_container.notebook import display"),
    (imports_against_the_layers, "notebook/lab.py", "from pylab_container.cli import images"),
    (imports_against_the_layers, "daemon/call.py", "from pylab_container.cli import images"),
    (imports_against_the_layers, "cli/images.py", "from pylab_container.notebook import display"),
    (imports_against_the_layers, "errors.py", "from pylab_container.oci import ids"),
    (imports_against_the_layers, "host/linux.py", "from pylab_container import Engine"),
    (imports_against_the_layers, "images/import_.py", "from pylab_container.containers import launch"),
    (imports_against_the_layers, "build/stage.py", "from pylab_container.runtime import runc"),
    (imports_of_the_periphery, "containers/launch.py", "from pylab_container.docker import filters"),
    (imports_of_the_periphery, "build/recipe.py", "from pylab_container.dockerfile.lint.linter import check"),
    (imports_of_the_periphery, "store/leases.py", "if TYPE_CHECKING:\n    from pylab_container.engine import Engine"),
    (late_imports, "store/layer_store.py", "def f():\n    from pylab_container.oci import tar"),
    (effects_in_values, "oci/tar.py", "import os.path"),
    (effects_in_values, "oci/tar.py", "import os\nos.stat('/')"),
    (effects_in_values, "oci/tar.py", "from os import stat"),
    (effects_in_values, "oci/tar.py", "open('/etc/passwd')"),
    (effects_in_values, "oci/tar.py", "from pathlib import Path"),
    (effects_in_values, "oci/tar.py", "from datetime import UTC, datetime\ndatetime.now(UTC)"),
    (effects_in_values, "oci/tar.py", "from time import time"),
    (effects_in_values, "oci/tar.py", "import zstandard"),
    (effects_in_values, "errors.py", "import click"),
    (imports_past_a_door, "host/files.py", "import ctypes"),
    (imports_past_a_door, "host/files.py", "from ctypes import CDLL"),
    (imports_past_a_door, "runtime/runc.py", "import subprocess as s"),
    (imports_past_a_door, "runtime/runc.py", "from pyroute2 import IPRoute"),
    (imports_past_a_door, "engine/event_stream.py", "from IPython.display import display"),
    (imports_past_a_door, "cli.py", "import ipywidgets"),
    (imports_past_a_door, "engine/images.py", "from urllib import request"),
    (imports_past_a_door, "registry.py", "from http.client import HTTPConnection"),
    (imports_past_a_door, "registry.py", "__import__('requests')"),
    (programs_run_past_the_door, "store/layer_store.py", "import os\nos.system('true')"),
    (programs_run_past_the_door, "store/layer_store.py", "from os import execvp as run\nrun('true', [])"),
    (endings_outside_a_command, "engine/images.py", "print('done')"),
    (endings_outside_a_command, "engine/images.py", "show = print"),
    (endings_outside_a_command, "engine/images.py", "import sys\nsys.exit(1)"),
    (endings_outside_a_command, "engine/images.py", "from sys import exit as leave\nleave(1)"),
    (endings_outside_a_command, "notebook/lab.py", "raise SystemExit(1)"),
    (functions_too_long, "store/layer_store.py", "def f():\n" + "    pass\n" * (LONGEST_FUNCTION + 1)),
    (lines_too_many, "engine/images.py", "\n" * (LONGEST_MODULE + 1)),
]

INNOCENT = [
    (imports_against_the_layers, "oci/image.py", "from pylab_container.oci import reference"),
    (imports_against_the_layers, "host/files.py", "from pylab_container.events import Emit"),
    (imports_against_the_layers, "host/files.py", "from pylab_container.oci import ids"),
    (imports_against_the_layers, "engine/__init__.py", "from pylab_container.store.image_store import ImageStore"),
    (imports_against_the_layers, "cli.py", "from pylab_container.version import __version__"),
    (imports_against_the_layers, "store/layer_store.py", "import pylab_container_tools"),
    (imports_of_the_periphery, "dockerfile/lint/rules.py", "from pylab_container.dockerfile.lint import facts"),
    (late_imports, "cli/images.py", "def f():\n    from pylab_container.engine import Engine"),
    (late_imports, "store/__init__.py", "def f():\n    from pylab_container.oci import tar"),
    (late_imports, "host/linux.py", "def f():\n    import ctypes"),
    (effects_in_values, "oci/image.py", "import json\nfrom pathlib import PurePosixPath"),
    (effects_in_values, "oci/tar.py", "import os\nos.fsencode('name')"),
    (effects_in_values, "oci/tar.py", "from datetime import datetime\ndatetime.fromisoformat('2026-01-01')"),
    (effects_in_values, "host/files.py", "import os\nos.stat('/')"),
    (imports_past_a_door, "host/linux.py", "import ctypes"),
    (imports_past_a_door, "notebook/widgets.py", "import ipywidgets"),
    (imports_past_a_door, "engine/images.py", "from urllib.parse import urlsplit"),
    (programs_run_past_the_door, "host/programs.py", "import os\nos.execvp('true', [])"),
    (endings_outside_a_command, "cli_images.py", "print('done')"),
    (endings_outside_a_command, "engine/images.py", "console.print('done'); fingerprint('x')"),
    (functions_too_long, "store/layer_store.py", "def f():\n" + "    pass\n" * LONGEST_FUNCTION),
    (functions_too_long, "docker/filters.py", "def f():\n" + "    pass\n" * (LONGEST_FUNCTION + 1)),
    (lines_too_many, "engine/images.py", "\n" * LONGEST_MODULE),
]


@pytest.mark.parametrize(("rule", "path", "source"), VIOLATIONS)
def test_a_violation_is_seen(rule: Rule, path: str, source: str) -> None:
    assert list(rule(Module(path, source)))


@pytest.mark.parametrize(("rule", "path", "source"), INNOCENT)
def test_what_is_allowed_is_not_reported(rule: Rule, path: str, source: str) -> None:
    assert not list(rule(Module(path, source)))
