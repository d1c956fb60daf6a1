"""What a daemon does when it starts: containers that are to run always are started, as after a reboot.

Without a daemon nobody is there when the machine comes up; with one (and its systemd unit) restart policies hold
over a reboot as well. A container that still runs is left alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pylab_container.engine.containers import lifetime
from pylab_container.errors import LabError
from pylab_container.formats.lifecycle import State
from pylab_container.formats.timestamps import NEVER

if TYPE_CHECKING:
    from pylab_container.engine import Engine
    from pylab_container.store.records import ContainerRecord


def start_wanted(engine: Engine) -> list[LabError]:
    """Start what its restart policy wants to run: "always", and "unless-stopped" where nobody stopped it.

    One that cannot be started keeps no other from it; returns what went wrong.
    """
    failures = []
    for record in list(engine.records.all()):
        try:
            # Whoever reads the record of a container that ran when the machine went down starts it again by that.
            if _is_wanted(lifetime.settled(engine, record)):
                lifetime.start(engine, record.id, exit_hook=True)
        except LabError as error:
            failures.append(error)
    return failures


def _is_wanted(record: ContainerRecord) -> bool:
    policy = (record.host_config.get("RestartPolicy") or {}).get("Name")
    if record.state is not State.EXITED or record.started_at == NEVER:
        return False
    return policy == "always" or (policy == "unless-stopped" and not record.manually_stopped)
