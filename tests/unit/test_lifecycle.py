"""The table of a container's states, and the rule of restarts."""

from __future__ import annotations

from itertools import product

import pytest

from pylab_container.errors import Conflict
from pylab_container.oci.host_config import RestartPolicy
from pylab_container.oci.lifecycle import NEXT_STATE, State, Transition, next_state, restart_delay

LEGAL: dict[tuple[str, str], str] = {
    ("created", "start"): "running",
    ("created", "remove"): "removed",
    ("running", "exit"): "exited",
    ("running", "retry"): "restarting",
    ("running", "pause"): "paused",
    ("running", "stop"): "running",
    ("running", "kill"): "running",
    ("running", "exec"): "running",
    ("paused", "unpause"): "running",
    ("paused", "stop"): "paused",
    ("paused", "kill"): "paused",
    ("paused", "exit"): "exited",
    ("paused", "retry"): "restarting",
    ("restarting", "start"): "running",
    ("restarting", "stop"): "exited",
    ("restarting", "kill"): "exited",
    ("restarting", "exit"): "exited",
    ("exited", "start"): "running",
    ("exited", "stop"): "exited",
    ("created", "stop"): "created",
    ("exited", "remove"): "removed",
    **{
        (state, transition): state
        for state in State
        if state is not State.REMOVED
        for transition in (Transition.RENAME, Transition.UPDATE)
    },
}

WORDS = {
    ("running", "remove"): "You cannot remove a running container 12ab. Stop the container before attempting removal",
    ("paused", "remove"): "You cannot remove a paused container 12ab. Unpause and then stop the container",
    ("restarting", "remove"): "You cannot remove a restarting container 12ab. Stop the container before",
    ("paused", "pause"): "Container 12ab is already paused",
    ("paused", "start"): "cannot start a paused container, try unpause instead",
    ("paused", "exec"): "Container 12ab is paused, unpause the container before exec",
    ("running", "unpause"): "Container 12ab is not paused",
    ("created", "kill"): "Cannot kill container: web: Container 12ab is not running",
    ("exited", "exec"): "Container 12ab is not running",
    ("exited", "pause"): "Container 12ab is not running",
    ("restarting", "pause"): "Container 12ab is restarting, wait until the container is running",
}


@pytest.mark.parametrize(("state", "transition"), LEGAL)
def test_a_legal_transition_leads_where_the_table_says(state: str, transition: str) -> None:
    assert next_state(State(state), Transition(transition), container="web") == LEGAL[state, transition]


@pytest.mark.parametrize(
    ("state", "transition"), sorted(set(product(State, Transition)) - {(State(s), Transition(e)) for s, e in LEGAL})
)
def test_every_other_transition_is_a_conflict_that_says_what_to_do(state: State, transition: Transition) -> None:
    before = dict(NEXT_STATE)
    with pytest.raises(Conflict) as caught:
        next_state(state, transition, container="web", container_id="12ab")
    assert "12ab" in caught.value.message or "web" in caught.value.message or "unpause" in caught.value.message
    assert caught.value.hint
    assert "{" not in str(caught.value)
    assert before == NEXT_STATE


@pytest.mark.parametrize(("state", "transition"), WORDS)
def test_the_words_of_a_refusal_are_dockers(state: str, transition: str) -> None:
    with pytest.raises(Conflict) as caught:
        next_state(State(state), Transition(transition), container="web", container_id="12ab")
    assert caught.value.message.startswith(WORDS[state, transition])


def test_nothing_leads_out_of_removed_and_every_state_is_reached() -> None:
    assert State.REMOVED not in {state for state, _ in NEXT_STATE}
    assert set(NEXT_STATE.values()) | {State.CREATED} == set(State)


def delay(
    name: str, *, most: int = 0, exit_code: int = 1, count: int = 0, stopped: bool = False, **more: float
) -> object:
    policy = RestartPolicy(name=name, maximum_retry_count=most)
    times = {"ran": 0.0, "last_delay": 0.0, **more}
    return restart_delay(policy, exit_code=exit_code, restart_count=count, manually_stopped=stopped, **times)


def test_each_policy_decides_by_its_own_rule() -> None:
    assert delay("no") is None
    assert delay("always", exit_code=0) == 0.1
    assert delay("unless-stopped", exit_code=0) == 0.1
    assert delay("on-failure", exit_code=0) is None
    assert delay("on-failure", count=99) == 0.1
    assert delay("on-failure", most=3, count=2) == 0.1
    assert delay("on-failure", most=3, count=3) is None


@pytest.mark.parametrize("name", ["always", "unless-stopped", "on-failure"])
def test_a_manual_stop_ends_every_policy(name: str) -> None:
    assert delay(name, stopped=True) is None


def test_the_delay_doubles_up_to_a_minute_and_restarts_after_ten_seconds_of_life() -> None:
    assert delay("always", last_delay=0.1) == 0.2
    assert delay("always", last_delay=51.2) == 60
    assert delay("always", last_delay=60) == 60
    assert delay("always", last_delay=51.2, ran=10) == 0.1
    assert delay("always", last_delay=51.2, ran=9.9) == 60
