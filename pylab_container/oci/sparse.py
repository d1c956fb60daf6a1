"""Sparse files in tars: which pieces of a file the archive holds; between them lie holes.

GNU tar has written the map of the pieces in four ways:

    old GNU   type "S"; four pieces in the header itself, 21 more in each block after it
    pax 0.0   records GNU.sparse.offset and GNU.sparse.numbytes, one pair a piece
    pax 0.1   one record GNU.sparse.map=offset,length,offset,length…
    pax 1.0   GNU.sparse.major=1; decimal numbers, one a line, in blocks before the content

The content in the archive is the pieces, one after the other. Source: GNU tar manual,
"Storing Sparse Files".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pylab_container.errors import InvalidArchive

Piece = tuple[int, int]
"""Where in the file a piece begins, and its length, in bytes."""

RECORDS = "GNU.sparse."
MAP = "GNU.sparse.map"
MAP_PARTS = ("GNU.sparse.offset", "GNU.sparse.numbytes")

_ENTRY = 24
_IN_HEADER, _IN_EXTENSION = (386, 4), (0, 21)
_MORE_IN_HEADER, _MORE_IN_EXTENSION = 482, 504
_REAL_SIZE = 483
_HINT = "the archive is damaged or hostile"


def old_gnu_size(header: bytes) -> int:
    """The whole file's size, from the header of a member of type "S"."""
    return _octal(header[_REAL_SIZE : _REAL_SIZE + 12])


def old_gnu_pieces(block: bytes, *, extension: bool) -> tuple[list[Piece], bool]:
    """The pieces that a header, or a block of more after it, lists; and whether one more block follows."""
    start, count = _IN_EXTENSION if extension else _IN_HEADER
    entries = [block[at : at + _ENTRY] for at in range(start, start + count * _ENTRY, _ENTRY)]
    pieces = [(_octal(entry[:12]), _octal(entry[12:])) for entry in entries if entry[0]]
    return pieces, bool(block[_MORE_IN_EXTENSION if extension else _MORE_IN_HEADER])


def pax_pieces(text: str) -> list[Piece]:
    """The pieces of a GNU.sparse.map record."""
    return _paired([_decimal(number) for number in text.split(",")] if text else [])


def map_in_content(records: Mapping[str, str]) -> bool:
    """Whether the map lies before the content: version 1.0. Raises InvalidArchive for a version nobody knows."""
    version = records.get("GNU.sparse.major", "0"), records.get("GNU.sparse.minor", "0")
    if version not in (("0", "0"), ("0", "1"), ("1", "0")):
        raise InvalidArchive(f"a sparse file of the unknown version {'.'.join(version)}", hint=_HINT)
    return version == ("1", "0")


def map_numbers(content: bytes) -> list[int] | None:
    """The numbers of a map of version 1.0, None while content does not hold all of them yet."""
    lines = content.split(b"\n")[:-1]
    numbers = [_decimal(line.decode("ascii", "replace")) for line in lines[:1]]
    if not numbers or len(lines) <= 2 * numbers[0]:
        return None
    return [_decimal(line.decode("ascii", "replace")) for line in lines[1 : 1 + 2 * numbers[0]]]


def map_pieces(numbers: Sequence[int]) -> list[Piece]:
    """The pieces of a map of version 1.0."""
    return _paired(numbers)


def check(pieces: Iterable[Piece], *, stored: int, size: int, name: str) -> None:
    """Raises InvalidArchive unless pieces of stored bytes in all follow each other inside a file of size bytes."""
    end = total = 0
    for offset, length in pieces:
        if offset < end or length < 0 or offset + length > size:
            raise InvalidArchive(f'the pieces of the sparse file "{name}" overlap or leave the file', hint=_HINT)
        end, total = offset + length, total + length
    if total != stored:
        raise InvalidArchive(
            f'the sparse file "{name}" has {stored} bytes of content for pieces of {total}', hint=_HINT
        )


def _paired(numbers: Sequence[int]) -> list[Piece]:
    if len(numbers) % 2:
        raise InvalidArchive("the map of a sparse file has an offset without a length", hint=_HINT)
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _decimal(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise InvalidArchive(f'the map of a sparse file has "{text[:40]}" for a number', hint=_HINT)
    return int(text)


def _octal(field: bytes) -> int:
    if field[0] & 0x80:
        return int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
    try:
        return int(field.strip(b" \0") or b"0", 8)
    except ValueError:
        raise InvalidArchive("the map of a sparse file has a number that is not octal", hint=_HINT) from None
