"""Commands that write and read archives: save, load, export."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import BinaryIO

import click

from pylab_container import events
from pylab_container.cli import arguments
from pylab_container.cli.command import Command, open_engine
from pylab_container.cli.printing import say
from pylab_container.errors import InvalidInput

_TO_TERMINAL = InvalidInput(
    "cowardly refusing to save to a terminal. Use the -o flag or redirect", hint="write -o FILE or > FILE"
)


@click.command(cls=Command)
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, shell_complete=arguments.images)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    shell_complete=arguments.files,
    help="Write to FILE instead of standard output.",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["docker-archive", "oci-archive", "oci-dir"]),
    default="docker-archive",
    help="A tar for docker, a tar of an OCI image layout, or such a layout as a directory.  [default: docker-archive]",
)
@click.option("--compress", type=click.Choice(["gzip", "zstd"]), help="Compress the layers.")
def save(images: tuple[str, ...], output: str | None, format_: str, compress: str | None) -> None:
    """Save one or more images to a tar archive (streamed to STDOUT by default)."""
    engine = open_engine()
    engine.images.save(images, output or _standard_output(), format=format_, compress=compress or "")


@click.command(cls=Command)
@click.argument("container", shell_complete=arguments.containers)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    shell_complete=arguments.files,
    help="Write to FILE instead of standard output.",
)
def export(container: str, output: str | None) -> None:
    """Export a container's filesystem as a tar archive."""
    exported = open_engine().containers.get(container)
    write(exported.export(), output)


@click.command(cls=Command)
@click.option(
    "-i",
    "--input",
    "source",
    metavar="FILE",
    shell_complete=arguments.files,
    help="Read a file or directory instead of standard input.",
)
@click.option("-q", "--quiet", is_flag=True, help="Do not show progress.")
def load(source: str | None, quiet: bool) -> None:  # noqa: FBT001 (click calls it)
    """Load an image from a tar archive or STDIN.

    It takes the archives of labctr save, docker, podman and skopeo.
    """
    from pylab_container.cli.images import progress

    if source is None and sys.stdin.isatty():
        raise InvalidInput("requested load from stdin, but stdin is empty", hint="write -i FILE or < FILE")
    engine, names = open_engine(), dict[str, list[str]]()

    def on_event(event: events.Event) -> None:
        if isinstance(event, events.ImageChanged) and event.action == "unnamed":
            old = f"The image {event.reference} already exists, renaming the old one with ID {event.image_id}"
            say(f"{old} to empty string")
        elif isinstance(event, events.ImageChanged):
            names.setdefault(event.image_id, []).extend([event.reference] if event.action == "named" else [])

    with progress(engine, source or "-", "Loading", enabled=not quiet), engine.events.subscribed(on_event):
        engine.images.load(source or "-")
    for image_id, image_names in names.items():
        say("\n".join(f"Loaded image: {name}" for name in image_names) or f"Loaded image ID: {image_id}")


def write(chunks: Iterable[bytes], output: str | None) -> None:
    """Write the chunks of an archive to a file or to standard output.

    The file appears complete or not at all.
    """
    from pylab_container.images.save import write as write_archive

    write_archive(chunks, output or _standard_output())


def _standard_output() -> BinaryIO:
    if os.isatty(sys.stdout.fileno()):
        raise _TO_TERMINAL
    return sys.stdout.buffer
