"""Who is who: mapping the owners of files between a container and the machine.

In a user namespace root is somebody without rights on the machine (user_namespaces(7)). An ID-mapped
mount gives that somebody the files that belong to root on the disk, without a chown of a single one.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from pylab_container.errors import RuntimeFailed
from pylab_container.host import linux, programs

OWNER = "labctr"
"""Whose lines of /etc/subuid and /etc/subgid are used."""

_DEFAULT_START, _SIZE = 100_000, 65_536


class IdMap(Struct, frozen=True):
    """Users 0 to size - 1 of a container are uid to uid + size - 1 of the machine; so it is with gid and groups."""

    uid: int
    gid: int
    size: int = _SIZE


def subordinate_ids(*, directory: Path = Path("/etc")) -> IdMap:
    """What subuid(5) and subgid(5) in a directory give to the user labctr; without an entry 65,536 from 100,000 on."""
    first = {name: _range(directory / name) for name in ("subuid", "subgid")}
    return IdMap(first["subuid"][0], first["subgid"][0], min(size for _, size in first.values()))


def _range(file: Path) -> tuple[int, int]:
    with contextlib.suppress(FileNotFoundError):
        for line in file.read_text().splitlines():
            name, _, numbers = line.partition(":")
            start, _, size = numbers.partition(":")
            if name == OWNER and start.isdigit() and size.isdigit() and int(size) > 0:
                return int(start), int(size)
    return _DEFAULT_START, _SIZE


@contextlib.contextmanager
def user_namespace(ids: IdMap) -> Iterator[int]:
    """A descriptor of a user namespace with a mapping, in which nobody is. Raises RuntimeFailed."""
    holder = programs.spawn(["unshare", "--user", "cat"], stdin=programs.PIPE, stderr=programs.PIPE)
    with holder:
        place = Path(f"/proc/{holder.pid}")
        own = os.readlink("/proc/self/ns/user")
        while os.readlink(place / "ns/user") == own:
            if holder.poll() is not None:
                said = holder.stderr.read().decode(errors="replace").strip() if holder.stderr else ""
                raise RuntimeFailed(f"no user namespace can be made: {said}", hint="sysctl user.max_user_namespaces")
            time.sleep(0.0005)
        (place / "uid_map").write_text(f"0 {ids.uid} {ids.size}")
        (place / "gid_map").write_text(f"0 {ids.gid} {ids.size}")
        fd = os.open(place / "ns/user", os.O_RDONLY | os.O_CLOEXEC)
        try:
            if holder.stdin:
                holder.stdin.close()
            yield fd
        finally:
            os.close(fd)


@contextlib.contextmanager
def mapped_tree(path: Path, ids: IdMap) -> Iterator[int]:
    """A descriptor of a directory whose owners are mapped; the file system must support it. Raises RuntimeFailed."""
    with user_namespace(ids) as namespace:
        try:
            tree = linux.idmapped_tree(str(path), namespace)
        except OSError as error:
            raise RuntimeFailed(
                f"the owners of {path} cannot be mapped: {error.strerror}",
                hint="--userns=remap needs Linux 5.19 and a file system such as ext4, xfs or btrfs",
            ) from error
    try:
        yield tree
    finally:
        os.close(tree)


def bind_mapped(source: Path, target: Path, ids: IdMap) -> None:
    """Show a directory at another place, its owners mapped. Raises RuntimeFailed."""
    with mapped_tree(source, ids) as tree:
        linux.move_mount(tree, str(target))
