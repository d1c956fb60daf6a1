"""Commands on images: import, images, tag, rmi, history."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from pylab_container import events
from pylab_container.cli import arguments, listing, tables
from pylab_container.cli.command import Command, each, open_engine
from pylab_container.cli.printing import say
from pylab_container.cli.ps import moment_text
from pylab_container.docker.template_values import Row
from pylab_container.host.extras import extra
from pylab_container.oci.reference import parse
from pylab_container.text import sizes
from pylab_container.text.timestamps import parse_rfc3339, rfc3339

if TYPE_CHECKING:
    from pylab_container.engine import Engine
    from pylab_container.images.image import HistoryEntry, Image

_NONE = "<none>"


@click.command(cls=Command)
@click.argument("file", shell_complete=arguments.files)
@click.argument("name", metavar="[NAME[:TAG]]", required=False)
@click.option(
    "-c", "--change", "changes", multiple=True, metavar="TEXT", help="A Dockerfile instruction to apply: 'CMD sh'."
)
@click.option("-m", "--message", default="", help="A comment in the image's history.")
def import_image(file: str, name: str | None, changes: tuple[str, ...], message: str) -> None:
    """Import the contents from a tarball to create a filesystem image.

    FILE is a path, or - for standard input.
    """
    engine = open_engine()
    with progress(engine, file, "Importing"):
        image = engine.images.import_(file, name, message=message, changes=changes)
    say(image.id)


@contextlib.contextmanager
def progress(engine: Engine, file: str, what: str, *, enabled: bool = True) -> Iterator[None]:
    """Show the progress of the block as a bar, if standard error is a terminal."""
    if not (enabled and sys.stderr.isatty()):
        yield
        return
    with extra("cli"):
        from tqdm import tqdm

    size = os.path.getsize(file) if os.path.isfile(file) else None
    with tqdm(total=size, unit="B", unit_scale=True, desc=what, leave=False, file=sys.stderr) as bar:

        def advance(event: events.Event) -> None:
            if isinstance(event, events.Progress):
                # A compressed file yields more bytes than its size.
                bar.total = max(bar.total, event.done) if bar.total else None
                bar.update(event.done - bar.n)

        with engine.events.subscribed(advance):
            yield


_HEADINGS = {
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "Digest": "DIGEST",
    "ID": "IMAGE ID",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "Size": "SIZE",
    "Containers": "CONTAINERS",
    "SharedSize": "SHARED SIZE",
    "UniqueSize": "UNIQUE SIZE",
    "VirtualSize": "SIZE",
}
_COLUMNS = ("Repository", "Tag", "ID", "CreatedSince", "Size")
_UNKNOWN = "N/A"  # as docker shows values that only `system df` computes


@click.command(cls=Command)
@click.argument("name", metavar="[REPOSITORY[:TAG]]", required=False, shell_complete=arguments.images)
@click.option("-a", "--all", "show_all", is_flag=True, help="Also list the intermediate images of builds.")
@click.option("--digests", is_flag=True, help="Also show the digest from a registry.")
@listing.filter_option
@listing.format_option
@listing.full_option
@listing.quiet_option
def list_images(
    *,
    name: str | None,
    show_all: bool,
    digests: bool,
    conditions: tuple[str, ...],
    format_: str | None,
    full: bool,
    quiet: bool,
) -> None:
    """List images.

    Filters: dangling, label, reference, before, since.
    """
    from pylab_container.docker.image_filters import matching_images

    engine = open_engine()
    images = matching_images(engine.data, engine.images.list(name, all=show_all), listing.filters(conditions))
    rows = [_row(image, names, full=full) for image in images for names in _names(image, name)]
    columns = (*_COLUMNS[:2], "Digest", *_COLUMNS[2:]) if digests else _COLUMNS
    listing.Listing(_HEADINGS, columns, "ID").show(rows, format_, quiet=quiet)


def _row(image: Image, names: tuple[str, str, str], *, full: bool) -> Row:
    created = image.config.created
    return Row(
        {
            **dict.fromkeys(("Containers", "SharedSize", "UniqueSize"), _UNKNOWN),
            "Repository": names[0],
            "Tag": names[1],
            "Digest": names[2],
            "ID": image.id if full else tables.short_id(image.id),
            "CreatedSince": tables.created(created),
            "CreatedAt": moment_text(created) if created else _UNKNOWN,
            "Size": sizes.human(image.size),
            "VirtualSize": sizes.human_precise(image.size),
        }
    )


def _names(image: Image, name: str | None) -> list[tuple[str, str, str]]:
    """Return (repository, tag, digest) for each line of an image in a listing.

    name  the name to which the listing is restricted
    """
    references, digests = [parse(tag) for tag in image.tags], [parse(name) for name in image.digests]
    known = {reference.repository: reference.digest or "" for reference in digests}
    tagged = {reference.repository for reference in references}
    references += [reference for reference in digests if reference.repository not in tagged]
    if name is not None:
        target = parse(name)
        explicit = name.endswith(f":{target.tag}") or target.digest
        references = [
            reference
            for reference in references
            if reference.repository == target.repository
            and (not explicit or reference.tag == target.tag or known.get(reference.repository) == target.digest)
        ]
    rows = [
        (reference.repository, reference.tag or _NONE, known.get(reference.repository, _NONE))
        for reference in references
    ]
    return rows or [(_NONE, _NONE, _NONE)]


@click.command(cls=Command)
@click.argument("source", metavar="SOURCE_IMAGE[:TAG]", shell_complete=arguments.images)
@click.argument("target", metavar="TARGET_IMAGE[:TAG]", shell_complete=arguments.images)
def tag(source: str, target: str) -> None:
    """Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE."""
    open_engine().images.tag(source, target)


@click.command(cls=Command)
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, shell_complete=arguments.images)
@click.option(
    "-f", "--force", is_flag=True, help="Remove an image also with several names or used by stopped containers."
)
@click.option("--no-prune", is_flag=True, help="Keep untagged parents.")
def remove_images(images: tuple[str, ...], force: bool, no_prune: bool) -> int:  # noqa: FBT001
    """Remove one or more images.

    A name is removed first, and with its last name the image.
    """
    engine = open_engine()

    def remove(name: str) -> str:
        removals = engine.images.remove(name, force=force, noprune=no_prune)
        return "\n".join(f"{removal.action}: {removal.name}" for removal in removals)

    return each(images, remove)


_HISTORY_HEADINGS = {
    "ID": "IMAGE",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "CreatedBy": "CREATED BY",
    "Size": "SIZE",
    "Comment": "COMMENT",
}


@click.command(cls=Command)
@click.argument("image", shell_complete=arguments.images)
@listing.format_option
@click.option("-H", "--human/--no-human", default=True, help="Show ages and rounded sizes instead of dates and bytes.")
@listing.full_option
@listing.quiet_option
def history(*, image: str, format_: str | None, human: bool, full: bool, quiet: bool) -> None:
    """Show the history of an image."""
    columns = ("ID", "CreatedSince" if human else "CreatedAt", "CreatedBy", "Size", "Comment")
    rows = [_history_row(entry, human=human, full=full) for entry in open_engine().images.history(image)]
    listing.Listing(_HISTORY_HEADINGS, columns, "ID").show(rows, format_, quiet=quiet)


def _history_row(entry: HistoryEntry, *, human: bool, full: bool) -> Row:
    created_by = entry.created_by.replace("\t", " ")
    return Row(
        {
            "ID": entry.id if full else tables.short_id(entry.id),
            "CreatedSince": tables.created(entry.created),
            "CreatedAt": rfc3339(parse_rfc3339(entry.created) // 10**9 * 10**9) if entry.created else "",
            "CreatedBy": created_by if full else tables.shortened(created_by, 45),
            "Size": sizes.human(entry.size) if human else str(entry.size),
            "Comment": entry.comment,
        }
    )
