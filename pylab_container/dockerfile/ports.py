"""The ports in the arguments of EXPOSE: "80", "80/udp", "8000-8010/tcp"."""

from __future__ import annotations

import re

from pylab_container.errors import InvalidInput

MOST_PORTS = 3 * 65535  # all of tcp, udp and sctp


def exposed_ports(*texts: str) -> tuple[str, ...]:
    """Return the ports in arguments of EXPOSE, each as "80/tcp"; "80-82/udp" gives three.

    Raises InvalidInput.
    """
    # An image config has an entry for each port, so the number of ports is limited before they are listed.
    # dict.fromkeys() removes duplicates and keeps the order.
    ranges = dict.fromkeys(map(port_range, texts))
    if sum(last - first + 1 for first, last, _ in ranges) > MOST_PORTS:
        raise InvalidInput(f"EXPOSE names more than {MOST_PORTS} ports", hint="ranges that overlap count twice")
    return tuple(f"{port}/{protocol}" for first, last, protocol in ranges for port in range(first, last + 1))


def port_range(text: str) -> tuple[int, int, str]:
    """Parse an argument of EXPOSE. Returns (first port, last port, protocol).

    Raises InvalidInput.

    An address or a port of the host before the last colon is ignored, as in Docker.
    """
    # re.ASCII, since \d and IGNORECASE match characters of other scripts: "٣" and "ſ".
    match = re.fullmatch(
        r"(?:[0-9a-f.:\[\]-]*:)?(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp)?)?", text, re.IGNORECASE | re.ASCII
    )
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
    if not match or first > last or last > 65535:
        raise InvalidInput(
            f'"{text}" is no port', hint="write a number from 1 to 65535, or two as 80-90, and /tcp or /udp if you like"
        )
    return first, last, (match[3] or "tcp").lower()
