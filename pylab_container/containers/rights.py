"""The rights of a container's processes: capabilities, resource limits, OOM score, seccomp filter.

Each function reads the record and the machine, and returns values of oci/bundle.py. A request that the machine cannot
fulfil is an error at the start of the container; it is never ignored.

Sources: capabilities(7), getrlimit(2), proc(5) for oom_score_adj, seccomp(2).
"""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from pylab_container.errors import InvalidInput, RuntimeFailed
from pylab_container.oci import bundle, seccomp, security
from pylab_container.oci.capabilities import DEFAULT_CAPABILITIES, capabilities_of, choose_capabilities
from pylab_container.oci.host_config import HostConfig
from pylab_container.store.container_store import ContainerRecord


def security_options(record: ContainerRecord) -> security.SecurityOptions:
    """Parse --security-opt. Raises InvalidInput."""
    options = record.host_config.security_opt
    return security.parse(options) if options else security.SecurityOptions()


def with_profile(option: str) -> str:
    """Replace the path of a seccomp profile in a --security-opt by the profile.

    A later change of the file then does not affect the container. Raises InvalidInput for an unreadable file.
    """
    name, equals, path = option.partition("=")
    if name == "seccomp" and equals and path not in ("unconfined", "builtin", "default") and not path.startswith("{"):
        try:
            option = f"seccomp={json.dumps(json.loads(Path(path).read_bytes()), separators=(',', ':'))}"
        except OSError as error:
            raise InvalidInput(
                f"opening seccomp profile ({path}) failed: open {path}: {error.strerror}", hint="give a file's path"
            ) from error
        except ValueError as error:
            raise InvalidInput(f"Decoding seccomp profile failed: {error}", hint=f"{path} is not JSON") from error
    security.parse([option])
    return option


def with_rights(process: bundle.Process, record: ContainerRecord) -> bundle.Process:
    """Return a process with the capabilities and resource limits of its container.

    Raises InvalidInput, RuntimeFailed.
    """
    host = record.host_config
    return replace(
        process,
        capabilities=capabilities(record),
        no_new_privileges=security_options(record).no_new_privileges,
        rlimits=_rlimits(host),
        oom_score_adj=oom_score(
            host.oom_score_adj,
            own=int(Path("/proc/self/oom_score_adj").read_text()),
            may_lower=_may_raise_limits(),
        ),
    )


def capabilities(record: ContainerRecord) -> tuple[str, ...]:
    """Return the container's capabilities: the defaults changed by --cap-add and --cap-drop, or all with --privileged.

    Raises RuntimeFailed for a capability of --cap-add that the engine itself lacks.
    """
    host = record.host_config
    add, drop = host.cap_add, host.cap_drop
    if not (add or drop or host.privileged):
        return DEFAULT_CAPABILITIES
    available = _available_capabilities()
    chosen = choose_capabilities(add=("ALL",) if host.privileged else add, drop=drop, available=available)
    named = choose_capabilities(add=[name for name in add if name.upper() != "ALL"], drop=("ALL",))
    # The bounding set can only shrink (capabilities(7)), so runc could not grant these. ALL requests only the available
    # ones, because an engine that runs in a container itself may lack some.
    if missing := [name for name in named if name not in available]:
        raise RuntimeFailed(f"this machine itself lacks {', '.join(missing)}", hint="leave it out of --cap-add")
    return chosen


def _available_capabilities() -> tuple[str, ...]:
    """The engine's own bounding set, which limits those of its containers (capabilities(7))."""
    return capabilities_of(int(_own_status("CapBnd"), 16))


def _own_status(field: str) -> str:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(line.split(":")[1].strip() for line in lines if line.startswith(f"{field}:"))


def _may_raise_limits() -> bool:
    """Whether the engine may raise hard limits and lower OOM scores (capabilities(7), CAP_SYS_RESOURCE)."""
    return "CAP_SYS_RESOURCE" in capabilities_of(int(_own_status("CapEff"), 16))


def _rlimits(host_config: HostConfig) -> tuple[tuple[str, int, int], ...]:
    limits = tuple((ulimit.name, ulimit.soft, ulimit.hard) for ulimit in host_config.ulimits)
    # Checked here for a message that names the limit and its maximum: setrlimit(2) in runc fails with a bare EPERM.
    if limits and not _may_raise_limits():
        for name, _, hard in limits:
            own = resource.getrlimit(getattr(resource, f"RLIMIT_{name.upper()}"))[1]
            if own != resource.RLIM_INFINITY and (hard == -1 or hard > own):
                raise RuntimeFailed(
                    f"the {name} limit {hard} is more than this machine allows, {own}, and raising it needs "
                    "CAP_SYS_RESOURCE, which it lacks",
                    hint=f"write --ulimit {name}={own} or less",
                )
    return limits


def oom_score(score: int, *, own: int, may_lower: bool) -> int | None:
    """Return the oom_score_adj to write for a container, None to inherit the engine's.

    score      requested, 0 by default
    own        the engine's
    may_lower  whether the engine has CAP_SYS_RESOURCE, which lowering a score needs (proc(5))

    Without that capability the default 0 means the engine's score. Raises RuntimeFailed for any other lower score.
    """
    # A child inherits the score. The daemon of a VM protects itself by a low one (labctr.service), which its containers
    # must not have, so even the default 0 is written if it differs.
    if score == own:
        return None
    if score > own or may_lower:
        return score
    if score:
        raise RuntimeFailed(
            f"the oom score {score} is below the engine's own, which needs CAP_SYS_RESOURCE: this machine lacks it",
            hint="use a number above 0",
        )
    return None


def seccomp_profile(record: ContainerRecord, process: bundle.Process) -> dict[str, Any] | None:
    """Return the seccomp filter, None for no filter. Raises InvalidInput for an invalid profile.

    A privileged container has no default profile, but a requested one applies (moby 23.0, daemon/seccomp_linux.go).
    """
    chosen = security_options(record).seccomp
    if chosen == {} or (record.host_config.privileged and chosen is None):
        return None
    machine = os.uname()
    try:
        # Rules of Docker's profile depend on the capabilities, the processor and the version of the kernel.
        return seccomp.resolve(
            seccomp.default_profile() if chosen is None else chosen,
            capabilities=process.capabilities,
            architecture=machine.machine,
            kernel=machine.release,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(
            f"Decoding seccomp profile failed: {error!r}", hint="compare it with Docker's profile"
        ) from error
