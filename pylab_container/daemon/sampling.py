"""Resource usage of containers, sampled once a second for all clients together.

As in dockerd (moby, daemon/stats/collector.go) a container has one sampler: a thousand clients read its cgroup no more
often than one client.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from aiohttp import web

from pylab_container.daemon.workers import Kind, Workers
from pylab_container.docker import stats
from pylab_container.engine.container import Container
from pylab_container.oci.image import Json

SAMPLE_INTERVAL = 1.0  # seconds between two samples


def sample(container: Container) -> Json:
    """Sample a container now. Raises ContainerNotFound."""
    return stats.sample(container.record)


class _Sampler:
    """Samples one container while it has clients. next: a future for the next sample."""

    def __init__(self, workers: Workers, container: Container) -> None:
        self.clients = 0
        self.next: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        self._task = asyncio.ensure_future(self._sample(workers, container))

    async def _sample(self, workers: Workers, container: Container) -> None:
        loop = asyncio.get_running_loop()
        try:
            before = await workers.run(Kind.STREAM, sample, container)
            while True:
                await asyncio.sleep(SAMPLE_INTERVAL)
                before = stats.following(before, await workers.run(Kind.STREAM, sample, container))
                now, self.next = self.next, loop.create_future()
                now.set_result(before)
        except Exception as error:  # noqa: BLE001 - the clients that wait for the sample get any error
            self.next.set_exception(error)
            self.next.exception()  # mark it as retrieved: without clients, asyncio would log a warning

    def end(self) -> None:
        """Stop sampling."""
        self._task.cancel()


class Sampling:
    """The samplers of all containers that have clients. Used on the event loop only."""

    def __init__(self) -> None:
        self._samplers: dict[str, _Sampler] = {}

    async def samples(self, workers: Workers, container: Container, ended: asyncio.Event) -> AsyncGenerator[Json, None]:
        """Yield samples of a container, each with its predecessor. A slow client misses some.

        ended  set when the client waits for no further sample

        Raises ContainerNotFound once the container is removed.
        """
        if (sampler := self._samplers.get(container.id)) is None:
            sampler = self._samplers[container.id] = _Sampler(workers, container)
        sampler.clients += 1
        end: asyncio.Future[Any] = asyncio.ensure_future(ended.wait())
        try:
            while True:
                next_sample: asyncio.Future[Any] = sampler.next
                await asyncio.wait({next_sample, end}, return_when=asyncio.FIRST_COMPLETED)
                if not next_sample.done():
                    return
                yield next_sample.result()
        finally:
            end.cancel()
            sampler.clients -= 1
            if not sampler.clients:
                sampler.end()
                del self._samplers[container.id]


SAMPLING: web.AppKey[Sampling] = web.AppKey("sampling", Sampling)
