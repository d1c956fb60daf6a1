"""Where a container's log is: two files of this engine's, or none that it can read (runtime/log_files.py)."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from pylab_container.errors import Unimplemented
from pylab_container.oci.lifecycle import ALIVE
from pylab_container.store.container_store import ContainerRecord, ContainerStore
from pylab_container.text.timestamps import NEVER

_UNREADABLE = "configured logging driver does not support reading"


class LogFiles(NamedTuple):
    """The log of the present run, and the JSON log of the earlier ones."""

    run: Path
    earlier: Path


def log_files(records: ContainerStore, record: ContainerRecord) -> LogFiles:
    """Return the files to read. Raises Unimplemented if the container has no log, or only one in another format."""
    if record.host_config.log_config.type == "none":
        raise Unimplemented(_UNREADABLE, hint="it was made with --log-driver none")
    found = LogFiles(records.run_log(record.id), records.log(record.id))
    theirs = records.directory(record.id) / "local-logs"
    if theirs.exists() and not any(path.exists() for path in found):
        raise Unimplemented(_UNREADABLE, hint=f"dockerd's log driver local wrote {theirs}: docker logs shows it")
    return found


def log_path(records: ContainerStore, record: ContainerRecord) -> str:
    """Return the LogPath that inspect shows: the log of the present run, after it of all runs; "" before the first."""
    if record.state in ALIVE:
        return str(records.run_log(record.id))
    return "" if record.started_at == NEVER else str(records.log(record.id))
