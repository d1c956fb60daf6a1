"""Running a new container in the foreground, to its exit."""

from __future__ import annotations

from pylab_container.containers.settle import read_settled
from pylab_container.containers.start import start
from pylab_container.containers.waiting import PastEvents, wait
from pylab_container.errors import ContainerFailed
from pylab_container.oci.ids import ContainerId
from pylab_container.runtime import Runtime
from pylab_container.store.data_root import DataRoot


def run_to_exit(data: DataRoot, runtime: Runtime, events: PastEvents, container_id: ContainerId) -> bytes:
    """Start a container attached → collect its output → wait for its exit.

    Return its standard output.

    Raises ContainerFailed, with the output in .output, for an exit status other than 0; and the errors of start().
    """
    pieces: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
    record = read_settled(data, runtime, container_id)  # now, because its exit may remove it
    attachment = start(data, runtime, container_id, exit_hook=False, clients=1)
    assert attachment is not None
    with attachment:
        while (packet := attachment.receive()) is not None:
            stream, piece = packet
            pieces[stream].append(piece)
    status = wait(data, runtime, events, container_id)
    output, errors = b"".join(pieces["stdout"]), b"".join(pieces["stderr"])
    if status != 0:
        command = " ".join([record.path, *record.args])
        raise ContainerFailed(
            f"the command {command!r} in container {record.name} ended with status {status}",
            hint=errors.decode(errors="replace").strip()[-500:] or "its output is in .output",
            status=status,
            output=output + errors,
        )
    return output
