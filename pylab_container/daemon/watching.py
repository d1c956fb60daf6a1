"""Streams that follow files: they wait for inotify events on the event loop, without a thread.

One inotify descriptor serves all streams of the daemon, and streams of one directory share a watch. The watch is on the
directory and not on the file, because log rotation gives the name to another file. Source: inotify(7).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

from aiohttp import web

from pylab_container.daemon.call import Call
from pylab_container.errors import NotFound, RuntimeFailed
from pylab_container.host import linux

_CHANGES = (
    linux.IN_MODIFY
    | linux.IN_CREATE
    | linux.IN_DELETE
    | linux.IN_MOVED_FROM
    | linux.IN_MOVED_TO
    | linux.IN_DELETE_SELF
    | linux.IN_ONLYDIR
)


class Watcher:
    """Calls back when an entry of a directory changes. Used on the event loop only."""

    def __init__(self) -> None:
        self._fd = -1
        self._callbacks: dict[int, list[Callable[[], None]]] = {}

    @contextlib.contextmanager
    def watching(self, directory: Path, changed: Callable[[], None]) -> Iterator[None]:
        """Call changed() after changes while the block runs. Several changes may cause one call.

        Raises NotFound if the directory does not exist, RuntimeFailed at the kernel's limit of watches.
        """
        watch = self._add(directory)
        callbacks = self._callbacks.setdefault(watch, [])
        callbacks.append(changed)
        try:
            yield
        finally:
            callbacks.remove(changed)
            if not callbacks and self._callbacks.get(watch) is callbacks:
                del self._callbacks[watch]
                with contextlib.suppress(OSError):  # the directory was removed, and its watch with it
                    linux.inotify_rm_watch(self._fd, watch)
            self._close_unused()

    def _add(self, directory: Path) -> int:
        try:
            if self._fd < 0:
                self._fd = linux.inotify_init1()
                asyncio.get_running_loop().add_reader(self._fd, self._read)
            return linux.inotify_add_watch(self._fd, directory, _CHANGES)
        except FileNotFoundError as error:
            self._close_unused()
            raise NotFound(f"{directory} does not exist", hint="it was removed") from error
        except OSError as error:
            self._close_unused()
            hint = "raise fs.inotify.max_user_watches and fs.inotify.max_user_instances with sysctl"
            raise RuntimeFailed(f"cannot watch {directory}: {error.strerror}", hint=hint) from error

    def _read(self) -> None:
        changed = {watch for watch, _ in linux.read_inotify(self._fd)}
        for watch in list(self._callbacks) if -1 in changed else changed:
            for callback in list(self._callbacks.get(watch, ())):
                callback()

    def _close_unused(self) -> None:
        if not self._callbacks and self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1


WATCHER: web.AppKey[Watcher] = web.AppKey("watcher", Watcher)


class Following:
    """When a stream reads its files again.

    last  the next read is the last one
    """

    def __init__(self) -> None:
        self.last = False
        self._changed = asyncio.Event()

    def wake(self) -> None:
        """Make more() return: a file may have changed."""
        self._changed.set()

    async def more(self) -> bool:
        """Wait until a file may have changed. Return False after the last read."""
        if self.last:
            return False
        await self._changed.wait()
        self._changed.clear()
        return True

    async def end_after(self, end: Coroutine[Any, Any, object]) -> None:
        """Make the read after an awaited end the last one."""
        await end
        self.last = True
        self.wake()


@contextlib.asynccontextmanager
async def following(call: Call, directory: Path, *ends: Coroutine[Any, Any, object]) -> AsyncIterator[Following]:
    """Follow the files of a directory until one of the awaited ends.

    As from dockerd, a half-closed client gets the data up to then.
    """
    stream = Following()
    tasks = [asyncio.ensure_future(stream.end_after(end)) for end in (call.input_ended.wait(), *ends)]
    try:
        with call.request.app[WATCHER].watching(directory, stream.wake):
            yield stream
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
