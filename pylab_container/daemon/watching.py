"""Streams that follow files: they sleep on the event loop until a file changes, and need no thread for that.

One inotify descriptor serves all streams of the daemon, and streams of one directory share a watch. A directory is
watched and not the file in it, because logs are rotated: another file gets the name. Source: inotify(7).
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
    """Calls back when something changes directly in a directory. It belongs to the event loop."""

    def __init__(self) -> None:
        self._fd = -1
        self._callbacks: dict[int, list[Callable[[], None]]] = {}

    @contextlib.contextmanager
    def watching(self, directory: Path, changed: Callable[[], None]) -> Iterator[None]:
        """Call changed() after each change while the block runs, several changes may be one call.

        Raises NotFound if there is no such directory, RuntimeFailed at the kernel's limit of watches.
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
    """Whether a stream looks for more once again, and when.

    last  nothing is waited for any more: what is there now is the rest
    """

    def __init__(self) -> None:
        self.last = False
        self._news = asyncio.Event()

    def wake(self) -> None:
        """Something may be new."""
        self._news.set()

    async def more(self) -> bool:
        """Wait until something may be new; False after the last look."""
        if self.last:
            return False
        await self._news.wait()
        self._news.clear()
        return True

    async def end_after(self, end: Coroutine[Any, Any, object]) -> None:
        """Make the look after an event the last one."""
        await end
        self.last = True
        self.wake()


@contextlib.asynccontextmanager
async def following(call: Call, directory: Path, *ends: Coroutine[Any, Any, object]) -> AsyncIterator[Following]:
    """Follow the files of a directory until one of the ends, or until the client sends no more.

    A client that has closed its direction gets what is there, and then the end, as from dockerd.
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
