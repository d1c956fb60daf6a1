"""Random ids of containers."""

from __future__ import annotations

import secrets

from pylab_container.oci.ids import ContainerId


def generate_container_id() -> ContainerId:
    """Return a new container's id: 64 hexadecimal digits.

    The first twelve digits are also the container's host name.

    The first twelve are never all decimal: programs such as Apache httpd take a decimal host name for an address and
    cannot resolve it. moby's GenerateRandomID excludes such ids for the same reason.
    """
    while (container_id := secrets.token_hex(32))[:12].isdecimal():
        pass
    return ContainerId(container_id)
