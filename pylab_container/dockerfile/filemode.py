"""The modes that COPY --chmod takes: octal as "755", symbolic as "u=rwX,go-w" (chmod(1p), "Operands").

A symbolic mode starts from the mode that a file has, and no umask counts: "+x" is "a+x".
Set-id and sticky bits are those of BSD's setmode(3), which BuildKit follows: "=" of a class
takes its set-id bit away, from directories too, and the sticky bit goes and comes only by "t".
"""

from __future__ import annotations

import re

from msgspec import Struct

from pylab_container.errors import InvalidInput

_CLASSES = {"u": 0o4700, "g": 0o2070, "o": 0o0007}
_READ, _WRITE, _EXECUTE = 0o444, 0o222, 0o111
_SET_ID, _STICKY = 0o6000, 0o1000
_CLAUSE = re.compile(r"(?P<who>[ugoa]*)(?P<changes>(?:[+=-](?:[ugo]|[rwxXst]*))+)")
_CHANGE = re.compile(r"([+=-])([ugo]|[rwxXst]*)")


class FileMode(Struct, frozen=True):
    """A mode to set, or changes to make to a mode.

    octal    the mode itself; None for a symbolic one
    changes  of a symbolic one: classes as "ug" or "", operator, permissions as "rX" or a class to copy from
    """

    octal: int | None
    changes: tuple[tuple[str, str, str], ...] = ()

    @classmethod
    def parse(cls, text: str) -> FileMode:
        """The mode that is written so. Raises InvalidInput."""
        if re.fullmatch(r"[0-7]+", text):
            if int(text, 8) <= 0o7777:
                return cls(int(text, 8))
        elif not text[:1].isdigit() and (changes := _parse_symbolic(text)):
            return cls(None, changes)
        raise InvalidInput(
            f"invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777",
            hint="write a mode as 644, or changes as u=rwX,go=rX",
        )

    def apply(self, mode: int, *, is_directory: bool) -> int:
        """The permissions and set-id bits of something that has these now."""
        if self.octal is not None:
            return self.octal
        may_execute = is_directory or bool(mode & _EXECUTE)
        for who, operator, permissions in self.changes:
            mode = _changed(mode, who, operator, permissions, may_execute=may_execute)
        return mode & 0o7777


def _parse_symbolic(text: str) -> tuple[tuple[str, str, str], ...]:
    changes = []
    for clause in text.split(","):
        match = _CLAUSE.fullmatch(clause)
        if not match:
            return ()
        changes += [(match["who"], *change) for change in _CHANGE.findall(match["changes"])]
    return tuple(changes)


def _changed(mode: int, who: str, operator: str, permissions: str, *, may_execute: bool) -> int:
    classes = "ugo" if not who or "a" in who else who
    reach = 0
    for each in classes:
        reach |= _CLASSES[each]
    if "t" in permissions and set(classes) != {"o"}:
        reach |= _STICKY
    bits = (
        _copied(mode, permissions) if permissions in ("u", "g", "o") else _named(permissions, may_execute=may_execute)
    )
    if operator == "+":
        return mode | (bits & reach)
    if operator == "-":
        return mode & ~(bits & reach)
    return (mode & ~reach) | (bits & reach)


def _copied(mode: int, source: str) -> int:
    """The permissions of one class, for all classes."""
    shift = {"u": 6, "g": 3, "o": 0}[source]
    return ((mode >> shift) & 0o7) * 0o111


def _named(permissions: str, *, may_execute: bool) -> int:
    letters = {"r": _READ, "w": _WRITE, "x": _EXECUTE, "s": _SET_ID, "t": _STICKY}
    letters["X"] = _EXECUTE if may_execute else 0
    bits = 0
    for letter in permissions:
        bits |= letters[letter]
    return bits
