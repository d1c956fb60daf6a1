"""The headers of a tar archive: bytes to values and back.

A tar is a row of members; each is a 512-byte header, the content, and zeros up to the
next multiple of 512. What does not fit a header (long names, large numbers, extended
attributes) precedes it in extra members: "x" and "g" (pax), "L" and "K" (GNU). Sources:
POSIX pax, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format".
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping

from msgspec import Struct, field

from pylab_container.errors import InvalidArchive
from pylab_container.oci import sparse

BLOCK = 512
END = bytes(2 * BLOCK)
"""Two blocks of zeros end an archive."""

FILE, LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO = "0123456"
GNU_LONG_NAME, GNU_LONG_LINK, PAX, PAX_GLOBAL = "LKxg"
GNU_SPARSE = "S"
EXTENSIONS = (GNU_LONG_NAME, GNU_LONG_LINK, PAX, PAX_GLOBAL)
XATTR_RECORD = "SCHILY.xattr."

LONGEST_EXTENSION = 1 << 20
"""No honest name or attribute set is longer; a hostile one would fill the memory."""

_NOT_ASCII = bytes(range(0x80, 0x100))
_DIGITS = re.compile("[0-9]+")
_EMPTY_KINDS = (LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO)


class Header(Struct):
    """One member of an archive.

    name, link  text; bytes that are no UTF-8 are surrogates, as os.fsdecode makes them
    kind        one of the type flags above
    mode        permission, set-id and sticky bits
    size        bytes of content that follow
    pieces      of a sparse file: where its content belongs, (offset, length) each; None for other members
    real_size   of a sparse file: its size with the holes
    mtime       nanoseconds since the epoch
    xattrs      extended attributes by full name
    user, group names of the owners; only written, never read: names mean something on one machine
    """

    name: str
    kind: str = FILE
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime: int = 0
    link: str = ""
    major: int = 0
    minor: int = 0
    xattrs: dict[str, bytes] = field(default_factory=dict)
    user: str = ""
    group: str = ""
    pieces: tuple[sparse.Piece, ...] | None = None
    real_size: int = 0

    @property
    def file_size(self) -> int:
        """How large the file is on the disk."""
        return self.size if self.pieces is None else self.real_size


def padding(size: int) -> int:
    """How many zeros follow a content of this size."""
    return -size % BLOCK


# ---- reading -------------------------------------------------------------------------


def parse_header(block: bytes) -> Header:
    """Read one 512-byte header. Raises InvalidArchive where it is none."""
    if not _has_checksum(block, _number(block, 148, 8, "checksum")):
        raise InvalidArchive("not a tar archive: a header's checksum is wrong", hint="is the file damaged, or no tar?")
    kind = chr(block[156])
    name, prefix = _text(block[0:100]), _prefix(block)
    if kind in "\0007":  # pre-POSIX files and "contiguous" files are plain files
        kind = DIRECTORY if name.endswith("/") else FILE
    header = Header(
        name=f"{prefix}/{name}" if prefix else name,
        kind=kind,
        mode=_number(block, 100, 8, "mode") & 0o7777,
        uid=_number(block, 108, 8, "uid"),
        gid=_number(block, 116, 8, "gid"),
        size=_number(block, 124, 12, "size"),
        mtime=_number(block, 136, 12, "mtime") * 10**9,
        link=_text(block[157:257]),
    )
    if kind in (CHARACTER, BLOCK_DEVICE):
        header.major = _number(block, 329, 8, "devmajor")
        header.minor = _number(block, 337, 8, "devminor")
    if header.size < 0:
        raise InvalidArchive(
            f'the member "{header.name}" has a negative size', hint="the archive is damaged or hostile"
        )
    if kind in _EMPTY_KINDS:
        header.size = 0  # links and directories carry no content, whatever the field says
    return header


def _prefix(block: bytes) -> str:
    """The beginning of a long name.

    GNU's format has times in its place. But Go before 1.8 wrote a prefix into headers that it marked as GNU's, so that
    a field of GNU's that is not a time is one (Go, archive/tar, Reader.readHeader).
    """
    magic = block[257:265]
    if magic[:6] == b"ustar\0":
        return _text(block[345:476] if block[508:512] == b"tar\0" else block[345:500])
    if magic != b"ustar  \0":
        return ""
    try:
        for start in (345, 357):  # atime, ctime
            _number(block, start, 12, "time")
    except InvalidArchive:
        prefix = _text(block[345:500])
        return prefix if prefix.isascii() else ""
    return ""


def parse_pax(content: bytes) -> dict[str, str]:
    """The records of a pax member: "<length> <keyword>=<value>\\n" each. Raises InvalidArchive."""
    records: dict[str, str] = {}
    position = 0
    while position < len(content):
        space = content.find(b" ", position)
        length = content[position:space]
        digits = length.lstrip(b"0")
        if space < 0 or not (digits.isdigit() and len(digits) < 8 and 5 <= int(digits) <= len(content) - position):
            raise InvalidArchive("a pax header record has no valid length", hint="the archive is damaged or hostile")
        record = content[space + 1 : position + int(length)]
        keyword, equals, value = record.partition(b"=")
        if not equals or not value.endswith(b"\n"):
            raise InvalidArchive("a pax header record is not keyword=value", hint="the archive is damaged or hostile")
        name, text = os.fsdecode(keyword), os.fsdecode(value[:-1])
        if name in sparse.MAP_PARTS:  # the one record that may come again: gathered as version 0.1 has it
            before = records.get(sparse.MAP)
            name, text = sparse.MAP, text if before is None else f"{before},{text}"
        records[name] = text
        position += int(length)
    return records


def apply_pax(header: Header, records: Mapping[str, str]) -> None:
    """Let pax records override a header's fields, as the pax specification orders it."""
    for keyword, value in records.items():
        if keyword.startswith(XATTR_RECORD):
            header.xattrs[keyword[len(XATTR_RECORD) :]] = os.fsencode(value)
        elif not value:
            continue  # an empty value takes a record back; the header's own field counts
        elif keyword == "path":
            header.name = value
        elif keyword == "linkpath":
            header.link = value
        elif keyword in ("uid", "gid", "size"):
            if keyword != "size" or header.kind == FILE:
                setattr(header, keyword, _decimal(keyword, value))
        elif keyword == "mtime":
            header.mtime = _nanoseconds(value)
    if any(keyword.startswith(sparse.RECORDS) for keyword in records):
        _apply_sparse(header, records)


def _apply_sparse(header: Header, records: Mapping[str, str]) -> None:
    header.name = records.get("GNU.sparse.name") or header.name
    header.real_size = _decimal("size", records.get("GNU.sparse.realsize", records.get("GNU.sparse.size", "0")))
    if sparse.MAP in records and header.kind == FILE:
        header.pieces = tuple(sparse.pax_pieces(records[sparse.MAP]))


def _decimal(keyword: str, value: str) -> int:
    """A number as Go reads one: with any number of leading zeros, in 64 bits; but none is negative here."""
    unsigned = value.removeprefix("-") if value.startswith("-") else value.removeprefix("+")
    digits = unsigned.lstrip("0") or "0"
    number = int(digits) if _DIGITS.fullmatch(unsigned) and len(digits) < 20 else None
    if number is None or number >= 1 << 63 or (number and value.startswith("-")):
        raise InvalidArchive(
            f'the pax record {keyword}="{value[:40]}" is not a number', hint="the archive is damaged or hostile"
        )
    return number


def _nanoseconds(value: str) -> int:
    # Not float(): a double holds no nanoseconds of this century.
    whole, _, fraction = value.partition(".")
    sign = -1 if whole.startswith("-") else 1
    digits = whole.removeprefix("-").removeprefix("+" if sign > 0 else "")
    if not _DIGITS.fullmatch(digits) or len(digits.lstrip("0")) > 12 or not _DIGITS.fullmatch(fraction or "0"):
        raise InvalidArchive(
            f'the pax record mtime="{value[:40]}" is not a time', hint="the archive is damaged or hostile"
        )
    return sign * (int(digits.lstrip("0") or "0") * 10**9 + int(fraction[:9].ljust(9, "0") or 0))


def _text(raw: bytes) -> str:
    return os.fsdecode(raw.partition(b"\0")[0])


def _number(block: bytes, start: int, length: int, what: str) -> int:
    raw = block[start : start + length]
    if raw[0] & 0x80:  # GNU: base 256, two's complement in all bits but the first
        value = int.from_bytes(raw, "big") & ((1 << (8 * length - 1)) - 1)
        return value - (1 << (8 * length - 1)) if raw[0] & 0x40 else value
    digits = raw.strip(b" \0").partition(b"\0")[0].rstrip()
    if not digits:
        return 0
    if not digits.isdigit() or b"8" in digits or b"9" in digits:  # int() would take a sign and underscores, too
        raise InvalidArchive(f"a tar header's {what} is not an octal number", hint="is the file damaged, or no tar?")
    return int(digits, 8)


def _has_checksum(block: bytes, told: int) -> bool:
    # The field itself counts as eight spaces. Old tars summed signed characters
    # (GNU tar manual, "Checksumming Problems").
    unsigned = sum(block) - sum(block[148:156]) + 8 * 0x20
    return told == unsigned or told == unsigned - 0x100 * sum(byte >= 0x80 for byte in block[:148] + block[156:])


# ---- writing -------------------------------------------------------------------------


def build_header(header: Header) -> bytes:
    """The blocks that announce a member: a pax member first where the plain header is too small."""
    records: dict[str, bytes] = {}
    name = os.fsencode(header.name)
    prefix, short = _split_name(name)
    if short is None:
        records["path"] = name
        prefix, short = b"", _ascii(name)[:100]
    link = os.fsencode(header.link)
    if len(link) > 100 or not link.isascii():
        records["linkpath"] = link
    for keyword, value in (("uid", header.uid), ("gid", header.gid)):
        if value > 0o7777777:
            records[keyword] = str(value).encode()
    if header.size > 0o77777777777:
        records["size"] = str(header.size).encode()
    seconds, fraction = divmod(header.mtime, 10**9)
    if fraction or not 0 <= seconds <= 0o77777777777:
        records["mtime"] = _pax_time(header.mtime).encode()
    for attribute, content in header.xattrs.items():
        records[XATTR_RECORD + attribute] = content
    block = _block(header, prefix, short, _ascii(link)[:100], max(0, seconds))
    return (_pax_member(name, records) if records else b"") + block


def _block(header: Header, prefix: bytes, name: bytes, link: bytes, seconds: int) -> bytes:
    """The 512 bytes, field after field in the order of the format; the checksum counts itself as spaces."""
    before = b"%b%07o\0%07o\0%07o\0%011o\0%011o\0" % (
        name.ljust(100, b"\0"),
        header.mode,
        _fitting(header.uid, 7),
        _fitting(header.gid, 7),
        _fitting(header.size, 11),
        _fitting(seconds, 11),
    )
    after, total = _after(header.kind, link, header.user, header.group, header.major, header.minor, prefix)
    return before + b"%06o\0 " % (sum(before) + 8 * 0x20 + total) + after


@functools.lru_cache(maxsize=64)  # most members of a layer differ only in what comes before
def _after(kind: str, link: bytes, user: str, group: str, major: int, minor: int, prefix: bytes) -> tuple[bytes, int]:
    """The fields behind the checksum, and the sum of their bytes."""
    names = [os.fsencode(each)[:31].ljust(32, b"\0") for each in (user, group)]
    device = b"%07o\0%07o\0" % (_fitting(major, 7), _fitting(minor, 7))
    fields = (
        kind.encode(),
        link.ljust(100, b"\0"),
        b"ustar\x0000",
        *names,
        device,
        prefix.ljust(155, b"\0"),
        bytes(12),
    )
    after = b"".join(fields)
    return after, sum(after)


def _fitting(number: int, digits: int) -> int:
    """A number, or 0 where it has too many octal digits for its field; a pax record then tells it."""
    return number if number < 1 << 3 * digits else 0


def _pax_member(name: bytes, records: Mapping[str, bytes]) -> bytes:
    content = b"".join(_pax_record(keyword, records[keyword]) for keyword in sorted(records))
    directory, _, base = name.rstrip(b"/").rpartition(b"/")
    path = _ascii(b"/".join(part for part in (directory, b"PaxHeaders.0", base) if part))[:100]
    block = _block(Header("", kind=PAX, mode=0, size=len(content)), b"", path, b"", 0)
    return block + content + bytes(padding(len(content)))


def _pax_record(keyword: str, value: bytes) -> bytes:
    # The length counts its own digits too.
    body = b" " + keyword.encode() + b"=" + value + b"\n"
    length = len(body) + len(str(len(body)))
    length = len(body) + len(str(length))
    return str(length).encode() + body


def _pax_time(nanoseconds: int) -> str:
    seconds, fraction = divmod(abs(nanoseconds), 10**9)
    sign = "-" if nanoseconds < 0 else ""
    return f"{sign}{seconds}.{fraction:09d}".rstrip("0").rstrip(".")


def _split_name(name: bytes) -> tuple[bytes, bytes | None]:
    """A long name's prefix and rest at a slash, (b"", None) where ustar cannot hold it."""
    if not name.isascii():
        return b"", None
    if len(name) <= 100:
        return b"", name
    cut = name.rfind(b"/", 0, min(156, len(name) - 1))
    if cut <= 0 or len(name) - cut - 1 > 100:
        return b"", None
    return name[:cut], name[cut + 1 :]


def _ascii(name: bytes) -> bytes:
    return name.translate(None, _NOT_ASCII)
