"""Output to the terminal, with control characters escaped.

A terminal interprets control characters, and names in labels, layers and answers of registries can contain them. say()
escapes them. The output of containers (logs, run, attach, exec, RUN) and archives are passed on unchanged, as docker
does. tests/unit/test_printing.py proves that no command prints in another way.
"""

from __future__ import annotations

from typing import Any

import click

from pylab_container.text.visible import visible_json, visible_lines


def say(text: str = "", *, nl: bool = True, err: bool = False) -> None:
    """Print text, with all control characters but newlines and tabs escaped."""
    click.echo(visible_lines(text), nl=nl, err=err)


def say_json(document: Any, *, indent: int | None = None) -> None:
    """Print a document as JSON, with control characters in JSON's escapes."""
    import json  # late: the import takes 2 ms

    separators = (",", ":") if indent is None else None
    click.echo(visible_json(json.dumps(document, indent=indent, ensure_ascii=False, separators=separators)))


def pass_on(data: bytes | str, *, nl: bool = True, err: bool = False) -> None:
    """Print text unchanged: output of containers, and text whose values are already escaped."""
    click.echo(data, nl=nl, err=err)
