"""COPY and ADD: from the build context into a container's root, as chroot(2) would see it."""

from __future__ import annotations

import os
import posixpath
import time
from collections.abc import Sequence
from pathlib import Path

from pylab_container.engine.context import BuildContext, Entry, Source
from pylab_container.errors import InvalidArchive, InvalidInput
from pylab_container.formats import tar
from pylab_container.host import linux
from pylab_container.store import compression
from pylab_container.store.layertar import Extractor, TarReader, inside


def copy(
    context: BuildContext, sources: Sequence[Source], destination: str, root: Path, *, unpack: bool = False
) -> None:
    """Copy sources to destination below root.

    destination  absolute; with a slash at its end it is a directory, whatever is there
    unpack       ADD: a source that is a tar, compressed or not, is extracted instead

    The rules are those of the Dockerfile reference, "COPY": a directory's content is
    copied, a file gets its own name where the destination is a directory, what is missing
    is made with mode 0755. Everything belongs to root; modes and times stay.
    """
    if len(sources) > 1 and not destination.endswith("/"):
        raise InvalidInput(
            "when copying more than one source, the destination must be a directory and end with a /",
            hint=f"write {destination}/",
        )
    target = destination.strip("/")
    with Extractor(root, whiteouts=False) as extractor:
        for source in sources:
            if unpack and _is_tar(source.entry.path):
                with open(source.entry.path, "rb", buffering=0) as file:
                    _unpack(extractor, TarReader(compression.decompressed(file)), target)
            elif source.entry.is_directory:
                _copy_directory(extractor, context, source, target, root)
            else:
                into = destination.endswith("/") or _is_directory(root, target)
                name = posixpath.join(target, posixpath.basename(source.path)) if into else target
                _write(extractor, source.entry, name)
        extractor.finish()


def _copy_directory(extractor: Extractor, context: BuildContext, source: Source, target: str, root: Path) -> None:
    entries = context.walk(source)
    next(entries)  # the directory itself: only its content is copied
    if not _is_directory(root, target):
        _new_directory(extractor, target)
    for entry in entries:
        _write(extractor, entry, posixpath.join(target, entry.name))


def _write(extractor: Extractor, entry: Entry, name: str) -> None:
    header = entry.header(name)
    writer = extractor.create(header)
    if writer is not None:
        with open(entry.path, "rb", buffering=0) as file:
            copied = 0
            while count := os.sendfile(writer, file.fileno(), copied, 1 << 30):
                copied += count
    extractor.complete(header)


def _is_tar(path: str) -> bool:
    """Whether a file is an archive, found out as Docker does: by its first header."""
    if not os.path.isfile(path):
        return False
    with open(path, "rb", buffering=0) as file:
        try:
            return next(iter(TarReader(compression.decompressed(file))), None) is not None
        except InvalidArchive:
            return False


def _unpack(extractor: Extractor, archive: TarReader, target: str) -> None:
    for header in archive:
        name = inside(header.name)
        if name == "":
            continue
        header.name = posixpath.join(target, name)
        if header.kind == tar.LINK:
            header.link = posixpath.join(target, inside(header.link))
        extractor.create(header)
        for chunk in archive.content():
            extractor.write(chunk)
        extractor.complete(header)


def _is_directory(root: Path, path: str) -> bool:
    """Whether path, with the links on it resolved inside root, is a directory."""
    base = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.close(linux.openat2(base, path or ".", os.O_PATH | os.O_DIRECTORY, resolve=linux.RESOLVE_IN_ROOT))
    except OSError:
        return False
    finally:
        os.close(base)
    return True


def make_directory(root: Path, path: str) -> None:
    """Make a directory and what is missing above it, mode 0755; one that is there stays as it is."""
    target = path.strip("/")
    if target and not _is_directory(root, target):
        with Extractor(root, whiteouts=False) as extractor:
            _new_directory(extractor, target)


def _new_directory(extractor: Extractor, target: str) -> None:
    header = tar.Header(target, kind=tar.DIRECTORY, mode=0o755, mtime=time.time_ns())
    extractor.create(header)
    extractor.complete(header)
