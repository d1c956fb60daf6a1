"""Mount the kernel's overlay file system as Docker does.

Kernel side: Documentation/filesystems/overlayfs.rst, mount(2), umount2(2).
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pylab_container.errors import NotRoot, RuntimeFailed
from pylab_container.host import linux
from pylab_container.host.files import locked
from pylab_container.host.idmap import IdMap, mapped_tree
from pylab_container.host.random_ids import random_hex

VIEW = "view-"
"""Prefix of the names of temporary mount points."""

_PARAMETERS = Path("/sys/module/overlay/parameters")


# ---- mounts for containers ----


def mount(base: Path, target: str, *, lowers: Sequence[str], upper: str, work: str, ids: IdMap | None = None) -> str:
    """Mount joined directories on target and return the mount options.

    base    the directory to which all other paths are relative
    lowers  uppermost first
    ids     how the owners of the layers' files are mapped

    Raises NotRoot, RuntimeFailed.
    """
    if ids:
        return _mount_mapped(base, target, _options("", lowers, upper, work), ids)
    # mount(2) takes one page of options. Absolute paths come first, because /proc/mounts then shows where the layers
    # are; with many layers only paths relative to base fit. moby decides alike (overlay2.go, Get).
    options = _options(f"{base}/", lowers, upper, work)
    if len(options) < os.sysconf("SC_PAGE_SIZE"):
        _mount(str(base / target), options)
        return options
    short = _options("", lowers, upper, work)
    _in_directory(base, lambda: _mount(target, short))
    return short


def _mount_mapped(base: Path, target: str, options: str, ids: IdMap) -> str:
    """Mount layers whose owners are mapped; paths are relative to the mapped tree."""
    with mapped_tree(base, ids) as layers, _mount_point(base) as point, _attached(layers, point):

        def action() -> None:
            # overlayfs creates files in work/ with the fsuid of the mounter. An owner without a mapping makes that fail
            # with EOVERFLOW, so the mounter takes the ids of the container's root.
            linux.set_filesystem_ids(ids.uid, ids.gid)
            _mount(str(base / target), options)

        _in_directory(layers, action)
    return options


@contextlib.contextmanager
def _attached(tree: int, point: str) -> Iterator[None]:
    """Attach a detached mount at point while the block runs.

    Before Linux 6.15 overlayfs rejects layers on a detached mount. Once the overlay is mounted it holds its own
    references, and the attached mount can be removed.
    """
    linux.move_mount(tree, point)
    try:
        yield
    finally:
        linux.umount(point, linux.MNT_DETACH)


def unmount(target: Path) -> bool:
    """Unmount target; return False if nothing is mounted there."""
    if not os.path.ismount(target):
        return False
    # MNT_DETACH: a shell whose current directory is merged/ would otherwise make it fail with EBUSY. The kernel
    # completes the unmount when the last reference is closed (umount2(2)).
    linux.umount(str(target), linux.MNT_DETACH)
    return True


# ---- views for reading ----


@contextlib.contextmanager
def view(base: Path, lowers: Sequence[str]) -> Iterator[Path]:
    """Join two or more directories for reading while the block runs; lowers as for open_view()."""
    fd = open_view(base, lowers)
    try:
        yield Path(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def open_view(base: Path, lowers: Sequence[str]) -> int:
    """Return a descriptor for reading two or more joined directories; the caller closes it.

    lowers  paths relative to base, uppermost first

    The mount is detached as soon as it is open, so no other process sees it. The kernel keeps it until the descriptor
    is closed, also when this process is killed. It is read-only, and all directories are lower ones: overlayfs does
    not allow two mounts to write to one upper directory, but this one may be the upper directory of another mount.
    Raises NotRoot, RuntimeFailed.
    """
    options = f"{_switched_off()}lowerdir={':'.join(lowers)}"
    with _mount_point(base) as point:
        _in_directory(base, lambda: _mount(point, options, linux.MS_RDONLY))
        try:
            return os.open(point, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        finally:
            linux.umount(point, linux.MNT_DETACH)


@contextlib.contextmanager
def _mount_point(base: Path) -> Iterator[str]:
    """Create a temporary mount point for the block."""
    with locked(base, shared=True):  # abandoned_views() locks exclusively, so it sees no mount point that is in use
        point = f"{base}/{VIEW}{random_hex(8)}"
        try:
            os.mkdir(point, 0o700)
        except OSError as error:
            if error.errno not in (errno.EROFS, errno.ENOSPC, errno.EDQUOT):
                raise
            import tempfile  # late: its import takes 10 ms, and only a full or read-only disk needs it

            point = tempfile.mkdtemp(prefix=f"labctr-{VIEW}")
        try:
            yield point
        finally:
            os.rmdir(point)


@contextlib.contextmanager
def abandoned_views(base: Path) -> Iterator[list[Path]]:
    """Yield the temporary mount points of crashed processes, mounted or not."""
    with locked(base):  # against _mount_point(), so that no new ones appear in the block
        yield sorted(base.glob(f"{VIEW}*"))


def remove_view(point: Path) -> None:
    """Unmount and delete one of abandoned_views(). Raises OSError if it contains files."""
    unmount(point)
    # rmdir(2) and not a recursive removal: after a failed unmount the content would be that of layers.
    point.rmdir()


# ---- options and system calls ----


def _options(prefix: str, lowers: Sequence[str], upper: str, work: str) -> str:
    # upperdir and workdir must be on one file system: overlayfs prepares a copy-up in workdir and renames it to its
    # place, which makes it atomic (overlayfs.rst, "Upper and Lower").
    below = ":".join(prefix + lower for lower in lowers)
    return f"{_switched_off()}lowerdir={below},upperdir={prefix}{upper},workdir={prefix}{work}"


def _mount(target: str, options: str, flags: int = 0) -> None:
    try:
        linux.mount("overlay", target, "overlay", flags, options)
    except OSError as error:
        raise _explain(error, target, options) from error


def _switched_off() -> str:
    """Return options that switch off features which image layers cannot express.

    A kernel may have them on by default. index and metacopy store records of their own in upper directories, and
    redirect_dir renames a directory without copying it: diff/ would then no longer be the layer's whole change
    (overlayfs.rst; moby overlay2/check.go).
    """
    options = ""
    for name in ("index", "metacopy", "redirect_dir"):
        # An unknown option makes mount(2) fail with EINVAL, so only those are named that this kernel has.
        with contextlib.suppress(OSError):
            if (_PARAMETERS / name).read_text().strip() in ("Y", "on"):
                options += f"{name}=off,"
    return options


def _explain(error: OSError, target: str, options: str) -> RuntimeFailed:
    """Return the error for a mount that failed."""
    # mount(2) reports an errno only. The reason is in the kernel log ("overlayfs: …"), which needs CAP_SYSLOG.
    if error.errno == errno.EPERM:
        return NotRoot(
            f"the kernel does not let this process mount {target}", hint="run as root, on a kernel of your own"
        )
    if error.errno == errno.ENODEV:
        return RuntimeFailed("this kernel has no overlay file system", hint="modprobe overlay")
    hint = "an upper directory cannot be on overlay, NFS or a folder shared into a VM; choose another data root"
    return RuntimeFailed(f"mount -t overlay -o {options} overlay {target}: {error.strerror}", hint=hint)


def _in_directory(directory: Path | int, action: Callable[[], None]) -> None:
    """Run action in a thread whose current directory is directory.

    All threads of a process share one current directory, and Jupyter has many threads. unshare(2) with CLONE_FS gives
    the calling thread a directory of its own, which ends with the thread.
    """
    failure: list[BaseException] = []

    def work() -> None:
        try:
            linux.unshare(linux.CLONE_FS)
            os.chdir(directory)
            action()
        except BaseException as error:  # noqa: BLE001 (raised again below, in the caller's thread)
            failure.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
