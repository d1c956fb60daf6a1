"""Maps of sparse files in tar archives: offset and length of each piece of data. The rest of the file is holes.

GNU tar has four formats for the map:

    old GNU   type "S"; four pieces in the header itself, 21 more in each extension block after it
    pax 0.0   records GNU.sparse.offset and GNU.sparse.numbytes, one pair for each piece
    pax 0.1   one record GNU.sparse.map=offset,length,offset,length…
    pax 1.0   GNU.sparse.major=1; decimal numbers, one per line, in blocks before the content

The member's content is the pieces, one after the other. Source: GNU tar manual, "Storing Sparse Files".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pylab_container.errors import InvalidArchive

Piece = tuple[int, int]
"""(offset in the file, length), both in bytes."""

RECORDS = "GNU.sparse."
MAP = "GNU.sparse.map"
MAP_PARTS = ("GNU.sparse.offset", "GNU.sparse.numbytes")

# The old GNU format (GNU tar manual, "Basic Tar Format", struct oldgnu_header and struct sparse_header).
_ENTRY_SIZE = 24  # bytes: two octal numbers of 12
_IN_HEADER, _IN_EXTENSION = (386, 4), (0, 21)  # (offset in the block, number of entries)
_EXTENDED_IN_HEADER, _EXTENDED_IN_EXTENSION = 482, 504  # offsets of the flag that one more block follows
_REAL_SIZE = 483  # offset of the file's size with the holes
_HINT = "the archive is damaged or hostile"


def old_gnu_size(header: bytes) -> int:
    """Return the size of the file including the holes, from the header of a member of type "S"."""
    return _octal(header[_REAL_SIZE : _REAL_SIZE + 12])


def old_gnu_pieces(block: bytes, *, extension: bool) -> tuple[list[Piece], bool]:
    """Parse the map in a header, or in an extension block.

    Returns (pieces, whether an extension block follows).
    """
    start, count = _IN_EXTENSION if extension else _IN_HEADER
    entries = [block[at : at + _ENTRY_SIZE] for at in range(start, start + count * _ENTRY_SIZE, _ENTRY_SIZE)]
    # Unused entries are zeros. A used one begins with a digit, also at offset 0.
    pieces = [(_octal(entry[:12]), _octal(entry[12:])) for entry in entries if entry[0]]
    return pieces, bool(block[_EXTENDED_IN_EXTENSION if extension else _EXTENDED_IN_HEADER])


def pax_pieces(text: str) -> list[Piece]:
    """Parse the value of a GNU.sparse.map record."""
    return _paired([_decimal(number) for number in text.split(",")] if text else [])


def map_in_content(records: Mapping[str, str]) -> bool:
    """Report whether the map is in blocks before the content (format 1.0).

    Raises InvalidArchive.
    """
    version = records.get("GNU.sparse.major", "0"), records.get("GNU.sparse.minor", "0")
    if version not in (("0", "0"), ("0", "1"), ("1", "0")):
        raise InvalidArchive(f"a sparse file in the unknown format {'.'.join(version)}", hint=_HINT)
    return version == ("1", "0")


def map_numbers(content: bytes) -> list[int] | None:
    """Parse a map of format 1.0: the number of pieces, then two numbers for each.

    None if content is incomplete.

    The caller reads block by block until the map is complete, because nothing else gives its length.
    """
    lines = content.split(b"\n")[:-1]
    numbers = [_decimal(line.decode("ascii", "replace")) for line in lines[:1]]
    if not numbers or len(lines) <= 2 * numbers[0]:
        return None
    return [_decimal(line.decode("ascii", "replace")) for line in lines[1 : 1 + 2 * numbers[0]]]


def map_pieces(numbers: Sequence[int]) -> list[Piece]:
    """Return the pieces of a map of format 1.0."""
    return _paired(numbers)


def check(pieces: Iterable[Piece], *, stored: int, size: int, name: str) -> None:
    """Raise InvalidArchive unless the pieces are in order, in the file, and fit the content.

    stored  bytes of content in the archive
    size    bytes of the file including the holes
    """
    # Without this check a piece could lie outside the file, or the next member be read as content of this one.
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
    if field[0] & 0x80:  # base 256, as in tar.py
        return int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
    try:
        return int(field.strip(b" \0") or b"0", 8)
    except ValueError:
        raise InvalidArchive("the map of a sparse file has a number that is not octal", hint=_HINT) from None
