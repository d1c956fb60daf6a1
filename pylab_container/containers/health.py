"""Health checks: merging their settings, and the health that follows from results.

    starting ──success──▶ healthy ◀──success── unhealthy
        └──── Retries failures after StartPeriod ────▶ unhealthy ◀── Retries failures in a row ── healthy

Source: the Dockerfile reference, HEALTHCHECK; Engine API 1.41, HealthConfig and Health; moby
daemon/health.go, 20.10, for the defaults.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from pylab_container.errors import InvalidInput
from pylab_container.oci.container_config import Healthcheck
from pylab_container.oci.image import Json

_TIMES = ("Interval", "Timeout", "StartPeriod", "StartInterval")
_ATTRIBUTES = {
    "Test": "test",
    "Interval": "interval",
    "Timeout": "timeout",
    "StartPeriod": "start_period",
    "StartInterval": "start_interval",
    "Retries": "retries",
}
_DEFAULT_INTERVAL = _DEFAULT_TIMEOUT = 30 * 10**9  # nanoseconds
_DEFAULT_RETRIES = 3
_MILLISECOND = 10**6  # nanoseconds
_KEPT_RESULTS = 5


def merge(image: Healthcheck | None, given: Mapping[str, Any] | None) -> Healthcheck | None:
    """Merge the user's Healthcheck into the image's; None without a check. Raises InvalidInput.

    given  docker-py's mapping: test, interval, timeout, start_period, start_interval (nanoseconds), retries
    """
    fields = {_field(name): value for name, value in (given or {}).items() if value not in (None, 0, "", [])}
    for name, value in fields.items():
        _check_number(name, value)
    changes = {_ATTRIBUTES[name]: _test(value) if name == "Test" else value for name, value in fields.items()}
    merged = replace(image or Healthcheck(), unknown={}, **changes)
    return merged if merged.document() else None


def _field(name: str) -> str:
    field = "".join(word.capitalize() for word in name.split("_")) if name.islower() else name
    if field not in _ATTRIBUTES:
        raise InvalidInput(f"unknown field {name} in a health check", hint=f"use one of {', '.join(_ATTRIBUTES)}")
    return field


def _test(test: Any) -> tuple[str, ...]:
    """The words of a test, unchecked as in dockerd: an unknown kind checks nothing.

    Dockerfiles are parsed strictly.
    """
    return ("CMD-SHELL", test) if isinstance(test, str) else tuple(test)


def _check_number(name: str, value: Any) -> None:
    if name == "Retries" and (not isinstance(value, int) or value < 0):
        raise InvalidInput("Retries in Healthcheck cannot be negative", hint="write --health-retries 3")
    if name in _TIMES and int(value) < _MILLISECOND:
        raise InvalidInput(f"{name} in Healthcheck cannot be less than 1ms", hint="write 30s")


def effective(check: Healthcheck | None) -> Healthcheck | None:
    """Return a check with its defaults; None if it runs no command."""
    if check is None or len(check.test) < 2 or check.test[0] not in ("CMD", "CMD-SHELL"):
        return None
    return replace(
        check,
        interval=check.interval or _DEFAULT_INTERVAL,
        timeout=check.timeout or _DEFAULT_TIMEOUT,
        retries=check.retries or _DEFAULT_RETRIES,
    )


def pause(health: Json | None, check: Healthcheck, *, ran: int) -> int:
    """Return the nanoseconds until the next check.

    In the start period StartInterval, if it is set.

    ran  nanoseconds that the run has lasted
    """
    starts = ran < check.start_period and health is not None and health["Status"] == "starting"
    return (starts and check.start_interval) or check.interval


def command(check: Healthcheck, shell: Sequence[str]) -> list[str]:
    """Return the command to run in the container; shell is the image's SHELL."""
    kind, *words = check.test
    return words if kind == "CMD" else [*shell, words[0]]


def starting() -> Json:
    """Return the health of a container that has just been started."""
    return {"Status": "starting", "FailingStreak": 0, "Log": []}


def stopped(health: Json | None) -> Json | None:
    """Return the health of an exited container, which is not checked any more: unhealthy.

    Source: moby, daemon/health.go.
    """
    return None if health is None else {**health, "Status": "unhealthy"}


def after(health: Json, result: Json, check: Healthcheck, *, in_start_period: bool) -> Json:
    """Return the health after one more result ({Start, End, ExitCode, Output}).

    check  from effective()
    """
    log = [*health["Log"], result][-_KEPT_RESULTS:]
    if result["ExitCode"] == 0:
        return {"Status": "healthy", "FailingStreak": 0, "Log": log}
    if in_start_period and health["Status"] == "starting":
        return {**health, "Log": log}
    streak = health["FailingStreak"] + 1
    status = "unhealthy" if streak >= check.retries else health["Status"]
    return {"Status": status, "FailingStreak": streak, "Log": log}
