"""inspect: containers, images, volumes and networks as JSON, or through a template."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import click

from pylab_container.cli import arguments
from pylab_container.cli.command import Command, open_engine, report
from pylab_container.cli.printing import pass_on, say_json
from pylab_container.docker.template import Template, TemplateError
from pylab_container.errors import LabError, NotFound

if TYPE_CHECKING:
    from pylab_container.engine import Engine
    from pylab_container.oci.image import Json

Kind = Literal["container", "image", "volume", "network"]

# docker searches for a name in this order.
_KINDS: tuple[Kind, ...] = ("container", "image", "network", "volume")


class InspectCommand(Command):
    """A malformed template has a separate exit status, as in docker."""

    def status(self, error: LabError) -> int:
        return error.exit_code if isinstance(error, TemplateError) and error.exit_code != LabError.exit_code else 1


_format = click.option(
    "-f", "--format", "template", help="A Go template: {{.State.Status}}, {{json .Config}}; or json, on one line."
)


def _names(complete: arguments.Completion) -> Callable[..., Any]:
    return click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=complete)


_size = click.option("-s", "--size", is_flag=True, help="Also show the size of a container's writable layer.")


@click.command(cls=InspectCommand)
@_names(arguments.objects)
@_format
@_size
@click.option("--type", "kind", type=click.Choice(_KINDS), help="Only search for objects of this type.")
def inspect(*, names: tuple[str, ...], template: str | None, size: bool, kind: Kind | None) -> int:
    """Return low-level information on containers, images, networks, and volumes."""
    return show(names, template, [kind] if kind else _KINDS, size=size)


@click.command(cls=InspectCommand)
@_names(arguments.containers)
@_format
@_size
def inspect_container(*, names: tuple[str, ...], template: str | None, size: bool) -> int:
    """Display detailed information on one or more containers."""
    return show(names, template, ["container"], size=size)


@click.command(cls=InspectCommand)
@_names(arguments.images)
@_format
def inspect_image(*, names: tuple[str, ...], template: str | None) -> int:
    """Display detailed information on one or more images."""
    return show(names, template, ["image"])


@click.command(cls=InspectCommand)
@_names(arguments.volumes)
@_format
def inspect_volume(*, names: tuple[str, ...], template: str | None) -> int:
    """Display detailed information on one or more volumes."""
    return show(names, template, ["volume"])


@click.command(cls=InspectCommand)
@_names(arguments.networks)
@_format
def inspect_network(*, names: tuple[str, ...], template: str | None) -> int:
    """Display detailed information on one or more networks."""
    return show(names, template, ["network"])


def show(names: Sequence[str], template: str | None, kinds: Sequence[Kind], *, size: bool = False) -> int:
    """Print the objects that exist, then the errors. Return the exit status."""
    # The template is parsed first: nothing is printed for a malformed one.
    parsed = Template(template) if template and template != "json" else None
    engine = open_engine()
    documents, errors = [], []
    for name in names:
        try:
            documents.append(_find(engine, name, kinds, size=size))
        except LabError as error:
            errors.append(error)
    if template == "json":
        for document in documents:
            say_json(document)
    elif parsed is None:
        say_json(documents, indent=4)
    else:
        for document in documents:
            pass_on(parsed.render(document))
    for problem in errors:
        report(problem)
    return 1 if errors else 0


def _find(engine: Engine, name: str, kinds: Sequence[Kind], *, size: bool) -> Json:
    for kind in kinds:
        try:
            return _document(engine, kind, name, size=size)
        except NotFound:
            if len(kinds) == 1:
                raise
    raise NotFound(f"No such object: {name}", hint="labctr ps -a and labctr images show the names")


def _document(engine: Engine, kind: Kind, name: str, *, size: bool) -> Json:
    if kind == "image":
        return engine.images.get(name).attrs
    if kind == "volume":
        return engine.volumes.get(name).attrs
    if kind == "network":
        return engine.networks.get(name).attrs
    container = engine.containers.get(name)
    return {**container.attrs, **(_sizes(engine, name) if size else {})}


def _sizes(engine: Engine, name: str) -> Json:
    from pylab_container.maintenance import usage

    container = engine.containers.get(name)
    return dict(zip(("SizeRw", "SizeRootFs"), usage.container_sizes(engine.data, container.record), strict=True))
