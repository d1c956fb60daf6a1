"""File modes of COPY --chmod: octal "755", or symbolic "u=rwX,go-w" (chmod(1p), "OPERANDS").

A symbolic mode changes the file's present mode, and no umask applies: "+x" is "a+x". Set-id and sticky bits follow
BSD's setmode(3), as in BuildKit: "=" clears the set-id bit of its class, for directories too, and only "t" changes
the sticky bit.
"""

from __future__ import annotations

import re

from msgspec import Struct

from pylab_container.errors import InvalidInput

_CLASSES = {"u": 0o4700, "g": 0o2070, "o": 0o0007}
_READ, _WRITE, _EXECUTE = 0o444, 0o222, 0o111
_SET_ID, _STICKY = 0o6000, 0o1000
_CLAUSE = re.compile(r"(?P<classes>[ugoa]*)(?P<changes>(?:[+=-](?:[ugo]|[rwxXst]*))+)")
_CHANGE = re.compile(r"([+=-])([ugo]|[rwxXst]*)")


class FileMode(Struct, frozen=True):
    """A mode, or changes to a mode.

    octal    the mode; None if it is symbolic
    changes  (classes, operator, permissions) of a symbolic mode: classes "ug" or "" for all, operator "+", "-" or "=",
             permissions "rX" or a class to copy from
    """

    octal: int | None
    changes: tuple[tuple[str, str, str], ...] = ()

    @classmethod
    def parse(cls, text: str) -> FileMode:
        """Parse a mode. Raises InvalidInput."""
        if re.fullmatch(r"[0-7]+", text):
            if int(text, 8) <= 0o7777:
                return cls(int(text, 8))
        elif not text[:1].isdigit() and (changes := _parse_symbolic(text)):
            return cls(None, changes)
        raise InvalidInput(
            f"invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777",
            hint="write a mode such as 644, or changes such as u=rwX,go=rX",
        )

    def apply(self, mode: int, *, is_directory: bool) -> int:
        """Return the new mode of a file that has this mode. Both without the file type."""
        if self.octal is not None:
            return self.octal
        # X refers to the mode before all changes: in "a-x,a+X" a program stays executable.
        may_execute = is_directory or bool(mode & _EXECUTE)
        for classes, operator, permissions in self.changes:
            mode = _changed(mode, classes, operator, permissions, may_execute=may_execute)
        return mode & 0o7777


def _parse_symbolic(text: str) -> tuple[tuple[str, str, str], ...]:
    changes = []
    for clause in text.split(","):
        match = _CLAUSE.fullmatch(clause)
        if not match:
            return ()
        changes += [(match["classes"], *change) for change in _CHANGE.findall(match["changes"])]
    return tuple(changes)


def _changed(mode: int, classes: str, operator: str, permissions: str, *, may_execute: bool) -> int:
    classes = "ugo" if not classes or "a" in classes else classes
    mask = 0
    for name in classes:
        mask |= _CLASSES[name]
    if "t" in permissions and set(classes) != {"o"}:
        mask |= _STICKY
    bits = (
        _copied(mode, permissions) if permissions in ("u", "g", "o") else _named(permissions, may_execute=may_execute)
    )
    if operator == "+":
        return mode | (bits & mask)
    if operator == "-":
        return mode & ~(bits & mask)
    return (mode & ~mask) | (bits & mask)


def _copied(mode: int, source: str) -> int:
    """Return the permissions of one class, repeated for all three."""
    shift = {"u": 6, "g": 3, "o": 0}[source]
    return ((mode >> shift) & 0o7) * 0o111


def _named(permissions: str, *, may_execute: bool) -> int:
    """Return the bits of permission letters, for all classes."""
    letters = {"r": _READ, "w": _WRITE, "x": _EXECUTE, "s": _SET_ID, "t": _STICKY}
    letters["X"] = _EXECUTE if may_execute else 0
    bits = 0
    for letter in permissions:
        bits |= letters[letter]
    return bits
