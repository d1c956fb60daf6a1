"""Libraries that only some features need: the extras of the distribution (pyproject.toml).

The base installation has the libraries for images. A module that needs another one imports it in a block:

    with extra("registry"):
        import requests

If the library is not installed, the block raises MissingExtra, which names the extra to install.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping

from pylab_container.errors import MissingExtra

DISTRIBUTION = "pylab-container"

LIBRARIES: Mapping[str, tuple[str, ...]] = {
    "run": ("pyroute2", "dnslib", "re2"),
    "registry": ("requests", "urllib3"),
    "cli": ("click", "tqdm"),
    "daemon": ("aiohttp",),
    "labs": ("IPython", "ipywidgets", "nbconvert", "nbformat", "papermill", "pygments"),
}
"""Extra → the top-level modules that it installs. tests/unit/test_extras.py compares it with pyproject.toml."""


@contextlib.contextmanager
def extra(name: str) -> Iterator[None]:
    """Import libraries of an extra in the block. Raises MissingExtra if one is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library == __name__.partition(".")[0]:
            raise  # one of this package's own modules is missing: a bug, not a missing extra
        raise _missing(name, library) from error


def require(name: str) -> None:
    """Raise MissingExtra unless the libraries of an extra are installed. They are not imported.

    For an operation that would otherwise fail after its first side effects.
    """
    for library in LIBRARIES[name]:
        if not _is_installed(library):
            raise _missing(name, library)


def _is_installed(library: str) -> bool:
    if library in sys.modules:
        return sys.modules[library] is not None
    from importlib.util import find_spec  # late: `labctr version` does not need it

    return find_spec(library) is not None


def _missing(name: str, library: str) -> MissingExtra:
    return MissingExtra(
        f"the Python library {library} is not installed", hint=f'pip install "{DISTRIBUTION}[{name}]"', extra=name
    )
