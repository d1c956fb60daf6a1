"""Detach keys: the key sequence that ends `docker attach` without stopping the container, by default ctrl-p ctrl-q.

Sources: the docker command's reference, "docker attach", --detach-keys; ascii(7) for the codes of ctrl keys.
"""

from __future__ import annotations

from pylab_container.errors import InvalidInput

DEFAULT_KEYS = b"\x10\x11"
"""ctrl-p ctrl-q"""


class DetachKeys:
    """Finds the detach sequence in a terminal's input, also if it is split over several reads."""

    def __init__(self, keys: bytes = DEFAULT_KEYS) -> None:
        self._keys = keys
        self._held = b""

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """Return (input for the container, whether the sequence is complete).

        An incomplete sequence at the end of data is held back until the next call completes or refutes it.
        """
        before, matched, _ = (self._held + data).partition(self._keys)
        self._held = b""
        if not matched:
            longest = min(len(before), len(self._keys) - 1)
            held = next((n for n in range(longest, 0, -1) if before.endswith(self._keys[:n])), 0)
            before, self._held = before[: len(before) - held], before[len(before) - held :]
        return before, bool(matched)


def parse_keys(text: str) -> bytes:
    """Parse --detach-keys: "ctrl-p,ctrl-q", or single characters, separated by commas.

    Raises InvalidInput.
    """
    keys = bytearray()
    for key in text.split(","):
        name = key.removeprefix("ctrl-")
        if len(name) != 1 or not name.isascii():
            raise InvalidInput(f"invalid detach keys ({text}): unknown key {key!r}", hint="write ctrl-x or ctrl-x,q")
        if name == key:
            keys += name.encode()
        elif name.islower() or name in "@[\\]^_":
            keys.append(ord(name.upper()) & 0x1F)  # a terminal sends the low five bits with ctrl: ascii(7)
        else:
            raise InvalidInput(f"invalid detach keys ({text}): unknown key {key!r}", hint="write ctrl-x or ctrl-x,q")
    return bytes(keys)
