"""Create volumes: check names and options, emit the event."""

from __future__ import annotations

from collections.abc import Mapping

from pylab_container.errors import InvalidInput, NotFound
from pylab_container.events import VolumeAction
from pylab_container.host.random_ids import random_hex
from pylab_container.oci.ids import VolumeName
from pylab_container.oci.mounts import invalid_name
from pylab_container.store.data_root import DataRoot
from pylab_container.store.volume_store import ANONYMOUS_LABEL, StoredVolume
from pylab_container.volumes.driver_options import check_driver_options

_TOO_SHORT = "volume name is too short, names should be at least two alphanumeric characters"


def create(
    data: DataRoot,
    name: str | None,
    *,
    driver: str = "local",
    options: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
) -> StoredVolume:
    """Create a volume, or return the existing volume of this name.

    name     None generates one and marks the volume as anonymous
    options  of the file system to mount (driver_options.py)

    Raises InvalidInput, and NotFound for an unknown driver.
    """
    if driver != "local":
        raise NotFound(
            f'create {name or ""}: error looking up volume plugin {driver}: plugin "{driver}" not found',
            hint="use local",
        )
    with data.volumes.lock():
        if name:
            return ensure(data, name, labels, options)
        return ensure(data, random_hex(32), {**(labels or {}), ANONYMOUS_LABEL: ""}, options)


def ensure(
    data: DataRoot, name: str, labels: Mapping[str, str] | None = None, options: Mapping[str, str] | None = None
) -> StoredVolume:
    """Create a volume or return the existing one. The caller holds data.volumes.lock(). Raises InvalidInput."""
    try:
        check_driver_options(options or {})
    except InvalidInput as error:
        raise InvalidInput(f"create {name}: {error.message}", hint=error.hint) from None
    valid = VolumeName.match(name)
    if valid is None or len(name) < 2:
        reason = _TOO_SHORT if len(name) == 1 else invalid_name(name)
        raise InvalidInput(f"create {name}: {reason}", hint="choose two or more letters, digits, _ . and -")
    volume = data.volumes.ensure(valid, labels, options)
    data.emit(VolumeAction("create", name))  # also for an existing volume, as dockerd 20.10 does
    return volume
