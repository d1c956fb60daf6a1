"""Make a HostConfig from docker-py's keywords.

An invalid value raises InvalidInput, with Docker's message if Docker has one (moby daemon/daemon_unix.go and
runconfig/, 20.10).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from pylab_container.errors import InvalidInput
from pylab_container.networks.addresses import refuse_on_predefined
from pylab_container.networks.link_variables import link_pairs
from pylab_container.oci import blockio, ports
from pylab_container.oci.capabilities import capability_names
from pylab_container.oci.host_config import (
    DEFAULT,
    DEFAULT_SHM_SIZE,
    DeviceMapping,
    HostConfig,
    RestartPolicy,
    Ulimit,
)
from pylab_container.oci.image import Json
from pylab_container.oci.mounts import parse_mount, parse_tmpfs, parse_volumes
from pylab_container.runtime.logdriver import log_config
from pylab_container.text import sizes
from pylab_container.text.address import parse_ip
from pylab_container.text.golang import quoted
from pylab_container.text.visible import check_line, visible

Options = Mapping[str, Any]

NETWORK_MODES = ("bridge", "none", "host")
_SMALLEST_MEMORY = 6 << 20

_POLICIES = ("no", "always", "unless-stopped", "on-failure")
# The names of getrlimit(2) in lower case (moby opts/ulimit.go).
_ULIMITS = "core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack".split()
# Namespaced sysctls; any other one would change the whole machine (sysctl(8), namespaces(7)).
_SYSCTLS = frozenset(
    "kernel.msgmax kernel.msgmnb kernel.msgmni kernel.sem kernel.shmall kernel.shmmax kernel.shmmni "
    "kernel.shm_rmid_forced".split()
)
_SYSCTL_PREFIXES = ("net.", "fs.mqueue.")


def host_config(options: Options, *, processors: int, memory_nodes: str = "0") -> HostConfig:
    """Build the HostConfig that docker-py's keywords describe. Raises InvalidInput.

    processors    number of the host's processors
    memory_nodes  the host's NUMA nodes: "0-1"
    """
    requested = {
        "binds": tuple(text for text in parse_volumes(options.get("volumes") or ()) if ":" in text),
        "log_config": log_config(options.get("log_config") or {}),
        "network_mode": requested_network(options),
        "port_bindings": port_bindings(options),
        "restart_policy": restart_policy(options.get("restart_policy") or {}),
        "auto_remove": bool(options.get("auto_remove")),
        "volumes_from": tuple(options.get("volumes_from") or ()),
        "dns": tuple(_address(text, "dns") for text in options.get("dns") or ()),
        "dns_options": tuple(check_line(text, "DNS option") for text in options.get("dns_opt") or ()),
        "dns_search": tuple(check_line(text, "DNS search domain") for text in options.get("dns_search") or ()),
        "extra_hosts": tuple(extra_hosts(options.get("extra_hosts") or ())),
        "links": _links(options),
        "publish_all_ports": bool(options.get("publish_all_ports")),
        "annotations": dict(options.get("annotations") or {}),
        "console_size": tuple(options.get("console_size") or (0, 0)),
        **_rights(options),
        **_namespaces(options),
        **_files(options),
        **_limits(options),
        **resources(options, processors=processors, memory_nodes=memory_nodes),
    }
    config = replace(DEFAULT, **requested)
    _refuse_contradictions(options, config)
    return config


def anonymous_volumes(options: Options) -> Json:
    """Return Config.Volumes for the -v texts that have a destination only, like an image's VOLUME."""
    return {text: {} for text in parse_volumes(options.get("volumes") or ()) if ":" not in text}


def _rights(options: Options) -> Json:
    return {
        "privileged": bool(options.get("privileged")),
        "cap_add": tuple(capability_names(options.get("cap_add") or ())),
        "cap_drop": tuple(capability_names(options.get("cap_drop") or ())),
        "security_opt": tuple(options.get("security_opt") or ()),
        "group_add": tuple(str(group) for group in options.get("group_add") or ()),
        "devices": tuple(parse_device(text) for text in options.get("devices") or ()),
        "device_cgroup_rules": tuple(_device_rule(text) for text in options.get("device_cgroup_rules") or ()),
        "sysctls": _sysctls(options.get("sysctls") or {}),
        **_kernel_paths(options),
    }


def _kernel_paths(options: Options) -> Json:
    """Return which files in /proc and /sys are hidden, and which are read-only."""
    if options.get("privileged") or "systempaths=unconfined" in (options.get("security_opt") or ()):
        return {"masked_paths": (), "readonly_paths": ()}
    chosen = {name: options[name] for name in ("masked_paths", "readonly_paths") if options.get(name) is not None}
    # An empty list that the client sent is recorded as [].
    nulls = DEFAULT.nulls - {"MaskedPaths" if name == "masked_paths" else "ReadonlyPaths" for name in chosen}
    return {"nulls": nulls, **{name: tuple(paths) for name, paths in chosen.items()}}


def _sysctls(settings: Mapping[str, Any]) -> dict[str, str]:
    for name in settings:
        if name not in _SYSCTLS and not name.startswith(_SYSCTL_PREFIXES):
            hint = "a container's are those that a namespace has for itself: net.*, fs.mqueue.*, some kernel.*"
            raise InvalidInput(f"sysctl '{name}' is not allowed", hint=hint)
    return {name: str(value) for name, value in settings.items()}


def _namespaces(options: Options) -> Json:
    return {
        "cgroupns_mode": _mode("CGROUP", options.get("cgroupns"), ("host", "private"), container=False) or "host",
        "ipc_mode": _mode("IPC", options.get("ipc_mode"), ("none", "private", "shareable", "host")) or "private",
        "pid_mode": _mode("PID", options.get("pid_mode"), ("host",)),
        "uts_mode": _mode("UTS", options.get("uts_mode"), ("host",), container=False),
        "userns_mode": options.get("userns_mode") or "",
    }


def _files(options: Options) -> Json:
    for document in options.get("mounts") or ():
        parse_mount(document)
    for destination, words in (options.get("tmpfs") or {}).items():
        parse_tmpfs(destination, words)
    return {
        "readonly_rootfs": bool(options.get("read_only")),
        "shm_size": _shm_size(options.get("shm_size")),
        "mounts": tuple(dict(document) for document in options.get("mounts") or ()),
        "tmpfs": dict(options.get("tmpfs") or {}),
        "init": bool(options["init"]) if options.get("init") is not None else None,
    }


def _limits(options: Options) -> Json:
    """Return the limits that `update` cannot change."""
    return {
        "oom_score_adj": _oom_score(int(options.get("oom_score_adj") or 0)),
        "oom_kill_disable": bool(options.get("oom_kill_disable")),
        "cgroup_parent": options.get("cgroup_parent") or "",
        "ulimits": tuple(ulimits(options.get("ulimits") or ())),
        "blkio_weight_device": blockio.weights(options.get("blkio_weight_device") or ()),
        **{f"blkio_{name}": blockio.rates(options.get(name) or ()) for name in blockio.RATES},
    }


# ---- resources -------------------------------------------------------------------------------


def resources(options: Options, *, processors: int, memory_nodes: str = "0") -> Json:
    """Return the requested cgroup limits, {attribute of HostConfig: value}. `update` can change them later.

    Raises InvalidInput.
    """
    fields: Json = {}
    for name, attribute in (("mem_limit", "memory"), ("mem_reservation", "memory_reservation")):
        if options.get(name):
            fields[attribute] = _bytes(options[name])
    fields |= {attribute: int(options[name]) for name, attribute in NUMBERS.items() if options.get(name)}
    if (shares := fields.get("cpu_shares", 0)) < 0:  # the runtime clamps the other values
        raise InvalidInput(
            f"invalid CPU shares ({shares}): value must be a positive integer", hint="write --cpu-shares 2 or more"
        )
    if options.get("memswap_limit") is not None:
        fields["memory_swap"] = _bytes(options["memswap_limit"], unlimited=True)
    if options.get("mem_swappiness") is not None:
        fields["memory_swappiness"] = _swappiness(int(options["mem_swappiness"]))
    fields |= _cpu_quota(options)
    if options.get("nano_cpus"):
        fields["nano_cpus"] = _nano_cpus(int(options["nano_cpus"]), processors)
    for name, available in (("cpuset_cpus", f"0-{processors - 1}"), ("cpuset_mems", memory_nodes)):
        if options.get(name):
            fields[name] = _cpuset(str(options[name]), name, available)
    if options.get("pids_limit") is not None:
        fields["pids_limit"] = _pids(int(options["pids_limit"]))
    return fields


NUMBERS = {
    "blkio_weight": "blkio_weight",
    "cpu_percent": "cpu_percent",
    "cpu_rt_period": "cpu_realtime_period",
    "cpu_rt_runtime": "cpu_realtime_runtime",
    "cpu_shares": "cpu_shares",
    "kernel_memory": "kernel_memory",
    "kernel_memory_tcp": "kernel_memory_tcp",
}
"""docker-py's keywords for numbers that are recorded unchanged, and their attributes of HostConfig."""


def complete_memory(config: HostConfig) -> HostConfig:
    """Check the memory limits against each other; without a swap limit, swap is as large as memory.

    Raises InvalidInput.
    """
    memory, swap, reservation = config.memory, config.memory_swap, config.memory_reservation
    if memory and memory < _SMALLEST_MEMORY:
        raise InvalidInput("Minimum memory limit allowed is 6MB", hint="write --memory 6m or more")
    if swap > 0 and not memory:
        raise InvalidInput(
            "You should always set the Memory limit when using Memoryswap limit, see usage", hint="add --memory"
        )
    if 0 < swap < memory:
        raise InvalidInput(
            "Minimum memoryswap limit should be larger than memory limit, see usage",
            hint="--memory-swap counts memory and swap together",
        )
    if memory and reservation > memory:
        raise InvalidInput(
            "Minimum memory limit can not be less than memory reservation limit, see usage",
            hint="lower --memory-reservation",
        )
    if reservation and reservation < _SMALLEST_MEMORY:
        raise InvalidInput("Minimum memory reservation allowed is 6MB", hint="write 6m or more")
    return replace(config, memory_swap=memory * 2) if memory and not swap else config


def _bytes(value: int | str, *, unlimited: bool = False) -> int:
    if isinstance(value, int):
        return value
    return -1 if unlimited and value.strip() == "-1" else sizes.parse(value)


def _swappiness(value: int) -> int | None:
    """Return the swappiness, or None for -1, the host's. Raises InvalidInput."""
    if not -1 <= value <= 100:
        raise InvalidInput(
            f"Invalid value: {value}, valid memory swappiness range is 0-100",
            hint="write --memory-swappiness 60, for example",
        )
    return None if value == -1 else value


def _cpu_quota(options: Options) -> Json:
    """Return cpu_period and cpu_quota unless they are 0. Source: moby daemon/daemon_unix.go, 20.10."""
    period, quota = int(options.get("cpu_period") or 0), int(options.get("cpu_quota") or 0)
    if period and not 1000 <= period <= 1_000_000:
        raise InvalidInput(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
            hint="write --cpu-period 100000, for example",
        )
    if 0 < quota < 1000:
        raise InvalidInput(
            "CPU cfs quota can not be less than 1ms (i.e. 1000)",
            hint="write microseconds: 50000 of a period of 100000 are half of a CPU",
        )
    if options.get("nano_cpus") and (period or quota):
        what = "Period" if period else "Quota"
        raise InvalidInput(
            f"Conflicting options: Nano CPUs and CPU {what} cannot both be set", hint="leave one of them out"
        )
    return {name: value for name, value in (("cpu_period", period), ("cpu_quota", quota)) if value}


def _nano_cpus(requested: int, processors: int) -> int:
    # As in moby without a lower limit: the kernel refuses a value that is too small when the container starts.
    if not 0 < requested <= processors * 10**9:
        raise InvalidInput(
            f"Range of CPUs is from 0.01 to {processors}.00, as there are only {processors} CPUs available",
            hint="write --cpus 0.5, for half of one",
        )
    return requested


_CPUSET_WORDS = {"cpuset_cpus": ("cpuset cpus", "CPUs"), "cpuset_mems": ("cpuset mems", "memory nodes")}


def _cpuset(text: str, keyword: str, available: str) -> str:
    what, members = _CPUSET_WORDS[keyword]
    numbers = _numbers(text)
    if numbers is None:
        raise InvalidInput(f"Invalid value {text} for {what}: invalid format: {text}", hint="write 0-2,4")
    if not numbers <= (_numbers(available) or set()):
        raise InvalidInput(
            f"Requested {members} are not available - requested {text}, available: {available}", hint="lscpu lists them"
        )
    return text


def _numbers(text: str) -> set[int] | None:
    """Return the members of a list such as "0-2,4", or None for an invalid list."""
    numbers: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", part.strip())
        if match is None or int(match[2] or match[1]) < int(match[1]):
            return None
        numbers |= set(range(int(match[1]), int(match[2] or match[1]) + 1))
    return numbers


def _pids(limit: int) -> int | None:
    """Return the limit, or None (no limit) for 0 and negative numbers."""
    return limit if limit > 0 else None


def _oom_score(score: int) -> int:
    if not -1000 <= score <= 1000:
        raise InvalidInput(
            f"Invalid value {score}, range for oom score adj is [-1000, 1000]",
            hint="write 0 for the default; 1000 is killed first",
        )
    return score


def _shm_size(size: int | str | None) -> int:
    value = _bytes(size) if size is not None else 0
    if value < 0:
        raise InvalidInput("SHM size can not be less than 0", hint="write --shm-size 64m")
    return value or DEFAULT_SHM_SIZE


def ulimits(entries: Sequence[Any]) -> list[Ulimit]:
    """Parse docker-py's Ulimit documents, or the texts of --ulimit, "nofile=1024[:2048]"."""
    limits = []
    for entry in entries:
        if isinstance(entry, str):
            limit = _parse_ulimit(entry)
        else:
            limit = Ulimit(name=entry.get("Name"), hard=entry.get("Hard") or 0, soft=entry.get("Soft") or 0)
        if limit.name not in _ULIMITS:
            raise InvalidInput(f"invalid ulimit type: {limit.name}", hint=f"use one of {', '.join(_ULIMITS)}")
        if limit.hard != -1 and (limit.soft > limit.hard or limit.soft == -1):
            raise InvalidInput(
                f"ulimit soft limit must be less than or equal to hard limit: {limit.soft} > {limit.hard}",
                hint=f"write --ulimit {limit.name}=SOFT:HARD",
            )
        limits.append(limit)
    return limits


def _parse_ulimit(text: str) -> Ulimit:
    match = re.fullmatch(r"([a-z]+)=(-1|\d{1,19})(?::(-1|\d{1,19}))?", text)
    if match is None:
        raise InvalidInput(f"invalid ulimit argument: {text}", hint="write --ulimit nofile=1024:2048")
    return Ulimit(name=match[1], soft=int(match[2]), hard=int(match[3] or match[2]))


# ---- devices, namespaces, network ----------------------------------------------------------------


def parse_device(text: str) -> DeviceMapping:
    """Parse `--device /dev/x[:/dev/in/the/container][:rwm]`. Raises InvalidInput."""
    parts = text.split(":")
    if not 1 <= len(parts) <= 3 or not parts[0]:
        raise InvalidInput(f"invalid device specification: {text}", hint="write --device /dev/fuse[:/dev/fuse][:rwm]")
    source, target, access = parts[0], parts[0], "rwm"
    rest = parts[1:]
    if len(parts) == 2 and _is_access(rest[0]):
        access, rest = rest[0], []
    if rest:
        target = rest[0]
    if len(parts) == 3:
        access = rest[1]
        if not _is_access(access):
            raise InvalidInput(f"invalid device mode: {access}", hint="write write some of r, w and m")
    for path in (source, target):
        if not path.startswith("/"):
            raise InvalidInput(f"{path} is not an absolute path", hint="write --device /dev/fuse[:/dev/fuse][:rwm]")
    return DeviceMapping(
        path_on_host=posixpath.normpath(source),
        path_in_container=posixpath.normpath(target),
        cgroup_permissions=access,
    )


def _device_rule(text: str) -> str:
    """Check `--device-cgroup-rule 'c 10:200 rwm'`, a line of the cgroup's devices.allow. Raises InvalidInput."""
    if not re.fullmatch(r"[acb] (\d{1,9}|\*):(\d{1,9}|\*) [rwm]{1,3}", text, re.ASCII):
        raise InvalidInput(f"invalid device cgroup rule format: '{text}'", hint="write 'c 10:200 rwm'")
    return text


def _is_access(text: str) -> bool:
    return 0 < len(text) <= 3 and set(text) <= set("rwm") and len(set(text)) == len(text)


def _mode(kind: str, value: str | None, known: Sequence[str], *, container: bool = True) -> str:
    """Check the mode of a namespace: one of known, or container:NAME. Raises InvalidInput."""
    text = value or ""
    if not text or text in known or (container and text.startswith("container:") and text != "container:"):
        return text
    raise InvalidInput(
        f"invalid {kind} mode: {text}",
        hint=f"use one of {', '.join((*known, 'container:NAME') if container else known)}",
    )


def requested_network(options: Options) -> str:
    """Return the network that the keywords network or network_mode name, by default "bridge". Raises InvalidInput."""
    network, mode = options.get("network"), options.get("network_mode")
    if network and mode and network != mode:
        raise InvalidInput("network and network_mode name different networks", hint="give one of them")
    chosen = str(network or mode or "bridge")
    if chosen in ("container", "container:"):
        raise InvalidInput(
            "Invalid network mode: invalid container format container:<name|id>", hint="write container:NAME"
        )
    return "bridge" if chosen == "default" else chosen


def extra_hosts(entries: Mapping[str, str] | Sequence[str]) -> list[str]:
    """Check the "name:address" entries of --add-host; the address may be host-gateway. Raises InvalidInput."""
    texts = (
        [f"{name}:{address}" for name, address in entries.items()] if isinstance(entries, Mapping) else list(entries)
    )
    for text in texts:
        name, colon, address = text.partition(":")
        if not name or not colon:
            raise InvalidInput(f"bad format for add-host: {quoted(text)}", hint="write --add-host NAME:ADDRESS")
        check_line(name, "host name in add-host")
        if address != "host-gateway":
            _address(address.strip("[]"), "add-host")
    return texts


def _links(options: Options) -> tuple[str, ...]:
    """Return the links on the default bridge; on a user-defined network they belong to the endpoint."""
    if not options.get("links") or requested_network(options) not in NETWORK_MODES:
        return ()
    return tuple(":".join(pair) for pair in link_pairs(options["links"]))


def _address(text: str, option: str) -> str:
    try:
        parse_ip(text)
    except ValueError:
        kind = "an IP address in add-host" if option == "add-host" else "ip address"
        raise InvalidInput(
            f"invalid {kind}: {quoted(text)}" if option == "add-host" else f"{visible(text)} is not an {kind}",
            hint="write an address such as 10.0.0.1",
        ) from None
    return text


def port_bindings(options: Options) -> Json:
    """Return PortBindings for docker-py's `ports`. Raises InvalidInput."""
    if not options.get("ports"):
        return {}
    bindings: Json = ports.parse_publish(_publish_texts(options["ports"]))[1]
    return bindings


def exposed_ports(options: Options) -> Json:
    """Return Config.ExposedPorts: the published ports and those of --expose. Raises InvalidInput."""
    if not (options.get("ports") or options.get("exposed_ports")):
        return {}
    published = ports.parse_publish(_publish_texts(options.get("ports") or {}))[0]
    return {**published, **ports.parse_expose(options.get("exposed_ports") or ())}


def _publish_texts(ports: Mapping[str, Any]) -> list[str]:
    """Return docker-py's `ports`, or PortBindings, in the form of -p.

    {"80/tcp": ("::1", 8080)} is [::1]:8080:80/tcp.
    """
    texts = []
    for port, places in ports.items():
        for place in places if isinstance(places, list) else [places]:
            if isinstance(place, Mapping):
                address, host_port = place.get("HostIp") or "", place.get("HostPort") or ""
            else:
                address, host_port = place if isinstance(place, tuple) else ("", place)
            address = f"[{address}]" if ":" in address else address
            before = f"{address}:{host_port or ''}:" if address else f"{host_port}:" if host_port else ""
            texts.append(f"{before}{port}")
    return texts


# ---- restart policy --------------------------------------------------------------------------------


def restart_policy(policy: Mapping[str, Any]) -> RestartPolicy:
    """Check docker-py's mapping: no, always, unless-stopped, or on-failure with a MaximumRetryCount.

    Raises InvalidInput.
    """
    name, count = policy.get("Name") or "no", policy.get("MaximumRetryCount") or 0
    if name not in _POLICIES:
        raise InvalidInput(f"invalid restart policy '{name}'", hint=f"use one of {', '.join(_POLICIES)}")
    if not isinstance(count, int) or count < 0:
        raise InvalidInput("maximum retry count cannot be negative", hint="write on-failure:3")
    if count and name != "on-failure":
        raise InvalidInput(
            f"maximum retry count cannot be used with restart policy '{name}'",
            hint="leave the count out, or write on-failure:3",
        )
    return RestartPolicy(name=name, maximum_retry_count=count)


def parse_restart_policy(text: str) -> Json:
    """Parse `--restart NAME[:N]` to docker-py's mapping. Raises InvalidInput."""
    name, colon, count = text.partition(":")
    if colon and not (count.isascii() and count.isdigit()):
        raise InvalidInput(
            "invalid restart policy format: maximum retry count must be an integer", hint="write --restart on-failure:3"
        )
    return restart_policy({"Name": name, "MaximumRetryCount": int(count or 0)}).document()


# ---- conflicting options ---------------------------------------------------------------


def _refuse_contradictions(options: Options, config: HostConfig) -> None:
    if config.auto_remove and config.restart_policy.name != "no":
        raise InvalidInput(
            "can't create 'AutoRemove' container with restart policy", hint="leave --rm or --restart out"
        )
    mode = config.network_mode
    shared = mode.startswith("container:")
    undefined = ". This would result in undefined behavior"
    for is_conflict, words in (
        (shared and options.get("hostname"), "hostname and the network mode"),
        (shared and config.dns, "dns and the network mode"),
        (shared and config.extra_hosts, "custom host-to-IP mapping and the network mode"),
        ((shared or mode == "host") and options.get("mac_address"), "mac-address and the network mode"),
        (
            shared and (config.port_bindings or config.publish_all_ports),
            "port publishing and the container type network mode",
        ),
        (shared and options.get("exposed_ports"), "port exposing and the container type network mode"),
        (mode == "host" and config.links, "host type networking can't be used with links" + undefined),
        (shared and options.get("links"), "container type network can't be used with links" + undefined),
        (config.uts_mode == "host" and options.get("hostname"), "hostname and the UTS mode"),
    ):
        if is_conflict:
            raise InvalidInput(f"conflicting options: {words}", hint="leave one of them out")
    if shared or mode in NETWORK_MODES:
        refuse_on_predefined(
            addresses=options.get("ipv4_address") or options.get("ipv6_address"), aliases=options.get("network_aliases")
        )
