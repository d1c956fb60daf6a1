"""States of a container, as one table: (state, transition) -> next state.

                               ┌────── pause ──────▶ paused ──┐
                               │ ◀──── unpause ─────          │
    created ──start──▶ running ┤                            exit
                        ▲      ├─exit──▶ exited ◀────────────┤
                        │      │           │ ▲               │
                        │      │  start ◀──┘ └─ stop, kill ─┐│
                        │      └─exit, to be restarted──▶ restarting
                        └──────────── start ────────────────┘

    created, exited ──remove──▶ removed       kill, exec, rename and update keep the state

A transition that the table does not have changes nothing and raises Conflict, in dockerd's words.
When a process exits, restart_delay() decides from the restart policy between exited and restarting.

Sources: moby 20.10, container/state.go for the states; restartmanager/restartmanager.go for the policies.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from pylab_container.errors import Conflict
from pylab_container.oci.host_config import RestartPolicy


class State(StrEnum):
    """State of a container, spelled as in State.Status of `docker inspect`."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    EXITED = "exited"
    REMOVED = "removed"


class Transition(StrEnum):
    """Operation of a user, or an exit of the container's process, that may change the state."""

    START = "start"
    PAUSE = "pause"
    UNPAUSE = "unpause"
    STOP = "stop"
    KILL = "kill"
    EXIT = "exit"
    RETRY = "retry"  # the process exited, and its restart policy will start it again
    EXEC = "exec"
    RENAME = "rename"
    UPDATE = "update"
    REMOVE = "remove"


ALIVE = frozenset((State.RUNNING, State.PAUSED))
"""States in which the container has a process. A restarting container does not have one until its next start."""

NEXT_STATE = {
    (State.CREATED, Transition.START): State.RUNNING,
    (State.CREATED, Transition.STOP): State.CREATED,
    (State.CREATED, Transition.RENAME): State.CREATED,
    (State.CREATED, Transition.UPDATE): State.CREATED,
    (State.CREATED, Transition.REMOVE): State.REMOVED,
    (State.RUNNING, Transition.PAUSE): State.PAUSED,
    # stop and kill only send a signal, which the process may handle or ignore. The state changes when it exits.
    (State.RUNNING, Transition.STOP): State.RUNNING,
    (State.RUNNING, Transition.KILL): State.RUNNING,
    (State.RUNNING, Transition.EXIT): State.EXITED,
    (State.RUNNING, Transition.RETRY): State.RESTARTING,
    (State.RUNNING, Transition.EXEC): State.RUNNING,
    (State.RUNNING, Transition.RENAME): State.RUNNING,
    (State.RUNNING, Transition.UPDATE): State.RUNNING,
    # exec is not allowed: the new process would join the frozen cgroup and never execute an instruction.
    (State.PAUSED, Transition.UNPAUSE): State.RUNNING,
    (State.PAUSED, Transition.STOP): State.PAUSED,
    (State.PAUSED, Transition.KILL): State.PAUSED,
    # On cgroup v2 a fatal signal ends a frozen process too (admin-guide/cgroup-v2.rst, "cgroup.freeze").
    (State.PAUSED, Transition.EXIT): State.EXITED,
    (State.PAUSED, Transition.RETRY): State.RESTARTING,
    (State.PAUSED, Transition.RENAME): State.PAUSED,
    (State.PAUSED, Transition.UPDATE): State.PAUSED,
    (State.RESTARTING, Transition.START): State.RUNNING,
    # No process has to exit first, so stop and kill cancel the scheduled start at once.
    (State.RESTARTING, Transition.STOP): State.EXITED,
    (State.RESTARTING, Transition.KILL): State.EXITED,
    (State.RESTARTING, Transition.EXIT): State.EXITED,
    (State.RESTARTING, Transition.RENAME): State.RESTARTING,
    (State.RESTARTING, Transition.UPDATE): State.RESTARTING,
    (State.EXITED, Transition.START): State.RUNNING,
    # Idempotent: dockerd answers a stop of an exited container with 304 Not Modified.
    (State.EXITED, Transition.STOP): State.EXITED,
    (State.EXITED, Transition.RENAME): State.EXITED,
    (State.EXITED, Transition.UPDATE): State.EXITED,
    (State.EXITED, Transition.REMOVE): State.REMOVED,
}

_NOT_RUNNING = "Container {id} is not running"
_RESTARTING = "Container {id} is restarting, wait until the container is running"
_REMOVE = "You cannot remove a {state} container {id}. {first} before attempting removal or force remove"

# (message, hint) for the pairs that NEXT_STATE lacks. The messages are dockerd's, because clients match on them; the
# hints are ours. Source: moby 20.10, daemon/{start,pause,unpause,kill,exec,delete}.go.
_REFUSALS: Mapping[tuple[State, Transition], tuple[str, str]] = {
    (State.RUNNING, Transition.START): ("Container {id} is already running", "labctr ps shows it"),
    (State.RUNNING, Transition.UNPAUSE): ("Container {id} is not paused", "labctr ps shows it"),
    (State.RUNNING, Transition.REMOVE): (_REMOVE, "stop it first, or remove it with -f"),
    (State.PAUSED, Transition.START): ("cannot start a paused container, try unpause instead", "labctr unpause {name}"),
    (State.PAUSED, Transition.PAUSE): ("Container {id} is already paused", "labctr unpause {name}"),
    (State.PAUSED, Transition.EXEC): (
        "Container {id} is paused, unpause the container before exec",
        "labctr unpause {name}",
    ),
    (State.PAUSED, Transition.REMOVE): (_REMOVE, "unpause and stop it first, or remove it with -f"),
    (State.RESTARTING, Transition.PAUSE): (_RESTARTING, "labctr stop {name} ends the restarts"),
    (State.RESTARTING, Transition.UNPAUSE): ("Container {id} is not paused", "labctr ps shows it"),
    (State.RESTARTING, Transition.EXEC): (_RESTARTING, "labctr logs {name} may show why it exits"),
    (State.RESTARTING, Transition.REMOVE): (_REMOVE, "stop it first, or remove it with -f"),
    **{
        (state, transition): (_NOT_RUNNING, "labctr start {name}")
        for state in (State.CREATED, State.EXITED)
        for transition in (Transition.PAUSE, Transition.EXEC)
    },
    **{
        (state, Transition.KILL): (
            "Cannot kill container: {name}: Container {id} is not running",
            "labctr ps lists the running containers",
        )
        for state in (State.CREATED, State.EXITED)
    },
    **{
        (state, Transition.UNPAUSE): ("Container {id} is not paused", "labctr ps -a shows it")
        for state in (State.CREATED, State.EXITED)
    },
}


def next_state(state: State, transition: Transition, *, container: str, container_id: str = "") -> State:
    """Return the next state. Raises Conflict if the transition is not allowed in this state.

    container, container_id  name and id, for the message
    """
    try:
        return NEXT_STATE[state, transition]
    except KeyError:
        refusal = _REFUSALS.get((state, transition), ("cannot {transition} container {name}: it is {state}", ""))
        message, hint = refusal
        first = "Unpause and then stop the container" if state is State.PAUSED else "Stop the container"
        names = {"id": container_id or container, "name": container}
        message = message.format(**names, state=state, transition=transition, first=first)
        raise Conflict(message, hint=(hint or "labctr ps -a shows it").format(**names)) from None


# ---- the delay before a restart --------------------------------------------------------------

FIRST_DELAY = 0.1  # seconds
_LONGEST_DELAY = 60.0  # seconds
_STABLE_AFTER = 10.0  # seconds; a process that ran this long did not crash at its start, so the delays begin again


def restart_delay(
    policy: RestartPolicy,
    *,
    exit_code: int,
    restart_count: int,
    manually_stopped: bool,
    ran: float,
    last_delay: float,
) -> float | None:
    """Return the seconds until an exited container is started again; None to leave it exited.

    restart_count     starts by the policy so far
    manually_stopped  a user stopped or killed it; overrides every policy
    ran               seconds that the process ran
    last_delay        the delay before the last start, 0 before the first

    The delay doubles with each restart, from 0.1 s to a minute (exponential back-off), so that a process that crashes
    at its start does not occupy a whole processor. After a run of ten seconds it is 0.1 s again.
    Source: moby 20.10, restartmanager/restartmanager.go.
    """
    name, maximum_retries = policy.name or "no", policy.maximum_retry_count
    if manually_stopped or name == "no":
        return None
    # A MaximumRetryCount of 0 sets no limit.
    if name == "on-failure" and (exit_code == 0 or (maximum_retries and restart_count >= maximum_retries)):
        return None
    if ran >= _STABLE_AFTER or not last_delay:
        return FIRST_DELAY
    return min(last_delay * 2, _LONGEST_DELAY)
