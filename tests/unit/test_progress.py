"""Docker's words for a transfer."""

from __future__ import annotations

import io

import pytest

from pylab_container.cli.transfer_output import Display
from pylab_container.docker import progress
from pylab_container.events import Event, LayerTransfer, PushResult, TransferMessage
from pylab_container.oci.image import Json


@pytest.mark.parametrize(
    ("event", "document"),
    [
        (TransferMessage("Pulling from base", "1"), {"status": "Pulling from base", "id": "1"}),
        (TransferMessage("Digest: sha256:0"), {"status": "Digest: sha256:0"}),
        (
            LayerTransfer("Pulling fs layer", "abc"),
            {"status": "Pulling fs layer", "progressDetail": {}, "id": "abc"},
        ),
        (
            # as dockerd 20.10 said it
            LayerTransfer("Downloading", "7bb5193b09ae", 21120000, 67139777),
            {
                "status": "Downloading",
                "progressDetail": {"current": 21120000, "total": 67139777},
                "progress": "[===============>                                   ]  21.12MB/67.14MB",
                "id": "7bb5193b09ae",
            },
        ),
        (
            PushResult("1", "sha256:0", 528),
            {"progressDetail": {}, "aux": {"Tag": "1", "Digest": "sha256:0", "Size": 528}},
        ),
        (Event(), None),
    ],
)
def test_an_event_is_dockers_json(event: Event, document: Json | None) -> None:
    assert progress.document(event) == document


@pytest.mark.parametrize(
    ("current", "total", "text"),
    [
        (552960, 67139777, "[>                                                  ]    553kB/67.14MB"),
        (67139777, 67139777, "[==================================================>]  67.14MB/67.14MB"),
        (512, 0, "    512B"),
        (600, 512, "    600B"),
        (0, 0, ""),
    ],
)
def test_a_bar_is_dockers(current: int, total: int, text: str) -> None:
    assert progress.bar(current, total) == text


def test_a_narrow_terminal_has_no_bar() -> None:
    assert progress.bar(1000, 2000, columns=80) == "     1kB/2kB"


def test_what_is_no_terminal_gets_a_line_for_each_change_and_no_bars() -> None:
    output = io.StringIO()
    display = Display(output)
    for event in (
        TransferMessage("Pulling from base", "1"),
        LayerTransfer("Pulling fs layer", "abc"),
        LayerTransfer("Downloading", "abc", 1, 2),
        LayerTransfer("Pull complete", "abc"),
        Event(),
    ):
        display(event)
    assert output.getvalue() == "1: Pulling from base\nabc: Pulling fs layer\nabc: Pull complete\n"


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def screen(text: str) -> list[str]:
    """What a terminal shows after these characters."""
    lines, row = [""], 0
    while text:
        if text.startswith("\x1b["):
            end = next(position for position, c in enumerate(text[2:], 2) if c.isalpha())
            count, command, text = text[2:end], text[end], text[end + 1 :]
            row += {"A": -int(count), "B": int(count)}[command] if command in "AB" else 0
            lines[row] = "" if command == "K" else lines[row]
        elif text[0] == "\n":
            row, text = row + 1, text[1:]
            lines += [""] * (row + 1 - len(lines))
        elif text[0] == "\r":
            text = text[1:]
        else:
            word = text.split("\x1b")[0].split("\n")[0].split("\r")[0]
            lines[row], text = word, text[len(word) :]
    return lines


def test_in_a_terminal_each_layer_keeps_its_line() -> None:
    output = _Terminal()
    display = Display(output)
    for event in (
        TransferMessage("Pulling from base", "1"),
        LayerTransfer("Pulling fs layer", "aaa"),
        LayerTransfer("Pulling fs layer", "bbb"),
        LayerTransfer("Downloading", "aaa", 1000, 2000),
        LayerTransfer("Pull complete", "bbb"),
        LayerTransfer("Pull complete", "aaa"),
        TransferMessage("Digest: sha256:0"),
    ):
        display(event)
    assert screen(output.getvalue()) == [
        "1: Pulling from base",
        "aaa: Pull complete",
        "bbb: Pull complete",
        "Digest: sha256:0",
        "",
    ]
