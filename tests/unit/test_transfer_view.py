"""What a notebook shows of a pull."""

from __future__ import annotations

from pylab_container.events import Event, LayerTransfer, TransferMessage
from pylab_container.notebook.transfers import TransferView


def test_each_layer_keeps_its_line() -> None:
    view = TransferView("pull base")
    for event in (
        TransferMessage("Pulling from base", "1"),
        LayerTransfer("Pulling fs layer", "aaa"),
        LayerTransfer("Pulling fs layer", "bbb"),
        Event(),
        LayerTransfer("Downloading", "aaa", 1000, 2000),
        LayerTransfer("Pull complete", "bbb"),
    ):
        view.update(event)
    lines = view.text.splitlines()
    assert lines[0] == "1: Pulling from base"
    assert lines[1].startswith("aaa: Downloading [====")
    assert lines[2:] == ["bbb: Pull complete"]


def test_a_second_pull_of_a_layer_has_a_line_of_its_own() -> None:
    view = TransferView("pull base")
    for _ in range(2):
        view.update(LayerTransfer("Already exists", "aaa"))
        view.update(TransferMessage("Digest: <sha256>"))
    view.draw()
    assert view.text.splitlines() == ["aaa: Already exists", "Digest: <sha256>"] * 2
    assert "&lt;sha256&gt;" in view.view.value
