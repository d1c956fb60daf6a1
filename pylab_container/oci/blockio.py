"""Limits for a container's disk I/O: --device-read-bps and its relatives.

Docker and docker-py have lists of {"Path": "/dev/sda", "Rate": bytes or operations per second}. The kernel
identifies a disk by its device numbers only (admin-guide/cgroup-v1/blkio-controller.rst; admin-guide/cgroup-v2.rst,
"io.max").
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from pylab_container.errors import InvalidInput
from pylab_container.oci.document import Document
from pylab_container.text import sizes

RATES = ("device_read_bps", "device_read_iops", "device_write_bps", "device_write_iops")
"""docker-py's keywords; the attributes of HostConfig have the prefix blkio_."""


class ThrottleDevice(Document, frozen=True):
    """A limit for one disk: rate is in bytes or operations per second."""

    path: str = ""
    rate: int = 0


class WeightDevice(Document, frozen=True):
    """The weight of a container at one disk, 10 to 1000."""

    path: str = ""
    weight: int = 0


class Throttle(Struct, frozen=True):
    """A limit for one disk as the runtime takes it.

    kind  the list in linux.resources.blockIO that it belongs to
    rate  bytes or operations per second, or a weight
    """

    kind: str
    major: int
    minor: int
    rate: int


def rates(documents: Sequence[Mapping[str, Any]]) -> tuple[ThrottleDevice, ...]:
    """Validate one of docker-py's lists of rates. Raises InvalidInput."""
    devices = []
    for document in documents:
        path, rate = document.get("Path"), document.get("Rate")
        if not isinstance(path, str) or not path.startswith("/dev/") or not isinstance(rate, int) or rate < 0:
            raise InvalidInput(f"invalid limit of a disk: {dict(document)}", hint='{"Path": "/dev/sda", "Rate": 1000}')
        devices.append(ThrottleDevice(path=path, rate=rate))
    return tuple(devices)


def weights(documents: Sequence[Mapping[str, Any]]) -> tuple[WeightDevice, ...]:
    """Parse docker-py's list of weights."""
    return tuple(
        WeightDevice(path=str(document.get("Path") or ""), weight=int(document.get("Weight") or 0))
        for document in documents
    )


def parse_rate(text: str, *, unit: bool) -> dict[str, Any]:
    """Parse DEVICE:RATE: "/dev/sda:1mb", or without a unit "/dev/sda:100" for operations.

    Raises InvalidInput.
    """
    path, colon, rate = text.partition(":")
    if not colon:
        raise InvalidInput(f"bad format: {text}", hint="write DEVICE:RATE")
    if not path.startswith("/dev/"):
        raise InvalidInput(f"bad format for device path: {text}", hint="lsblk -p lists the disks")
    form = r"\d{1,18}(kb|mb|gb|[bkmg])?" if unit else r"\d{1,18}"
    if not re.fullmatch(form, rate, re.ASCII | re.IGNORECASE):
        units = "[<unit>]. Number must be a positive integer. Unit is optional and can be kb, mb, or gb"
        correct = f"<device-path>:<number>{units if unit else '. Number must be a positive integer'}"
        raise InvalidInput(
            f"invalid rate for device: {text}. The correct format is {correct}", hint="write /dev/sda:1000"
        )
    return {"Path": path, "Rate": sizes.parse(rate)}


def resources(throttles: Sequence[Throttle]) -> dict[str, Any]:
    """Return linux.resources.blockIO of config.json (OCI runtime-spec config-linux.md)."""
    lists: dict[str, list[dict[str, int]]] = {}
    for throttle in throttles:
        value = "weight" if throttle.kind == "weightDevice" else "rate"
        lists.setdefault(throttle.kind, []).append(
            {"major": throttle.major, "minor": throttle.minor, value: throttle.rate}
        )
    return lists
