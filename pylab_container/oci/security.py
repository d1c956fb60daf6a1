"""--security-opt: seccomp profile, no_new_privs, masked paths, AppArmor and SELinux labels.

Sources: the docker command's reference, "docker run", --security-opt; moby 20.10, daemon/daemon_unix.go,
parseSecurityOpt().
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from pylab_container.errors import InvalidInput


class SecurityOptions(Struct, frozen=True, kw_only=True):
    """Parsed security options.

    no_new_privileges  execve(2) grants no privileges: set-uid bits and file capabilities have no effect (prctl(2),
                       PR_SET_NO_NEW_PRIVS)
    seccomp            None: the default profile; {}: no filter; else a profile for seccomp.resolve()
    """

    no_new_privileges: bool = False
    seccomp: dict[str, Any] | None = None


def parse(options: Sequence[str]) -> SecurityOptions:
    """Parse the values of --security-opt. A seccomp profile is its JSON text.

    Raises InvalidInput.
    """
    values: dict[str, Any] = {}
    for number, text in enumerate(options, start=1):
        name, value = _split(text)
        if name == "no-new-privileges":
            values["no_new_privileges"] = _truth(value, text)
        elif name == "seccomp":
            values["seccomp"] = _profile(value)
        elif name == "systempaths" and value == "unconfined":
            continue  # recorded as empty MaskedPaths and ReadonlyPaths of the HostConfig: docker/hostconfig.py
        elif name in ("apparmor", "label"):
            _refuse_profile(name, value)
        else:
            raise InvalidInput(
                f'invalid --security-opt {number}: "{text}"',
                hint="no-new-privileges, seccomp=unconfined|FILE, apparmor=unconfined, systempaths=unconfined",
            )
    return SecurityOptions(**values)


def recorded(options: Sequence[str]) -> dict[str, Any]:
    """Return the fields of config.v2.json in which dockerd records --security-opt at creation."""
    values = dict(_split(text) for text in options)
    profile, rights = values.get("seccomp", ""), values.get("no-new-privileges", "false")
    return {
        "SeccompProfile": "" if profile in ("builtin", "default") else profile,
        "NoNewPrivileges": rights.lower() not in ("false", "0"),
    }


def _split(text: str) -> tuple[str, str]:
    """Split NAME=VALUE, or NAME:VALUE, the syntax before Docker 1.11."""
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
        raise InvalidInput(
            "Decoding seccomp profile failed: it has no defaultAction", hint="add one, such as SCMP_ACT_ERRNO"
        )
    return document


def _refuse_profile(name: str, value: str) -> None:
    """Raise InvalidInput for a profile or label: this engine applies neither AppArmor nor SELinux.

    Ignoring the option would let the user rely on a confinement that does not exist.
    """
    if (name, value) in (("apparmor", "unconfined"), ("label", "disable")):
        return
    system = "AppArmor" if name == "apparmor" else "SELinux"
    raise InvalidInput(
        f"{system} is not used by this engine: {name}={value} cannot be put into effect",
        hint=f"write {name}={'unconfined' if name == 'apparmor' else 'disable'}, or leave it out",
    )
