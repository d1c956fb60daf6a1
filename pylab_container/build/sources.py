"""The sources of a COPY or ADD: which files it means, and the digest by which the cache knows them."""

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
from pylab_container.build.context import BuildContext, Entry, Filter, has_wildcards
from pylab_container.build.download import is_url
from pylab_container.dockerfile.dockerignore import IgnorePatterns
from pylab_container.dockerfile.filemode import FileMode
from pylab_container.errors import InvalidInput, RuntimeFailed
from pylab_container.oci import tar
from pylab_container.store.treetar import xattrs

_SMALL = 64 << 10
_HELD = 32 << 20
"""Files of up to _SMALL bytes are read once for the digest and the copy, _HELD bytes of them at most."""

_PIVOT = "/./"
_DIGESTS = {"sha256": 64, "sha384": 96, "sha512": 128}
"""How many digits each kind of digest has."""

UNNAMED = "__unnamed__"
"""A download whose name nobody says: Docker's word."""

CAPABILITY = "security.capability"
"""The one extended attribute that the classic builder copies."""

_KINDS = {
    stat.S_IFREG: tar.FILE,
    stat.S_IFLNK: tar.SYMLINK,
    stat.S_IFCHR: tar.CHARACTER,
    stat.S_IFBLK: tar.BLOCK_DEVICE,
    stat.S_IFDIR: tar.DIRECTORY,
    stat.S_IFIFO: tar.FIFO,
}


class CopyOptions(Struct, frozen=True):
    """What the flags of COPY and ADD say.

    owner             --chown: "user", "user:group", names or numbers; "" keeps what the classic builder gives:
                      root for files of the context, their own owner for those of --from
    mode              --chmod: as dockerfile/filemode.py reads it; "" keeps the modes
    parents           --parents: the folders above a source come along, from the /./ in it on
    exclude           --exclude: patterns of what stays out
    unpack            ADD: what is an archive is extracted
    unpack_downloads  ADD --unpack: also one that was downloaded
    link              --link: the links of the image on the way to the destination are not followed
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


class Source(Struct, frozen=True):
    """One thing to copy.

    name        the last part of its name: what it is called in a folder; "" where nothing says it
    path        what it is called in the digest: where in the context it lies
    shown       what it is called in messages
    entries     the thing itself, and for a directory all below it that is meant
    unpack      extract it where it is an archive
    downloaded  it came from a URL
    """

    name: str
    path: str
    shown: str
    entries: tuple[Entry, ...]
    unpack: bool = False
    downloaded: bool = False

    @property
    def entry(self) -> Entry:
        """The thing itself."""
        return self.entries[0]


class Sources(Struct, frozen=True):
    """All that one instruction copies, in its order.

    digest        "file:…", "dir:…" or "multi:…" with a SHA-256 of names, kinds, modes, content, and owners
                  where they are kept. Not of times: a touched file is the same. For a download it is
                  the SHA-256 alone, as in the classic builder's history
    fingerprints  a short digest for each file, by its name as the user knows it
    keeps_owners  files keep their owners and capabilities
    """

    items: tuple[Source, ...]
    digest: str
    fingerprints: dict[str, str]
    keeps_owners: bool

    def __len__(self) -> int:
        return len(self.items)


def gather(
    context: BuildContext, words: Sequence[str], heredocs: Sequence[tuple[str, bytes]], options: CopyOptions
) -> Sources:
    """Find and read what the source arguments mean. URLs are fetched.

    words     the arguments before the destination, with variables expanded, without those of here-documents
    heredocs  name and content of each here-document that is a source

    Raises InvalidInput where nothing is found or a flag makes no sense; RuntimeFailed for a failed download.
    """
    _check(words, options)
    items = [source for word in words for source in _sources(context, word, options)]
    items += [Source(name, name, f"<<{name}", (_document(content),)) for name, content in heredocs]
    if not items:
        raise InvalidInput("no source files were specified", hint="the patterns match nothing in the build context")
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
        raise InvalidInput(
            "checksum requires HTTP(S) sources", hint="the digest of a local file is no secret to itself"
        )


def _check_digest(text: str) -> None:
    algorithm, _, value = text.partition(":")
    if not re.fullmatch(r"[0-9a-f]+", value) or len(value) != _DIGESTS.get(algorithm):
        raise InvalidInput(
            f'invalid checksum digest format "{text}"', hint="write sha256: and the 64 digits that sha256sum prints"
        )


# ---- finding -------------------------------------------------------------------------


def _sources(context: BuildContext, word: str, options: CopyOptions) -> Iterator[Source]:
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
    for found in context.find(word):
        name = posixpath.basename(found.name)
        # What a pattern of the source finds, --exclude may take away again.
        if filters and has_wildcards(word) and excluded.excludes(name):
            continue
        entries = tuple(context.walk(found, filters))
        yield Source(name, found.inside, found.name or ".", entries, options.unpack)


def _with_parents(context: BuildContext, word: str, options: CopyOptions) -> Iterator[Source]:
    """--parents: of each directory before the pivot what the pattern behind it names, under its whole path."""
    start, pivot, pattern = word.partition(_PIVOT)
    if not pivot:
        start, pattern = "", word
    pattern = posixpath.normpath("/" + pattern).lstrip("/")
    filters = [Filter(IgnorePatterns.of([pattern]), keeps_matches=True)] if pattern else []
    filters += [Filter(IgnorePatterns.of(options.exclude))] if options.exclude else []
    copied = False
    for found in context.find(start):
        entries = tuple(context.walk(found, filters))
        copied = copied or len(entries) > 1
        yield Source(posixpath.basename(found.name), "", found.name or ".", entries)
    if not copied and not has_wildcards(word):
        context.find(posixpath.join(start, pattern))  # says why nothing is there
        raise InvalidInput(f"{word}: nothing is there without following a link", hint="name what the link points to")


def _document(content: bytes) -> Entry:
    return Entry("", "", stat.S_IFREG | 0o644, size=len(content), content=content)


def _downloaded(context: BuildContext, url: str, options: CopyOptions) -> Source:
    fetched = download.fetch(url, context.downloads(), checksum=options.checksum)
    entry = Entry.of("", str(fetched.path), os.stat(fetched.path))
    entry.mtime = fetched.mtime
    return Source(fetched.name, fetched.name or UNNAMED, url, (entry,), options.unpack_downloads, downloaded=True)


# ---- reading -------------------------------------------------------------------------


class _Reader:
    """Reads each file once: for its digest, and if it is small, for the copy too.

    The digest of a file is the classic builder's (moby pkg/tarsum, version 1): of the fields of its tar
    header, but for the time, and of its content. So the words of a COPY in the history are Docker's, to
    the digit, where no symbolic link is in the directory (Docker takes the digest of what it points to,
    and so does not see that it points elsewhere) and owners of other files than root's are not kept.
    """

    def __init__(self, context: BuildContext) -> None:
        self.fingerprints: dict[str, str] = {}
        # What comes from the docker command has no kind in its mode, and no names of owners.
        self._is_root = context.keeps_owners
        self._held = 0

    def read(self, source: Source) -> str:
        """The digest of one source, as Docker spells it."""
        if not source.entry.is_directory:
            digest = self._digest(source.entry, source.path, source.shown, is_local=not source.downloaded)
            return digest if source.downloaded else f"file:{digest}"
        digests = []
        for entry in source.entries if source.path else source.entries[1:]:
            shown = posixpath.join(source.shown, entry.name).removesuffix("/").removeprefix("./")
            digests.append(self._digest(entry, posixpath.join(source.path, entry.name), shown))
        return "dir:" + hashlib.sha256(",".join(sorted(digests)).encode()).hexdigest()

    def _digest(self, entry: Entry, path: str, shown: str, *, is_local: bool = True) -> str:
        path = path.rstrip("/")
        if entry.is_directory and not entry.path:
            return path  # the context has no such directory: files below it imply it
        content = self._small(entry)
        digest = hashlib.sha256(self._header(entry, path, is_local=is_local))
        if content is None:
            self._large(entry, digest)
        else:
            digest.update(content)
        value = digest.hexdigest()
        self.fingerprints[shown] = value[:12]
        return value

    def _header(self, entry: Entry, path: str, *, is_local: bool) -> bytes:
        mode = stat.S_IMODE(entry.mode)
        uid = gid = 0
        user = group = ""
        if self._is_root or not is_local:
            mode, uid, gid = entry.mode, entry.uid, entry.gid
            user, group = "root" * (uid == 0), "root" * (gid == 0)
        link = entry.link
        kind = _KINDS[stat.S_IFMT(entry.mode)]
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

    def _attributes(self, entry: Entry) -> list[tuple[str, bytes]]:
        """Those of a file that comes with its owner."""
        if self._is_root and entry.path and stat.S_ISREG(entry.mode):
            found = xattrs(os.fsencode(entry.path))
            entry.xattrs = {name: value for name, value in found.items() if name == CAPABILITY}
        return sorted(entry.xattrs.items())

    def _small(self, entry: Entry) -> bytes | None:
        """What is held of an entry's content; None for a file that is too large for that."""
        if not stat.S_ISREG(entry.mode) or entry.link:
            return b""
        if entry.content is None and entry.size <= _SMALL and self._held <= _HELD:
            fd = _open(entry)
            try:
                content = os.read(fd, _SMALL + 1)
            finally:
                os.close(fd)
            if len(content) > _SMALL:
                return None  # it has grown
            entry.content, entry.size = content, len(content)
            self._held += len(content)
        return entry.content

    def _large(self, entry: Entry, digest: hashlib._Hash) -> None:
        with open(_open(entry), "rb", buffering=0) as file:
            hashlib.file_digest(file, lambda: digest)


def _open(entry: Entry) -> int:
    try:
        return os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        hint = "it was there a moment ago: do not change the folder while it is built"
        if error.errno not in (errno.ENOENT, errno.ELOOP):
            hint = "check it, or add it to .dockerignore"
        raise RuntimeFailed(f"cannot read {entry.path}: {error.strerror}", hint=hint) from error
