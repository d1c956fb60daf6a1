"""Removal of directories: the one place that deletes trees, and only below a directory that the caller opened.

The entry is resolved by openat2(2) with RESOLVE_BENEATH, so that no name leads out of the directory. A symbolic link
is removed, never followed, and nothing is deleted through a mount: what is mounted belongs to another directory.
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


_MOST_REFILLS = 1000
"""How often a directory may be found filled again before its removal fails."""


def remove_below(directory: Path | int, name: EntryName) -> None:
    """Delete an entry of a directory with all that is in it, however deep.

    directory  a path, or an open descriptor of a directory

    The directory itself is never removed. Raises FileNotFoundError; OSError with EXDEV if the entry is a mount point,
    with EBUSY if it contains one.
    """
    name = EntryName(name)  # again at run time: a wrong annotation must not delete a data root
    with _opened(directory) as parent:
        try:
            tree = linux.openat2(parent, name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, resolve=_BENEATH)
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
            os.unlink(name, dir_fd=parent)  # a file or a link has taken the directory's place
            return
        try:
            if os.path.sameopenfile(tree, parent):
                raise OSError(errno.EINVAL, "refusing to remove the directory itself", name)
            _refuse_mounts(os.readlink(f"/proc/self/fd/{tree}"))
        finally:
            os.close(tree)
        _remove(parent, name)


def _remove(parent: int, name: str) -> None:
    """Delete a directory with its content, directory by directory.

    Neither the stack nor the number of open files grows with the depth, as they do in shutil.rmtree().
    """
    refilled = 0
    with Descent(parent) as place:
        waiting = [([name], "")]  # of each directory on the way: what is left of its names, and its own name
        while waiting[0][0] or len(waiting) > 1:
            names, own = waiting[-1]
            if names:
                _remove_or_enter(place, names, waiting)
                continue
            waiting.pop()
            place.leave()
            try:
                os.rmdir(own, dir_fd=place.fd)
            except FileNotFoundError:
                pass  # another process removes the same tree
            except OSError as error:
                if error.errno != errno.ENOTEMPTY or refilled == _MOST_REFILLS:
                    raise
                refilled += 1  # another process, such as a copy into a container, has just put something there
                waiting[-1][0].append(own)


def _remove_or_enter(place: Descent, names: list[str], waiting: list[tuple[list[str], str]]) -> None:
    """Delete the last of the names, or if it is a directory make it the next one to be emptied."""
    name = names.pop()
    try:
        os.unlink(name, dir_fd=place.fd)
    except FileNotFoundError:
        pass
    except IsADirectoryError:
        with Entry(linux.openat2(place.fd, name, os.O_PATH | os.O_DIRECTORY, resolve=_BENEATH), name) as entry:
            place.enter(entry)
        waiting.append((place.names(), name))


def discard_below(directory: Path | int, name: EntryName) -> None:
    """The same, without an error for what does not exist or cannot be deleted now."""
    with contextlib.suppress(OSError):
        remove_below(directory, name)


def _refuse_mounts(tree: str) -> None:
    """Raise OSError if a file system is mounted somewhere in a tree (proc(5), mountinfo)."""
    mounts = Path("/proc/self/mountinfo").read_bytes()
    inside = os.fsencode(tree).replace(b"\\", rb"\134").replace(b" ", rb"\040") + b"/"
    if b" " + inside in mounts:  # a quick search first: most trees hold no mount point
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
