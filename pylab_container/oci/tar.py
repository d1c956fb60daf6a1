"""Headers of tar archives: 512-byte blocks to values, and back.

    member      header block · content · zeros up to the next multiple of 512
    extended    pax or GNU member(s), then the header that they extend · content · zeros
    archive     members, then two blocks of zeros

A header has fixed fields, so long names, large numbers and extended attributes precede it in members of their own:
types "x" and "g" (pax), "L" and "K" (GNU). Sources: POSIX, pax(1), "ustar Interchange Format" and "pax Interchange
Format"; GNU tar manual, "Basic Tar Format". If they leave a choice open, this module does what Go's archive/tar does,
because dockerd reads and writes layers with it.
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
"""End of an archive."""

FILE, LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO = "0123456"
GNU_LONG_NAME, GNU_LONG_LINK, PAX, PAX_GLOBAL = "LKxg"
GNU_SPARSE = "S"
EXTENSIONS = (GNU_LONG_NAME, GNU_LONG_LINK, PAX, PAX_GLOBAL)
# POSIX has no record for extended attributes. This prefix is star's; GNU tar, libarchive and Go use it too.
XATTR_RECORD = "SCHILY.xattr."

# Extended headers are read into memory, so a hostile one of 8 GiB would exhaust it. Go has the same limit
# (archive/tar, maxSpecialFileSize; CVE-2022-2879).
LONGEST_EXTENSION = 1 << 20
"""Maximum number of bytes of an extended header."""

_NOT_ASCII = bytes(range(0x80, 0x100))
_DIGITS = re.compile("[0-9]+")
_EMPTY_KINDS = (LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO)
_DAMAGED = "the archive is damaged or hostile"
_NOT_TAR = "is the file damaged, or not a tar archive?"


class Header(Struct):
    """One member of an archive.

    name, link   text; bytes that are not UTF-8 are surrogates, as os.fsdecode() makes them
    kind         one of the type flags above
    mode         permission, set-id and sticky bits
    size         bytes of content that follow
    mtime        nanoseconds since the epoch
    xattrs       extended attributes by full name
    user, group  names of the owners; written, but ignored by the reader: a name maps to another id on each machine
    pieces       of a sparse file: (offset, length) of each piece of content; None for other members
    real_size    of a sparse file: size including the holes
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
        """Size of the extracted file, in bytes."""
        return self.size if self.pieces is None else self.real_size


def padding(size: int) -> int:
    """Return the number of zeros after a content of size bytes."""
    return -size % BLOCK


# ---- reading -------------------------------------------------------------------------


def parse_header(block: bytes) -> Header:
    """Parse a block of 512 bytes as a header. Raises InvalidArchive."""
    if not _has_checksum(block, _number(block, 148, 8, "checksum")):
        raise InvalidArchive("not a tar archive: a header's checksum is wrong", hint=_NOT_TAR)
    kind = chr(block[156])
    name, prefix = _text(block[0:100]), _prefix(block)
    # A NUL is the type of files in archives from before POSIX. There a directory is a file whose name ends in a slash.
    # "7" is a contiguous file; POSIX wants it treated as a regular file if the system has no such kind.
    if kind in "\0007":
        kind = DIRECTORY if name.endswith("/") else FILE
    header = Header(
        name=f"{prefix}/{name}" if prefix else name,
        kind=kind,
        # docker export of 20.10 writes the file type (S_IFMT) into the mode as well.
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
        raise InvalidArchive(f'the member "{header.name}" has a negative size', hint=_DAMAGED)
    # Some writers put the size of a hard link's target here, although no content follows. A reader that skips this
    # many bytes loses its place (Go, archive/tar, isHeaderOnlyType).
    if kind in _EMPTY_KINDS:
        header.size = 0
    return header


def _prefix(block: bytes) -> str:
    """Return the first part of a long name, without the slash that follows it."""
    magic = block[257:265]
    if magic[:6] == b"ustar\0":
        # star marks its headers with "tar\0" at the end. Its prefix is shorter, because atime and ctime follow.
        return _text(block[345:476] if block[508:512] == b"tar\0" else block[345:500])
    if magic != b"ustar  \0":
        return ""
    # GNU's format has atime and ctime at this place. But Go before 1.8 wrote a prefix into headers with GNU's magic
    # (golang.org/issue/12594). So a field that is not a number is taken as a prefix: archive/tar, Reader.readHeader.
    try:
        for start in (345, 357):
            _number(block, start, 12, "time")
    except InvalidArchive:
        prefix = _text(block[345:500])
        return prefix if prefix.isascii() else ""
    return ""


def parse_pax(content: bytes) -> dict[str, str]:
    """Parse the records of a pax member: "<length> <keyword>=<value>\\n" each.

    Raises InvalidArchive.
    """
    records: dict[str, str] = {}
    position = 0
    while position < len(content):
        space = content.find(b" ", position)
        length = content[position:space]
        digits = length.lstrip(b"0")
        # The shortest record, "5 a=\n", has five bytes. A length of 0 would loop for ever.
        if space < 0 or not (digits.isdigit() and len(digits) < 8 and 5 <= int(digits) <= len(content) - position):
            raise InvalidArchive("a pax header record has no valid length", hint=_DAMAGED)
        # The length decides where a record ends: a value, such as an extended attribute, may contain newlines.
        record = content[space + 1 : position + int(length)]
        keyword, equals, value = record.partition(b"=")
        if not equals or not value.endswith(b"\n"):
            raise InvalidArchive("a pax header record is not keyword=value", hint=_DAMAGED)
        name, text = os.fsdecode(keyword), os.fsdecode(value[:-1])
        # Of records with one keyword the last counts (pax(1)), except those of GNU's sparse format 0.0: each adds a
        # number to the map. They are joined here into the one record of format 0.1.
        if name in sparse.MAP_PARTS:
            before = records.get(sparse.MAP)
            name, text = sparse.MAP, text if before is None else f"{before},{text}"
        records[name] = text
        position += int(length)
    return records


def apply_pax(header: Header, records: Mapping[str, str]) -> None:
    """Override a header's fields with pax records. Unknown keywords are ignored.

    Raises InvalidArchive.
    """
    for keyword, value in records.items():
        if keyword.startswith(XATTR_RECORD):
            header.xattrs[keyword[len(XATTR_RECORD) :]] = os.fsencode(value)
        elif not value:
            continue  # "delete any header block field": an empty value cancels a global record (pax(1))
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
    # The header's own name is GNUSparseFile.0/name, so that a reader without sparse files cannot mistake the packed
    # content for the file (GNU tar manual, "Storing Sparse Files").
    header.name = records.get("GNU.sparse.name") or header.name
    header.real_size = _decimal("size", records.get("GNU.sparse.realsize", records.get("GNU.sparse.size", "0")))
    if sparse.MAP in records and header.kind == FILE:
        header.pieces = tuple(sparse.pax_pieces(records[sparse.MAP]))


def _decimal(keyword: str, value: str) -> int:
    """Parse a number as Go's strconv.ParseInt does, but refuse a negative one."""
    unsigned = value.removeprefix("-") if value.startswith("-") else value.removeprefix("+")
    digits = unsigned.lstrip("0") or "0"
    number = int(digits) if _DIGITS.fullmatch(unsigned) and len(digits) < 20 else None
    if number is None or number >= 1 << 63 or (number and value.startswith("-")):
        raise InvalidArchive(f'the pax record {keyword}="{value[:40]}" is not a number', hint=_DAMAGED)
    return number


def _nanoseconds(value: str) -> int:
    # Not float(): seconds since 1970 need 31 bits, and the other 22 of a double's mantissa resolve only 240 ns.
    whole, _, fraction = value.partition(".")
    sign = -1 if whole.startswith("-") else 1
    digits = whole.removeprefix("-").removeprefix("+" if sign > 0 else "")
    if not _DIGITS.fullmatch(digits) or len(digits.lstrip("0")) > 12 or not _DIGITS.fullmatch(fraction or "0"):
        raise InvalidArchive(f'the pax record mtime="{value[:40]}" is not a time', hint=_DAMAGED)
    return sign * (int(digits.lstrip("0") or "0") * 10**9 + int(fraction[:9].ljust(9, "0") or 0))


def _text(raw: bytes) -> str:
    """Decode a text field. It ends at the first NUL, or fills the whole field."""
    return os.fsdecode(raw.partition(b"\0")[0])


def _number(block: bytes, start: int, length: int, name: str) -> int:
    """Parse a field of octal digits, or GNU's base 256. Raises InvalidArchive."""
    raw = block[start : start + length]
    if raw[0] & 0x80:  # the mark of base 256; the other bits are a big-endian number in two's complement
        value = int.from_bytes(raw, "big") & ((1 << (8 * length - 1)) - 1)
        return value - (1 << (8 * length - 1)) if raw[0] & 0x40 else value
    digits = raw.strip(b" \0").partition(b"\0")[0].rstrip()
    if not digits:
        return 0
    # int() alone would also accept a sign and underscores.
    if not digits.isdigit() or b"8" in digits or b"9" in digits:
        raise InvalidArchive(f"a tar header's {name} is not an octal number", hint=_NOT_TAR)
    return int(digits, 8)


def _has_checksum(block: bytes, checksum: int) -> bool:
    # The checksum's own field counts as eight spaces. Old tars on machines with signed characters summed those
    # (GNU tar manual, "Checksumming Problems"), so either sum is valid.
    unsigned = sum(block) - sum(block[148:156]) + 8 * 0x20
    return checksum == unsigned or checksum == unsigned - 0x100 * sum(
        byte >= 0x80 for byte in block[:148] + block[156:]
    )


# ---- writing -------------------------------------------------------------------------


def build_header(header: Header) -> bytes:
    """Return the blocks before a member's content: its header, and a pax member if required."""
    name, link = os.fsencode(header.name), os.fsencode(header.link)
    split = _split_name(name)
    records = _records(header, link)
    if split is None:
        records["path"] = name
    prefix, short = split or (b"", _ascii(name)[:100])
    seconds = max(0, header.mtime // 10**9)
    block = _block(header, prefix, short, _ascii(link)[:100], seconds)
    return (_pax_member(name, records) if records else b"") + block


def _records(header: Header, link: bytes) -> dict[str, bytes]:
    """Return pax records for the values that a ustar header cannot hold, except the name."""
    records: dict[str, bytes] = {}
    if len(link) > 100 or not link.isascii():
        records["linkpath"] = link
    # A field of 8 bytes has seven octal digits and a NUL, so ids end at 2097151; 12 bytes hold sizes below 8 GiB.
    for keyword, value in (("uid", header.uid), ("gid", header.gid)):
        if value > 0o7777777:
            records[keyword] = str(value).encode()
    if header.size > 0o77777777777:
        records["size"] = str(header.size).encode()
    # Octal digits have neither a sign nor a fraction: times before 1970 and nanoseconds need a record.
    seconds, fraction = divmod(header.mtime, 10**9)
    if fraction or not 0 <= seconds <= 0o77777777777:
        records["mtime"] = _pax_time(header.mtime).encode()
    for attribute, content in header.xattrs.items():
        records[XATTR_RECORD + attribute] = content
    return records


def _block(header: Header, prefix: bytes, name: bytes, link: bytes, seconds: int) -> bytes:
    """Return the 512 bytes of a header. The fields are in the order of the format."""
    before = b"%b%07o\0%07o\0%07o\0%011o\0%011o\0" % (
        name.ljust(100, b"\0"),
        header.mode,
        _octal_or_zero(header.uid, 7),
        _octal_or_zero(header.gid, 7),
        _octal_or_zero(header.size, 11),
        _octal_or_zero(seconds, 11),
    )
    after, after_sum = _after(header.kind, link, header.user, header.group, header.major, header.minor, prefix)
    checksum = sum(before) + 8 * 0x20 + after_sum  # the checksum's own field counts as eight spaces
    return before + b"%06o\0 " % checksum + after


# A layer has ten thousands of members, and most differ only in the fields before the checksum.
@functools.lru_cache(maxsize=64)
def _after(kind: str, link: bytes, user: str, group: str, major: int, minor: int, prefix: bytes) -> tuple[bytes, int]:
    """Return the fields behind the checksum, and the sum of their bytes."""
    names = [os.fsencode(owner)[:31].ljust(32, b"\0") for owner in (user, group)]
    device = b"%07o\0%07o\0" % (_octal_or_zero(major, 7), _octal_or_zero(minor, 7))
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


def _octal_or_zero(number: int, digits: int) -> int:
    """Return number, or 0 if it has more octal digits: a pax record then has it."""
    return number if number < 1 << 3 * digits else 0


def _pax_member(name: bytes, records: Mapping[str, bytes]) -> bytes:
    # Sorted, so that equal files give equal bytes and so equal digests.
    content = b"".join(_pax_record(keyword, records[keyword]) for keyword in sorted(records))
    # A reader that does not know pax extracts the member as a file, so it has a name beside the real one. GNU tar
    # writes its process id instead of the 0, which would change the archive with each run.
    directory, _, base = name.rstrip(b"/").rpartition(b"/")
    path = _ascii(b"/".join(part for part in (directory, b"PaxHeaders.0", base) if part))[:100]
    block = _block(Header("", kind=PAX, mode=0, size=len(content)), b"", path, b"", 0)
    return block + content + bytes(padding(len(content)))


def _pax_record(keyword: str, value: bytes) -> bytes:
    # The length includes its own digits, so adding them can add one more digit: 98 bytes give "101", not "100".
    body = b" " + keyword.encode() + b"=" + value + b"\n"
    length = len(body) + len(str(len(body)))
    length = len(body) + len(str(length))
    return str(length).encode() + body


def _pax_time(nanoseconds: int) -> str:
    seconds, fraction = divmod(abs(nanoseconds), 10**9)
    sign = "-" if nanoseconds < 0 else ""
    return f"{sign}{seconds}.{fraction:09d}".rstrip("0").rstrip(".")


def _split_name(name: bytes) -> tuple[bytes, bytes] | None:
    """Split a name into ustar's prefix and name fields; None if it does not fit.

    The prefix has 155 bytes, the name 100. ustar joins both with a slash, so the name can be cut at a slash only. Its
    character set is ASCII: other names go into a pax record, which is UTF-8.
    """
    if not name.isascii():
        return None
    if len(name) <= 100:
        return b"", name
    cut = name.rfind(b"/", 0, min(156, len(name) - 1))  # not at a directory's final slash
    if cut <= 0 or len(name) - cut - 1 > 100:
        return None
    return name[:cut], name[cut + 1 :]


def _ascii(name: bytes) -> bytes:
    return name.translate(None, _NOT_ASCII)
