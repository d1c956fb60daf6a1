"""The keys that leave a container without ending it: ctrl-p ctrl-q, if nothing else is said.

Source: the docker command's reference, "docker attach", --detach-keys; ascii(7).
"""

from __future__ import annotations

from pylab_container.errors import InvalidInput

DEFAULT_KEYS = b"\x10\x11"
"""ctrl-p ctrl-q"""


class DetachKeys:
    """Recognises the keys that leave a container in what a person types."""

    def __init__(self, keys: bytes = DEFAULT_KEYS) -> None:
        self._keys = keys
        self._held = b""

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """(what goes to the container, whether the person wants to leave). The first keys wait for what follows."""
        before, found, _ = (self._held + data).partition(self._keys)
        self._held = b""
        if not found:
            longest = min(len(before), len(self._keys) - 1)
            held = next((n for n in range(longest, 0, -1) if before.endswith(self._keys[:n])), 0)
            before, self._held = before[: len(before) - held], before[len(before) - held :]
        return before, bool(found)


def parse_keys(text: str) -> bytes:
    """--detach-keys: "ctrl-p,ctrl-q" or letters, with commas between them. Raises InvalidInput."""
    keys = bytearray()
    for key in text.split(","):
        name = key.removeprefix("ctrl-")
        if len(name) != 1 or not name.isascii():
            raise InvalidInput(f"invalid detach keys ({text}): unknown key {key!r}", hint="write ctrl-x or ctrl-x,q")
        if name == key:
            keys += name.encode()
        elif name.islower() or name in "@[\\]^_":
            keys.append(ord(name.upper()) & 0x1F)  # what the terminal sends: ascii(7)
        else:
            raise InvalidInput(f"invalid detach keys ({text}): unknown key {key!r}", hint="write ctrl-x or ctrl-x,q")
    return bytes(keys)
