"""Users and groups of a container, looked up in the /etc/passwd and /etc/group of its own root.

The kernel knows numbers only. A name is defined by the image's files, never by the machine's: www-data may be 33 in
one image and 82 in the next. Sources: passwd(5), group(5); opencontainers/runc, libcontainer/user, which dockerd uses.
"""

from __future__ import annotations

import re

from msgspec import Struct

from pylab_container.errors import InvalidInput

_MAXIMUM_ID = 2**31 - 1  # libcontainer/user, maxID


class User(Struct, frozen=True, kw_only=True):
    """Credentials of a process, as numbers."""

    uid: int = 0
    gid: int = 0
    additional_gids: tuple[int, ...] = ()


def find_user(user: str, *, passwd: str, group: str) -> tuple[User, str]:
    """Resolve "name", "uid", "name:group" or "uid:gid". Returns (credentials, home directory).

    user           "" is uid 0
    passwd, group  text of the container's /etc/passwd and /etc/group; "" if the image has none

    A number needs no entry; without one its group is 0 and its home directory "/". A user with an entry also gets the
    groups that list it as a member, unless the caller names a group.

    Raises InvalidInput.
    """
    name, _, group_name = user.partition(":")
    entry = _find_entry(name or "0", passwd, columns=7)
    if entry is not None:
        uid, gid, home = int(entry[2]), int(entry[3]), entry[5] or "/"
    else:
        uid, gid, home = _number(name or "0", kind="user", file="/etc/passwd"), 0, "/"
    if group_name:
        gid, supplementary = find_group(group_name, group), []
    else:
        supplementary = _groups_of(entry[0], group) if entry is not None else []
    # The primary group is listed too. A file's mode may deny access to a group, and without the entry a process could
    # leave the group by changing its gid, with a set-gid program for example (CVE-2022-36109).
    additional = tuple(dict.fromkeys([gid, *supplementary]))
    return User(uid=uid, gid=gid, additional_gids=additional), home


def find_group(name: str, text: str) -> int:
    """Return the gid of a group's name or number. text: a group(5) file. Raises InvalidInput."""
    entry = _find_entry(name, text, columns=4)
    return int(entry[2]) if entry is not None else _number(name, kind="group", file="/etc/group")


def _find_entry(name: str, text: str, *, columns: int) -> list[str] | None:
    """Return the first entry with this name or number (column 0 or 2)."""
    return next((entry for entry in _entries(text, columns=columns) if name in (entry[0], entry[2])), None)


def _entries(text: str, *, columns: int) -> list[list[str]]:
    # An image can contain any text as its /etc/passwd: malformed lines are skipped, as in libc.
    lines = [line.strip().split(":") for line in text.splitlines()]
    numeric = slice(2, 4 if columns == 7 else 3)  # uid and gid, or gid alone
    return [
        entry
        for entry in lines
        if len(entry) >= columns and all(number.isascii() and number.isdigit() for number in entry[numeric])
    ]


def _groups_of(user_name: str, text: str) -> list[int]:
    return [int(entry[2]) for entry in _entries(text, columns=4) if user_name in entry[3].split(",")]


def _number(text: str, *, kind: str, file: str) -> int:
    if re.fullmatch(r"-?\d+", text, re.ASCII) and not 0 <= int(text) <= _MAXIMUM_ID:
        raise InvalidInput(f"uids and gids must be in range 0-{_MAXIMUM_ID}", hint=f"choose another {kind}")
    if not (text.isascii() and text.isdigit()):
        raise InvalidInput(
            f"unable to find {kind} {text}: no matching entries in {file.rpartition('/')[2]} file",
            hint=f"create it in the image (RUN {kind}add {text}), or use a number",
        )
    return int(text)
