"""How fast a container may read and write the machine's disks: --device-read-bps and the like.

Docker's fields are lists of {"Path": "/dev/sda", "Rate": bytes or operations a second}; so are docker-py's keywords.
The kernel knows a disk by its numbers alone (admin-guide/cgroup-v1/blkio-controller.rst; admin-guide/cgroup-v2.rst,
"io.max").
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from pylab_container.errors import InvalidInput
from pylab_container.text import sizes

FIELDS = {
    "device_read_bps": "BlkioDeviceReadBps",
    "device_read_iops": "BlkioDeviceReadIOps",
    "device_write_bps": "BlkioDeviceWriteBps",
    "device_write_iops": "BlkioDeviceWriteIOps",
}
"""docker-py's keywords, and the fields of HostConfig that they become."""
WEIGHTS = "BlkioWeightDevice"
"""The field of what single disks weigh: a list of {"Path": "/dev/sda", "Weight": 10 to 1000}."""


class Throttle(Struct, frozen=True):
    """A limit of one disk.

    kind  the field of HostConfig that it is of
    rate  bytes or operations a second, or a weight
    """

    kind: str
    major: int
    minor: int
    rate: int


def rates(documents: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One of Docker's lists, each entry with its two fields. Raises InvalidInput."""
    found = []
    for document in documents:
        path, rate = document.get("Path"), document.get("Rate")
        if not isinstance(path, str) or not path.startswith("/dev/") or not isinstance(rate, int) or rate < 0:
            raise InvalidInput(f"invalid limit of a disk: {dict(document)}", hint='{"Path": "/dev/sda", "Rate": 1000}')
        found.append({"Path": path, "Rate": rate})
    return found


def weights(documents: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The list of what single disks weigh, each entry with its two fields."""
    return [{"Path": str(one.get("Path") or ""), "Weight": int(one.get("Weight") or 0)} for one in documents]


def parse_rate(text: str, *, unit: bool) -> dict[str, Any]:
    """`--device-read-bps /dev/sda:1mb`, or without a unit `--device-read-iops /dev/sda:100`. Raises InvalidInput."""
    path, colon, rate = text.partition(":")
    if not colon:
        raise InvalidInput(f"bad format: {text}", hint="write DEVICE:RATE")
    if not path.startswith("/dev/"):
        raise InvalidInput(f"bad format for device path: {text}", hint="lsblk -p lists the disks")
    form = r"\d{1,18}(kb|mb|gb|[bkmg])?" if unit else r"\d{1,18}"
    if not re.fullmatch(form, rate, re.ASCII | re.IGNORECASE):
        units = "[<unit>]. Number must be a positive integer. Unit is optional and can be kb, mb, or gb"
        correct = f"<device-path>:<number>{units if unit else '. Number must be a positive integer'}"
        raise InvalidInput(f"invalid rate for device: {text}. The correct format is {correct}", hint="/dev/sda:1000")
    return {"Path": path, "Rate": sizes.parse(rate)}


def resources(throttles: Sequence[Throttle]) -> dict[str, Any]:
    """The same as linux.resources.blockIO of config.json (OCI Runtime Specification 1.0.2, config-linux.md)."""
    lists: dict[str, list[dict[str, int]]] = {}
    for throttle in throttles:
        weight = throttle.kind == WEIGHTS
        name = throttle.kind.replace("BlkioDevice", "throttle").replace("IOps", "IOPS") + "Device"
        lists.setdefault("weightDevice" if weight else name, []).append(
            {"major": throttle.major, "minor": throttle.minor, "weight" if weight else "rate": throttle.rate}
        )
    return lists
