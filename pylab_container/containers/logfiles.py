"""The files of a container's log.

They are two files of this engine, or none that it can read (runtime/log_files.py).
"""

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
    """Return the files to read.

    Raises Unimplemented if the container has no log, or only one in another format.
    """
    if record.host_config.log_config.type == "none":
        raise Unimplemented(_UNREADABLE, hint="create the container without --log-driver none")
    files = LogFiles(records.run_log(record.id), records.log(record.id))
    foreign_log = records.directory(record.id) / "local-logs"
    if foreign_log.exists() and not any(path.exists() for path in files):
        raise Unimplemented(_UNREADABLE, hint=f"dockerd's log driver local wrote {foreign_log}: docker logs shows it")
    return files


def log_path(records: ContainerStore, record: ContainerRecord) -> str:
    """Return the LogPath that inspect shows.

    It is the log of the present run, after that the log of all runs, and "" before the first run.
    """
    if record.state in ALIVE:
        return str(records.run_log(record.id))
    return "" if record.started_at == NEVER else str(records.log(record.id))
