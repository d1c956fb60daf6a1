"""The start of the daemon: start the containers whose restart policy requires it.

Without a daemon, no process of the engine runs after a reboot until a user types a command. With the daemon as a
systemd unit, restart policies hold across reboots. A container that is still running is left alone.
"""

from __future__ import annotations

from pylab_container.containers.settle import settled
from pylab_container.containers.start import start
from pylab_container.errors import LabError
from pylab_container.maintenance.failures import explain
from pylab_container.oci.lifecycle import ALIVE, State
from pylab_container.runtime import Runtime
from pylab_container.store.container_store import ContainerRecord
from pylab_container.store.data_root import DataRoot
from pylab_container.text.timestamps import NEVER


def start_by_policy(data: DataRoot, runtime: Runtime) -> list[LabError]:
    """Start the containers whose restart policy requires it, as after a reboot, and return the errors.

    These have the policy "always", or "unless-stopped" if no user has stopped them. A container that cannot be started
    does not prevent the start of others. Hints name the machine's missing features (failures.py).
    """
    errors = []
    for stored in list(data.records.all()):
        try:
            was_running = stored.state in ALIVE and not runtime.bundle(stored.id).exists()
            record = settled(data, runtime, stored)
            # settled() schedules a restart for a container that was running when the machine went down. That exit was
            # not a failure of the container: as in dockerd it is started at once, and no restart is counted.
            if _is_required(record) or (was_running and record.state is State.RESTARTING):
                start(data, runtime, record.id, exit_hook=True)
        except LabError as error:
            explain(error, data.path)
            errors.append(error)
    return errors


def _is_required(record: ContainerRecord) -> bool:
    policy = record.host_config.restart_policy.name
    if record.state is not State.EXITED or record.started_at == NEVER:
        return False
    return policy == "always" or (policy == "unless-stopped" and not record.manually_stopped)
