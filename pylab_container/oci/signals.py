"""Signal numbers and names, as STOPSIGNAL and `docker kill` take them. Source: signal(7)."""

from __future__ import annotations

import re
import signal

from pylab_container.errors import InvalidInput

_HINT = "man 7 signal lists them"


def signal_number(name: str | int) -> int:
    """Parse a signal: a number, or a name with or without SIG, such as SIGRTMIN+3.

    Raises InvalidInput.
    """
    text = str(name).upper()
    if text.isascii() and text.isdigit() and 1 <= int(text) <= signal.SIGRTMAX:
        return int(text)
    text = text.removeprefix("SIG")
    # Real-time signals have no fixed numbers: glibc reserves the first two for its threads (signal(7)). systemd images
    # have STOPSIGNAL SIGRTMIN+3.
    if match := re.fullmatch(r"(RTMIN|RTMAX)(?:([+-])(\d{1,2}))?", text, re.ASCII):
        offset = int(f"{match[2] or '+'}{match[3] or 0}")
        number = (signal.SIGRTMIN if match[1] == "RTMIN" else signal.SIGRTMAX) + offset
        if signal.SIGRTMIN <= number <= signal.SIGRTMAX:
            return number
    try:
        return signal.Signals[f"SIG{text}"]
    except KeyError:
        raise InvalidInput(f"Invalid signal: {name}", hint=_HINT) from None
