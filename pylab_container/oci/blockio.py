"""Limits for a container's disk I/O: --device-read-bps and its relatives.

HostConfig and docker-py have lists of {"Path": "/dev/sda", "Rate": bytes or operations per second}. The kernel
identifies a disk by its device numbers only (admin-guide/cgroup-v1/blkio-controller.rst; admin-guide/cgroup-v2.rst,
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
"""docker-py's keyword -> field of HostConfig."""
WEIGHTS = "BlkioWeightDevice"
"""Field of HostConfig for the weights of single disks: a list of {"Path": "/dev/sda", "Weight": 10 to 1000}."""


class Throttle(Struct, frozen=True):
    """A limit for one disk.

    kind  field of HostConfig: a value of FIELDS, or WEIGHTS
    rate  bytes or operations per second, or a weight
    """

    kind: str
    major: int
    minor: int
    rate: int


def rates(documents: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Validate one of Docker's lists of rates. Raises InvalidInput."""
    valid = []
    for document in documents:
        path, rate = document.get("Path"), document.get("Rate")
        if not isinstance(path, str) or not path.startswith("/dev/") or not isinstance(rate, int) or rate < 0:
            raise InvalidInput(f"invalid limit of a disk: {dict(document)}", hint='{"Path": "/dev/sda", "Rate": 1000}')
        valid.append({"Path": path, "Rate": rate})
    return valid


def weights(documents: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the list of weights of single disks with both fields set in each entry."""
    return [{"Path": str(entry.get("Path") or ""), "Weight": int(entry.get("Weight") or 0)} for entry in documents]


def parse_rate(text: str, *, unit: bool) -> dict[str, Any]:
    """Parse DEVICE:RATE: "/dev/sda:1mb", or without a unit "/dev/sda:100" for operations. Raises InvalidInput."""
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
    """Return linux.resources.blockIO of config.json (OCI Runtime Specification 1.0.2, config-linux.md)."""
    lists: dict[str, list[dict[str, int]]] = {}
    for throttle in throttles:
        is_weight = throttle.kind == WEIGHTS
        # BlkioDeviceReadIOps in HostConfig is throttleReadIOPSDevice in config.json.
        name = throttle.kind.replace("BlkioDevice", "throttle").replace("IOps", "IOPS") + "Device"
        lists.setdefault("weightDevice" if is_weight else name, []).append(
            {"major": throttle.major, "minor": throttle.minor, "weight" if is_weight else "rate": throttle.rate}
        )
    return lists
