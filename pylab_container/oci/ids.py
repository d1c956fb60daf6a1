"""Identifiers as types: a value exists only if the whole text has the id's form.

    EntryName            one entry of a directory: not empty, no "/", neither "." nor ".."
    ├── CacheId          a layer's directory with the driver: 64 hexadecimal digits, or 25 characters of base 36 as
    │   │                BuildKit names them; "-init" follows for a container's init layer
    │   └── MountId      a container's own layer, without "-init"
    ├── ShortName        a layer's short name in overlay2/l: 26 characters of base 32
    ├── ContainerId      64 hexadecimal digits
    ├── NetworkId        64 hexadecimal digits
    └── VolumeName       letters, digits, "_", "." and "-", of which the first is a letter or a digit
    Digest               an image id, a diff id or a chain id: "sha256:" and 64 hexadecimal digits

Ids that are read from the data root are data. A file that is empty, cut off or that holds "../../x" gives no id, so
that no path is built of it and nothing is removed by it: what removes a directory takes an EntryName
(host/removal.py). Sources: moby pkg/stringid, daemon/graphdriver/overlay2, volume/local; distribution's digest.
"""

from __future__ import annotations

import re
from typing import ClassVar, Self


class _Checked(str):
    """A text that has a form. Raises ValueError for another one."""

    __slots__ = ()
    form: ClassVar[re.Pattern[str]]
    what: ClassVar[str]
    """What a text of that form is, for the error."""

    def __new__(cls, text: str) -> Self:
        if not cls.form.fullmatch(text):
            raise ValueError(f"{_shortened(text)} is not {cls.what}")
        return super().__new__(cls, text)

    @classmethod
    def match(cls, text: str) -> Self | None:
        """The id that text is, None if it is not one."""
        return cls(text) if cls.form.fullmatch(text) else None


class EntryName(_Checked):
    """The name of one entry of a directory."""

    __slots__ = ()
    form = re.compile(r"(?!\.{1,2}\Z)[^/\0]+", re.DOTALL)
    what = "the name of a file"


class CacheId(EntryName):
    """The name of a layer's directory with the storage driver."""

    __slots__ = ()
    form = re.compile(r"(?:[0-9a-f]{64}|[0-9a-z]{25})(?:-init)?")
    what = "the id of a layer's directory"


class MountId(CacheId):
    """The name of a container's own layer, which is not an init layer."""

    __slots__ = ()
    form = re.compile(r"[0-9a-f]{64}|[0-9a-z]{25}")
    what = "the id of a container's layer"

    @property
    def init(self) -> CacheId:
        """The id of the init layer below a container's layer."""
        return CacheId(f"{self}-init")


class ShortName(EntryName):
    """The name of a layer's link in overlay2/l."""

    __slots__ = ()
    form = re.compile(r"[A-Z2-7]{26}")
    what = "the short name of a layer"


class ContainerId(EntryName):
    """The id of a container."""

    __slots__ = ()
    form = re.compile(r"[0-9a-f]{64}")
    what = "the id of a container"


class NetworkId(EntryName):
    """The id of a network."""

    __slots__ = ()
    form = re.compile(r"[0-9a-f]{64}")
    what = "the id of a network"


class VolumeName(EntryName):
    """The name of a volume."""

    __slots__ = ()
    form = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}")  # NAME_MAX: each is a directory
    what = "the name of a volume"


class Digest(_Checked):
    """The digest that an image or a layer is known by."""

    __slots__ = ()
    form = re.compile(r"sha256:[0-9a-f]{64}")
    what = "a digest"

    @property
    def hex(self) -> EntryName:
        """The 64 digits: what files and directories are called by."""
        return EntryName(self[7:])


def _shortened(text: str) -> str:
    return repr(text) if len(text) <= 80 else f"{text[:80]!r}…"
