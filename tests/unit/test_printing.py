"""cli/printing.py: names that others chose do not reach a terminal as control sequences."""

from __future__ import annotations

import ast
import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pylab_container import cli
from pylab_container.cli import command, events, files, printing, tables
from pylab_container.cli.listing import Listing
from pylab_container.cli.transfer_output import Display
from pylab_container.docker.build_output import Presenter
from pylab_container.docker.template import Template
from pylab_container.docker.template_values import Fields, Row
from pylab_container.errors import DockerfileError, RegistryFailed
from pylab_container.events import BuildOutput, BuildStepStarted, BuildWarning, LayerTransfer, TransferMessage
from pylab_container.text.visible import visible_lines

HOSTILE = "\x1b]0;owned\x07\x9b2J\r\u202e\x7f\udcff"
ESCAPED = "\\x1b]0;owned\\x07\\x9b2J\\r\\u202e\\x7f\\xff"
# The only places that write to a descriptor: output of containers, archives, and lines that move the cursor.
WRITERS = {"printing.py", "terminal.py", "archives.py", "transfer_output.py", "building.py"}


def is_plain(text: str) -> bool:
    return all(character in "\n\t" or character.isprintable() for character in text)


def test_commands_print_through_one_module() -> None:
    faults = []
    for path in Path(str(cli.__file__)).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Attribute(attr="echo" | "secho")) if path.name != "printing.py":
                    faults.append(f"{path.name}:{node.lineno}")
                case ast.Call(func=ast.Name(id="print")):
                    faults.append(f"{path.name}:{node.lineno}")
                case ast.Call(func=ast.Attribute(attr="write")) if path.name not in WRITERS:
                    faults.append(f"{path.name}:{node.lineno}")
    # files.py and output.py pass archives and logs to the writers above; group.py writes to click's HelpFormatter.
    assert [fault for fault in faults if not fault.startswith(("files.py", "group.py", "output.py"))] == []


def test_messages_and_errors_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    printing.say(f"one\t{HOSTILE}\ntwo")
    command.report(RegistryFailed(HOSTILE, hint=HOSTILE))
    command.report(DockerfileError(HOSTILE, source=HOSTILE, line=1, text=HOSTILE))
    shown = capsys.readouterr()
    assert shown.out == f"one\t{ESCAPED}\ntwo\n"
    assert f"Error: {ESCAPED}\nHint: {ESCAPED}\n" in shown.err
    assert is_plain(shown.err)


def test_json_has_its_own_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    document = {"Labels": {HOSTILE: f"a\n{HOSTILE}"}}
    printing.say_json(document, indent=4)
    printing.say_json(document)
    shown = capsys.readouterr().out
    assert is_plain(shown)
    assert json.JSONDecoder().raw_decode(shown)[0] == document


@pytest.mark.parametrize(
    "format_", [None, "{{.Name}} {{.Labels}}", 'table {{.Name}}\t{{.Label "a"}}', "{{json .}}", "json"]
)
def test_a_row_of_a_listing_is_one_line_of_text(format_: str | None) -> None:
    listing = Listing({"Name": "NAME", "Labels": "LABELS"}, ("Name", "Labels"), "Name")
    text = f"a\n{HOSTILE}\tb"
    shown = listing.text([Row({"Name": text, "Labels": lambda: text}, {"Label": lambda _: text})], format_)
    assert is_plain(shown)
    assert len(shown.splitlines()) == (2 if format_ is None or format_.startswith("table") else 1)


def test_the_key_of_a_row_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    Listing({"Name": "NAME"}, ("Name",), "Name").show([Row({"Name": f"a\n{HOSTILE}"})], quiet=True)
    assert capsys.readouterr().out == f"a\\n{ESCAPED}\n"


@pytest.mark.parametrize(
    "template", ["{{.Cmd}}", "{{json .Cmd}}", '{{printf "%s" (index .Cmd 0)}}', "{{range .Cmd}}{{.}}{{end}}", "{{.}}"]
)
def test_a_value_in_a_template_is_escaped_and_the_template_is_not(template: str) -> None:
    shown = Template(f"\x1b[1m{template}").render(Fields({"Cmd": [HOSTILE]}))
    assert shown.startswith("\x1b[1m")
    assert is_plain(shown.removeprefix("\x1b[1m"))


def test_tables_events_and_differences_are_escaped(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert is_plain(tables.render(["NAME"], [[f"{HOSTILE}\n"]]))
    document = {"Actor": {"ID": "x", "Attributes": {"name": f"{HOSTILE}\nfake"}}, "Type": "t", "Action": HOSTILE}
    told = SimpleNamespace(read=lambda **_: [document | {"timeNano": 1}])
    monkeypatch.setattr(events, "open_engine", lambda: SimpleNamespace(event_log=told))
    events.events.main([], standalone_mode=False)
    changes = [SimpleNamespace(letter="A", path=f"/{HOSTILE}\nA /fake")]
    container = SimpleNamespace(diff=lambda: changes, changes=lambda: changes)
    monkeypatch.setattr(files, "open_engine", lambda: SimpleNamespace(containers={"c": container}))
    files.diff.main(["c"], standalone_mode=False)
    shown = capsys.readouterr().out
    assert is_plain(shown)
    assert len(shown.splitlines()) == 2


@pytest.mark.parametrize("terminal", [False, True])
def test_a_transfer_moves_the_cursor_by_its_own_sequences_alone(*, terminal: bool) -> None:
    stream: Any = io.StringIO()
    stream.isatty = lambda: terminal
    display = Display(stream)
    for event in (
        TransferMessage(HOSTILE, HOSTILE),
        LayerTransfer(HOSTILE, HOSTILE),
        LayerTransfer("b", HOSTILE, 1, 2),
    ):
        display(event)
    shown = stream.getvalue()
    assert ESCAPED in shown
    assert not any(one in shown for one in ("\x1b]", "\x07", "\x9b", "\u202e"))


def test_steps_of_a_build_are_escaped_and_output_of_commands_is_not() -> None:
    written: list[str] = []
    presenter = Presenter(written.append, shown=visible_lines)
    presenter(BuildStepStarted(number=1, of=1, instruction=f"RUN {HOSTILE}"))
    presenter(BuildWarning(HOSTILE))
    assert is_plain("".join(written))
    presenter(BuildOutput("\x1b[31mred", 1))
    assert written[-1] == "\x1b[31mred"
