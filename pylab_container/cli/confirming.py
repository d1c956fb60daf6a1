"""The output of all prune commands: the confirmation, the deleted objects, the reclaimed space."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pylab_container.cli.printing import say
from pylab_container.text.sizes import human_precise

if TYPE_CHECKING:
    from pylab_container.maintenance.pruning import Pruned


def confirmed(warning: str) -> bool:
    """Ask for confirmation, and return whether the line on standard input is y or yes."""
    say(f"WARNING! {warning}\nAre you sure you want to continue? [y/N] ", nl=False)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def show_deleted(heading: str, lines: Sequence[str]) -> None:
    """Print the deleted objects under a heading, if there are any."""
    if lines:
        say(f"{heading}:\n" + "".join(f"{line}\n" for line in lines))


def show_total(*pruned: Pruned) -> None:
    """Print the reclaimed space."""
    say(f"Total reclaimed space: {human_precise(sum(result.space_reclaimed for result in pruned))}")
