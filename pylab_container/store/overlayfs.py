"""Mounting the kernel's overlay file system, as Docker does it.

Kernel side: Documentation/filesystems/overlayfs.rst.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pylab_container.errors import NotRoot, RuntimeFailed
from pylab_container.host import linux
from pylab_container.host.files import locked
from pylab_container.host.idmap import IdMap, mapped_tree

VIEW = "view-"
"""How the names of directories begin on which something is mounted for a moment."""

_PARAMETERS = Path("/sys/module/overlay/parameters")


def mount(base: Path, target: str, *, lowers: Sequence[str], upper: str, work: str, ids: IdMap | None = None) -> str:
    """Join directories at target, and return the options that the kernel got.

    All paths are relative to base; lowers go from the uppermost down. The kernel takes one
    page of options: if absolute paths do not fit, it gets the relative ones.
    ids: the layers' owners are seen mapped.
    Raises NotRoot, RuntimeFailed.
    """
    if ids:
        return _mount_mapped(base, target, _options("", lowers, upper, work), ids)
    options = _options(f"{base}/", lowers, upper, work)
    if len(options) < os.sysconf("SC_PAGE_SIZE"):
        _mount(str(base / target), options)
        return options
    short = _options("", lowers, upper, work)
    _in_directory(base, lambda: _mount(target, short))
    return short


def _mount_mapped(base: Path, target: str, options: str, ids: IdMap) -> str:
    """The same over layers with mapped owners: relative to a descriptor.

    overlayfs makes files of its own as whoever mounts it, who therefore has to be somebody in the mapping.
    It keeps the layers; but before Linux 6.15 it takes them only from a mount that stands somewhere.
    """
    with mapped_tree(base, ids) as layers, _point(base) as point, _standing(layers, point):

        def action() -> None:
            linux.set_filesystem_ids(ids.uid, ids.gid)
            _mount(str(base / target), options)

        _in_directory(layers, action)
    return options


def unmount(target: Path) -> bool:
    """Unmount target; False if nothing is mounted there."""
    if not os.path.ismount(target):
        return False
    # Lazily: a shell of the student's that stands in merged/ must not block the rest.
    linux.umount(str(target), linux.MNT_DETACH)
    return True


@contextlib.contextmanager
def view(base: Path, lowers: Sequence[str]) -> Iterator[Path]:
    """Two or more directories joined to read from while the block runs; lowers as for open_view()."""
    fd = open_view(base, lowers)
    try:
        yield Path(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def open_view(base: Path, lowers: Sequence[str]) -> int:
    """A descriptor of two or more directories joined to read from; no other process sees the mount.

    lowers  paths relative to base, the uppermost first

    The mount is taken out of the tree as soon as it is open: the kernel keeps it until the descriptor is closed, also
    if this process is killed. Nothing can be written through it, so that the uppermost directory may be the upper
    directory of another mount. Raises NotRoot, RuntimeFailed.
    """
    options = f"{_switched_off()}lowerdir={':'.join(lowers)}"
    with _point(base) as point:
        _in_directory(base, lambda: _mount(point, options, linux.MS_RDONLY))
        try:
            return os.open(point, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        finally:
            linux.umount(point, linux.MNT_DETACH)


@contextlib.contextmanager
def _point(base: Path) -> Iterator[str]:
    """A directory to mount something on for a moment."""
    with locked(base, shared=True):  # as long as something is in the tree: abandoned_views()
        point = f"{base}/{VIEW}{secrets.token_hex(8)}"
        try:
            os.mkdir(point, 0o700)
        except OSError as error:
            if error.errno not in (errno.EROFS, errno.ENOSPC, errno.EDQUOT):
                raise
            import tempfile  # late, as every command would pay its 10 ms

            point = tempfile.mkdtemp(prefix=f"labctr-{VIEW}")
        try:
            yield point
        finally:
            os.rmdir(point)


@contextlib.contextmanager
def _standing(tree: int, point: str) -> Iterator[None]:
    """While the block runs, a mount that stood nowhere stands at point."""
    linux.move_mount(tree, point)
    try:
        yield
    finally:
        linux.umount(point, linux.MNT_DETACH)


@contextlib.contextmanager
def abandoned_views(base: Path) -> Iterator[list[Path]]:
    """What processes that were killed in _point() left, mounted or not; while the block runs nobody makes another."""
    with locked(base):
        yield sorted(base.glob(f"{VIEW}*"))


def remove_view(point: Path) -> None:
    """Take away one of abandoned_views(). Raises OSError where something lies in it."""
    unmount(point)
    point.rmdir()


def _options(prefix: str, lowers: Sequence[str], upper: str, work: str) -> str:
    below = ":".join(prefix + lower for lower in lowers)
    return f"{_switched_off()}lowerdir={below},upperdir={prefix}{upper},workdir={prefix}{work}"


def _mount(target: str, options: str, flags: int = 0) -> None:
    try:
        linux.mount("overlay", target, "overlay", flags, options)
    except OSError as error:
        raise _explain(error, target, options) from error


def _switched_off() -> str:
    """Options that turn off what a kernel may do by default and image layers cannot express.

    index and metacopy put their own bookkeeping into upper directories, redirect_dir
    renames directories without copying them: a layer's diff would no longer tell the whole story.
    """
    wanted = ""
    for name in ("index", "metacopy", "redirect_dir"):
        with contextlib.suppress(OSError):
            if (_PARAMETERS / name).read_text().strip() in ("Y", "on"):
                wanted += f"{name}=off,"
    return wanted


def _explain(error: OSError, target: str, options: str) -> RuntimeFailed:
    if error.errno == errno.EPERM:
        return NotRoot(
            f"the kernel does not let this process mount {target}", hint="run as root, on a kernel of your own"
        )
    if error.errno == errno.ENODEV:
        return RuntimeFailed("this kernel has no overlay file system", hint="modprobe overlay")
    hint = "an upper directory cannot lie on overlay, NFS or a folder shared into a VM; choose another data root"
    return RuntimeFailed(f"mount -t overlay -o {options} overlay {target}: {error.strerror}", hint=hint)


def _in_directory(directory: Path | int, action: Callable[[], None]) -> None:
    """Run action with directory as the current one, for this action only.

    The current directory belongs to the process, and Jupyter has many threads; a thread
    that unshares CLONE_FS has one of its own and dies with it.
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
