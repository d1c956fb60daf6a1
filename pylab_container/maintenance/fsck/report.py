"""The report of a check: its findings, each repaired as soon as it is added."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from msgspec import Struct

from pylab_container.errors import LabError

Kind = Literal["name", "image", "layer", "directory", "container", "network", "volume", "leftover"]


class Finding(Struct, frozen=True):
    """One inconsistency in a data root.

    kind      name, image, layer, directory (of a layer), container, network, volume, or leftover of a killed command
    sentence  what is wrong and, if it cannot be repaired, what to do
    path      the file or directory concerned
    repaired  whether this check has repaired it
    """

    kind: Kind
    sentence: str
    path: Path
    repaired: bool = False


class Report:
    """Collects findings.

    With repair, each is repaired when it is added, so that later checks see the result.
    """

    def __init__(self, *, repair: bool) -> None:
        self.repair = repair
        self.findings: list[Finding] = []

    @property
    def hides_owners(self) -> bool:
        """Whether damage may hide owners: of an image, a layer or a container, and not repaired.

        An object without a known owner may then belong to the damaged one.
        """
        kinds = ("image", "layer", "container")
        return any(finding.kind in kinds and not finding.repaired for finding in self.findings)

    def add(self, kind: Kind, sentence: str, path: Path, fix: Callable[[], object] | None = None) -> None:
        """Add a finding. fix repairs it; None if it cannot be repaired."""
        repaired = False
        if self.repair and fix:
            try:
                fix()
                repaired = True
            except (LabError, OSError) as error:
                sentence = f"{sentence} (the repair failed: {error})"
        self.findings.append(Finding(kind, sentence, path, repaired))


def set_aside(path: Path) -> None:
    """Rename a file to "<name>.damaged" before it is replaced.

    No earlier copy is overwritten: "<name>.damaged-2".
    """
    if not path.exists() and not path.is_symlink():
        return
    kept, number = path.with_name(f"{path.name}.damaged"), 1
    while kept.exists() or kept.is_symlink():
        number += 1
        kept = path.with_name(f"{path.name}.damaged-{number}")
    path.rename(kept)


def replace_file(path: Path, text: str) -> None:
    """Set a small file aside, and write a new one in its place."""
    set_aside(path)
    path.write_text(text)
