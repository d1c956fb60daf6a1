"""Delete directory trees. The only module that does, and only below a directory that the caller names or has open.

Entries are opened with openat2(2) and RESOLVE_BENEATH, so no name leads out of the directory. A symbolic link is
deleted and never followed. A mount point is not entered, because its content belongs to another file system.
shutil.rmtree() guarantees none of this for mounts, and recurses.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from pylab_container.host import linux
from pylab_container.host.descent import Descent, Entry
from pylab_container.oci.ids import EntryName

_BENEATH = linux.RESOLVE_BENEATH | linux.RESOLVE_NO_SYMLINKS | linux.RESOLVE_NO_XDEV

_MOST_REFILLS = 1000  # times that another process may fill an emptied directory again before the removal fails


def remove_below(directory: Path | int, name: EntryName) -> None:
    """Delete an entry of a directory with its content, at any depth.

    directory  a path, or an open descriptor of a directory; it is never deleted itself

    Raises FileNotFoundError; OSError with EXDEV if the entry is a mount point, with EBUSY if it contains one.
    """
    name = EntryName(name)  # checked again at run time: a str such as "" or ".." would delete a data root
    with _opened(directory) as parent:
        try:
            tree = linux.openat2(parent, name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, resolve=_BENEATH)
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
            os.unlink(name, dir_fd=parent)  # a file or a link in the directory's place
            return
        try:
            if os.path.sameopenfile(tree, parent):
                raise OSError(errno.EINVAL, "refusing to remove the directory itself", name)
            _refuse_mounts(os.readlink(f"/proc/self/fd/{tree}"))
        finally:
            os.close(tree)
        _remove(parent, name)


def _remove(parent: int, name: str) -> None:
    """Delete a directory with its content, directory by directory."""
    refilled = 0
    with Descent(parent) as position:
        # For each directory from the top to the position: its remaining names, and its own name. A list, because the
        # tree may be deeper than Python's stack.
        pending = [([name], "")]
        while pending[0][0] or len(pending) > 1:
            names, own = pending[-1]
            if names:
                _remove_or_enter(position, names, pending)
                continue
            pending.pop()
            position.leave()
            try:
                os.rmdir(own, dir_fd=position.fd)
            except FileNotFoundError:
                pass  # another process deletes the same tree concurrently
            except OSError as error:
                if error.errno != errno.ENOTEMPTY or refilled == _MOST_REFILLS:
                    raise
                refilled += 1  # another process created a file in it, for example a copy into a container
                pending[-1][0].append(own)


def _remove_or_enter(position: Descent, names: list[str], pending: list[tuple[list[str], str]]) -> None:
    """Delete the last of the names; enter it if it is a directory."""
    name = names.pop()
    try:
        # Tried first: most entries are files, and unlink(2) reports a directory with EISDIR, so no stat(2) is needed,
        # whose answer could be stale.
        os.unlink(name, dir_fd=position.fd)
    except FileNotFoundError:
        pass
    except IsADirectoryError:
        with Entry(linux.openat2(position.fd, name, os.O_PATH | os.O_DIRECTORY, resolve=_BENEATH), name) as entry:
            position.enter(entry)
        pending.append((position.names(), name))


def discard_below(directory: Path | int, name: EntryName) -> None:
    """As remove_below(), but ignore an entry that does not exist or cannot be deleted."""
    with contextlib.suppress(OSError):
        remove_below(directory, name)


def _refuse_mounts(tree: str) -> None:
    """Raise OSError if a file system is mounted below a directory (proc(5), mountinfo).

    A check in advance: without it the removal would fail at the mount point, with half the tree deleted.
    """
    mounts = Path("/proc/self/mountinfo").read_bytes()
    # mountinfo writes these characters in octal.
    inside = os.fsencode(tree).replace(b"\\", rb"\134").replace(b" ", rb"\040") + b"/"
    if b" " + inside in mounts:  # a search in the text first: a host with many containers has thousands of lines
        for line in mounts.splitlines():
            if line.split()[4].startswith(inside):
                raise OSError(errno.EBUSY, "a file system is mounted in it", tree)


@contextlib.contextmanager
def _opened(directory: Path | int) -> Iterator[int]:
    if isinstance(directory, int):
        yield directory
        return
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
