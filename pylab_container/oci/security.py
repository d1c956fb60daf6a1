"""--security-opt: what may be loosened or tightened about a container's rights.

Source: the docker command's reference, "docker run", --security-opt; moby daemon/daemon_unix.go,
parseSecurityOpt, 20.10.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from pylab_container.errors import InvalidInput


class SecurityOptions(Struct, frozen=True, kw_only=True):
    """seccomp: None for the default profile, {} for no filter, else a profile with conditions."""

    no_new_privileges: bool = False
    seccomp: dict[str, Any] | None = None


def parse(options: Sequence[str]) -> SecurityOptions:
    """What the texts of --security-opt say; a seccomp profile is there as JSON. Raises InvalidInput."""
    values: dict[str, Any] = {}
    for number, text in enumerate(options, start=1):
        name, value = _split(text)
        if name == "no-new-privileges":
            values["no_new_privileges"] = _truth(value, text)
        elif name == "seccomp":
            values["seccomp"] = _profile(value)
        elif name == "systempaths" and value == "unconfined":
            continue  # the kernel's files are neither hidden nor read-only: HostConfig says so (hostconfig.py)
        elif name in ("apparmor", "label"):
            _refuse_profile(name, value)
        else:
            raise InvalidInput(
                f'invalid --security-opt {number}: "{text}"',
                hint="no-new-privileges, seccomp=unconfined|FILE, apparmor=unconfined, systempaths=unconfined",
            )
    return SecurityOptions(**values)


def recorded(options: Sequence[str]) -> dict[str, Any]:
    """The fields of config.v2.json in which dockerd records --security-opt when a container is created."""
    values = dict(_split(text) for text in options)
    profile, rights = values.get("seccomp", ""), values.get("no-new-privileges", "false")
    return {
        "SeccompProfile": "" if profile in ("builtin", "default") else profile,
        "NoNewPrivileges": rights.lower() not in ("false", "0"),
    }


def _split(text: str) -> tuple[str, str]:
    """NAME=VALUE, or NAME:VALUE as it was written once."""
    separator = "=" if "=" in text else ":"
    name, _, value = text.partition(separator)
    return name, value


def _truth(value: str, text: str) -> bool:
    if value.lower() not in ("", "true", "1", "false", "0"):
        raise InvalidInput(f'invalid --security-opt: "{text}"', hint="write no-new-privileges")
    return value.lower() not in ("false", "0")


def _profile(value: str) -> dict[str, Any] | None:
    if value == "unconfined":
        return {}
    if value in ("builtin", "default"):
        return None
    try:
        document = json.loads(value)
    except ValueError as error:
        raise InvalidInput(
            f"Decoding seccomp profile failed: {error}", hint="a profile is JSON with a defaultAction and syscalls"
        ) from None
    if not isinstance(document, dict) or "defaultAction" not in document:
        raise InvalidInput("Decoding seccomp profile failed: it has no defaultAction", hint="such as SCMP_ACT_ERRNO")
    return document


def _refuse_profile(name: str, value: str) -> None:
    """Neither AppArmor nor SELinux is ever switched on by this engine, so only their absence can be had."""
    if (name, value) in (("apparmor", "unconfined"), ("label", "disable")):
        return
    system = "AppArmor" if name == "apparmor" else "SELinux"
    raise InvalidInput(
        f"{system} is not used by this engine: {name}={value} cannot be put into effect",
        hint=f"write {name}={'unconfined' if name == 'apparmor' else 'disable'}, or leave it out",
    )
