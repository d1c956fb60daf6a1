"""`labctr --help` and the help of its groups: docker's headings, order and words."""

from __future__ import annotations

import re
import subprocess
import sys

import click
import pytest

from pylab_container.cli.commands import labctr
from pylab_container.cli.group import Group

DIFFERENT = {
    "events": "there is no server: the engine is a library",
    "inspect": "the objects are not Docker's",
    "search": "the protocol of registries has no search, which is what the command reports",
    "version": "it shows labctr's version",
    "system": "it manages this engine",
    "system df": "it shows what this engine uses",
    "system events": "there is no server",
}
"""Commands that docker has, whose summary differs from docker's, and why."""

OWN = {
    *("completion", "daemon", "registry", "registry serve", "system check", "system down", "system fsck"),
}
"""Commands that docker does not list: its completion is hidden, and its daemon is dockerd."""

GROUPS = ["builder", "container", "image", "network", "system", "volume"]
LINE = re.compile(r"^  ([a-z-]+) +(\S.*)$", re.MULTILINE)


def help_of(*words: str) -> str:
    context = labctr.make_context("labctr", [])
    command: click.Command = labctr
    for word in words:
        assert isinstance(command, Group)
        inner = command.get_command(context, word)
        assert inner is not None
        command, context = inner, click.Context(inner, parent=context, info_name=word)
    return command.get_help(context).partition("\nGlobal Options:")[0]


def docker_help(*words: str) -> str:
    done = subprocess.run(["docker", *words, "--help"], capture_output=True, text=True, check=True)
    return done.stdout.partition("Global Options:")[0]


def commands() -> dict[str, tuple[Group, str]]:
    """Map every command, as it is typed, to its group and its name: "image rm" to (image_group, "rm")."""
    context = click.Context(labctr)
    listed = {name: (labctr, name) for name in labctr.list_commands(context)}
    groups = {name: labctr.get_command(context, name) for name in listed}
    for name, group in groups.items():
        if isinstance(group, Group):
            listed |= {f"{name} {inner}": (group, inner) for inner in group.list_commands(context)}
    return listed


def test_the_help_has_dockers_headings_in_dockers_order() -> None:
    text = labctr.get_help(labctr.make_context("labctr", []))
    headings = [line for line in text.splitlines() if re.fullmatch(r"[A-Z][\w ]+:", line)]
    assert headings == ["Common Commands:", "Management Commands:", "Commands:", "Global Options:"]
    assert text.startswith("Usage: labctr [OPTIONS] COMMAND\n")
    assert text.endswith("Run 'labctr COMMAND --help' for more information on a command.")


def test_commands_are_listed_in_dockers_order() -> None:
    ours, theirs = ([name for name, _ in LINE.findall(text)] for text in (help_of(), docker_help()))
    if _docker_major_version() < WORDS_OF_DOCKER:  # 20.10 lists no common commands, and others than 28 does
        assert set(ours) & set(theirs)
        return
    assert [name for name in ours if name not in OWN] == [name for name in theirs if name in ours]
    assert set(ours) - set(theirs) == {name for name in OWN if " " not in name}


WORDS_OF_DOCKER = 28  # the major version whose summaries ours are


def _docker_major_version() -> int:
    output = subprocess.run(["docker", "--version"], capture_output=True, text=True, check=True).stdout
    return int(output.split()[2].partition(".")[0])


@pytest.mark.parametrize("words", [(), *((group,) for group in GROUPS)], ids=" ".join)
def test_a_summary_is_dockers_or_has_a_reason_to_differ(words: tuple[str, ...]) -> None:
    ours, theirs = dict(LINE.findall(help_of(*words))), dict(LINE.findall(docker_help(*words)))
    assert ours.keys() & theirs.keys()
    if _docker_major_version() < WORDS_OF_DOCKER:  # its summaries were others: Debian 12 has 20.10, Debian 13 has 26
        return
    different = {name for name in ours.keys() & theirs.keys() if ours[name] != theirs[name]}
    prefix = f"{words[0]} " if words else ""
    expected = {name.removeprefix(prefix) for name in DIFFERENT if name.rpartition(" ")[0] == prefix.strip()}
    assert different == expected
    own = {name.removeprefix(prefix) for name in OWN if name.rpartition(" ")[0] == prefix.strip()}
    assert ours.keys() - theirs.keys() == own


@pytest.mark.parametrize("words", [(), ("image",), ("completion",)], ids=" ".join)
def test_each_summary_is_one_line_in_a_narrow_terminal(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert "streamed to STDOUT by default)\n" in help_of("image")
    assert all(not summary.endswith((".", "…")) for _, summary in LINE.findall(help_of(*words)))


@pytest.mark.parametrize("words", commands())
def test_the_help_of_a_command_begins_with_its_summary(words: str) -> None:
    group, name = commands()[words]
    command = group.get_command(click.Context(group), name)
    summary = next((section[name] for section in group.summaries().values() if name in section), "")
    assert command is not None
    assert command.help is not None
    if isinstance(command, Group):
        assert command.help == summary
    elif summary:
        assert " ".join(command.help.split()).startswith(f"{summary}.")
    else:
        assert command.hidden or name == "list"


def test_the_help_imports_no_command() -> None:
    program = (
        "import sys; from pylab_container.cli import main; main(['--help']); main(['image']);"
        "print([name for name in sys.modules if name.startswith('pylab_container.cli.')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = {name.rpartition(".")[2] for name in re.findall(r"'([\w.]+)'", done.stdout.splitlines()[-1])}
    assert loaded == {"arguments", "command", "commands", "group", "printing"}
