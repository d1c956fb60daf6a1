"""Whiteouts: how a layer hides files of the layers below, in a tar and on disk.

    in a tar            in an overlay directory                       meaning
    dir/.wh.name        dir/name: character device 0:0                whiteout: the lower name is hidden
                        dir/name: empty file with overlay.whiteout,
                        in a dir with overlay.opaque=x
    dir/.wh..wh..opq    dir: overlay.opaque=y                         opaque: all of the lower dir is hidden

The attributes are `trusted.overlay.…` if root made the mount, and `user.overlay.…` in a mount with the option
userxattr, the only kind that a user namespace may make (since Linux 5.11). The kernel never writes an empty file as
a whiteout, but programs do (since Linux 6.7, for a layer stored on an overlay, which would apply the device itself).
This engine reads every form. It writes devices and `trusted.overlay.opaque`, because its mounts are root's.

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
    """Report whether an entry of an overlay directory hides a name."""
    status = entry.status
    if stat.S_ISCHR(status.st_mode):
        return status.st_rdev == 0
    if not stat.S_ISREG(status.st_mode) or status.st_size:
        return False
    # Both attributes: the kernel looks for overlay.whiteout only in directories marked x, to save the lookup elsewhere.
    return _mark(entry.fd, "whiteout") is not None and _mark(entry.directory, "opaque") == b"x"


def is_opaque(entry: Entry) -> bool:
    """Report whether a directory hides all of the directory below it."""
    return _mark(entry.fd, "opaque") == b"y"


def is_bookkeeping(attribute: str) -> bool:
    """Report whether an extended attribute is overlayfs's own, which no tar contains."""
    return attribute.startswith(_NAMESPACES)


def _mark(fd: int, name: str) -> bytes | None:
    """Return the value of overlayfs's attribute with a name, None if the file has none."""
    path = f"/proc/self/fd/{fd}"  # fgetxattr(2) fails with EBADF for a descriptor opened with O_PATH
    try:
        attributes = os.listxattr(path)
        # trusted.* wins. Every process in a container may set user.overlay.*, which root's mount ignores: believing it
        # would let a container hide files in a commit that it still shows. Only root's mount sets trusted.* itself.
        for namespace in _NAMESPACES:
            if any(attribute.startswith(namespace) for attribute in attributes):
                return os.getxattr(path, namespace + name)
    except OSError:  # ENODATA: the attribute is not set; ENOTSUP: the file system has no attributes
        pass
    return None
