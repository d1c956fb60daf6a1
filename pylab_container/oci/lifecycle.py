"""What can happen to a container, as one table: (state, event) -> state.

                               ┌────── pause ──────▶ paused ──┐
                               │ ◀──── unpause ─────          │
    created ──start──▶ running ┤                            exit
                        ▲      ├─exit──▶ exited ◀────────────┤
                        │      │           │ ▲               │
                        │      │  start ◀──┘ └─ stop, kill ─┐│
                        │      └─exit, to be restarted──▶ restarting
                        └──────────── start ────────────────┘

    created, exited ──remove──▶ removed       kill, rename, update and wait lead nowhere else

An event that the table does not have changes nothing and raises Conflict, in Docker's words.
What decides between exited and restarting is the restart policy: see restart_delay().
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from pylab_container.errors import Conflict
from pylab_container.oci.host_config import RestartPolicy


class State(StrEnum):
    """What `docker ps` calls the status of a container."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    EXITED = "exited"
    REMOVED = "removed"


class Event(StrEnum):
    """What a user or the kernel does to a container."""

    START = "start"
    PAUSE = "pause"
    UNPAUSE = "unpause"
    STOP = "stop"
    KILL = "kill"
    EXIT = "exit"
    RETRY = "retry"
    EXEC = "exec"
    RENAME = "rename"
    UPDATE = "update"
    REMOVE = "remove"


ALIVE = frozenset((State.RUNNING, State.PAUSED))
"""The states in which there is a process."""

TRANSITIONS = {
    (State.CREATED, Event.START): State.RUNNING,
    (State.CREATED, Event.STOP): State.CREATED,
    (State.CREATED, Event.RENAME): State.CREATED,
    (State.CREATED, Event.UPDATE): State.CREATED,
    (State.CREATED, Event.REMOVE): State.REMOVED,
    (State.RUNNING, Event.PAUSE): State.PAUSED,
    # stop and kill only ask: it is the exit that ends a process.
    (State.RUNNING, Event.STOP): State.RUNNING,
    (State.RUNNING, Event.KILL): State.RUNNING,
    (State.RUNNING, Event.EXIT): State.EXITED,
    (State.RUNNING, Event.RETRY): State.RESTARTING,
    (State.RUNNING, Event.EXEC): State.RUNNING,
    (State.RUNNING, Event.RENAME): State.RUNNING,
    (State.RUNNING, Event.UPDATE): State.RUNNING,
    (State.PAUSED, Event.UNPAUSE): State.RUNNING,
    (State.PAUSED, Event.STOP): State.PAUSED,
    (State.PAUSED, Event.KILL): State.PAUSED,
    (State.PAUSED, Event.EXIT): State.EXITED,
    (State.PAUSED, Event.RETRY): State.RESTARTING,
    (State.PAUSED, Event.RENAME): State.PAUSED,
    (State.PAUSED, Event.UPDATE): State.PAUSED,
    (State.RESTARTING, Event.START): State.RUNNING,
    (State.RESTARTING, Event.STOP): State.EXITED,
    (State.RESTARTING, Event.KILL): State.EXITED,
    (State.RESTARTING, Event.EXIT): State.EXITED,
    (State.RESTARTING, Event.RENAME): State.RESTARTING,
    (State.RESTARTING, Event.UPDATE): State.RESTARTING,
    (State.EXITED, Event.START): State.RUNNING,
    (State.EXITED, Event.STOP): State.EXITED,
    (State.EXITED, Event.RENAME): State.EXITED,
    (State.EXITED, Event.UPDATE): State.EXITED,
    (State.EXITED, Event.REMOVE): State.REMOVED,
}

_NOT_RUNNING = "Container {id} is not running"
_RESTARTING = "Container {id} is restarting, wait until the container is running"
_REMOVE = "You cannot remove a {state} container {id}. {first} before attempting removal or force remove"

# Docker's words, and what to do. moby: daemon/{start,pause,unpause,kill,exec,delete}.go, 20.10.
_REFUSALS: Mapping[tuple[State, Event], tuple[str, str]] = {
    (State.RUNNING, Event.START): ("Container {id} is already running", "labctr ps shows it"),
    (State.RUNNING, Event.UNPAUSE): ("Container {id} is not paused", "labctr ps shows it"),
    (State.RUNNING, Event.REMOVE): (_REMOVE, "stop it first, or remove it with -f"),
    (State.PAUSED, Event.START): ("cannot start a paused container, try unpause instead", "labctr unpause {name}"),
    (State.PAUSED, Event.PAUSE): ("Container {id} is already paused", "labctr unpause {name}"),
    (State.PAUSED, Event.EXEC): (
        "Container {id} is paused, unpause the container before exec",
        "labctr unpause {name}",
    ),
    (State.PAUSED, Event.REMOVE): (_REMOVE, "unpause and stop it first, or remove it with -f"),
    (State.RESTARTING, Event.PAUSE): (_RESTARTING, "labctr stop {name} ends the restarts"),
    (State.RESTARTING, Event.UNPAUSE): ("Container {id} is not paused", "labctr ps shows it"),
    (State.RESTARTING, Event.EXEC): (_RESTARTING, "labctr logs {name} may tell why it ends"),
    (State.RESTARTING, Event.REMOVE): (_REMOVE, "stop it first, or remove it with -f"),
    **{
        (state, event): (_NOT_RUNNING, "labctr start {name}")
        for state in (State.CREATED, State.EXITED)
        for event in (Event.PAUSE, Event.EXEC)
    },
    **{
        (state, Event.KILL): (
            "Cannot kill container: {name}: Container {id} is not running",
            "labctr ps lists what runs",
        )
        for state in (State.CREATED, State.EXITED)
    },
    **{
        (state, Event.UNPAUSE): ("Container {id} is not paused", "labctr ps -a shows it")
        for state in (State.CREATED, State.EXITED)
    },
}


def after(state: State, event: Event, *, container: str, container_id: str = "") -> State:
    """The state that follows. Raises Conflict where the event cannot happen in this state.

    container, container_id  its name and id, for the message
    """
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        words, hint = _REFUSALS.get((state, event), ("cannot {event} container {name}: it is {state}", ""))
        first = "Unpause and then stop the container" if state is State.PAUSED else "Stop the container"
        values = {"id": container_id or container, "name": container, "state": state, "event": event, "first": first}
        raise Conflict(words.format(**values), hint=(hint or "labctr ps -a shows it").format(**values)) from None


# ---- restart policies ------------------------------------------------------------------------

FIRST_DELAY = 0.1
_LONGEST_DELAY = 60.0
_LONG_ENOUGH = 10.0


def restart_delay(
    policy: RestartPolicy,
    *,
    exit_code: int,
    restart_count: int,
    manually_stopped: bool,
    ran: float,
    last_delay: float,
) -> float | None:
    """How many seconds to wait before a container that has ended is started again; None: it stays down.

    restart_count  how often the policy has started it so far
    ran            seconds that it ran; ten of them make the delay the first one again
    last_delay     the delay before, 0 at first; each is twice the last, up to a minute

    Source: moby restartmanager/restartmanager.go.
    """
    name, most = policy.name or "no", policy.maximum_retry_count
    if manually_stopped or name == "no":
        return None
    if name == "on-failure" and (exit_code == 0 or (most and restart_count >= most)):
        return None
    if ran >= _LONG_ENOUGH or not last_delay:
        return FIRST_DELAY
    return min(last_delay * 2, _LONGEST_DELAY)
