"""What a daemon does when it starts: containers that are to run always are started, as after a reboot.

Without a daemon nobody is there when the machine comes up; with one (and its systemd unit) restart policies hold
over a reboot as well. A container that still runs is left alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pylab_container.containers.settle import settled
from pylab_container.containers.start import start
from pylab_container.errors import LabError
from pylab_container.oci.lifecycle import ALIVE, State
from pylab_container.text.timestamps import NEVER

if TYPE_CHECKING:
    from pylab_container.engine import Engine
    from pylab_container.store.container_store import ContainerRecord


def start_wanted(engine: Engine) -> list[LabError]:
    """Start what its restart policy wants to run: "always", and "unless-stopped" where nobody stopped it.

    One that cannot be started keeps no other from it; returns what went wrong.
    """
    failures = []
    for record in list(engine.data.records.all()):
        try:
            went_down = record.state in ALIVE and not engine.runtime.bundle(record.id).exists()
            found = settled(engine.data, engine.runtime, record)
            # Whoever reads the record of a container that ran when the machine went down has it restarted by that. But
            # that was no failure of its own: it is started at once, and nothing is counted (as dockerd does).
            if _is_wanted(found) or (went_down and found.state is State.RESTARTING):
                start(engine.data, engine.runtime, record.id, exit_hook=True)
        except LabError as error:
            failures.append(error)
    return failures


def _is_wanted(record: ContainerRecord) -> bool:
    policy = record.host_config.restart_policy.name
    if record.state is not State.EXITED or record.started_at == NEVER:
        return False
    return policy == "always" or (policy == "unless-stopped" and not record.manually_stopped)
