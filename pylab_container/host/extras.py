"""Libraries that only some features need: the extras of the distribution, pyproject.toml says which.

The package itself needs the libraries for images. A module that needs more imports it in a block:

    with extra("registry"):
        import requests

A library that is missing is then one error, which names the extra; nothing else in the package looks for one.
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
"""Extra → the modules that it installs. tests/unit/test_extras.py compares it with pyproject.toml."""


@contextlib.contextmanager
def extra(name: str) -> Iterator[None]:
    """Import libraries of an extra in the block. Raises MissingExtra if one is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library == __name__.partition(".")[0]:
            raise  # a module of our own is missing: a mistake in the package
        raise _missing(name, library) from error


def require(name: str) -> None:
    """Check that the libraries of an extra are installed, without importing them. Raises MissingExtra.

    For an operation that must not fail half-way.
    """
    for library in LIBRARIES[name]:
        if not _is_installed(library):
            raise _missing(name, library)


def _is_installed(library: str) -> bool:
    if library in sys.modules:
        return sys.modules[library] is not None
    from importlib.util import find_spec  # `labctr version` does without

    return find_spec(library) is not None


def _missing(name: str, library: str) -> MissingExtra:
    return MissingExtra(
        f"the Python library {library} is not installed", hint=f'pip install "{DISTRIBUTION}[{name}]"', extra=name
    )
