"""Relative links in the labs and in the pages of the repository: file and heading exist."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent.parent
PAGES = [*sorted(REPOSITORY.glob("*.md")), *sorted(REPOSITORY.glob("labs/*.ipynb")), *sorted(REPOSITORY.glob("*/*.md"))]


def markdown(page: Path) -> str:
    """Return a page's text, or the text cells of a notebook, without code blocks."""
    text = page.read_text()
    if page.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        text = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def relative_links(page: Path) -> Iterator[str]:
    for target in re.findall(r"\]\(([^)\s]+)\)", markdown(page)):
        if not re.match(r"[a-z]+:", target):
            yield target


def anchors(page: Path) -> set[str]:
    """Return the fragments that lead to a heading of a page.

    GitHub drops punctuation and capitals; JupyterLab only replaces the spaces of a notebook's headings.
    """
    headings = re.findall(r"^#+ +(.*?) *$", markdown(page), flags=re.MULTILINE)
    if page.suffix == ".ipynb":
        return {heading.replace(" ", "-") for heading in headings}
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    broken = []
    for target in relative_links(page):
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        if not linked.exists() or (anchor and anchor not in anchors(linked)):
            broken.append(target)
    assert not broken


@pytest.mark.parametrize("lab", sorted(REPOSITORY.glob("labs/*.ipynb")), ids=lambda lab: lab.stem)
def test_a_lab_leads_to_its_tour(lab: Path) -> None:
    number = int(lab.name[:2])
    tours = [link for link in relative_links(lab) if link.startswith("../READING.md#")]
    assert [tour.partition("#")[2].startswith(f"tour-{number}-") for tour in tours] == [True]


def test_punctuation_is_not_part_of_githubs_anchor(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("## Tour 2: a container's `layer`\n\n```\n# a comment\n```\n")
    assert anchors(page) == {"tour-2-a-containers-layer"}
