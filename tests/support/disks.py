"""Small ext4 file systems for tests with a full or a read-only disk."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from pylab_container.host import linux, programs

MODES = ("bytes", "inodes", "both")
"""The resources that Disk.fill() can exhaust."""


class Disk:
    """A mounted file system. fill() takes all of its free bytes, inodes or both; nothing is reserved for root."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "ballast"
        self._inodes_taken = 0

    def fill(self, mode: str) -> None:
        """Take everything that is free now."""
        self._ballast.mkdir(exist_ok=True)
        if mode != "bytes":
            with contextlib.suppress(OSError):
                while True:
                    os.close(os.open(self._ballast / str(self._inodes_taken), os.O_CREAT | os.O_EXCL | os.O_WRONLY))
                    self._inodes_taken += 1
        if mode != "inodes":
            # ext4 frees the blocks of removed files at the next journal commit. The fsync(2) of the first pass forces
            # a commit, and the second pass takes the blocks that it freed.
            for _ in range(2):
                self._fill_bytes()

    def _fill_bytes(self) -> None:
        # Append to an existing file if possible: a new file needs an inode, which may be exhausted.
        present = next(self._ballast.iterdir(), self._ballast / "bytes")
        with open(present, "ab", buffering=0) as file:
            for size in (1 << 20, 4096):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(size))
            os.fsync(file.fileno())

    def empty(self) -> None:
        """Release everything that fill() took."""
        for path in self._ballast.iterdir():
            path.unlink()

    @contextlib.contextmanager
    def read_only(self) -> Iterator[None]:
        """Make the path read-only while the block runs. Files that are already open stay writable."""
        programs.run(["mount", "--bind", str(self.path), str(self.path)])
        try:
            programs.run(["mount", "-o", "remount,bind,ro", str(self.path)])
            yield
        finally:
            linux.umount(str(self.path), linux.MNT_DETACH)


@contextlib.contextmanager
def ext4(directory: Path, *, megabytes: int = 48, inodes: int = 1200) -> Iterator[Disk]:
    """Create an ext4 file system in memory, and mount it at directory/disk while the block runs."""
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
    """Mount with the arguments of mount(8) for the block; the last argument is the mount point."""
    programs.run(["mount", *arguments])
    try:
        yield
    finally:
        linux.umount(arguments[-1], linux.MNT_DETACH)
