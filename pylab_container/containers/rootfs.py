"""Preparing a new container's file system: its working directory and the first contents of its volumes.

Every path is resolved by the kernel below the container's root (openat2(2), RESOLVE_IN_ROOT), because the image may
contain symbolic links to anywhere.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Collection
from pathlib import Path

from msgspec.structs import replace

from pylab_container.errors import InvalidInput
from pylab_container.host import linux, programs
from pylab_container.host.inside import make_directories
from pylab_container.host.random_ids import random_hex
from pylab_container.host.removal import remove_below
from pylab_container.oci.ids import EntryName
from pylab_container.store.container_store import ContainerRecord
from pylab_container.store.data_root import DataRoot
from pylab_container.text.timestamps import NEVER
from pylab_container.volumes.mounting import is_mounted


def needs_setup(record: ContainerRecord, root: Path) -> bool:
    """Whether prepare() has work to do: the working directory is missing, or the image has files for a volume.

    root  the image's mounted file system
    """
    # Asked while the layer is mounted at its creation anyway, so that most containers need no second mount.
    base = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return not _has_directory(base, record.config.working_dir or "/") or any(
            _has_directory(base, mount.destination)
            for mount in record.mounts
            if mount.type == "volume" and not mount.no_copy
        )
    finally:
        os.close(base)


def _has_directory(base: int, path: str) -> bool:
    try:
        os.close(linux.openat2(base, path, os.O_PATH | os.O_DIRECTORY, resolve=linux.RESOLVE_IN_ROOT))
    except OSError:
        return False
    return True


def prepare(data: DataRoot, record: ContainerRecord) -> None:
    """Create a new container's working directory and fill its volumes. Raises InvalidInput."""
    # At the creation and not at the first start, because another container may mount the volumes before that. Volumes
    # with a file system of their own are filled by the start, which mounts them.
    plain = [mount for mount in record.mounts if mount.type == "volume" and not data.volumes.get(mount.name).options]
    with data.records.lock(record.id):
        mount_id = data.layers.writable_to_change(record.id).mount_id
        root = data.driver.mount(mount_id)
        try:
            make_directory(root, record.config.working_dir or "/")
            fill_volumes(replace(record, mounts=tuple(plain)), root)
        finally:
            data.driver.unmount(mount_id)


def make_directory(root: Path, path: str) -> None:
    """Create a directory with its parents, mode 755, inside a mounted file system. Raises InvalidInput."""
    try:
        make_directories(root, path)
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ENOENT, errno.ELOOP):
            raise
        raise InvalidInput(
            f"Cannot mkdir: {path} is not a directory", hint="choose another working directory"
        ) from None


def fill_volumes(record: ContainerRecord, root: Path, *, mounted: Collection[str] = ()) -> None:
    """Copy the image's files at a volume's destination into the volume, if it is empty. Does so before the first start.

    mounted  names of the volumes with a file system of their own that this start has mounted
    """
    if record.started_at != NEVER:  # a later start keeps a volume that the container has emptied
        return
    for mount in record.mounts:
        source = Path(mount.source)
        if mount.type != "volume" or mount.no_copy or any(source.iterdir()):
            continue
        inside = _open_inside(root, mount.destination)
        if inside is None:
            continue
        try:
            if mount.name in mounted:
                _copy(inside, source)  # no other container has it mounted
            elif not is_mounted(source):  # a file system that another container has mounted is in use: left as it is
                _fill_shared(source, inside)
        finally:
            os.close(inside)


def _open_inside(root: Path, path: str) -> int | None:
    """Open a directory below root; None if it does not exist."""
    base = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return linux.openat2(base, path, os.O_RDONLY | os.O_DIRECTORY, resolve=linux.RESOLVE_IN_ROOT)
    except OSError:
        return None
    finally:
        os.close(base)


def _copy(inside: int, directory: Path) -> None:
    programs.run(["cp", "-a", "--", f"/proc/self/fd/{inside}/.", str(directory)], pass_fds=(inside,))


def _fill_shared(volume: Path, inside: int) -> None:
    """Copy a directory into an empty volume that another container may have mounted."""
    # That container could place a symbolic link in the way of a copy (symlink race). So the copy is made beside the
    # volume, and its entries are moved by rename(2), which replaces a link instead of following it.
    staging = volume.parent / f"filling-{random_hex(8)}"
    staging.mkdir(mode=0o700)
    try:
        _copy(inside, staging)
        for name in os.listdir(staging):
            # Entries that the other container has created in the meantime are kept.
            with contextlib.suppress(FileExistsError, IsADirectoryError, NotADirectoryError):
                os.rename(staging / name, volume / name)
        status = os.fstat(inside)
        os.chown(volume, status.st_uid, status.st_gid)
        os.chmod(volume, status.st_mode & 0o7777)
    finally:
        remove_below(volume.parent, EntryName(staging.name))
