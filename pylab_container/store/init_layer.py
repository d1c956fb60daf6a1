"""The init layer between an image and a container's writable layer.

It holds the mount points of files that every container gets.
"""

from __future__ import annotations

import os
from pathlib import Path

from pylab_container.host import linux
from pylab_container.host.inside import ensure_directory

# What the kernel or the engine mounts over: (path, kind or target of a link). Source: moby, setupInitLayer.
_INIT_FILES = (
    ("dev/pts", "directory"),
    ("dev/shm", "directory"),
    ("proc", "directory"),
    ("sys", "directory"),
    (".dockerenv", "file"),
    ("etc/resolv.conf", "file"),
    ("etc/hosts", "file"),
    ("etc/hostname", "file"),
    ("dev/console", "file"),
    ("etc/mtab", "/proc/mounts"),
)


def fill_init_layer(root: Path) -> None:
    """Create the files that are mounted over in every container, outside of its own layer.

    A commit, which takes the container's own layer, does not contain them.

    root is the mounted init layer. Existing directories stay; an existing file or symbolic link is replaced by an
    empty file. No symbolic link of the image is followed.
    """
    base = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for path, kind in _INIT_FILES:
            _fill(base, path, kind)
    finally:
        os.close(base)


def _fill(base: int, path: str, kind: str) -> None:
    directory, _, name = path.rpartition("/")
    if directory:
        ensure_directory(base, directory)
    parent = linux.openat2(base, directory or ".", os.O_PATH | os.O_DIRECTORY, resolve=linux.RESOLVE_NO_SYMLINKS)
    try:
        if kind == "directory":
            ensure_directory(parent, name)
            return
        try:
            os.unlink(name, dir_fd=parent)
        except FileNotFoundError:
            pass
        except (IsADirectoryError, PermissionError):
            return  # the image has a directory there; the mount will fail with an error that says so
        if kind == "file":
            os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o755, dir_fd=parent))
        else:
            os.symlink(kind, name, dir_fd=parent)
    finally:
        os.close(parent)
