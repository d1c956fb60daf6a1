"""Maps of sparse files: the four formats, and malformed maps."""

from __future__ import annotations

import pytest

from pylab_container.errors import InvalidArchive
from pylab_container.oci import sparse, tar


def field(number: int) -> bytes:
    return b"%011o\0" % number


def entries(*pieces: tuple[int, int]) -> bytes:
    return b"".join(field(offset) + field(length) for offset, length in pieces)


def test_a_header_holds_four_pieces_and_the_whole_size() -> None:
    block = bytearray(512)
    pieces = [(0, 512), (1024, 512), (4096, 1), (9999, 1)]
    block[386:482] = entries(*pieces)
    block[482] = 1
    block[483:495] = field(10_000)
    assert sparse.old_gnu_pieces(bytes(block), extension=False) == (pieces, True)
    assert sparse.old_gnu_size(bytes(block)) == 10_000


def test_an_extension_holds_twenty_one_pieces() -> None:
    pieces = [(number * 1024, 512) for number in range(21)]
    assert sparse.old_gnu_pieces(entries(*pieces).ljust(512, b"\0"), extension=True) == (pieces, False)


def test_an_unused_entry_ends_nothing_and_counts_nothing() -> None:
    assert sparse.old_gnu_pieces(entries((0, 1)).ljust(512, b"\0"), extension=True) == ([(0, 1)], False)


def test_repeated_records_are_gathered_to_one_map() -> None:
    records = tar.parse_pax(
        b"23 GNU.sparse.offset=0\n25 GNU.sparse.numbytes=5\n24 GNU.sparse.offset=90\n25 GNU.sparse.numbytes=1\n"
    )
    assert records == {"GNU.sparse.map": "0,5,90,1"}
    assert sparse.pax_pieces(records["GNU.sparse.map"]) == [(0, 5), (90, 1)]


def test_a_map_before_the_content_is_read_once_it_is_whole() -> None:
    assert sparse.map_numbers(b"") is None
    assert sparse.map_numbers(b"2\n0\n5\n90\n") is None
    assert sparse.map_numbers(b"2\n0\n5\n90\n1\n\0\0") == [0, 5, 90, 1]
    assert sparse.map_numbers(b"0\n") == []


def test_the_version_says_where_the_map_is() -> None:
    assert not sparse.map_in_content({})
    assert not sparse.map_in_content({"GNU.sparse.major": "0", "GNU.sparse.minor": "1"})
    assert sparse.map_in_content({"GNU.sparse.major": "1", "GNU.sparse.minor": "0"})
    with pytest.raises(InvalidArchive):
        sparse.map_in_content({"GNU.sparse.major": "2", "GNU.sparse.minor": "0"})


@pytest.mark.parametrize(
    ("pieces", "stored", "size"),
    [
        ([(0, 5), (4, 5)], 10, 100),
        ([(50, 5), (0, 5)], 10, 100),
        ([(0, 5)], 4, 100),
        ([(0, 5)], 6, 100),
        ([(98, 5)], 5, 100),
        ([(0, -5)], -5, 100),
        ([(-5, 5)], 5, 100),
    ],
)
def test_pieces_that_overlap_or_leave_the_file_are_refused(
    pieces: list[tuple[int, int]], stored: int, size: int
) -> None:
    with pytest.raises(InvalidArchive) as caught:
        sparse.check(pieces, stored=stored, size=size, name="x")
    assert caught.value.hint


@pytest.mark.parametrize("content", [b"x\n", b"-1\n", b"1\n0\nx\n", b"99999999999999999999\n", "٣\n".encode()])
def test_a_map_that_is_not_numbers_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidArchive):
        sparse.map_numbers(content)


def test_a_map_that_is_not_octal_is_refused() -> None:
    with pytest.raises(InvalidArchive):
        sparse.old_gnu_pieces(b"9".ljust(512, b"9"), extension=True)
