"""Killing an engine in the middle of what it does."""

from __future__ import annotations

import os
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from pylab_container import Engine


def kill(root: Path, operation: Callable[[Engine], None], delay: float) -> None:
    """Let a child do the operation over and over, and kill it after a time."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            engine = Engine(root)
            os.write(writing, b".")
            while True:
                operation(engine)
        except BaseException:  # noqa: BLE001 (the parent tells it)
            os.write(writing, traceback.format_exc().encode())
        finally:
            os._exit(1)
    os.close(writing)
    with open(reading, "rb", buffering=0) as pipe:
        assert pipe.read(1) == b"."
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.set_blocking(pipe.fileno(), False)
        assert not (failure := pipe.read()), failure.decode()
