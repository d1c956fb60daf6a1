"""Health checks: the Healthcheck of a configuration, and the health that follows from the results.

    starting ──success──▶ healthy ◀──success── unhealthy
        └──── Retries failures after StartPeriod ────▶ unhealthy ◀── Retries failures in a row ── healthy

Source: the Dockerfile reference, HEALTHCHECK; Engine API 1.41, HealthConfig and Health; moby
daemon/health.go, 20.10, for the defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pylab_container.errors import InvalidInput

Json = dict[str, Any]

_TIMES = ("Interval", "Timeout", "StartPeriod", "StartInterval")
_FIELDS = ("Test", *_TIMES, "Retries")
_DEFAULTS = {"Interval": 30 * 10**9, "Timeout": 30 * 10**9, "StartPeriod": 0, "Retries": 3}
_MILLISECOND = 10**6
_KEPT_RESULTS = 5


def merge(image: Mapping[str, Any] | None, given: Mapping[str, Any] | None) -> Json | None:
    """Merge the user's Healthcheck into the image's; None without a check. Raises InvalidInput.

    given  docker-py's mapping: test, interval, timeout, start_period, start_interval (nanoseconds), retries
    """
    fields = {_field(name): value for name, value in (given or {}).items() if value not in (None, 0, "", [])}
    if "Test" in fields:
        fields["Test"] = _test(fields["Test"])
    for name, value in fields.items():
        _check_number(name, value)
    merged = {**(image or {}), **fields}
    return {name: merged[name] for name in _FIELDS if name in merged} if merged else None


def _field(name: str) -> str:
    field = "".join(word.capitalize() for word in name.split("_")) if name.islower() else name
    if field not in _FIELDS:
        raise InvalidInput(f"unknown field {name} in a health check", hint=f"there are {', '.join(_FIELDS)}")
    return field


def _test(test: Any) -> list[str]:
    """The words of a test, unchecked as in dockerd: an unknown kind checks nothing. Dockerfiles are parsed strictly."""
    return ["CMD-SHELL", test] if isinstance(test, str) else list(test)


def _check_number(name: str, value: Any) -> None:
    if name == "Retries" and (not isinstance(value, int) or value < 0):
        raise InvalidInput("Retries in Healthcheck cannot be negative", hint="write --health-retries 3")
    if name in _TIMES and int(value) < _MILLISECOND:
        raise InvalidInput(f"{name} in Healthcheck cannot be less than 1ms", hint="write 30s")


def effective(check: Mapping[str, Any] | None) -> Json | None:
    """Return a check with its defaults, times in nanoseconds; None without a check."""
    kind, *words = (check or {}).get("Test") or ["NONE"]
    if not check or kind not in ("CMD", "CMD-SHELL") or not words:
        return None
    given = {name: value for name, value in check.items() if value}
    return {**_DEFAULTS, **given}


def pause(health: Json | None, check: Mapping[str, Any], *, ran: int) -> int:
    """Return the nanoseconds until the next check; in the start period StartInterval, if it is set.

    ran  nanoseconds that the run has lasted
    """
    starts = ran < check["StartPeriod"] and health is not None and health["Status"] == "starting"
    return int((starts and check.get("StartInterval")) or check["Interval"])


def command(check: Mapping[str, Any], shell: list[str]) -> list[str]:
    """Return the command to run in the container; shell is the image's SHELL."""
    kind, *words = check["Test"]
    return words if kind == "CMD" else [*shell, words[0]]


def starting() -> Json:
    """Return the health of a container that has just been started."""
    return {"Status": "starting", "FailingStreak": 0, "Log": []}


def stopped(health: Json | None) -> Json | None:
    """Return the health of an exited container: unhealthy, because it is not checked any more (as in moby)."""
    return None if health is None else {**health, "Status": "unhealthy"}


def after(health: Json, result: Json, check: Mapping[str, Any], *, in_start_period: bool) -> Json:
    """Return the health after one more result ({Start, End, ExitCode, Output}); check is from effective()."""
    log = [*health["Log"], result][-_KEPT_RESULTS:]
    if result["ExitCode"] == 0:
        return {"Status": "healthy", "FailingStreak": 0, "Log": log}
    if in_start_period and health["Status"] == "starting":
        return {**health, "Log": log}
    streak = health["FailingStreak"] + 1
    status = "unhealthy" if streak >= check["Retries"] else health["Status"]
    return {"Status": status, "FailingStreak": streak, "Log": log}
