"""Every path of the API with its handler: the table of contents."""

from __future__ import annotations

from pylab_container.daemon import (
    archive,
    building,
    container_streams,
    containers,
    events,
    executions,
    images,
    networks,
    registries,
    swarm,
    system,
    volumes,
)
from pylab_container.daemon.application import Route

ROUTES: tuple[Route, ...] = (
    *system.ROUTES,
    *events.ROUTES,
    *containers.ROUTES,
    *container_streams.ROUTES,
    *archive.ROUTES,
    *executions.ROUTES,
    *images.ROUTES,
    *registries.ROUTES,
    *building.ROUTES,
    *volumes.ROUTES,
    *networks.ROUTES,
    *swarm.ROUTES,
)
"""The first that fits is taken: a path with fixed words stands before one with {name}, which may hold slashes."""
