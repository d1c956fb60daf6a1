"""A layer as a tar: read, hash, record and extract its members in a single pass.

A layer is a *change*: files added or replaced, and files hidden. A tar and a directory express "hidden" differently
(store/whiteouts.py). Both are read as a `MemberSource`:

    import                          store(TarReader(stream), Extractor(directory), …)
    commit that copies              store(TreeReader(upper), Extractor(directory), …)
    commit that keeps the directory store(TreeReader(upper), None, …)

Extractor: store/extractor.py. TreeReader: store/treetar.py.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO, Protocol

from fastcrc import crc64
from msgspec import Struct

from pylab_container.errors import InvalidArchive
from pylab_container.oci import sparse, tar
from pylab_container.store.extractor import Extractor
from pylab_container.store.tarsplit import TarSplitWriter

_READ_SIZE = 1 << 20  # bytes that are read from the stream at a time
_MOST_EXTENSIONS = 100  # members in a row that describe the next one: each is held in memory; real archives have three


class MemberSource(Protocol):
    """The members of a layer in order. Iteration yields each member's header.

    raw        the tar's bytes from the end of the previous content to the start of this member's content
    content()  the content of the current member in pieces, header.size bytes in total
    trailer()  the tar's remaining bytes in pieces, after the last member
    """

    @property
    def raw(self) -> bytes: ...

    def __iter__(self) -> Iterator[tar.Header]: ...

    def content(self) -> Iterator[bytes]: ...

    def trailer(self) -> Iterator[bytes]: ...


class StoredLayer(Struct, frozen=True):
    """Result of store().

    diff_id  digest of the uncompressed tar
    size     bytes of content, and of the targets of symbolic links
    """

    diff_id: str
    size: int


def store(
    members: MemberSource,
    extractor: Extractor | None,
    tar_split: TarSplitWriter,
    progress: Callable[[int], None] = lambda done: None,
) -> StoredLayer:
    """Read a layer once: hash it, record its tar-split, and extract it.

    extractor  None if the files are in the layer's directory already
    progress   called with the bytes of tar that were read so far

    Raises InvalidArchive, RuntimeFailed.
    """
    digest = hashlib.sha256()
    done = size = 0
    for header in members:
        digest.update(members.raw)
        tar_split.segment(members.raw)
        checksum, is_sparse = 0, header.pieces is not None
        if extractor:
            extractor.create(header)
        for chunk in members.content():
            # hashlib releases the interpreter's lock for large chunks, so a ReadAhead decompresses concurrently.
            digest.update(chunk)
            # On disk a hole may look like written zeros, so the pieces of a sparse file cannot be read back: record
            # the tar's bytes (store/tarsplit.py).
            if is_sparse:
                tar_split.segment(chunk)
            else:
                checksum = crc64.go_iso(chunk, checksum)
            if extractor:
                extractor.write(chunk)
        if extractor:
            extractor.complete(header)
        tar_split.file(header.name, 0 if is_sparse else header.size, checksum)
        size += len(os.fsencode(header.link)) if header.kind == tar.SYMLINK else header.file_size
        done += len(members.raw) + header.size
        progress(done)
    # The diff id covers all bytes of the stream, also those after the end-of-archive blocks (image-spec config.md).
    for chunk in members.trailer():
        digest.update(chunk)
        tar_split.segment(chunk)
    if extractor:
        extractor.finish()
    return StoredLayer("sha256:" + digest.hexdigest(), size)


class TarReader:
    """The members of a tar stream, read once from front to back in constant memory.

    A MemberSource.

    Python's tarfile is not used: it offers neither the raw bytes of headers, which tar-split needs, nor Go's rules for
    repeated and global pax records, which decide what Docker would extract. Raises InvalidArchive.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self.raw = b""
        self._stream = stream
        self._buffer = b""
        self._position = 0
        self._left = 0  # bytes of the current member's content
        self._padding = 0
        self._name = ""

    def __iter__(self) -> Iterator[tar.Header]:
        while (header := self._next()) is not None:
            self._left = header.size
            self._padding = tar.padding(header.size)
            self._name = header.name
            yield header
            for _ in self.content():  # what the caller has not read: the stream may be a pipe, so there is no seek
                pass

    def content(self) -> Iterator[bytes]:
        while self._left:
            if self._position == len(self._buffer) and not self._fill():
                raise _cut_off(self._name)
            chunk = self._buffer[self._position : self._position + self._left]
            self._position += len(chunk)
            self._left -= len(chunk)
            yield chunk

    def trailer(self) -> Iterator[bytes]:
        # GNU tar pads an archive to 20 blocks with zeros, and other data may follow; the digest covers all of it.
        yield self.raw
        while self._position < len(self._buffer) or self._fill():
            chunk = self._buffer[self._position :]
            self._position = len(self._buffer)
            yield chunk

    # ---- headers ----

    def _next(self) -> tar.Header | None:
        """Return the next member's header with its extensions applied; None at the end."""
        self.raw = self._last_padding()
        records: dict[str, str] = {}
        long_names: dict[str, str] = {}
        for number in range(_MOST_EXTENSIONS + 1):
            # The end-of-archive blocks may be missing, as in Go's reader: an archive may end after any member, but not
            # after an extension that describes a further one.
            block = self._take(tar.BLOCK, may_end=not number)
            self.raw += block
            if not block.strip(b"\0"):
                self._check_end()
                return None
            header = tar.parse_header(block)
            if header.kind not in tar.EXTENSIONS:
                return self._described(header, block, records, long_names)
            content = self._extension(header)
            # As Go's archive/tar, which Docker uses: the last of several pax members replaces the others, and GNU's
            # long names override pax. A global pax member resets both, because Go returns it as a member of its own.
            if header.kind == tar.PAX:
                records = tar.parse_pax(content)
            elif header.kind == tar.PAX_GLOBAL:
                records, long_names = {}, {}
            else:
                keyword = "path" if header.kind == tar.GNU_LONG_NAME else "linkpath"
                long_names[keyword] = os.fsdecode(content.partition(b"\0")[0])
        raise InvalidArchive(
            f"more than {_MOST_EXTENSIONS} tar header extensions in a row",
            hint="the archive is hostile: do not trust it",
        )

    def _described(
        self, header: tar.Header, block: bytes, records: Mapping[str, str], long_names: Mapping[str, str]
    ) -> tar.Header:
        """Apply the extensions that came before a header, and read the map of a sparse file."""
        if header.kind == tar.GNU_SPARSE:
            self._old_gnu_map(header, block)
        tar.apply_pax(header, records)
        tar.apply_pax(header, long_names)
        self._sparse(header, records)
        return header

    def _old_gnu_map(self, header: tar.Header, block: bytes) -> None:
        """Read the pieces of a sparse file that its header and the blocks after it list."""
        header.kind, header.real_size = tar.FILE, sparse.old_gnu_size(block)
        pieces, more = sparse.old_gnu_pieces(block, extension=False)
        while more:
            block = self._take(tar.BLOCK)
            self.raw += block
            self._limit_extension(len(pieces) * 24)  # the map is held in memory, and a hostile one does not end
            listed, more = sparse.old_gnu_pieces(block, extension=True)
            pieces += listed
        header.pieces = tuple(pieces)

    def _sparse(self, header: tar.Header, records: Mapping[str, str]) -> None:
        """Read the map before a sparse file's content (pax 1.0), and check a map of any version."""
        if header.kind == tar.FILE and sparse.map_in_content(records):
            content, numbers = b"", None
            while numbers is None:
                if len(content) + tar.BLOCK > header.size:
                    raise InvalidArchive(
                        f'the map of the sparse file "{header.name}" is cut off', hint="the archive is damaged"
                    )
                self._limit_extension(len(content))
                content += self._take(tar.BLOCK)
                numbers = sparse.map_numbers(content)
            self.raw += content
            header.size -= len(content)
            header.pieces = tuple(sparse.map_pieces(numbers))
        if header.pieces is not None:
            sparse.check(header.pieces, stored=header.size, size=header.real_size, name=header.name)

    def _extension(self, header: tar.Header) -> bytes:
        self._limit_extension(header.size)
        content = self._take(header.size)
        self.raw += content + self._take(tar.padding(header.size))
        return content

    def _limit_extension(self, size: int) -> None:
        # A header can announce 8 GiB, and GNU's binary numbers far more, all of which would be read into memory.
        if size > tar.LONGEST_EXTENSION:
            raise InvalidArchive(
                f"a tar header extension of {size} bytes", hint="no honest one is so long; do not trust this file"
            )

    # ---- blocks ----

    def _take(self, size: int, *, may_end: bool = False) -> bytes:
        """Return the next size bytes; b"" at the end of the stream if it may_end here."""
        while len(self._buffer) - self._position < size:
            if not self._fill():
                if may_end and self._position == len(self._buffer):
                    return b""
                raise _cut_off(self._name)
        taken = self._buffer[self._position : self._position + size]
        self._position += size
        return taken

    def _last_padding(self) -> bytes:
        """Return the padding after the last member, as much of it as the archive has.

        `docker build -f -` writes archives that end without it, and Go's reader accepts them.
        """
        while len(self._buffer) - self._position < self._padding and self._fill():
            pass
        taken = self._buffer[self._position : self._position + self._padding]
        self._position += len(taken)
        return taken

    def _check_end(self) -> None:
        """Raise InvalidArchive if the block after the first empty one is incomplete."""
        while (held := len(self._buffer) - self._position) < tar.BLOCK:
            if not self._fill():
                if held:
                    raise _cut_off(self._name)
                return

    def _fill(self) -> bool:
        # Only the unread rest is copied, which is less than one block in most cases.
        chunk = self._stream.read(_READ_SIZE)
        self._buffer = self._buffer[self._position :] + chunk
        self._position = 0
        return bool(chunk)


def _cut_off(name: str) -> InvalidArchive:
    where = f'in or after "{name}"' if name else "in its first header"
    return InvalidArchive(f"the tar archive is cut off {where}", hint="copy or make the file again; is the disk full?")
