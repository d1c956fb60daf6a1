"""Read files of the data root, of which each may be damaged and has exactly one form.

A file that is cut off, that holds other bytes or the content of another file, or that was replaced by a directory or a
link raises CorruptStore with its path. A missing file raises FileNotFoundError if it may be missing. No path or mount
option is built from content whose form was not checked: see oci/ids.py.
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
"""Hint of the errors about damaged files."""


def corrupt(path: Path, reason: str) -> CorruptStore:
    """Return the error about a damaged file of the data root."""
    return CorruptStore(f"{path} is damaged: {reason}", hint=REMEDY, path=path)


def unlinked(*paths: Path) -> Path:
    """Return the last of some paths. Raises CorruptStore if any of them is a symbolic link.

    A link could lead a mount, a walk or a removal to any directory of the machine.
    """
    for path in paths:
        if path.is_symlink():
            raise corrupt(path, "a symbolic link has taken the place of a directory")
    return paths[-1]


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading.

    Raises FileNotFoundError; CorruptStore if it is not a regular file.
    """
    try:
        # O_NONBLOCK: opening a FIFO would otherwise block until a writer opens it (fifo(7)).
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
    """Return a file's content.

    Raises FileNotFoundError; CorruptStore for another kind of file or over limit bytes.
    """
    try:
        with open_regular(path) as file:
            content = file.read(limit + 1)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        raise
    except OSError as error:  # such as EIO
        raise corrupt(path, error.strerror or str(error)) from error
    if len(content) > limit:
        raise corrupt(path, f"it has more than {limit} bytes")
    return content


def peek(path: Path) -> str:
    """Return a short text for comparison, "" if it cannot be read.

    NUL and invalid UTF-8 become U+FFFD, which no valid text contains. (In a path, NUL makes Python raise ValueError.)
    """
    try:
        return read_bytes(path, limit=LONGEST_TEXT).decode(errors="replace").replace("\0", "\ufffd")
    except (CorruptStore, OSError):
        return ""


def read_text(path: Path) -> str:
    """Return a short text in UTF-8. Raises FileNotFoundError, CorruptStore."""
    try:
        return read_bytes(path, limit=LONGEST_TEXT).decode()
    except UnicodeDecodeError as error:
        raise corrupt(path, "it is not text in UTF-8") from error


def read_id(path: Path, kind: type[Identifier]) -> Identifier:
    """Return the id in a file. Raises CorruptStore, also if the file is missing."""
    try:
        return kind(read_text(path).strip())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise corrupt(path, "it is missing") from error
    except ValueError as error:
        raise corrupt(path, str(error)) from error


def find_id(path: Path, kind: type[Identifier]) -> Identifier | None:
    """Return the id in a file, None if the file is missing. Raises CorruptStore."""
    return read_id(path, kind) if os.path.lexists(path) else None


def read_document(path: Path, shape: type[Shape]) -> tuple[Json, Shape]:
    """Return a JSON object, and its known fields as a value of type shape.

    Raises FileNotFoundError, CorruptStore.
    """
    try:
        return checked(json.loads(read_bytes(path)), shape)
    except (ValueError, RecursionError) as error:  # json recurses: deep nesting is damage, too
        raise corrupt(path, str(error)) from error


def checked(document: Any, shape: type[Shape]) -> tuple[Json, Shape]:
    """Return a document, and its known fields as a value of type shape.

    Raises ValueError for a wrong type.
    """
    if not isinstance(document, dict):
        raise ValueError("it is not a JSON object")
    try:
        return document, msgspec.convert(document, shape)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error
