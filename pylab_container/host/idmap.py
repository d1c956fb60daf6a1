"""Map the owners of files between a container and the machine.

Root in a user namespace is an unprivileged user on the machine (user_namespaces(7)). In an ID-mapped mount that user
owns the files that belong to root on disk, so no file needs a chown(2) (mount_setattr(2), "ID-mapped mounts").
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
"""The user whose lines of /etc/subuid and /etc/subgid are used, as dockerd uses those of dockremap."""

_DEFAULT_START, _SIZE = 100_000, 65_536  # as useradd(8) allocates them (login.defs(5), SUB_UID_MIN, SUB_UID_COUNT)
_EXEC_POLL_INTERVAL = 0.0005  # seconds between checks whether unshare(1) has entered its namespace


class IdMap(Struct, frozen=True):
    """Users 0 … size - 1 of a container are uid … uid + size - 1 on the machine; gid likewise for groups."""

    uid: int
    gid: int
    size: int = _SIZE


def subordinate_ids(*, directory: Path = Path("/etc")) -> IdMap:
    """Return the ids of the user labctr in subuid(5) and subgid(5); default: 65,536 from 100,000 on.

    If the two files give different numbers of ids, the smaller number counts.
    """
    uid, uid_count = _range(directory / "subuid")
    gid, gid_count = _range(directory / "subgid")
    return IdMap(uid, gid, min(uid_count, gid_count))


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
    """Yield a descriptor of a user namespace that has a mapping and no process. Raises RuntimeFailed."""
    # A namespace needs a process until a descriptor refers to it: cat waits for the end of its input. The maps are
    # written from here, because a process inside may map only itself (user_namespaces(7)).
    holder = programs.spawn(["unshare", "--user", "cat"], stdin=programs.PIPE, stderr=programs.PIPE)
    with holder:
        proc = Path(f"/proc/{holder.pid}")
        own = os.readlink("/proc/self/ns/user")
        while os.readlink(proc / "ns/user") == own:
            if holder.poll() is not None:
                message = holder.stderr.read().decode(errors="replace").strip() if holder.stderr else ""
                raise RuntimeFailed(
                    f"no user namespace can be made: {message}", hint="sysctl -w user.max_user_namespaces=10000"
                )
            time.sleep(_EXEC_POLL_INTERVAL)
        (proc / "uid_map").write_text(f"0 {ids.uid} {ids.size}")
        (proc / "gid_map").write_text(f"0 {ids.gid} {ids.size}")
        fd = os.open(proc / "ns/user", os.O_RDONLY | os.O_CLOEXEC)
        try:
            if holder.stdin:
                holder.stdin.close()
            yield fd
        finally:
            os.close(fd)


@contextlib.contextmanager
def mapped_tree(path: Path, ids: IdMap) -> Iterator[int]:
    """Yield a descriptor of a directory whose owners are mapped, as a detached mount.

    Raises RuntimeFailed, also if the file system does not support ID-mapped mounts.
    """
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
    """Bind-mount a directory with mapped owners. Raises RuntimeFailed."""
    with mapped_tree(source, ids) as tree:
        linux.move_mount(tree, str(target))
