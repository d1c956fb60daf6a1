"""Listings: rows of named columns, as a table or through a template of the caller's own (--format)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import click
from msgspec import Struct

from pylab_container.cli import tables
from pylab_container.cli.printing import pass_on, say
from pylab_container.docker.template import Template, TemplateError
from pylab_container.docker.template_values import Headings, Row
from pylab_container.errors import InvalidInput

_WORD = "table"
_QUIET_AND_FORMAT = "WARNING: Ignoring custom format, because both --format and --quiet are set."

format_option = click.option(
    "--format", "format_", metavar="TEMPLATE", help='A Go template, "table TEMPLATE" with headings, or json.'
)
filter_option = click.option("-f", "--filter", "conditions", multiple=True, metavar="NAME=VALUE", help="Only these.")
quiet_option = click.option("-q", "--quiet", is_flag=True, help="Only ids or names.")
full_option = click.option("--no-trunc", "full", is_flag=True, help="Do not shorten anything.")


class Listing(Struct, frozen=True):
    """What a command lists.

    headings  column → what stands above it
    default   the columns of the usual table
    key       the one that -q shows
    """

    headings: Mapping[str, str]
    default: tuple[str, ...]
    key: str

    def show(self, rows: Iterable[Row], format_: str | None = None, *, quiet: bool = False) -> None:
        """Print rows as the caller wants them. Raises TemplateError."""
        if quiet:
            if format_:
                say(_QUIET_AND_FORMAT, err=True)
            text = "".join(f"{row.column(self.key)}\n" for row in rows)
        else:
            text = self.text(rows, format_)
        pass_on(text, nl=False)  # columns are escaped one by one (Row.column); a template is the caller's own

    def text(self, rows: Iterable[Row], format_: str | None = None) -> str:
        """The same as text, each line with its newline."""
        wanted = (format_ or _WORD).strip()
        if wanted == "json":
            wanted = "{{json .}}"
        if wanted != _WORD and not wanted.startswith(f"{_WORD} "):
            template = _template(wanted)
            return "".join(f"{_filled(template, row)}\n" for row in rows)
        columns = wanted.removeprefix(_WORD).strip() or r"\t".join(f"{{{{.{name}}}}}" for name in self.default)
        template = _template(columns)
        methods: dict[str, Callable[[str], str]] = {"Label": lambda name: name}
        lines = [_filled(template, row).split("\t") for row in (Headings(self.headings, methods), *rows)]
        if wanted.endswith("{{json .}}"):
            lines[0] = [""]
        return tables.aligned(lines)


def mentions(format_: str | None, column: str) -> bool:
    """Whether a template asks for a column, which may be costly to compute, or for all of them."""
    return f".{column}" in (format_ or "") or "{{json .}}" in (format_ or "")


def filters(conditions: Iterable[str]) -> dict[str, list[str]]:
    """--filter NAME=VALUE, repeated. Raises InvalidInput."""
    found: dict[str, list[str]] = {}
    for condition in conditions:
        name, equals, value = condition.partition("=")
        if not equals:
            raise InvalidInput(
                f'invalid argument "{condition}" for filter: bad format of filter (expected name=value)',
                hint="write --filter NAME=VALUE",
            )
        found.setdefault(name.strip().lower(), []).append(value.strip())
    return found


def labels_text(labels: Mapping[str, Any]) -> str:
    """The Labels column: a=b,c=d."""
    return ",".join(f"{name}={labels[name]}" for name in sorted(labels))


def _template(text: str) -> Template:
    """A shell passes \\t as two characters; docker's listings read them as the one that is meant."""
    return Template(text.replace(r"\t", "\t").replace(r"\n", "\n"))


def _filled(template: Template, row: Row) -> str:
    try:
        return template.render(row)
    except TemplateError as error:
        known = ", ".join(sorted([*row, *row.methods]))
        raise TemplateError(error.message, hint=f"there are {known}") from None
