"""Reading what the data root says: small files, each of one form. A file of another form is damaged, and is named.

A file that is cut off, that holds other bytes or another file's content, or whose place a directory has taken, raises
CorruptStore with its path; a missing one raises FileNotFoundError where that may be right. Nothing is believed before
its form is known: see oci/ids.py.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import msgspec

from pylab_container.errors import CorruptStore
from pylab_container.oci.ids import Digest, EntryName
from pylab_container.oci.image import Json

Identifier = TypeVar("Identifier", bound=EntryName | Digest)
Shape = TypeVar("Shape")

LONGEST_TEXT = 1 << 16  # bytes; the lower file of 128 layers has 3,700
LONGEST_DOCUMENT = 1 << 26  # bytes

REMEDY = "labctr system fsck names what is damaged; with --repair it mends what it can"
"""The hint of every error about a damaged file."""


def corrupt(path: Path, reason: str) -> CorruptStore:
    """The error about a file of the data root that cannot be used."""
    return CorruptStore(f"{path} is damaged: {reason}", hint=REMEDY, path=path)


def unlinked(*path: Path) -> Path:
    """The last of some paths, of which none is a symbolic link: a link could lead a mount or a walk anywhere.

    Raises CorruptStore.
    """
    for one in path:
        if one.is_symlink():
            raise corrupt(one, "a symbolic link has taken the place of a directory")
    return path[-1]


def open_regular(path: Path) -> BinaryIO:
    """Open a file to read it. Raises FileNotFoundError; CorruptStore for what is not a file.

    Opening a FIFO would wait for a writer (O_NONBLOCK does not), and a link may lead anywhere.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        raise
    except OSError as error:
        raise corrupt(path, error.strerror or str(error)) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise corrupt(path, "it is not a file")
    return open(descriptor, "rb")


def read_bytes(path: Path, *, limit: int = LONGEST_DOCUMENT) -> bytes:
    """A file's content. Raises FileNotFoundError; CorruptStore for what is not a file, or has more bytes than limit."""
    try:
        with open_regular(path) as file:
            content = file.read(limit + 1)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        raise
    except OSError as error:  # the disk cannot read it
        raise corrupt(path, error.strerror or str(error)) from error
    if len(content) > limit:
        raise corrupt(path, f"it has more than {limit} bytes")
    return content


def peek(path: Path) -> str:
    """A short text to compare with something, "" if it cannot be read: NUL and no UTF-8 are U+FFFD, equal to nothing.

    A NUL would also be a ValueError of Python's in a path.
    """
    try:
        return read_bytes(path, limit=LONGEST_TEXT).decode(errors="replace").replace("\0", "\ufffd")
    except (CorruptStore, OSError):
        return ""


def read_text(path: Path) -> str:
    """A short text in UTF-8. Raises FileNotFoundError, CorruptStore."""
    try:
        return read_bytes(path, limit=LONGEST_TEXT).decode()
    except UnicodeDecodeError as error:
        raise corrupt(path, "it is not text in UTF-8") from error


def read_id(path: Path, kind: type[Identifier]) -> Identifier:
    """A file that holds one id. Raises CorruptStore, also if it is missing."""
    try:
        return kind(read_text(path).strip())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise corrupt(path, "it is missing") from error
    except ValueError as error:
        raise corrupt(path, str(error)) from error


def find_id(path: Path, kind: type[Identifier]) -> Identifier | None:
    """The same; None if the file is missing. Raises CorruptStore."""
    return read_id(path, kind) if os.path.lexists(path) else None


def read_document(path: Path, shape: type[Shape]) -> tuple[Json, Shape]:
    """A JSON object, and its fields of known types as shape says them. Raises FileNotFoundError, CorruptStore."""
    try:
        return checked(json.loads(read_bytes(path)), shape)
    except (ValueError, RecursionError) as error:
        raise corrupt(path, str(error)) from error


def checked(document: Any, shape: type[Shape]) -> tuple[Json, Shape]:
    """A document, and its known fields. Raises ValueError where one has another type."""
    if not isinstance(document, dict):
        raise ValueError("it is not a JSON object")
    try:
        return document, msgspec.convert(document, shape)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error
