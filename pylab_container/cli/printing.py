"""The one way from a command to the terminal.

A terminal obeys control characters: names in labels, layers and registries' answers must not reach it as they are.
say() shows them escaped. What a container prints (logs, run, attach, exec, RUN) is the caller's data
and stays as it is, as with docker; so do archives. tests/unit/test_printing.py proves that no command prints in
another way.
"""

from __future__ import annotations

from typing import Any

import click

from pylab_container.text.visible import visible_json, visible_lines


def say(text: str = "", *, nl: bool = True, err: bool = False) -> None:
    """Print text; newlines and tabs stay, other control characters are shown escaped."""
    click.echo(visible_lines(text), nl=nl, err=err)


def say_json(document: Any, *, indent: int | None = None) -> None:
    """Print a document as JSON, in which a control character has an escape of its own."""
    import json  # 2 ms, which most commands need not pay

    separators = (",", ":") if indent is None else None
    click.echo(visible_json(json.dumps(document, indent=indent, ensure_ascii=False, separators=separators)))


def pass_on(data: bytes | str, *, nl: bool = True, err: bool = False) -> None:
    """Print what must stay as it is: output of containers, and text in which values were escaped one by one."""
    click.echo(data, nl=nl, err=err)
