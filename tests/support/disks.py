"""Small file systems of a test's own, to fill them or to make them read-only."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from pylab_container.host import linux, programs

MODES = ("bytes", "inodes", "both")
"""What can be missing."""


class Disk:
    """A mounted file system. fill() takes all of its free bytes, inodes or both; nothing is reserved for root."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "ballast"
        self._made = 0

    def fill(self, mode: str) -> None:
        """Take what is free now. Blocks that were freed a moment ago come with the journal's next commit: sync."""
        self._ballast.mkdir(exist_ok=True)
        if mode != "bytes":
            with contextlib.suppress(OSError):
                while True:
                    os.close(os.open(self._ballast / str(self._made), os.O_CREAT | os.O_EXCL | os.O_WRONLY))
                    self._made += 1
        if mode != "inodes":
            for _ in range(2):
                self._fill_bytes()

    def _fill_bytes(self) -> None:
        # A file that is there already, if there is one: a new one would need an inode.
        present = next(self._ballast.iterdir(), self._ballast / "bytes")
        with open(present, "ab", buffering=0) as file:
            for size in (1 << 20, 4096):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(size))
            os.fsync(file.fileno())

    def empty(self) -> None:
        """Give back all that fill() took."""
        for path in self._ballast.iterdir():
            path.unlink()

    @contextlib.contextmanager
    def read_only(self) -> Iterator[None]:
        """While the block runs, the path is read-only; containers keep the files that they have open."""
        programs.run(["mount", "--bind", str(self.path), str(self.path)])
        try:
            programs.run(["mount", "-o", "remount,bind,ro", str(self.path)])
            yield
        finally:
            linux.umount(str(self.path), linux.MNT_DETACH)


@contextlib.contextmanager
def ext4(directory: Path, *, megabytes: int = 48, inodes: int = 1200) -> Iterator[Disk]:
    """A new ext4 in a file in memory, mounted while the block runs at directory/disk."""
    memory, mount_point = directory / "memory", directory / "disk"
    for path in (memory, mount_point):
        path.mkdir()
    with _mounted("-t", "tmpfs", "tmpfs", str(memory)):
        image = memory / "disk.img"
        with open(image, "wb") as file:
            file.truncate(megabytes << 20)
        programs.run(["mkfs.ext4", "-q", "-m", "0", "-N", str(inodes), str(image)])
        with _mounted("-o", "loop", str(image), str(mount_point)):
            yield Disk(mount_point)


@contextlib.contextmanager
def _mounted(*arguments: str) -> Iterator[None]:
    """mount(8); the last argument is the mount point."""
    programs.run(["mount", *arguments])
    try:
        yield
    finally:
        linux.umount(arguments[-1], linux.MNT_DETACH)
