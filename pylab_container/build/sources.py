"""The sources of a COPY or ADD, and their digest in the key of the build cache."""

from __future__ import annotations

import errno
import hashlib
import os
import posixpath
import re
import stat
from collections.abc import Iterator, Sequence

from msgspec import Struct

from pylab_container.build import download
from pylab_container.build.context import BuildContext, ContextEntry, Filter, has_wildcards
from pylab_container.build.download import is_url
from pylab_container.dockerfile.dockerignore import IgnorePatterns
from pylab_container.dockerfile.filemode import FileMode
from pylab_container.errors import InvalidInput, RuntimeFailed
from pylab_container.oci import tar
from pylab_container.store.treetar import xattrs

SMALL_FILE = 64 << 10  # bytes; files of up to this size are read once, for the digest and for the copy
MAX_HELD = 32 << 20  # bytes of small files that are held in memory between the two

PIVOT = "/./"  # in a source of --parents: the part before it is not created at the destination
DIGEST_LENGTHS = {"sha256": 64, "sha384": 96, "sha512": 128}  # hexadecimal digits
UNNAMED = "__unnamed__"  # Docker's name for a download without a name
CAPABILITY = "security.capability"  # the only extended attribute that the classic builder copies

_TAR_KINDS = {
    stat.S_IFREG: tar.FILE,
    stat.S_IFLNK: tar.SYMLINK,
    stat.S_IFCHR: tar.CHARACTER,
    stat.S_IFBLK: tar.BLOCK_DEVICE,
    stat.S_IFDIR: tar.DIRECTORY,
    stat.S_IFIFO: tar.FIFO,
}


class CopyOptions(Struct, frozen=True):
    """The flags of COPY and ADD.

    owner             --chown: "user" or "user:group", names or numbers; "": root for files of the context, their own
                      owner for those of --from, as in the classic builder
    mode              --chmod: as dockerfile/filemode.py parses it; "" keeps the modes
    parents           --parents: also create the parent directories of a source, from its /./ on
    exclude           --exclude: patterns of files to leave out
    unpack            ADD: extract local archives
    unpack_downloads  ADD --unpack: extract downloaded archives, too
    link              --link: do not follow the image's symbolic links on the path to the destination
    checksum          ADD --checksum: the digest that the download must have
    """

    owner: str = ""
    mode: str = ""
    parents: bool = False
    exclude: tuple[str, ...] = ()
    unpack: bool = False
    unpack_downloads: bool = False
    link: bool = False
    checksum: str = ""


class CopySource(Struct, frozen=True):
    """One file or directory to copy.

    name        its name in a destination directory; "" for a download without a name
    path        its name in the digest: its path in the context
    shown       its name in messages
    entries     the file or directory itself, then the selected entries below a directory
    unpack      extract it if it is an archive
    downloaded  it was downloaded from a URL
    """

    name: str
    path: str
    shown: str
    entries: tuple[ContextEntry, ...]
    unpack: bool = False
    downloaded: bool = False

    @property
    def entry(self) -> ContextEntry:
        """The file or directory itself."""
        return self.entries[0]


class Sources(Struct, frozen=True):
    """The sources of one instruction, in their order.

    digest        "file:…", "dir:…" or "multi:…" with a SHA-256 of names, types, modes, content, and of owners if they
                  are kept. Times are not part of it: touch(1) does not change it. For a download it is the SHA-256
                  alone, as in the classic builder's history.
    fingerprints  a short digest of each file, by the name in messages
    keeps_owners  files keep their owners and capabilities
    """

    items: tuple[CopySource, ...]
    digest: str
    fingerprints: dict[str, str]
    keeps_owners: bool

    def __len__(self) -> int:
        return len(self.items)


def gather(
    context: BuildContext, words: Sequence[str], heredocs: Sequence[tuple[str, bytes]], options: CopyOptions
) -> Sources:
    """Find and digest the files that the source arguments name. URLs are downloaded.

    words     the arguments before the destination, with variables expanded, without here-documents
    heredocs  name and content of each here-document that is a source

    Raises InvalidInput if no file matches or a flag is invalid, RuntimeFailed for a failed download.
    """
    _check(words, options)
    items = [source for word in words for source in _sources(context, word, options)]
    items += [CopySource(name, name, f"<<{name}", (_document(content),)) for name, content in heredocs]
    if not items:
        raise InvalidInput(
            "no source files were specified", hint="check the patterns: they match no file in the build context"
        )
    reader = _Reader(context)
    digests = [reader.read(source) for source in items]
    together = "multi:" + hashlib.sha256(",".join(digests).encode()).hexdigest()
    digest = together if len(items) > 1 else digests[0]
    return Sources(tuple(items), digest, reader.fingerprints, context.keeps_owners)


def _check(words: Sequence[str], options: CopyOptions) -> None:
    if options.mode:
        FileMode.parse(options.mode)
    if not options.checksum:
        return
    _check_digest(options.checksum)
    if len(words) != 1:
        raise InvalidInput("checksum can't be specified for multiple sources", hint="write one ADD for each")
    if not is_url(words[0]):
        raise InvalidInput("checksum requires HTTP(S) sources", hint="drop --checksum, or give a URL")


def _check_digest(text: str) -> None:
    algorithm, _, value = text.partition(":")
    if not re.fullmatch(r"[0-9a-f]+", value) or len(value) != DIGEST_LENGTHS.get(algorithm):
        raise InvalidInput(
            f'invalid checksum digest format "{text}"', hint="write sha256: and the 64 digits that sha256sum prints"
        )


# -- finding the files -----------------------------------------------------------------------------


def _sources(context: BuildContext, word: str, options: CopyOptions) -> Iterator[CopySource]:
    if is_url(word):
        yield _downloaded(context, word, options)
        return
    if word.startswith(("git@", "git://", "ssh://")):
        raise InvalidInput("a git repository is no source", hint="clone it beside the Dockerfile and COPY it")
    if options.parents:
        yield from _with_parents(context, word, options)
        return
    excluded = IgnorePatterns.of(options.exclude)
    filters = [Filter(excluded)] if options.exclude else []
    for match in context.find(word):
        name = posixpath.basename(match.name)
        # --exclude also applies to the matches of a pattern themselves.
        if filters and has_wildcards(word) and excluded.excludes(name):
            continue
        entries = tuple(context.walk(match, filters))
        yield CopySource(name, match.inside, match.name or ".", entries, options.unpack)


def _with_parents(context: BuildContext, word: str, options: CopyOptions) -> Iterator[CopySource]:
    """--parents: for each match before the pivot, the entries that match the pattern after it, with full paths."""
    start, pivot, pattern = word.partition(PIVOT)
    if not pivot:
        start, pattern = "", word
    pattern = posixpath.normpath("/" + pattern).lstrip("/")
    filters = [Filter(IgnorePatterns.of([pattern]), keeps_matches=True)] if pattern else []
    filters += [Filter(IgnorePatterns.of(options.exclude))] if options.exclude else []
    copied = False
    for match in context.find(start):
        entries = tuple(context.walk(match, filters))
        copied = copied or len(entries) > 1
        yield CopySource(posixpath.basename(match.name), "", match.name or ".", entries)
    if not copied and not has_wildcards(word):
        context.find(posixpath.join(start, pattern))  # raises the precise error
        raise InvalidInput(f"{word}: nothing is there without following a link", hint="name what the link points to")


def _document(content: bytes) -> ContextEntry:
    return ContextEntry("", "", stat.S_IFREG | 0o644, size=len(content), content=content)


def _downloaded(context: BuildContext, url: str, options: CopyOptions) -> CopySource:
    fetched = download.fetch(url, context.downloads(), checksum=options.checksum)
    entry = ContextEntry.of("", str(fetched.path), os.stat(fetched.path))
    entry.mtime = fetched.mtime
    return CopySource(fetched.name, fetched.name or UNNAMED, url, (entry,), options.unpack_downloads, downloaded=True)


# -- the digest ------------------------------------------------------------------------------------


class _Reader:
    """Computes digests. A small file is read once: its content is held for the copy.

    A file's digest is the classic builder's (moby, pkg/tarsum, version 1): of the fields of its tar header except the
    time, and of its content. The words of a COPY in the history are therefore equal to Docker's, with two exceptions:
    directories with symbolic links, whose target Docker digests instead of the link, and kept owners other than root.
    """

    def __init__(self, context: BuildContext) -> None:
        self.fingerprints: dict[str, str] = {}
        # The docker command sends a context without file types in the modes and without names of owners.
        self._is_root = context.keeps_owners
        self._held = 0

    def read(self, source: CopySource) -> str:
        """Return the digest of one source, in Docker's notation."""
        if not source.entry.is_directory:
            digest = self._digest(source.entry, source.path, source.shown, is_local=not source.downloaded)
            return digest if source.downloaded else f"file:{digest}"
        digests = []
        for entry in source.entries if source.path else source.entries[1:]:
            shown = posixpath.join(source.shown, entry.name).removesuffix("/").removeprefix("./")
            digests.append(self._digest(entry, posixpath.join(source.path, entry.name), shown))
        return "dir:" + hashlib.sha256(",".join(sorted(digests)).encode()).hexdigest()

    def _digest(self, entry: ContextEntry, path: str, shown: str, *, is_local: bool = True) -> str:
        path = path.rstrip("/")
        if entry.is_directory and not entry.path:
            return path  # a directory that is only implied by files below it has no header
        content = self._read_small(entry)
        digest = hashlib.sha256(self._header(entry, path, is_local=is_local))
        if content is None:
            self._digest_large(entry, digest)
        else:
            digest.update(content)
        value = digest.hexdigest()
        self.fingerprints[shown] = value[:12]
        return value

    def _header(self, entry: ContextEntry, path: str, *, is_local: bool) -> bytes:
        """The fields of an entry's tar header, as tarsum writes them."""
        mode = stat.S_IMODE(entry.mode)
        uid = gid = 0
        user = group = ""
        if self._is_root or not is_local:
            mode, uid, gid = entry.mode, entry.uid, entry.gid
            user, group = "root" * (uid == 0), "root" * (gid == 0)
        link = entry.link
        kind = _TAR_KINDS[stat.S_IFMT(entry.mode)]
        if kind == tar.DIRECTORY:
            path += "/"
        elif kind == tar.FILE and link:
            kind = tar.LINK
            link = path.removesuffix(entry.name) + link
        size = entry.size if kind == tar.FILE else 0
        device = (os.major(entry.device), os.minor(entry.device)) if kind in "34" else (0, 0)
        text = (
            f"name{path}mode{mode}uid{uid}gid{gid}size{size}typeflag{kind}linkname{link}"
            f"uname{user}gname{group}devmajor{device[0]}devminor{device[1]}"
        )
        return os.fsencode(text) + b"".join(os.fsencode(name) + value for name, value in self._attributes(entry))

    def _attributes(self, entry: ContextEntry) -> list[tuple[str, bytes]]:
        """The extended attributes of a file that keeps its owner."""
        if self._is_root and entry.path and stat.S_ISREG(entry.mode):
            attributes = xattrs(os.fsencode(entry.path))
            entry.xattrs = {name: value for name, value in attributes.items() if name == CAPABILITY}
        return sorted(entry.xattrs.items())

    def _read_small(self, entry: ContextEntry) -> bytes | None:
        """Read and hold the content of a small file; returns None for a large one, b"" for what has no content."""
        if not stat.S_ISREG(entry.mode) or entry.link:
            return b""
        if entry.content is None and entry.size <= SMALL_FILE and self._held <= MAX_HELD:
            fd = _open(entry)
            try:
                content = os.read(fd, SMALL_FILE + 1)
            finally:
                os.close(fd)
            if len(content) > SMALL_FILE:
                return None  # the file has grown since
            entry.content, entry.size = content, len(content)
            self._held += len(content)
        return entry.content

    def _digest_large(self, entry: ContextEntry, digest: hashlib._Hash) -> None:
        with open(_open(entry), "rb", buffering=0) as file:
            hashlib.file_digest(file, lambda: digest)


def _open(entry: ContextEntry) -> int:
    try:
        return os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        hint = "it was there a moment ago: do not change the folder while it is built"
        if error.errno not in (errno.ENOENT, errno.ELOOP):
            hint = "check it, or add it to .dockerignore"
        raise RuntimeFailed(f"cannot read {entry.path}: {error.strerror}", hint=hint) from error
