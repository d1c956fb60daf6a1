"""Completion of arguments and of the values of options: names in the data root, and paths.

The declaration of an argument names one of these functions as shell_complete; completion.py calls it when the user
presses Tab. The functions read the data root without an engine, which would take longer and could change the data root.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pathlib import Path

    from click.shell_completion import CompletionItem

Completion = Callable[[click.Context, click.Parameter, str], "list[str] | list[CompletionItem]"]
"""A function of this module: takes the incomplete word and returns the words that it may become."""


def containers(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Complete the name of a container."""
    from pylab_container.store import names

    return _remaining(names.container_names(_data_root(context)), context, parameter, incomplete)


def images(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Complete the name of an image."""
    from pylab_container.store import names

    return _remaining(names.image_names(_data_root(context)), context, parameter, incomplete)


def volumes(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Complete the name of a volume."""
    from pylab_container.store import names

    return _remaining(names.volume_names(_data_root(context)), context, parameter, incomplete)


def networks(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Complete the name of a network, also of the three that always exist."""
    from pylab_container.store import names

    known = sorted(["bridge", "host", "none", *names.network_names(_data_root(context))])
    return _remaining(known, context, parameter, incomplete)


def objects(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Complete the name of a container, image, volume or network, restricted by --type."""
    kinds = {"container": containers, "image": images, "network": networks, "volume": volumes}
    chosen = context.params.get("kind")
    functions = [kinds[chosen]] if chosen in kinds else list(kinds.values())
    return sorted({name for function in functions for name in function(context, parameter, incomplete)})


def container_paths(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[str] | list[CompletionItem]:
    """Complete the path of a file, or CONTAINER: before a path in a container."""
    names = [] if ":" in incomplete else containers(context, parameter, incomplete)
    return [f"{name}:" for name in names] or files(context, parameter, incomplete)


def files(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Let the shell complete the path of a file."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]


def directories(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Let the shell complete the path of a directory."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="dir")]


def _data_root(context: click.Context) -> Path:
    """Return the data root that the command line or $LABCTR_ROOT names."""
    from pathlib import Path  # late: `labctr version` needs neither it nor urllib, which it imports

    from pylab_container.store.names import DEFAULT_ROOT

    return Path(context.find_root().params.get("root") or os.environ.get("LABCTR_ROOT") or DEFAULT_ROOT)


def _remaining(names: list[str], context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Keep the names with the prefix incomplete that the command line does not contain yet."""
    present = context.params.get(parameter.name or "") or ()
    return [name for name in names if name.startswith(incomplete) and (name not in present or parameter.nargs == 1)]
