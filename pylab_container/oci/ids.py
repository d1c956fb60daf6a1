"""Identifiers as types, constructed only from a text that matches the id's form completely.

    EntryName            entry of a directory: not empty, no "/", neither "." nor ".."
    ├── CacheId          a layer's directory in the storage driver: 64 hexadecimal digits, or 25 characters of base 36
    │   │                from BuildKit; a container's init layer has the suffix "-init"
    │   └── MountId      a container's own layer, without "-init"
    ├── ShortName        a layer's short name in overlay2/l: 26 characters of base 32
    ├── ContainerId      64 hexadecimal digits
    ├── NetworkId        64 hexadecimal digits
    └── VolumeName       letters, digits, "_", "." and "-", of which the first is a letter or a digit
    Digest               an image id, a diff id or a chain id: "sha256:" and 64 hexadecimal digits

Files of the data root are untrusted input: after a crash or an attack an id may be empty, truncated or "../../x".
Paths are built from ids only, and functions that remove a directory take an EntryName (host/removal.py). So path
traversal is impossible by construction. Sources: moby pkg/stringid, daemon/graphdriver/overlay2, volume/local;
opencontainers/go-digest.
"""

from __future__ import annotations

import re
from typing import ClassVar, Self


class _Checked(str):
    """A string of a given form. The constructor raises ValueError for any other string."""

    __slots__ = ()
    form: ClassVar[re.Pattern[str]]
    noun: ClassVar[str]
    """Name of the form, for the error message."""

    def __new__(cls, text: str) -> Self:
        # Not match() with "$", which also matches before a newline at the end (re): "id\n" would name another file.
        if not cls.form.fullmatch(text):
            raise ValueError(f"{_shortened(text)} is not {cls.noun}")
        return super().__new__(cls, text)

    @classmethod
    def match(cls, text: str) -> Self | None:
        """Return text as an id, None if it does not match."""
        return cls(text) if cls.form.fullmatch(text) else None


class EntryName(_Checked):
    """The name of an entry of a directory."""

    __slots__ = ()
    # The kernel allows every byte in a name but "/" and NUL, and gives "." and ".." a meaning (path_resolution(7)).
    form = re.compile(r"(?!\.{1,2}\Z)[^/\0]+")
    noun = "the name of a file"


class CacheId(EntryName):
    """The name of a layer's directory in the storage driver."""

    __slots__ = ()
    # dockerd with BuildKit names the layers of builds by BuildKit's own ids; a data root of Docker's has both forms.
    form = re.compile(r"(?:[0-9a-f]{64}|[0-9a-z]{25})(?:-init)?")
    noun = "the id of a layer's directory"


class MountId(CacheId):
    """The name of a container layer, which is not an init layer."""

    __slots__ = ()
    form = re.compile(r"[0-9a-f]{64}|[0-9a-z]{25}")
    noun = "the id of a container's layer"

    @property
    def init(self) -> CacheId:
        """The id of the init layer below this container layer."""
        return CacheId(f"{self}-init")


class ShortName(EntryName):
    """The name of a layer's link in overlay2/l."""

    __slots__ = ()
    # Base 32 (RFC 4648) has no "/", "," or ":", which separate parts of a path and of overlayfs's mount options.
    form = re.compile(r"[A-Z2-7]{26}")
    noun = "the short name of a layer"


class ContainerId(EntryName):
    """The id of a container."""

    # Only the full id. A user may type its beginning; containers/lookup.py finds the id, and paths are built from that.
    __slots__ = ()
    form = re.compile(r"[0-9a-f]{64}")
    noun = "the id of a container"


class NetworkId(EntryName):
    """The id of a network."""

    __slots__ = ()
    form = re.compile(r"[0-9a-f]{64}")
    noun = "the id of a network"


class VolumeName(EntryName):
    """The name of a volume."""

    __slots__ = ()
    form = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}")  # a directory's name has at most NAME_MAX = 255 bytes
    noun = "the name of a volume"


class Digest(_Checked):
    """The digest that identifies an image or a layer."""

    __slots__ = ()
    # go-digest has sha384 and sha512, too, but moby's stores have directories for sha256 only (digest.Canonical).
    form = re.compile(r"sha256:[0-9a-f]{64}")
    noun = "a digest"

    @property
    def hex(self) -> EntryName:
        """The 64 digits, which name files and directories of the stores."""
        return EntryName(self[7:])


def _shortened(text: str) -> str:
    # The text is from a file of unknown content: repr() escapes control characters, which would act on a terminal.
    return repr(text) if len(text) <= 80 else f"{text[:80]!r}…"
