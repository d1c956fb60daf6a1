"""The status column of `docker ps`: "Up 8 seconds (healthy)".

Source: moby container/state.go, String(), 20.10.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pylab_container.text.timestamps import ago, parse_rfc3339


def status(state: Mapping[str, Any], *, now: float) -> str:
    """Return the status text of Docker's State document: "Exited (0) 3 minutes ago".

    now  in seconds since 1970
    """

    def since(name: str) -> str:
        return ago(int(now * 10**9) - parse_rfc3339(state[name]))

    match state.get("Status"):
        case "restarting":
            return f"Restarting ({state['ExitCode']}) {since('FinishedAt')} ago"
        case "paused":
            return f"Up {since('StartedAt')} (Paused)"
        case "running":
            return f"Up {since('StartedAt')}{_health(state)}"
        case "exited":
            return f"Exited ({state['ExitCode']}) {since('FinishedAt')} ago"
        case other:
            return str(other).capitalize()


def _health(state: Mapping[str, Any]) -> str:
    health = (state.get("Health") or {}).get("Status") or "none"
    return {"none": "", "starting": " (health: starting)"}.get(health, f" ({health})")
