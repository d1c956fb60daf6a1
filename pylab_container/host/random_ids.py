"""Random ids of containers, volumes, networks and temporary files."""

from __future__ import annotations

import os

from pylab_container.oci.ids import ContainerId


def random_hex(size_bytes: int) -> str:
    """Return random bytes as hexadecimal digits, two a byte.

    As secrets.token_hex(). The module secrets also imports random and hmac, which costs each command 3 ms.
    """
    return os.urandom(size_bytes).hex()


def generate_container_id() -> ContainerId:
    """Return a new container's id: 64 hexadecimal digits.

    The first twelve digits are also the container's host name.

    The first twelve are never all decimal: programs such as Apache httpd take a decimal host name for an address and
    cannot resolve it. moby's GenerateRandomID excludes such ids for the same reason.
    """
    while (container_id := random_hex(32))[:12].isdecimal():
        pass
    return ContainerId(container_id)
