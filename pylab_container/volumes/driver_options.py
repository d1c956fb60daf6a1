"""The options of `volume create --opt`: a file system to mount as the volume.

Source: moby, volume/local, 20.10.

    type=tmpfs  device=tmpfs       o=size=100m,uid=1000
    type=none   device=/srv/data   o=bind,ro
    type=nfs    device=:/export    o=addr=10.0.0.1,rw

The words of o are those of mount(8). Some of them are flags of mount(2); all others are passed to the file system.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from pylab_container.errors import InvalidInput

_KNOWN = ("type", "o", "device", "size")
_NEEDED = ("device", "type")

# (flags that a word sets, flags that it clears), from linux/mount.h.
_FLAGS: Mapping[str, tuple[int, int]] = {
    "defaults": (0, 0),
    "ro": (1, 0),
    "rw": (0, 1),
    "nosuid": (2, 0),
    "suid": (0, 2),
    "nodev": (4, 0),
    "dev": (0, 4),
    "noexec": (8, 0),
    "exec": (0, 8),
    "sync": (16, 0),
    "async": (0, 16),
    "mand": (64, 0),
    "nomand": (0, 64),
    "dirsync": (128, 0),
    "noatime": (1024, 0),
    "atime": (0, 1024),
    "nodiratime": (2048, 0),
    "diratime": (0, 2048),
    "bind": (4096, 0),
    "rbind": (4096 | 16384, 0),
    "relatime": (1 << 21, 0),
    "norelatime": (0, 1 << 21),
    "strictatime": (1 << 24, 0),
    "nostrictatime": (0, 1 << 24),
}
_BIND, _REMOUNT, _RECURSIVE = 4096, 32, 16384


class VolumeMount(Struct, frozen=True):
    """The arguments of mount(2).

    kind           the type of the file system
    remount_flags  flags of a second call, 0 without one: a call with MS_BIND ignores all other flags (mount(2),
                   "Creating a bind mount")
    """

    kind: str
    device: str
    flags: int
    data: str
    remount_flags: int = 0

    @property
    def address(self) -> str:
        """The server of a network file system, "" for other file systems."""
        words = (word.partition("=") for word in self.data.split(","))
        return next((value for name, _, value in words if name == "addr"), "")


def check_driver_options(options: Mapping[str, str]) -> None:
    """Raise InvalidInput for options that do not describe a mount. Without options the volume is a directory."""
    for name in options:
        if name not in _KNOWN:
            raise InvalidInput(f'invalid option: "{name}"', hint="use type, device and o")
    if options.get("size"):
        raise InvalidInput("quota size requested but no quota support", hint="for a tmpfs: o=size=100m")
    for name in _NEEDED if options else ():
        if name not in options:
            raise InvalidInput(f'missing required option: "{name}"', hint="use type, device and o")


def volume_mount(options: Mapping[str, str]) -> VolumeMount:
    """Translate the options to the arguments of mount(2)."""
    flags, data = 0, []
    for word in filter(None, options.get("o", "").split(",")):
        if word in _FLAGS:
            set_flags, cleared_flags = _FLAGS[word]
            flags = flags & ~cleared_flags | set_flags
        else:
            data.append(word)
    other_flags = flags & ~(_BIND | _RECURSIVE)
    remount_flags = other_flags | _BIND | _REMOUNT if flags & _BIND and other_flags else 0
    return VolumeMount(options["type"], options["device"], flags, ",".join(data), remount_flags)
