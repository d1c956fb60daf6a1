"""What a check found, and how it gets repaired on the way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from msgspec import Struct

from pylab_container.errors import LabError

Kind = Literal["name", "image", "layer", "directory", "container", "network", "volume", "leftover"]


class Finding(Struct, frozen=True):
    """One thing that is wrong.

    kind      name, image, layer, directory (of a layer), container, network, volume, or leftover of a killed command
    sentence  what is wrong, and where nothing can repair it, what to do
    path      where on disk
    repaired  whether it is right now
    """

    kind: Kind
    sentence: str
    path: Path
    repaired: bool = False


class Report:
    """Collects findings; with repair, mends each as it comes, so that later checks see the mended store."""

    def __init__(self, *, repair: bool) -> None:
        self.repair = repair
        self.findings: list[Finding] = []

    @property
    def hides_owners(self) -> bool:
        """Whether an image, a layer or a container is damaged: what seems to have no owner may be its own."""
        kinds = ("image", "layer", "container")
        return any(finding.kind in kinds and not finding.repaired for finding in self.findings)

    def add(self, kind: Kind, sentence: str, path: Path, fix: Callable[[], object] | None = None) -> None:
        """Note a finding. fix mends it; without one nothing can."""
        repaired = False
        if self.repair and fix:
            try:
                fix()
                repaired = True
            except (LabError, OSError) as error:
                sentence = f"{sentence} (the repair failed: {error})"
        self.findings.append(Finding(kind, sentence, path, repaired))


def set_aside(path: Path) -> None:
    """Keep what a repair replaces: the file gets the name "<name>.damaged" beside its place. None is overwritten."""
    if not path.exists() and not path.is_symlink():
        return
    kept, number = path.with_name(f"{path.name}.damaged"), 1
    while kept.exists() or kept.is_symlink():
        number += 1
        kept = path.with_name(f"{path.name}.damaged-{number}")
    path.rename(kept)


def replace_file(path: Path, text: str) -> None:
    """Replace a small file; the old one is set aside."""
    set_aside(path)
    path.write_text(text)
