"""The system calls that Python does not wrap, under the kernel's own names.

The only module that imports ctypes. Each function raises OSError with the call's errno, as the functions of `os` do.
Sources: the man-pages project, sections 2 and 5, and the kernel's include/uapi/linux headers.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import stat
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)  # use_errno: a copy for each thread, taken right after the call

# mount(2), umount2(2): linux/mount.h
MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_BIND = 4096
MS_PRIVATE = 1 << 18
MNT_DETACH = 2

# setns(2), unshare(2): linux/sched.h
CLONE_FS = 0x00000200
CLONE_NEWNS = 0x00020000
CLONE_NEWNET = 0x40000000

# openat2(2): linux/openat2.h
RESOLVE_IN_ROOT = 0x10
RESOLVE_BENEATH = 0x08
RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_SYMLINKS = 0x04

_RESOLVE_ATTEMPTS = 128  # of openat2(2) after EAGAIN

PATH_MAX = 4096
"""Bytes of a path that a system call accepts, the terminating NUL included: linux/limits.h."""

# Called by number, because older C libraries have no wrappers. Since Linux 5.1 new calls have one number on all
# architectures.
_SYS_OPEN_TREE = 428
_SYS_MOVE_MOUNT = 429
_SYS_OPENAT2 = 437
_SYS_MOUNT_SETATTR = 442

# linux/mount.h, linux/fcntl.h, linux/prctl.h, linux/securebits.h
_OPEN_TREE_CLONE = 1
_MOVE_MOUNT_F_EMPTY_PATH = 4
_MOUNT_ATTR_IDMAP = 0x00100000
_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_PR_SET_SECUREBITS = 28
_SECBIT_NO_SETUID_FIXUP = 4
_FALLOC_FL_KEEP_SIZE = 1

_DT_UNKNOWN = 0  # readdir(3)


def _check(result: int, path: str = "") -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path or None)
    return result


def mount(source: str, target: str, filesystem: str, flags: int = 0, options: str = "") -> None:
    """mount(2). Relative paths in target and options are resolved in the calling thread's current directory."""
    _check(
        _libc.mount(
            os.fsencode(source),
            os.fsencode(target),
            filesystem.encode(),
            ctypes.c_ulong(flags),
            os.fsencode(options) if options else None,
        ),
        target,
    )


def allocate(fd: int, size: int) -> None:
    """fallocate(2): allocate blocks for size bytes, without changing the file's length."""
    _check(_libc.fallocate(fd, _FALLOC_FL_KEEP_SIZE, ctypes.c_long(0), ctypes.c_long(size)))


def umount(target: str, flags: int = 0) -> None:
    """umount2(2)."""
    _check(_libc.umount2(os.fsencode(target), flags), target)


def unshare(flags: int) -> None:
    """unshare(2): give the calling *thread* its own namespaces or current directory (CLONE_FS)."""
    _check(_libc.unshare(flags))


def setns(fd: int, kind: int) -> None:
    """setns(2): the calling *thread* enters the namespace behind fd."""
    _check(_libc.setns(fd, kind))


def is_chrooted() -> bool:
    """Report whether chroot(2) has given this process another / than its mount namespace has."""
    roots: list[tuple[int, int]] = []

    def look() -> None:
        # setns(2) into the same mount namespace resets the root directory to the namespace's. It fails with EINVAL for
        # a thread that shares its root with others, hence a thread with CLONE_FS undone.
        unshare(CLONE_FS)
        with open("/proc/self/ns/mnt", "rb") as namespace:
            setns(namespace.fileno(), CLONE_NEWNS)
        roots.append(_identity("/"))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    return roots != [_identity("/")]


def _identity(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


class _MountAttributes(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def idmapped_tree(path: str, user_namespace: int) -> int:
    """Return a directory as a detached mount whose owners are mapped as in a user namespace.

    The caller closes the descriptor. Seen through it, a file of owner 0 belongs to the root of the namespace. Needs
    Linux 5.12, and 5.19 for a layer of overlayfs. Sources: open_tree(2), mount_setattr(2), "ID-mapped mounts".
    """
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC
    tree = _check(_libc.syscall(ctypes.c_long(_SYS_OPEN_TREE), _AT_FDCWD, os.fsencode(path), flags), path)
    try:
        # Private: the copy of a shared mount, as systemd makes /, is its peer. Mounts below the directory would appear
        # in the copy, too, and unmounting them here would unmount the originals (mount_namespaces(7)).
        attributes = _MountAttributes(attr_set=_MOUNT_ATTR_IDMAP, propagation=MS_PRIVATE, userns_fd=user_namespace)
        arguments = (tree, b"", _AT_EMPTY_PATH, ctypes.byref(attributes), ctypes.c_size_t(ctypes.sizeof(attributes)))
        _check(_libc.syscall(ctypes.c_long(_SYS_MOUNT_SETATTR), *arguments), path)
    except BaseException:
        os.close(tree)
        raise
    return tree


@functools.cache
def has_mount_setattr() -> bool:
    """Report whether the kernel has mount_setattr(2), which can change a whole tree of mounts."""
    _libc.syscall(ctypes.c_long(_SYS_MOUNT_SETATTR), -1, b"", 0, None, ctypes.c_size_t(0))
    return ctypes.get_errno() != errno.ENOSYS


def move_mount(tree: int, target: str) -> None:
    """move_mount(2): attach a detached mount, such as that of idmapped_tree(), at target."""
    number = ctypes.c_long(_SYS_MOVE_MOUNT)
    _check(_libc.syscall(number, tree, b"", _AT_FDCWD, os.fsencode(target), _MOVE_MOUNT_F_EMPTY_PATH), target)


def set_filesystem_ids(uid: int, gid: int) -> None:
    """setfsuid(2): the calling *thread* creates files as another user, with its capabilities."""
    # Without SECBIT_NO_SETUID_FIXUP a thread whose fsuid changes from 0 loses CAP_DAC_OVERRIDE, CAP_MKNOD and others
    # (capabilities(7)), which overlayfs needs for copy-up and whiteouts.
    _check(_libc.prctl(_PR_SET_SECUREBITS, ctypes.c_ulong(_SECBIT_NO_SETUID_FIXUP), 0, 0, 0))
    _libc.setfsgid(gid)
    _libc.setfsuid(uid)


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def openat2(directory: int, path: str | bytes, flags: int, mode: int = 0, resolve: int = 0) -> int:
    """openat2(2): open a path, with the restrictions in resolve enforced by the kernel.

    With RESOLVE_IN_ROOT the directory is the root of this call: absolute symbolic links and ".." stay inside it, as
    after chroot(2).
    """
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    name = os.fsencode(path)
    arguments = (ctypes.c_long(_SYS_OPENAT2), directory, name, ctypes.byref(how), ctypes.sizeof(how))
    # A path with ".." fails with EAGAIN if any process on the machine renames a file at that moment: the kernel then
    # cannot guarantee that the path stays inside, and the caller may retry (openat2(2)).
    for _ in range(_RESOLVE_ATTEMPTS):
        result = _libc.syscall(*arguments)
        if result >= 0 or ctypes.get_errno() != errno.EAGAIN:
            break
    return _check(result, os.fsdecode(name))


def open_inside(root: int, path: str, flags: int) -> int:
    """Open a path of any length with the directory root as its root (RESOLVE_IN_ROOT).

    Symbolic links are followed in the first 4095 bytes of the path (PATH_MAX). A link after them raises OSError
    (ELOOP), because its target could not be resolved from the root any more.
    """
    name = os.fsencode(path)
    resolve, fd = RESOLVE_IN_ROOT, os.dup(root)
    try:
        while len(name) >= PATH_MAX:
            cut = name.rfind(b"/", 1, PATH_MAX)
            if cut < 0:
                raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), path)
            above, fd = fd, openat2(fd, name[:cut], os.O_PATH | os.O_DIRECTORY, resolve=resolve)
            os.close(above)
            name, resolve = name[cut + 1 :], RESOLVE_NO_SYMLINKS
        return openat2(fd, name or b".", flags, resolve=resolve)
    finally:
        os.close(fd)


def read_regular(directory: int, path: str, limit: int) -> bytes:
    """Return up to limit bytes of a container's file, with directory as the root of path.

    Raises OSError, with EINVAL if it is not a regular file.
    """
    # Two steps: to open a FIFO blocks until a writer opens it, and to open a device may have side effects. O_PATH does
    # neither, and the file cannot be exchanged after the check.
    fd = openat2(directory, path, os.O_PATH, resolve=RESOLVE_IN_ROOT)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        with open(f"/proc/self/fd/{fd}", "rb", buffering=0) as file:
            return file.read(limit)
    finally:
        os.close(fd)


def filesystem_type(path: Path) -> str:
    """Return the type of the file system that holds path, as in mountinfo; "" if not found."""
    device = os.stat(path).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    kind = ""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        if fields.split()[2] == number:
            kind = rest.split()[0]
    return kind


class _Dirent(ctypes.Structure):
    _fields_ = (
        ("d_ino", ctypes.c_uint64),
        ("d_off", ctypes.c_int64),
        ("d_reclen", ctypes.c_ushort),
        ("d_type", ctypes.c_ubyte),
        ("d_name", ctypes.c_char * 256),
    )


def supports_d_type(directory: Path) -> bool:
    """Report whether readdir(3) returns the type of each entry.

    overlayfs needs it in an upper directory to recognise whiteouts (overlayfs.rst, "Upper and Lower"). xfs without
    ftype=1 is the usual exception.
    """
    _libc.opendir.restype = ctypes.c_void_p
    _libc.readdir.restype = ctypes.POINTER(_Dirent)
    stream = ctypes.c_void_p(_libc.opendir(os.fsencode(directory)))
    if not stream:
        _check(-1, str(directory))
    try:
        entry = _libc.readdir(stream)
        return bool(entry) and entry.contents.d_type != _DT_UNKNOWN
    finally:
        _libc.closedir(stream)


# ---- inotify ----

# inotify(7): linux/inotify.h
IN_MODIFY = 0x002
IN_MOVED_FROM = 0x040
IN_MOVED_TO = 0x080
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_DELETE_SELF = 0x400
IN_ONLYDIR = 0x01000000

_INOTIFY_EVENT = struct.Struct("iIII")
_INOTIFY_BUFFER = 1 << 16  # bytes; the longest event has 272, for read(2) fails with EINVAL if one does not fit


def inotify_init1() -> int:
    """Return a non-blocking descriptor that reports changes of watched files; the caller closes it."""
    return _check(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))


def inotify_add_watch(fd: int, path: Path, mask: int) -> int:
    """Watch a file or directory and return the watch's number. Watching it again only replaces the mask."""
    return _check(_libc.inotify_add_watch(fd, os.fsencode(path), mask), str(path))


def inotify_rm_watch(fd: int, watch: int) -> None:
    """Stop watching. Raises OSError with EINVAL if the file was deleted, which ends its watch."""
    _check(_libc.inotify_rm_watch(fd, watch))


def read_inotify(fd: int) -> Iterator[tuple[int, int]]:
    """Yield (watch, mask) of each unread change; watch is -1 if the kernel's queue overflowed."""
    try:
        data = os.read(fd, _INOTIFY_BUFFER)
    except BlockingIOError:
        return
    position = 0
    while position < len(data):
        watch, mask, _, length = _INOTIFY_EVENT.unpack_from(data, position)
        position += _INOTIFY_EVENT.size + length
        yield watch, mask


# ---- memory ----

# malloc.h
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
_MMAP_THRESHOLD = (
    1 << 17
)  # bytes; glibc's initial threshold, which it raises as large blocks are freed unless it is set


def share_one_arena() -> None:
    """Make all threads allocate from one arena, and map large buffers separately (mallopt(3)).

    By default glibc has up to eight arenas for each processor, and free memory in one is not used by the others: a
    process with many threads, each of which sometimes needs much memory, would keep all of it. A buffer that is mapped
    separately is returned to the kernel when it is freed.
    """
    mallopt = getattr(_libc, "mallopt", None)
    if mallopt is not None:  # other C libraries have neither the function nor arenas
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD)
