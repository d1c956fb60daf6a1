"""All routes of the API."""

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
"""The first match is used: a path with fixed words precedes one with {name}, which also matches slashes."""
