"""The table of a container's states."""

from __future__ import annotations

from itertools import product

import pytest

from pylab_container.errors import Conflict
from pylab_container.formats.lifecycle import TRANSITIONS, Event, State, after

LEGAL = {
    ("created", "start"): "running",
    ("created", "remove"): "removed",
    ("running", "exit"): "exited",
    ("running", "pause"): "paused",
    ("paused", "unpause"): "running",
    ("paused", "exit"): "exited",
    ("exited", "start"): "running",
    ("exited", "remove"): "removed",
}


@pytest.mark.parametrize(("state", "event"), LEGAL)
def test_a_legal_move_leads_where_the_table_says(state: str, event: str) -> None:
    assert after(State(state), Event(event), container="web") == LEGAL[state, event]


@pytest.mark.parametrize(
    ("state", "event"), sorted(set(product(State, Event)) - {(State(s), Event(e)) for s, e in LEGAL})
)
def test_every_other_move_is_a_conflict_that_names_the_container(state: State, event: Event) -> None:
    before = dict(TRANSITIONS)
    with pytest.raises(Conflict, match=f"cannot {event} container web: it is {state}") as caught:
        after(state, event, container="web")
    assert caught.value.hint
    assert before == TRANSITIONS


def test_nothing_leads_out_of_removed_and_every_state_is_reached() -> None:
    assert State.REMOVED not in {state for state, _ in TRANSITIONS}
    assert set(TRANSITIONS.values()) | {State.CREATED} == set(State)
