"""Finding containers by name or id. Records are returned as they were last written; settle.py corrects them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pylab_container.containers import random_names
from pylab_container.errors import Conflict, ContainerNotFound, InvalidInput, LabError
from pylab_container.networks import links
from pylab_container.store.container_store import ContainerRecord, ContainerStore

_NAME = r"[a-zA-Z0-9][a-zA-Z0-9_.-]+"


def no_such_container(name: str) -> ContainerNotFound:
    """Build the error for an unknown container."""
    return ContainerNotFound(f"No such container: {name}", hint="labctr ps -a lists the containers")


def read(records: ContainerStore, container_id: str) -> ContainerRecord:
    """Return the record of an id as it was last written. Raises ContainerNotFound."""
    record = records.load(container_id)
    if record is None:
        raise no_such_container(container_id[:12])
    return record


def find(records: ContainerStore, name: str) -> ContainerRecord:
    """Return the record of the container with this name, id or prefix of an id, or link "CONTAINER/ALIAS".

    Raises ContainerNotFound; InvalidInput if several ids have the prefix; CorruptStore if a damaged record seems to
    be the one.
    """
    candidates = list(records.all())
    text = name.removeprefix("/")
    matches = [record for record in candidates if text in (record.name, record.id)]
    if "/" in text:
        link_names = links.names(candidates)
        matches = [record for record in candidates if f"/{text}" in link_names.get(record.id, ())]
    matches = matches or [record for record in candidates if text and record.id.startswith(text)]
    if not matches:
        raise _not_found(records, name)
    if len(matches) > 1:
        raise InvalidInput(f'"{name}" is the beginning of {len(matches)} container ids', hint="write more digits")
    return matches[0]


def _not_found(records: ContainerStore, name: str) -> LabError:
    """Build the error for an unknown name: CorruptStore if a damaged record may have it, else ContainerNotFound."""
    damaged = records.damaged()
    text = name.removeprefix("/")
    for container_id, error in damaged.items():
        if (text and container_id.startswith(text)) or records.mentions(container_id, text):
            return error
    missing = no_such_container(name)
    if damaged:
        missing.hint = f"{missing.hint}; labctr system fsck says which of them are damaged"
    return missing


def choose_name(requested: str, records: Iterable[ContainerRecord]) -> str:
    """Return the requested name, or a generated one for "". The caller holds the lock of all names.

    records  of all containers

    Raises InvalidInput, and Conflict for a name that is in use.
    """
    used = {record.name: record for record in records}
    if not requested:
        return next(name for name in iter(random_names.generate, None) if name not in used)
    if not re.fullmatch(_NAME, requested):
        raise InvalidInput(
            f"Invalid container name ({requested}), only {_NAME[:-1]} are allowed",
            hint="choose letters, digits, _ . and -",
        )
    if requested in used:
        raise Conflict(
            f'Conflict. The container name "/{requested}" is already in use by container "{used[requested].id}". '
            "You have to remove (or rename) that container to be able to reuse that name.",
            hint=f"remove it (labctr rm -f {requested}) or choose another name",
        )
    return requested
