"""The input of the compared builds: base image, build context, and Case, which refers to both."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import zstandard

from pylab_container.host import programs

OLD = 981173106  # 2001-02-03 04:05:06: far from now, so that a preserved time differs from a new one
SECOND = 10**9


@dataclass(frozen=True)
class Entry:
    """One thing of a context or an archive.

    content  a file's content, a link's target
    kind     as in st_mode; S_IFLNK is a symbolic link, HARD_LINK another name of a file before it
    time     nanoseconds since 1970
    """

    content: bytes = b""
    kind: int = stat.S_IFREG
    mode: int = 0o644
    owner: tuple[int, int] = (0, 0)
    time: int = OLD * SECOND
    xattrs: Mapping[str, bytes] = field(default_factory=dict)
    device: tuple[int, int] = (0, 0)


HARD_LINK = -1
CAPABILITY = {"security.capability": bytes.fromhex("0100000200040000000000000000000000000000")}  # cap_net_bind_service


def file(content: str | bytes, mode: int = 0o644, **more: object) -> Entry:
    return Entry(content.encode() if isinstance(content, str) else content, mode=mode, **more)  # type: ignore[arg-type]


def folder(mode: int = 0o755, owner: tuple[int, int] = (0, 0)) -> Entry:
    return Entry(kind=stat.S_IFDIR, mode=mode, owner=owner)


def symlink(target: str) -> Entry:
    return Entry(target.encode(), stat.S_IFLNK, 0o777)


def hard_link(target: str, mode: int = 0o644, owner: tuple[int, int] = (0, 0)) -> Entry:
    return Entry(target.encode(), HARD_LINK, mode, owner)


def fifo(mode: int = 0o644) -> Entry:
    return Entry(kind=stat.S_IFIFO, mode=mode)


def device(major: int, minor: int) -> Entry:
    return Entry(kind=stat.S_IFCHR, mode=0o600, device=(major, minor))


Files = Mapping[str, "Entry | str"]

TREE: Files = {
    "a": "a\n",
    "b": file("b\n", 0o600),
    "c d": "a space\n",
    "run.sh": file("#!/bin/sh\n", 0o755),
    "dir": folder(0o700),
    "dir/one": file("one\n", 0o640, owner=(1000, 50)),
    "dir/.hidden": "hidden\n",
    "dir/sub/two": "two\n",
    "dir/inside": symlink("one"),
    "other/one": "another one\n",
    "empty": folder(0o775),
    "link": symlink("a"),
    "to-dir": symlink("dir"),
    "dangling": symlink("nowhere"),
}

BASE: Files = {
    **{name: folder() for name in ("bin", "dev", "etc", "home", "proc", "sys")},
    "root": folder(0o700),
    "tmp": folder(0o1777),
    "home/student": folder(0o700, (1000, 1000)),
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nstudent:x:1000:1000::/home/student:/bin/sh\nnobody:x:99:50::/:\n",
    "etc/group": "root:x:0:\nstudent:x:1000:\nstaff:x:50:student\n",
    "old": folder(0o750, (1000, 1000)),
    "old/file": file("old\n", 0o600, owner=(1000, 1000)),
    "old/dir": folder(),
    "old/dir/inner": "inner\n",
    "to-old": symlink("old"),
    "absolute": symlink("/old"),
    "to-file": symlink("old/file"),
    "dangling": symlink("nowhere/x"),
    "escape": symlink("../../../tmp"),
}
APPLETS = (
    "sh cat chmod chown cp echo env grep id ln ls mkdir mkfifo mv pwd rm sleep sort stat tee test touch true wc".split()
)


@dataclass(frozen=True)
class Case:
    """A build, and the program or document that defines the expected result.

    claim       the behaviour that the case shows
    dockerfile  gets "FROM base" as its first line if it has no FROM, unless whole is set
    peer        "docker", the classic builder; "buildah" for features that it lacks; "reference", the Dockerfile
                reference, for features that both lack: then facts contains the expected values
    refused     None if the build succeeds; else a text that the error messages of both builders contain
    images      images to build first: name → Dockerfile (without a context)
    facts       from the reference: "/path": "mode uid:gid content" or "nothing"; "config.<field>": value
    """

    claim: str
    dockerfile: str | bytes
    files: Files = field(default_factory=lambda: TREE)
    whole: bool = False
    peer: str = "docker"
    refused: str | None = None
    images: Mapping[str, str] = field(default_factory=dict)
    buildargs: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    target: str | None = None
    path: str = "Dockerfile"
    facts: Mapping[str, object] = field(default_factory=dict)

    @property
    def content(self) -> bytes:
        """The Dockerfile as it is written to disk."""
        text = self.dockerfile if isinstance(self.dockerfile, bytes) else f"{self.dockerfile}\n".encode()
        return text if self.whole or b"FROM" in text else b"FROM base\n" + text


def write(case: Case, directory: Path) -> None:
    """Make the case's context. Every time in it is of long ago."""
    directory.mkdir()
    write_files({**case.files, case.path: file(case.content)}, directory)


def write_files(files: Files, directory: Path) -> None:
    for name, given in files.items():
        entry = file(given) if isinstance(given, str) else given
        path = directory / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        _make(entry, path, directory)
    for path in sorted(
        directory.rglob("*"), reverse=True
    ):  # last, for whatever is made in a directory changes its time
        name = str(path.relative_to(directory))
        given = files.get(name, "")
        time = OLD * SECOND if isinstance(given, str) else given.time
        os.utime(path, ns=(time, time), follow_symlinks=False)


def _make(entry: Entry, path: Path, top: Path) -> None:
    if entry.kind == HARD_LINK:
        path.hardlink_to(top / os.fsdecode(entry.content))
        return
    if entry.kind == stat.S_IFLNK:
        path.symlink_to(os.fsdecode(entry.content))
        return
    if entry.kind == stat.S_IFDIR:
        path.mkdir(exist_ok=True)
    elif entry.kind == stat.S_IFIFO:
        os.mkfifo(path)
    else:
        path.write_bytes(entry.content)
    os.chown(path, *entry.owner)
    path.chmod(entry.mode)
    for name, value in entry.xattrs.items():
        os.setxattr(path, name, value)


def archive(files: Files, compression: str = "", *, format: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar of these; compression as tarfile names it, or zst. Owners are numbers."""
    stream = io.BytesIO()
    with tarfile.open(None, "w" if compression == "zst" else f"w:{compression}", stream, format=format) as made:  # type: ignore[call-overload]
        for name, given in files.items():
            made.addfile(*_member(name, file(given) if isinstance(given, str) else given))
    return zstandard.compress(stream.getvalue()) if compression == "zst" else stream.getvalue()


_TYPES = {
    HARD_LINK: tarfile.LNKTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE,
    stat.S_IFREG: tarfile.REGTYPE,
}


def _member(name: str, entry: Entry) -> tuple[tarfile.TarInfo, io.BytesIO]:
    member = tarfile.TarInfo(name)
    member.type, member.mode, member.mtime = _TYPES[entry.kind], entry.mode, entry.time // SECOND
    member.uid, member.gid = entry.owner
    member.devmajor, member.devminor = entry.device
    member.pax_headers = {
        f"SCHILY.xattr.{name}": value.decode("utf-8", "surrogateescape") for name, value in entry.xattrs.items()
    }
    if entry.kind == stat.S_IFREG:
        member.size = len(entry.content)
    else:
        member.linkname = os.fsdecode(entry.content)
    return member, io.BytesIO(entry.content)


def base_archive() -> bytes:
    """The base image's root file system: one static program, a few links to it, and what COPY may meet."""
    program = file(Path(programs.find("busybox")).read_bytes(), 0o755)
    links = {f"bin/{applet}": symlink("busybox") for applet in APPLETS}
    return archive({**BASE, "bin/busybox": program, **links})
