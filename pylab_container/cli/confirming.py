"""What all prunes say: the question before, and what went."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pylab_container.cli.printing import say
from pylab_container.text.sizes import human_precise

if TYPE_CHECKING:
    from pylab_container.maintenance.pruning import Pruned


def confirmed(warning: str) -> bool:
    """Whether the person, asked on standard input, says yes."""
    say(f"WARNING! {warning}\nAre you sure you want to continue? [y/N] ", nl=False)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def show_deleted(heading: str, lines: Sequence[str]) -> None:
    """What was deleted, if anything was."""
    if lines:
        say(f"{heading}:\n" + "".join(f"{line}\n" for line in lines))


def show_total(*pruned: Pruned) -> None:
    """How much that freed."""
    say(f"Total reclaimed space: {human_precise(sum(one.space_reclaimed for one in pruned))}")
