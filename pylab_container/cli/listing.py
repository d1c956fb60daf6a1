"""Listings: rows with named columns, shown as a table or through a template of the caller (--format)."""

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

_TABLE = "table"
_QUIET_AND_FORMAT = "WARNING: Ignoring custom format, because both --format and --quiet are set."

format_option = click.option(
    "--format", "format_", metavar="TEMPLATE", help='A Go template, "table TEMPLATE" with headings, or json.'
)
filter_option = click.option(
    "-f", "--filter", "conditions", multiple=True, metavar="NAME=VALUE", help="Only matching entries. Repeatable."
)
quiet_option = click.option("-q", "--quiet", is_flag=True, help="Only show ids or names.")
full_option = click.option("--no-trunc", "full", is_flag=True, help="Do not truncate output.")


class Listing(Struct, frozen=True):
    """The columns of a listing.

    headings  column → heading
    default   the columns of the table without --format
    key       the column that -q shows
    """

    headings: Mapping[str, str]
    default: tuple[str, ...]
    key: str

    def show(self, rows: Iterable[Row], format_: str | None = None, *, quiet: bool = False) -> None:
        """Print rows in the requested format. Raises TemplateError."""
        if quiet:
            if format_:
                say(_QUIET_AND_FORMAT, err=True)
            text = "".join(f"{row.column(self.key)}\n" for row in rows)
        else:
            text = self.text(rows, format_)
        pass_on(text, nl=False)  # Row.column escapes each column; the template comes from the caller

    def text(self, rows: Iterable[Row], format_: str | None = None) -> str:
        """Return the listing as text, each line with its newline. Raises TemplateError."""
        layout = (format_ or _TABLE).strip()
        if layout == "json":
            layout = "{{json .}}"
        if layout != _TABLE and not layout.startswith(f"{_TABLE} "):
            template = _template(layout)
            return "".join(f"{_rendered(template, row)}\n" for row in rows)
        columns = layout.removeprefix(_TABLE).strip() or r"\t".join(f"{{{{.{name}}}}}" for name in self.default)
        template = _template(columns)
        methods: dict[str, Callable[[str], str]] = {"Label": lambda name: name}
        lines = [_rendered(template, row).split("\t") for row in (Headings(self.headings, methods), *rows)]
        if layout.endswith("{{json .}}"):
            lines[0] = [""]
        return tables.aligned(lines)


def mentions(format_: str | None, column: str) -> bool:
    """Return whether a template uses a column. Some are expensive to compute."""
    return f".{column}" in (format_ or "") or "{{json .}}" in (format_ or "")


def filters(conditions: Iterable[str]) -> dict[str, list[str]]:
    """Parse repeated --filter NAME=VALUE. Raises InvalidInput."""
    parsed: dict[str, list[str]] = {}
    for condition in conditions:
        name, equals, value = condition.partition("=")
        if not equals:
            raise InvalidInput(
                f'invalid argument "{condition}" for filter: bad format of filter (expected name=value)',
                hint="write --filter NAME=VALUE",
            )
        parsed.setdefault(name.strip().lower(), []).append(value.strip())
    return parsed


def labels_text(labels: Mapping[str, Any]) -> str:
    """Return the column Labels: a=b,c=d."""
    return ",".join(f"{name}={labels[name]}" for name in sorted(labels))


def _template(text: str) -> Template:
    """Parse a template with \\t and \\n for a tab and a newline, as in docker's listings."""
    return Template(text.replace(r"\t", "\t").replace(r"\n", "\n"))


def _rendered(template: Template, row: Row) -> str:
    try:
        return template.render(row)
    except TemplateError as error:
        known = ", ".join(sorted([*row, *row.methods]))
        raise TemplateError(error.message, hint=f"use one of {known}") from None
