"""Renaming a container."""

from __future__ import annotations

from pylab_container.containers.change_events import emit_change
from pylab_container.containers.lookup import choose_name, read
from pylab_container.errors import Conflict, InvalidInput
from pylab_container.networks import dns_records
from pylab_container.oci.ids import ContainerId
from pylab_container.oci.lifecycle import Transition, next_state
from pylab_container.runtime import Runtime
from pylab_container.store.data_root import DataRoot


def rename(data: DataRoot, runtime: Runtime, container_id: ContainerId, name: str) -> None:
    """Give a container another name, also in the name server.

    Raises Conflict for a used name, InvalidInput.
    """
    new_name = name.removeprefix("/")
    if not new_name:
        raise InvalidInput("Neither old nor new names may be empty", hint="labctr rename OLD NEW")
    with data.records.lock_names(), data.records.lock(container_id):
        record = read(data.records, container_id)
        if record.name == new_name:
            raise InvalidInput(
                "Renaming a container with the same name as its current name", hint="choose another name"
            )
        next_state(record.state, Transition.RENAME, container=record.name, container_id=record.id)
        try:
            chosen = choose_name(new_name, data.records.all())
        except (InvalidInput, Conflict) as error:
            raise type(error)(f"Error when allocating new name: {error.message}", hint=error.hint) from None
        renamed = data.records.update(record, name=chosen)
        dns_records.update(data, runtime, renamed)
    emit_change(data.emit, "renamed", renamed, attributes={"oldName": f"/{record.name}"})
