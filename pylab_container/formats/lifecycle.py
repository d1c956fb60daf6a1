"""What can happen to a container, as one table: (state, event) -> state.

    created ──start──▶ running ──exit──▶ exited ──start──▶ running
                       │  ▲                │
                     pause unpause       remove
                       ▼  │                ▼
                      paused             removed

An event that the table does not have changes nothing and raises Conflict.
"""

from __future__ import annotations

from enum import StrEnum

from pylab_container.errors import Conflict


class State(StrEnum):
    """What `docker ps` calls the status of a container."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    EXITED = "exited"
    REMOVED = "removed"


class Event(StrEnum):
    """What a user or the kernel does to a container."""

    START = "start"
    PAUSE = "pause"
    UNPAUSE = "unpause"
    EXIT = "exit"
    REMOVE = "remove"


TRANSITIONS = {
    (State.CREATED, Event.START): State.RUNNING,
    (State.CREATED, Event.REMOVE): State.REMOVED,
    (State.RUNNING, Event.EXIT): State.EXITED,
    (State.RUNNING, Event.PAUSE): State.PAUSED,
    (State.PAUSED, Event.UNPAUSE): State.RUNNING,
    (State.PAUSED, Event.EXIT): State.EXITED,
    (State.EXITED, Event.START): State.RUNNING,
    (State.EXITED, Event.REMOVE): State.REMOVED,
}

_HINTS = {
    (State.RUNNING, Event.REMOVE): "stop it first, or remove it with -f",
    (State.PAUSED, Event.REMOVE): "unpause and stop it first, or remove it with -f",
    (State.RUNNING, Event.START): "it runs already; labctr ps shows it",
    (State.CREATED, Event.PAUSE): "start it first",
    (State.EXITED, Event.PAUSE): "start it first",
}


def after(state: State, event: Event, *, container: str) -> State:
    """The state that follows. Raises Conflict where the event cannot happen in this state."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise Conflict(
            f"cannot {event} container {container}: it is {state}",
            hint=_HINTS.get((state, event), "labctr ps -a shows it"),
        ) from None
