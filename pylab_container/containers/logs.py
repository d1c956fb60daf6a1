"""Read a container's log: the lines of its present run and of the earlier ones."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

from pylab_container.containers.logfiles import log_files
from pylab_container.oci.lifecycle import ALIVE
from pylab_container.runtime import Runtime
from pylab_container.runtime.logs import LogLine, LogReader, read_log
from pylab_container.store.container_store import ContainerRecord
from pylab_container.store.data_root import DataRoot

FOLLOW_POLL_INTERVAL = 0.05  # seconds between reads of the log while the container runs


def log_lines(
    data: DataRoot,
    runtime: Runtime,
    record: ContainerRecord,
    *,
    follow: bool = False,
    tail: int | None = None,
    since: float | None = None,
    until: float | None = None,
    stop: threading.Event | None = None,
    damaged: Callable[[int], object] = lambda count: None,
) -> Iterator[LogLine]:
    """Yield the lines of a container's log.

    Container.log_lines() describes the arguments. record is settled.
    """
    follower = None
    log, earlier = log_files(data.records, record)
    if follow and record.state in ALIVE:
        monitor = runtime.monitor(record.id)

        def follower() -> bool:
            stopped = stop is not None and stop.is_set()
            return not stopped and (until is None or time.time() < until) and monitor.runs_after(FOLLOW_POLL_INTERVAL)

    return read_log(log, earlier=earlier, follow=follower, tail=tail, since=since, until=until, damaged=damaged)


def log_reader(
    data: DataRoot,
    record: ContainerRecord,
    *,
    tail: int | None = None,
    since: float | None = None,
    until: float | None = None,
) -> LogReader:
    """Return the log for a caller that waits for new lines itself. record is settled."""
    log, earlier = log_files(data.records, record)
    return LogReader(log, earlier=earlier, tail=tail, since=since, until=until)


def log_text(
    data: DataRoot,
    runtime: Runtime,
    record: ContainerRecord,
    *,
    stdout: bool,
    stderr: bool,
    timestamps: bool,
    tail: int | None,
) -> bytes:
    """Return the log so far as one text.

    stdout, stderr  whether to include the lines of this stream
    timestamps      begin each line with its time
    tail            number of lines at the end, of both streams; None for all
    """
    is_shown = {"stdout": stdout, "stderr": stderr}
    stamp = "{0.time} ".format if timestamps else "".format
    lines = [line for line in log_lines(data, runtime, record, tail=tail) if is_shown[line.stream]]
    return b"".join((b"" if line.continued else stamp(line).encode()) + line.data for line in lines)
