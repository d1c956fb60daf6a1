"""build: a Dockerfile becomes an image, told as docker's classic builder told it."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from pylab_container.cli import tables
from pylab_container.cli.command import Command, open_engine
from pylab_container.cli.options import pair
from pylab_container.errors import BuildFailed, LabError
from pylab_container.formats import events
from pylab_container.formats.reference import parse


class BuildCommand(Command):
    """Its exit status is that of the RUN step that failed."""

    def status(self, error: LabError) -> int:
        return error.status if isinstance(error, BuildFailed) else 1


@click.command(cls=BuildCommand)
@click.argument("context", metavar="PATH|-")
@click.option("-t", "--tag", "tag_", metavar="NAME[:TAG]", help="The new image's name.")
@click.option("-f", "--file", "dockerfile", metavar="FILE", help="The Dockerfile.  [default: PATH/Dockerfile]")
@click.option("--build-arg", "arguments", multiple=True, metavar="NAME[=VALUE]", help="A value for an ARG.")
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="A label on the image.")
@click.option("--no-cache", is_flag=True, help="Carry out every step again.")
@click.option("-q", "--quiet", is_flag=True, help="Only the image's id.")
def build(
    context: str,
    tag_: str | None,
    dockerfile: str | None,
    arguments: tuple[str, ...],
    labels: tuple[str, ...],
    no_cache: bool,  # noqa: FBT001
    quiet: bool,  # noqa: FBT001
) -> None:
    """Build an image from the Dockerfile in the directory PATH, or from a Dockerfile on standard input."""
    engine = open_engine()
    listener = events.ignore if quiet else show_build
    with engine.events.subscribed(listener), _context(context) as directory:
        image = engine.images.build(
            directory,
            tag=tag_,
            dockerfile=dockerfile,
            buildargs=_build_arguments(arguments),
            nocache=no_cache,
            labels=dict(pair(label) for label in labels),
        )
    if quiet:
        click.echo(image.id)
        return
    click.echo(f"Successfully built {tables.short_id(image.id)}")
    if tag_:
        click.echo(f"Successfully tagged {parse(tag_).familiar}")


@contextlib.contextmanager
def _context(path: str) -> Iterator[str]:
    """The build context: the directory named; for -, one with nothing but the Dockerfile from standard input."""
    if path != "-":
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="labctr-build-") as directory:
        (Path(directory) / "Dockerfile").write_bytes(sys.stdin.buffer.read())
        yield directory


def show_build(event: events.Event) -> None:
    """Tell one event of a build as docker's classic builder did."""
    match event:
        case events.BuildStepStarted():
            click.echo(f"Step {event.number}/{event.of} : {event.instruction}")
        case events.ContainerChanged(action="started"):
            click.echo(f" ---> Running in {event.container_id[:12]}")
        case events.ContainerChanged(action="removed"):
            click.echo(f"Removing intermediate container {event.container_id[:12]}")
        case events.BuildOutput():
            click.echo(event.text, nl=False)
        case events.BuildStep():
            if event.cache == "hit":
                click.echo(" ---> Using cache")
            click.echo(f" ---> {tables.short_id(event.image_id)}")


def _build_arguments(entries: tuple[str, ...]) -> Mapping[str, str]:
    """NAME=VALUE as it stands; NAME alone takes the value from the environment, and counts only if it is there."""
    values = {}
    for entry in entries:
        name, equals, value = entry.partition("=")
        if equals:
            values[name] = value
        elif name in os.environ:
            values[name] = os.environ[name]
    return values
