"""Read and create files of a container, with its root directory as / for every path and every symbolic link.

The kernel resolves the paths (openat2(2), RESOLVE_IN_ROOT): a link in an image, such as /etc -> /, leads to the
container's own files and never to those of the machine.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from collections import deque
from pathlib import Path

from pylab_container.errors import InvalidInput
from pylab_container.host import linux
from pylab_container.host.descent import opened

_LONGEST_TEXT = 16 << 20  # bytes
_MOST_LINKS = 255  # in a path, as in Docker (moby pkg/symlink, FollowSymlinkInScope)

_DIRECTORY_FLAGS = os.O_PATH | os.O_DIRECTORY


def read_text(root: Path, path: str, *, errors: str = "replace") -> str:
    """Return a text file of a container, "" if it does not exist; at most 16 MiB.

    errors  how invalid UTF-8 is decoded, as for bytes.decode()

    Raises InvalidInput if path is another kind of file.
    """
    base = opened(root)
    try:
        return linux.read_regular(base, path, _LONGEST_TEXT).decode(errors=errors)
    except OSError as error:
        # Not treated as missing: the runtime reads /etc/passwd, too, and a FIFO would block it forever.
        if error.errno == errno.EINVAL:
            raise InvalidInput(f"/{path} in the container is not a file", hint="put a text file there") from error
        return ""
    finally:
        os.close(base)


def open_path(root: str | Path, path: str, flags: int) -> int:
    """Open a path below root and return the descriptor, which the caller closes. Raises OSError."""
    base = os.open(root, _DIRECTORY_FLAGS | os.O_CLOEXEC)
    try:
        return linux.openat2(base, path, flags, resolve=linux.RESOLVE_IN_ROOT)
    finally:
        os.close(base)


def make_directories(root: Path, path: str) -> None:
    """Create a directory of a container and its missing parents, with owner root and mode 0755. Idempotent.

    A symbolic link to a missing directory creates that. Raises OSError: ENOTDIR if a part of path is a file, ELOOP.
    Source: moby container.go, SetupWorkingDirectory, which serves WORKDIR and `docker run --workdir`.
    """
    base = opened(root)
    position, pending, links = ".", deque(posixpath.normpath("/" + path).split("/")), 0
    try:
        while pending:
            name = pending.popleft()
            if name in ("", "."):
                continue
            target = _make_or_read_link(base, position, name)
            if target is None:
                position = f"{position}/{name}"
                continue
            # mkdir(2) does not follow a link at the end of its path, so a link to a missing directory is resolved here.
            links += 1
            if links > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            pending.extendleft(reversed(target.split("/")))
            if target.startswith("/"):
                position = "."
        os.close(linux.openat2(base, position, _DIRECTORY_FLAGS, resolve=linux.RESOLVE_IN_ROOT))  # ENOTDIR for a file
    finally:
        os.close(base)


def ensure_directory(parent: int, name: str) -> None:
    """Create a directory with mode 0755 unless it exists. Another kind of file of that name is replaced.

    parent  a descriptor of a directory; a symbolic link called name is deleted, not followed

    Raises OSError.
    """
    try:
        os.mkdir(name, 0o755, dir_fd=parent)
    except FileExistsError:
        if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            os.unlink(name, dir_fd=parent)
            os.mkdir(name, 0o755, dir_fd=parent)


def _make_or_read_link(base: int, position: str, name: str) -> str | None:
    """Create a directory unless its name exists; return the target if it is a symbolic link."""
    parent = linux.openat2(base, position, _DIRECTORY_FLAGS, resolve=linux.RESOLVE_IN_ROOT)
    try:
        os.mkdir(name, dir_fd=parent)
        # mkdir(2) applies the umask, and takes the group of a parent with the set-group-id bit.
        os.chown(name, 0, 0, dir_fd=parent)
        os.chmod(name, 0o755, dir_fd=parent)
    except FileExistsError:
        try:
            return os.readlink(name, dir_fd=parent)
        except OSError as error:
            if error.errno != errno.EINVAL:  # it is not a link
                raise
    finally:
        os.close(parent)
    return None
