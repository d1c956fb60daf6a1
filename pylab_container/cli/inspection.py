"""inspect: everything about a container or an image as JSON, or one field of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Literal

import click

from pylab_container.cli.command import Command, open_engine, report
from pylab_container.errors import ContainerNotFound, ImageNotFound, InvalidInput, LabError, NotFound

Kind = Literal["container", "image"]

_ACTION = re.compile(r"\{\{\s*(.*?)\s*\}\}")
_FIELD = re.compile(r"(json\s+)?\.([\w.]*)\Z")


def _options(function: Callable[..., Any]) -> Callable[..., Any]:
    function = click.option("-f", "--format", "template", help="A Go template, as far as {{.A.B}} and {{json .A}} go.")(
        function
    )
    return click.argument("names", metavar="NAME...", nargs=-1, required=True)(function)


@click.command(cls=Command)
@_options
@click.option("--type", "kind", type=click.Choice(["container", "image"]), help="Look only among these.")
def inspect(names: tuple[str, ...], template: str | None, kind: Kind | None) -> int:
    """Show everything about containers or images, as JSON."""
    return _inspect(names, template, [kind] if kind else ["container", "image"])


@click.command(cls=Command)
@_options
def inspect_container(names: tuple[str, ...], template: str | None) -> int:
    """Show everything about containers, as JSON."""
    return _inspect(names, template, ["container"])


@click.command(cls=Command)
@_options
def inspect_image(names: tuple[str, ...], template: str | None) -> int:
    """Show everything about images, as JSON."""
    return _inspect(names, template, ["image"])


def _inspect(names: tuple[str, ...], template: str | None, kinds: list[Kind]) -> int:
    found, errors = [], []
    for name in names:
        try:
            found.append(_find(name, kinds))
        except LabError as error:
            errors.append(error)
    if template is None:
        click.echo(json.dumps(found, indent=4, ensure_ascii=False))
    else:
        for document in found:
            click.echo(fill(template, document))
    for problem in errors:
        report(problem)
    return 1 if errors else 0


def _find(name: str, kinds: list[Kind]) -> Any:
    engine = open_engine()
    for kind in kinds:
        try:
            return engine.containers.get(name).attrs if kind == "container" else engine.images.get(name).attrs
        except (ContainerNotFound, ImageNotFound):
            if len(kinds) == 1:
                raise
    raise NotFound(f"No such object: {name}", hint="labctr ps -a and labctr images list what there is")


def fill(template: str, document: Any) -> str:
    """The template with its fields filled in. Raises InvalidInput for what is not {{.A.B}} or {{json .A}}."""

    def field(match: re.Match[str]) -> str:
        action = _FIELD.match(match[1])
        if action is None:
            raise InvalidInput(
                f"template: {match[0]} is not understood", hint="only {{.A.B}} and {{json .A}} are; jq can do the rest"
            )
        value = _look_up(document, action[2])
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")) if action[1] else go_text(value)

    return _ACTION.sub(field, template)


def _look_up(document: Any, path: str) -> Any:
    value = document
    for name in filter(None, path.split(".")):
        if not isinstance(value, dict) or name not in value:
            raise InvalidInput(
                f'template: there is no field "{name}" in .{path}', hint="inspect without -f shows the fields"
            )
        value = value[name]
    return value


def go_text(value: Any) -> str:
    """A value as Go's text/template prints it: true, [a b], map[a:1 b:2]."""
    if value is None:
        return "<no value>"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{' '.join(map(go_text, value))}]"
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{go_text(value[key])}' for key in sorted(value))}]"
    return str(value)
