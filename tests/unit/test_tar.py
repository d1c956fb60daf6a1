"""Tar headers: every dialect is read, ours is read by others."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylab_container.errors import InvalidArchive
from pylab_container.oci import tar

Dialect = Literal[0, 1, 2]  # as tarfile numbers them


def block(**fields: bytes) -> bytes:
    """A header with some fields replaced by raw bytes, and a checksum that fits."""
    places = {"name": 0, "mode": 100, "uid": 108, "gid": 116, "size": 124, "mtime": 136, "kind": 156, "link": 157}
    places |= {"magic": 257, "major": 329, "minor": 337, "prefix": 345}
    raw = bytearray(tar.build_header(tar.Header("name")))
    for field, value in fields.items():
        raw[places[field] : places[field] + len(value)] = value
    return resummed(raw)


def resummed(raw: bytes | bytearray, *, signed: bool = False) -> bytes:
    plain = bytearray(raw)
    plain[148:156] = b" " * 8
    total = sum(byte - 256 if signed and byte > 127 else byte for byte in plain)
    plain[148:156] = b"%06o\0 " % total
    return bytes(plain)


def headers(archive: bytes) -> list[tar.Header]:
    """The members of an archive, by the functions under test alone."""
    found, records, position = [], {}, 0
    while (raw := archive[position : position + tar.BLOCK]).strip(b"\0"):
        header = tar.parse_header(raw)
        content = archive[position + tar.BLOCK : position + tar.BLOCK + header.size]
        if header.kind == tar.PAX:
            records = tar.parse_pax(content)
        else:
            tar.apply_pax(header, records)
            found.append(header)
            records = {}
        position += tar.BLOCK + header.size + tar.padding(header.size)
    return found


def by_tarfile(member: tarfile.TarInfo, dialect: Dialect) -> bytes:
    return member.tobuf(dialect, "utf-8", "surrogateescape")


# -- reading -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("kind", [b"0", b"1", b"2", b"3", b"4", b"5", b"6"])
def test_headers_of_another_writer_are_read(dialect: Dialect, kind: bytes) -> None:
    member = tarfile.TarInfo("dir/name")
    member.type, member.mode, member.uid, member.gid, member.mtime = kind, 0o6755, 1000, 1001, 1_700_000_000
    member.linkname = "target" if kind in b"12" else ""
    member.devmajor, member.devminor = (8, 17) if kind in b"34" else (0, 0)
    member.size = 77 if kind == b"0" else 0
    (header,) = headers(by_tarfile(member, dialect))
    assert header.kind == kind.decode()
    assert header.name.rstrip("/") == "dir/name"
    assert (header.mode, header.uid, header.gid, header.mtime) == (0o6755, 1000, 1001, 1_700_000_000 * 10**9)
    assert (header.size, header.link, header.major, header.minor) == (
        member.size,
        member.linkname,
        member.devmajor,
        member.devminor,
    )


def test_a_v7_header_has_no_magic_and_a_slash_means_directory() -> None:
    assert tar.parse_header(block(magic=bytes(8), kind=b"\0", name=b"dir/\0")).kind == tar.DIRECTORY
    assert tar.parse_header(block(magic=bytes(8), kind=b"\0", prefix=b"junk")).name == "name"


def test_a_contiguous_file_is_a_file() -> None:
    assert tar.parse_header(block(kind=b"7")).kind == tar.FILE


def test_the_prefix_counts_in_ustar_and_not_in_old_gnu_headers() -> None:
    assert tar.parse_header(block(prefix=b"long/path")).name == "long/path/name"
    times = b"%011o\0%011o\0" % (1_700_000_000, 1_700_000_001)  # GNU has the times of access and change there
    assert tar.parse_header(block(prefix=times, magic=b"ustar  \0")).name == "name"
    assert tar.parse_header(block(prefix=b"", magic=b"ustar  \0")).name == "name"


def test_a_prefix_that_go_before_1_8_wrote_into_a_header_of_gnu_s_counts() -> None:
    size = b"\x80" + (9 << 30).to_bytes(11, "big")  # the reason for that magic: a size in base 256
    header = tar.parse_header(block(prefix=b"a/long/path", size=size, magic=b"ustar  \0"))
    assert (header.name, header.size) == ("a/long/path/name", 9 << 30)
    assert tar.parse_header(block(prefix="ä/path".encode(), magic=b"ustar  \0")).name == "name"


def test_a_header_of_star_has_times_behind_its_prefix() -> None:
    raw = bytearray(block(prefix=b"p" * 131 + b"00000000001 00000000001 "))
    raw[508:512] = b"tar\0"
    assert tar.parse_header(resummed(raw)).name == "p" * 131 + "/name"


def test_a_name_may_fill_its_field_without_a_zero() -> None:
    assert tar.parse_header(block(name=b"n" * 100)).name == "n" * 100
    assert tar.parse_header(block(name=b"n" * 100, prefix=b"p" * 155)).name == "p" * 155 + "/" + "n" * 100


def test_bytes_that_are_no_utf8_survive_as_surrogates() -> None:
    assert os.fsencode(tar.parse_header(block(name=b"caf\xe9\0")).name) == b"caf\xe9"


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b"0000755\0", 0o755),
        (b"0000755 ", 0o755),
        (b"   755 \0", 0o755),
        (b"755\0\0\0\0\0", 0o755),
        (b"755\0junk", 0o755),
        (b"00000755", 0o755),
        (bytes(8), 0),
        (b"       \0", 0),
        (b"\x80\0\0\0\0\x20\0\0", 0x200000),
        (b"\xff" * 8, -1),
        (b"\xff\xff\xff\xff\xff\xff\xff\x00", -256),
    ],
)
def test_numbers_are_octal_or_base_256(raw: bytes, value: int) -> None:
    assert tar.parse_header(block(uid=raw)).uid == value


def test_base_256_holds_large_sizes_and_times_before_1970() -> None:
    header = tar.parse_header(
        block(size=b"\x80" + (10**13).to_bytes(11, "big"), mtime=(-5).to_bytes(12, "big", signed=True))
    )
    assert (header.size, header.mtime) == (10**13, -5 * 10**9)


@pytest.mark.parametrize("kind", [b"1", b"2", b"3", b"4", b"5", b"6"])
def test_what_has_no_content_has_size_zero_whatever_its_field_says(kind: bytes) -> None:
    assert tar.parse_header(block(kind=kind, size=b"00000000777\0")).size == 0


@pytest.mark.parametrize(
    "raw",
    [
        block(size=b"\xff" * 12),
        block(size=b"-0000000001\0"),
        block(size=b"0000000009x\0"),
        block(mode=b"rwxr-xr\0"),
        block(kind=b"5", size=b"\xff" * 12),
        bytes(tar.build_header(tar.Header("name"))[:500]) + b"damaged!!!!!",
        b"#!/bin/sh\n".ljust(512, b"\n"),
        b"\x1f\x8b".ljust(512, b"x"),
        b"\xff" * 512,
    ],
)
def test_a_damaged_header_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidArchive) as caught:
        tar.parse_header(raw)
    assert caught.value.hint


def test_the_checksum_may_be_of_signed_characters_as_old_tars_wrote_it() -> None:
    raw = block(name=b"caf\xe9\0")
    assert tar.parse_header(resummed(raw, signed=True)).name == tar.parse_header(raw).name


@pytest.mark.parametrize("position", [0, 99, 100, 130, 147, 156, 257, 345, 511])
def test_any_changed_byte_is_noticed(position: int) -> None:
    raw = bytearray(tar.build_header(tar.Header("name")))
    raw[position] ^= 0x40
    with pytest.raises(InvalidArchive):
        tar.parse_header(bytes(raw))


# -- pax records -------------------------------------------------------------------------------


def pax(**records: str) -> tar.Header:
    header = tar.parse_header(block())
    tar.apply_pax(header, records)
    return header


def test_pax_records_override_the_header() -> None:
    header = pax(
        path="länger", linkpath="ziel", uid="4000000", gid="5000000", size="8589934592", mtime="1.5", comment="x"
    )
    assert (header.name, header.link, header.uid, header.gid) == ("länger", "ziel", 4000000, 5000000)
    assert (header.size, header.mtime) == (8589934592, 1_500_000_000)


def test_an_empty_pax_record_leaves_the_header_s_own_field() -> None:
    assert pax(path="", uid="", mtime="", size="") == tar.parse_header(block())


def test_a_size_record_gives_no_content_to_a_directory() -> None:
    header = tar.parse_header(block(kind=b"5"))
    tar.apply_pax(header, {"size": "512"})
    assert header.size == 0


def test_an_extended_attribute_may_be_empty_binary_and_called_anything() -> None:
    records = {"SCHILY.xattr.user.empty": "", "SCHILY.xattr.security.capability": os.fsdecode(b"\1\0\0\2\xff")}
    header = pax(**records)
    assert header.xattrs == {"user.empty": b"", "security.capability": b"\1\0\0\2\xff"}


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("1700000000", 1_700_000_000 * 10**9),
        ("1700000000.123456789", 1_700_000_000_123_456_789),
        ("1700000000.1234567899", 1_700_000_000_123_456_789),
        ("1.", 10**9),
        ("1.5", 1_500_000_000),
        ("-1.5", -1_500_000_000),
        ("-0.25", -250_000_000),
        ("0000000000000000000001", 10**9),
        ("+1.5", 1_500_000_000),
    ],
)
def test_times_have_nanoseconds(text: str, nanoseconds: int) -> None:
    assert pax(mtime=text).mtime == nanoseconds


@pytest.mark.parametrize("text", ["7", "0" * 30 + "7", "+7", "+0007"])
def test_numbers_of_records_are_read_as_go_reads_them(text: str) -> None:
    assert (pax(size=text).size, pax(uid=text).uid, pax(gid=text).gid) == (7, 7, 7)
    assert pax(size="-0").size == 0


def test_the_length_of_a_record_may_have_leading_zeros() -> None:
    assert tar.parse_pax(b"0000000018 size=7\n") == {"size": "7"}


@pytest.mark.parametrize("raw", [b"+7", b"-7", b"1_0", b"0o7", b"8", b"7 7"])
def test_a_number_in_a_header_has_octal_digits_only(raw: bytes) -> None:
    with pytest.raises(InvalidArchive, match="octal"):
        tar.parse_header(block(size=raw.ljust(12)))


@pytest.mark.parametrize(
    "records",
    [
        {"mtime": "now"},
        {"mtime": "1.x"},
        {"mtime": "--1"},
        {"mtime": "9" * 13},
        {"mtime": "1_0"},
        {"mtime": "+-1"},
        {"size": "+-1"},
        {"size": "1_0"},
        {"size": "-"},
        {"size": str(1 << 63)},
        {"uid": "-1"},
        {"uid": "1e3"},
        {"size": "-1"},
        {"size": "9" * 20},
        {"gid": "0x10"},
        {"GNU.sparse.realsize": "-1"},
        {"GNU.sparse.map": "1,2,3"},
        {"GNU.sparse.map": "1,x"},
    ],
)
def test_a_senseless_record_is_refused(records: dict[str, str]) -> None:
    with pytest.raises(InvalidArchive):
        pax(**records)


@pytest.mark.parametrize(
    "content",
    [
        b"x",
        b"5",
        b"100 path=x\n",
        b"0 path=x\n",
        b"-5 path=x\n",
        b"8 path=x\n",
        b"11 path=xyz",
        b"8 pathx\n",
        b"12345678",
        b" path=x\n",
        b"9" * 5000 + b" path=x\n",
        "١٠ path=x\n".encode(),
    ],
)
def test_damaged_records_are_refused(content: bytes) -> None:
    with pytest.raises(InvalidArchive):
        tar.parse_pax(content)


def test_a_value_may_contain_equals_signs_and_line_ends() -> None:
    assert tar.parse_pax(b"18 path=a=b\nc\n=d\n\n") == {"path": "a=b\nc\n=d\n"}


# -- writing -----------------------------------------------------------------------------------

NAMES = [
    "name",
    "d/",
    "n" * 100,
    "n" * 101,
    "p" * 155 + "/" + "n" * 100,
    "p" * 156 + "/" + "n" * 100,
    "p" * 60 + "/" + "q" * 60 + "/",
    "d/" * 200,
    "n" * 255,
    "/".join(["x" * 250] * 10),
    "grüße/日本語",
    os.fsdecode(b"caf\xe9"),
    "line\nend",
    "a=b",
    " leading and trailing ",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_of_every_length_and_alphabet_are_read_back_by_us_and_by_tarfile(name: str) -> None:
    kind = tar.DIRECTORY if name.endswith("/") else tar.SYMLINK
    link = "" if kind == tar.DIRECTORY else name
    raw = tar.build_header(tar.Header(name, kind=kind, link=link))
    assert len(raw) % tar.BLOCK == 0
    (header,) = headers(raw)
    assert (header.name, header.link) == (name, link)
    with tarfile.open(fileobj=io.BytesIO(raw + tar.END)) as archive:
        (member,) = archive
    assert (member.name, member.linkname) == (name.rstrip("/"), link.rstrip("/"))


@pytest.mark.parametrize("name", [name for name in NAMES if not name.endswith("/")])
def test_gnu_tar_reads_our_headers(name: str) -> None:
    program = shutil.which("tar")
    assert program
    raw = tar.build_header(tar.Header(name, mtime=1_700_000_000_123_456_789)) + tar.END
    listed = subprocess.run(
        [program, "--list", "--quoting-style=literal", "--file=-"],
        input=raw,
        stdout=subprocess.PIPE,
        check=True,
    )
    assert listed.stdout == os.fsencode(name) + b"\n"


def test_the_shortest_header_is_one_block_of_posix_ustar() -> None:
    raw = tar.build_header(tar.Header("etc/hosts", size=9, mtime=10**9))
    assert len(raw) == tar.BLOCK
    assert raw[257:265] == b"ustar\x0000"
    assert raw[265:329] == bytes(64), "no user or group names: they would depend on this machine"


def test_large_owners_sizes_and_odd_times_need_a_pax_member() -> None:
    wanted = tar.Header("n", uid=4_294_967_294, gid=2_097_152, size=1 << 40, mtime=-1_500_000_000, mode=0o7777)
    raw = tar.build_header(wanted)
    assert len(raw) == 3 * tar.BLOCK
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        member = archive.next()
    assert member
    assert (member.uid, member.gid, member.size, member.mtime) == (4_294_967_294, 2_097_152, 1 << 40, -1.5)


def test_the_length_of_a_pax_record_counts_itself_at_every_size() -> None:
    for size in [*range(1, 120), *range(960, 1010), 9970, 9980, 9990, 10_000]:
        raw = tar.build_header(tar.Header("n", xattrs={"user.x": b"v" * size}))
        assert headers(raw)[0].xattrs == {"user.x": b"v" * size}


@pytest.mark.parametrize("dialect", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT])
def test_our_plain_header_has_the_bytes_of_another_writer(dialect: Dialect) -> None:
    member = tarfile.TarInfo("etc/hosts")
    member.size, member.mode, member.uid, member.gid, member.mtime = 9, 0o640, 1, 2, 3
    theirs = by_tarfile(member, dialect)
    ours = tar.build_header(tar.Header("etc/hosts", size=9, mode=0o640, uid=1, gid=2, mtime=3 * 10**9))
    assert ours[:148] == theirs[:148], "all fields in front of the checksum"


def test_padding_fills_the_last_block() -> None:
    assert [tar.padding(size) for size in (0, 1, 511, 512, 513)] == [0, 511, 1, 0, 511]


TEXT = st.binary(min_size=1, max_size=300).filter(lambda raw: b"\0" not in raw).map(os.fsdecode)
NUMBERS: dict[str, Any] = {
    "mode": st.integers(0, 0o7777),
    "uid": st.integers(0, 2**32 - 1),
    "gid": st.integers(0, 2**32 - 1),
    "mtime": st.integers(-(10**20), 10**20),
}
XATTRS = st.dictionaries(st.sampled_from(["user.a", "user.b c", "security.capability"]), st.binary(max_size=200))


@given(st.builds(tar.Header, name=TEXT, size=st.integers(0, 2**62), xattrs=XATTRS, **NUMBERS))
def test_every_file_reads_back_as_it_was_written(header: tar.Header) -> None:
    raw = tar.build_header(header)
    position = len(raw) - tar.BLOCK
    read = tar.parse_header(raw[position:])
    if position:
        size = tar.parse_header(raw[: tar.BLOCK]).size
        tar.apply_pax(read, tar.parse_pax(raw[tar.BLOCK : tar.BLOCK + size]))
    if header.name.endswith("/"):
        assert read.name == header.name
    else:
        assert read == header


@given(st.builds(tar.Header, name=TEXT, link=TEXT, kind=st.sampled_from([tar.LINK, tar.SYMLINK]), **NUMBERS))
def test_every_link_reads_back_as_it_was_written(header: tar.Header) -> None:
    assert headers(tar.build_header(header)) == [header]


@given(st.binary(min_size=512, max_size=512))
def test_any_block_is_a_header_or_refused(raw: bytes) -> None:
    for candidate in (raw, resummed(raw)):
        try:
            tar.parse_header(candidate)
        except InvalidArchive:
            continue


@given(st.binary(max_size=100))
def test_any_bytes_are_records_or_refused(raw: bytes) -> None:
    try:
        tar.apply_pax(tar.Header(""), tar.parse_pax(raw))
    except InvalidArchive:
        return
