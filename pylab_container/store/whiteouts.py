"""Whiteouts: how a layer says that something of the layers below is hidden, in a tar and on disk.

    in a tar            in an overlay directory                       meaning
    dir/.wh.name        dir/name: character device 0:0                whiteout: the lower name is hidden
                        dir/name: empty file with overlay.whiteout,
                        in a dir with overlay.opaque=x
    dir/.wh..wh..opq    dir: overlay.opaque=y                         opaque: all of the lower dir is hidden

The attributes are `trusted.overlay.…` where root mounted the overlay, and `user.overlay.…` in
a mount with the option userxattr, the only one that a user namespace may make (kernel 5.11).
Empty files as whiteouts are never written by the kernel, but by programs (kernel 6.7). We write
devices and `trusted.overlay.opaque`, for our mounts are root's; we read everything.

Sources: OCI image-spec layer.md; kernel Documentation/filesystems/overlayfs.rst.
"""

from __future__ import annotations

import os
import stat

from pylab_container.host.descent import Entry

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
OPAQUE_XATTR = "trusted.overlay.opaque"

_NAMESPACES = ("trusted.overlay.", "user.overlay.")


def is_whiteout(entry: Entry) -> bool:
    """Whether an entry of an overlay directory hides a name."""
    status = entry.status
    if stat.S_ISCHR(status.st_mode):
        return status.st_rdev == 0
    if not stat.S_ISREG(status.st_mode) or status.st_size:
        return False
    return _mark(entry.fd, "whiteout") is not None and _mark(entry.directory, "opaque") == b"x"


def is_opaque(entry: Entry) -> bool:
    """Whether a directory of an overlay directory hides all of the one below."""
    return _mark(entry.fd, "opaque") == b"y"


def is_bookkeeping(attribute: str) -> bool:
    """Whether an extended attribute belongs to overlayfs: no layer's tar brings one or gets one."""
    return attribute.startswith(_NAMESPACES)


def _mark(fd: int, name: str) -> bytes | None:
    """What overlayfs noted at a file under a name, None for nothing.

    In a mount of root's, user.overlay.… is an attribute like any other, which every process in a
    container may set. There overlayfs has marked all that lies on something in trusted.overlay.…,
    and that alone counts: nobody hides in a commit what the container still shows.
    """
    path = f"/proc/self/fd/{fd}"  # fgetxattr(2) refuses a descriptor that was opened with O_PATH
    try:
        attributes = os.listxattr(path)
        for namespace in _NAMESPACES:
            if any(attribute.startswith(namespace) for attribute in attributes):
                return os.getxattr(path, namespace + name)
    except OSError:  # ENODATA: no such note; ENOTSUP: a file system without attributes
        pass
    return None
