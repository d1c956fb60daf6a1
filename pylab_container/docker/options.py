"""What can be asked for when a container is made, and the documents that record it.

The keywords are docker-py's. documents() turns them, with the image's own configuration, into
Docker's Config and HostConfig, which `inspect` shows and launch.py puts into effect. Pure: it reads
no disk; what names other containers or volumes is resolved by ContainerCollection.create().
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from msgspec import Struct

from pylab_container.containers import health
from pylab_container.docker import limits
from pylab_container.docker.hostconfig import (
    NETWORK_MODES,
    anonymous_volumes,
    complete_memory,
    exposed_ports,
    host_config,
    network_mode,
    parse_address,
    parse_mac,
)
from pylab_container.errors import InvalidInput
from pylab_container.networks.link_variables import link_pairs
from pylab_container.oci.environment import merge_environment as merge_environment
from pylab_container.oci.image import EMPTY_CONFIG, Json, ordered_config
from pylab_container.oci.mounts import (
    declared_volume,
    parse_mount,
    parse_tmpfs,
    parse_volume,
    parse_volumes,
    refuse_duplicates,
)
from pylab_container.oci.signals import signal_number
from pylab_container.text.visible import check_line, visible


class ContainerOptions(TypedDict, total=False):
    """The keywords of containers.create() and run(); each may be left out.

    command        as in create(): a list, or one string that is split as a shell would
    annotations    {"name": "value"}: for the runtime, in config.json
    attach         some of "stdin", "stdout" and "stderr", which the caller means to connect to: only recorded
    blkio_weight   10 to 1000: its weight against others at the disks; blkio_weight_device: at single ones,
                   [{"Path": "/dev/sda", "Weight": 500}]
    cgroup_parent  the cgroup that its own is in: "/class"
    cgroupns       "private": the cgroups that it sees begin at its own
    cpu_period, cpu_quota  microseconds of all processors in each period of so many; nano_cpus is the same in one number
    cpu_rt_period, cpu_rt_runtime  microseconds for real-time scheduling in each period of so many
    devices        "/dev/on/the/host[:/dev/in/the/container][:rwm]"
    device_cgroup_rules  "c 10:200 rwm": kinds of devices that it may also use
    device_read_bps  [{"Path": "/dev/sda", "Rate": bytes a second}]; so are device_write_bps, and with operations
                   a second device_read_iops and device_write_iops
    environment    {"NAME": "value"} or ["NAME=value"]
    extra_hosts    {"name": "address"}; "host-gateway" is the host's address on the container's network
    healthcheck    {"test": ["CMD", …] | ["CMD-SHELL", …] | ["NONE"] | "shell text",
                   "interval", "timeout", "start_period", "start_interval": nanoseconds, "retries": count}
    kernel_memory  bytes of the kernel for it, which kernels of today do not count; kernel_memory_tcp: for connections
    link_local_ips  169.254.x.y and fe80::… that its interface has, too
    links          {"NAME": "alias"}, or "NAME:alias": on the default bridge a name and variables, elsewhere a name
    log_config     {"Type": "json-file", "Config": {"max-size": "10m"}}
    mem_limit      bytes, or "512m"; so are memswap_limit (memory and swap; -1: unlimited),
                   mem_reservation and shm_size
    mem_swappiness  0 to 100: how readily its memory is swapped out; with cgroup v1 alone
    masked_paths   files of the kernel that are hidden instead of the usual ones; readonly_paths: that can only be read
    mounts         documents as docker-py's types.Mount makes them
    readonly_recursive  False: mounts below a source that can only be read stay as they are, as before Docker 25.0
    nano_cpus      processors times 10⁹
    oom_kill_disable  what wants more memory than it may have waits instead of being killed; with cgroup v1 alone
    network        its name; network_mode also "none", "host" and "container:NAME"
    ports          {"80/tcp": 8080 | ("127.0.0.1", 8080) | None (any) | [several]}
    exposed_ports  ["80/tcp"]: recorded and published by publish_all_ports alone
    restart_policy {"Name": "on-failure", "MaximumRetryCount": 3}
    stdin_once     with stdin_open: its input ends when the first one who attached leaves
    stop_timeout   seconds
    tmpfs          {"/run": "size=64m,mode=755"}
    ulimits        {"Name": "nofile", "Soft": 512, "Hard": 1024} or "nofile=512:1024"
    volumes        as -v takes them: "/on/the/host:/in/the/container[:ro]", or docker-py's mapping
    volumes_from   "CONTAINER[:ro]"
    console_size   (rows, columns) of its terminal at the start
    """

    annotations: Mapping[str, str]
    attach: Sequence[str]
    auto_remove: bool
    blkio_weight: int | None
    blkio_weight_device: Sequence[Mapping[str, Any]]
    cap_add: Sequence[str]
    cap_drop: Sequence[str]
    cgroup_parent: str
    cgroupns: str
    console_size: tuple[int, int] | None
    cpu_percent: int | None
    cpu_period: int | None
    cpu_quota: int | None
    cpu_rt_period: int | None
    cpu_rt_runtime: int | None
    cpu_shares: int | None
    cpuset_cpus: str | None
    cpuset_mems: str | None
    device_cgroup_rules: Sequence[str]
    device_read_bps: Sequence[Mapping[str, Any]]
    device_read_iops: Sequence[Mapping[str, Any]]
    device_write_bps: Sequence[Mapping[str, Any]]
    device_write_iops: Sequence[Mapping[str, Any]]
    devices: Sequence[str]
    dns: Sequence[str]
    dns_opt: Sequence[str]
    dns_search: Sequence[str]
    domainname: str
    entrypoint: str | Sequence[str] | None
    environment: Mapping[str, str] | Sequence[str] | None
    exposed_ports: Sequence[str]
    extra_hosts: Mapping[str, str] | Sequence[str]
    group_add: Sequence[str | int]
    healthcheck: Mapping[str, Any] | None
    hostname: str
    init: bool | None
    ipc_mode: str
    ipv4_address: str
    ipv6_address: str
    kernel_memory: int | None
    kernel_memory_tcp: int | None
    labels: Mapping[str, str] | Sequence[str] | None
    link_local_ips: Sequence[str]
    links: Mapping[str, str] | Sequence[str]
    log_config: Mapping[str, Any] | None
    mac_address: str
    masked_paths: Sequence[str] | None
    mem_limit: int | str | None
    mem_reservation: int | str | None
    mem_swappiness: int | None
    memswap_limit: int | str | None
    mounts: Sequence[Mapping[str, Any]]
    name: str | None
    nano_cpus: int | None
    network: str
    network_aliases: Sequence[str]
    network_mode: str
    oom_kill_disable: bool
    oom_score_adj: int
    pid_mode: str
    pids_limit: int | None
    ports: Mapping[str, Any]
    privileged: bool
    publish_all_ports: bool
    read_only: bool
    readonly_paths: Sequence[str] | None
    readonly_recursive: bool
    restart_policy: Mapping[str, Any] | None
    security_opt: Sequence[str]
    shm_size: int | str | None
    stdin_once: bool
    stdin_open: bool
    stop_signal: str
    stop_timeout: int | None
    sysctls: Mapping[str, str]
    tmpfs: Mapping[str, str]
    tty: bool
    ulimits: Sequence[Any]
    user: str | int
    userns_mode: str
    uts_mode: str
    volumes: Sequence[str] | Mapping[str, Mapping[str, str]]
    volumes_from: Sequence[str]
    working_dir: str


class UpdateOptions(TypedDict, total=False):
    """The keywords of Container.update(): what of ContainerOptions can change later."""

    blkio_weight: int | None
    cpu_period: int | None
    cpu_quota: int | None
    cpu_rt_period: int | None
    cpu_rt_runtime: int | None
    cpu_shares: int | None
    cpuset_cpus: str | None
    cpuset_mems: str | None
    kernel_memory: int | None
    mem_limit: int | str | None
    mem_reservation: int | str | None
    memswap_limit: int | str | None
    nano_cpus: int | None
    pids_limit: int | None
    restart_policy: Mapping[str, Any] | None


class Host(Struct, frozen=True):
    """What matters of the host: its name, how many processors it has, and which memory nodes ("0-1").

    unsupported  the limits that its kernel does not have, by the fields of HostConfig (runtime/cgroup.py)
    """

    name: str
    processors: int
    memory_nodes: str = "0"
    unsupported: frozenset[str] = frozenset()


class Documents(Struct, frozen=True):
    """A container as Docker writes it down.

    mounts    what was asked for, as Mounts entries; volumes have no place on the disk yet
    networks  NetworkSettings.Networks before the start: {name: the endpoint's settings}
    warnings  what is done, but may not be what was meant; in Docker's words
    """

    config: Json
    host_config: Json
    mounts: list[Json]
    networks: Json
    warnings: list[str]


def refuse_unknown(options: Mapping[str, Any]) -> None:
    """Raises TypeError for a keyword that there is not, as Python itself does."""
    for name in options:
        if name not in ContainerOptions.__annotations__:
            raise TypeError(f"create() got an unexpected keyword argument {name!r}")


def documents(
    container_id: str,
    image_config: Mapping[str, Any],
    command: str | Sequence[str] | None,
    options: ContainerOptions,
    *,
    image_name: str,
    host: Host,
    borrowed: Sequence[Json] = (),
) -> Documents:
    """All that is recorded of a new container.

    image_config  the `config` of the image
    borrowed      mounts of other containers; its own and the image's VOLUMEs give way as in Docker

    Raises InvalidInput for a value that cannot mean anything, TypeError for an unknown keyword.
    """
    refuse_unknown(options)
    wanted = host_config(options, processors=host.processors, memory_nodes=host.memory_nodes)
    possible, warnings = limits.discard(wanted, host.unsupported)
    limited = complete_memory(possible)
    config = _config(container_id, image_config, command, options, limited, image_name=image_name, host_name=host.name)
    command_line(config)
    entries = _mounts(options)
    refuse_duplicates(entries)
    taken = {mount["Destination"]: mount for mount in borrowed}  # of two at one place the last
    entries += [mount for place, mount in taken.items() if place not in _destinations(entries)]
    declared = (declared_volume(path) for path in sorted(config.get("Volumes") or {}))
    entries += [volume for volume in declared if volume["Destination"] not in _destinations(entries)]
    return Documents(config, limited, entries, _networks(options), warnings)


def _destinations(entries: Sequence[Json]) -> set[str]:
    return {entry["Destination"] for entry in entries}


def _mounts(options: ContainerOptions) -> list[Json]:
    flat = not options.get("readonly_recursive", True)
    entries = [
        *(parse_volume(text) for text in parse_volumes(options.get("volumes") or ())),
        *(parse_mount(document) for document in options.get("mounts") or ()),
        *(parse_tmpfs(destination, words) for destination, words in (options.get("tmpfs") or {}).items()),
    ]
    for entry in entries if flat else ():
        if entry["Type"] == "bind" and not entry.get("ReadOnlyForceRecursive"):
            entry["ReadOnlyNonRecursive"] = True
    return entries


def _networks(options: ContainerOptions) -> Json:
    """The endpoint on the network asked for, as far as the user chose its addresses and names."""
    mode = network_mode(options)
    if mode.startswith("container:"):
        return {}
    chosen = {
        "IPv4Address": options.get("ipv4_address") or "",
        "IPv6Address": options.get("ipv6_address") or "",
    }
    addresses: Json = {name: address for name, address in chosen.items() if address}
    if options.get("link_local_ips"):
        addresses["LinkLocalIPs"] = [parse_address(text) for text in options["link_local_ips"]]
    linked = [":".join(pair) for pair in link_pairs(options.get("links") or ())]
    return {
        mode: {
            "IPAMConfig": addresses or None,
            "Links": linked if linked and mode not in NETWORK_MODES else None,
            "Aliases": [check_line(alias, "network alias") for alias in options.get("network_aliases") or ()] or None,
        }
    }


# ---- Config ----------------------------------------------------------------------------------


def _config(
    container_id: str,
    image_config: Mapping[str, Any],
    command: str | Sequence[str] | None,
    options: ContainerOptions,
    host: Json,
    *,
    image_name: str,
    host_name: str,
) -> Json:
    """The image's config with what the user gave on top, as `docker run` merges them."""
    base = {**EMPTY_CONFIG, **image_config}
    own = {  # nothing of an image's, whose container may have been another one's terminal
        "Hostname": _hostname(options) or (host_name if _has_the_hosts_name(host) else container_id[:12]),
        "Domainname": check_line(options.get("domainname") or "", "domain name"),
        "Tty": bool(options.get("tty")),
        "OpenStdin": bool(options.get("stdin_open")),
        "StdinOnce": bool(options.get("stdin_open")) and options.get("stdin_once", True),
        **{f"Attach{name.capitalize()}": name in options.get("attach", ()) for name in ("stdin", "stdout", "stderr")},
    }
    given = {
        "User": str(options.get("user") or ""),
        "WorkingDir": _working_directory(options.get("working_dir") or ""),
    }
    merged = {**base, **own, **{name: value for name, value in given.items() if value or not base[name]}}
    merged["Image"] = image_name
    merged["Env"] = _environment(base.get("Env") or (), environment_list(options.get("environment")))
    merged["Labels"] = {**(base.get("Labels") or {}), **labels(options.get("labels"))}
    if volumes := anonymous_volumes(options):
        merged["Volumes"] = {**(base.get("Volumes") or {}), **volumes}
    ports = exposed_ports(options)
    if ports or base.get("ExposedPorts"):
        merged["ExposedPorts"] = {**(base.get("ExposedPorts") or {}), **ports}
    return ordered_config({**merged, **_commands(command, options), **_ending(options), **_health(base, options)})


def _commands(command: str | Sequence[str] | None, options: ContainerOptions) -> Json:
    """CMD and ENTRYPOINT as far as they were given; a new ENTRYPOINT takes the image's CMD away."""
    fields: Json = {}
    entrypoint, words = arguments(options.get("entrypoint")), arguments(command)
    if entrypoint is not None:
        # `--entrypoint ""` sends one empty word: the image's goes, and nothing comes in its place.
        fields = {"Entrypoint": None if entrypoint in ([], [""]) else entrypoint, "Cmd": None}
    if words:
        fields["Cmd"] = words
    return fields


def _ending(options: ContainerOptions) -> Json:
    fields: Json = {}
    if options.get("stop_signal"):
        signal_number(options["stop_signal"])
        fields["StopSignal"] = options["stop_signal"]
    if (timeout := options.get("stop_timeout")) is not None:
        fields["StopTimeout"] = int(timeout)
    if options.get("mac_address"):
        fields["MacAddress"] = parse_mac(options["mac_address"])
    return fields


def _health(base: Mapping[str, Any], options: ContainerOptions) -> Json:
    given = options.get("healthcheck")
    check = health.merge(base.get("Healthcheck"), given)
    return {"Healthcheck": check} if check else {}


def _has_the_hosts_name(host: Json) -> bool:
    return bool(host["NetworkMode"] == "host")  # and not with --uts host, as dockerd 20.10 shows


def _hostname(options: ContainerOptions) -> str:
    name = options.get("hostname") or ""
    if name and (len(name) > 63 or not re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?", name)):
        raise InvalidInput(
            f"invalid hostname format: {visible(name)}", hint="letters, digits, - and ., at most 63 of them"
        )
    return name


def _working_directory(path: str) -> str:
    if path and not path.startswith("/"):
        raise InvalidInput(
            f"the working directory '{path}' is invalid, it needs to be an absolute path", hint="write -w /srv"
        )
    return "/" + posixpath.normpath(path).lstrip("/") if path else ""


def labels(given: Mapping[str, str] | Sequence[str] | None) -> dict[str, str]:
    """Labels as a mapping; docker-py also takes a list of names, whose values are then empty."""
    return dict(given) if isinstance(given, Mapping) else dict.fromkeys(given or (), "")


def arguments(command: str | Sequence[str] | None) -> list[str] | None:
    """A command as a list of words; a string is split as a shell would."""
    if command is None:
        return None
    return shlex.split(command) if isinstance(command, str) else list(command)


def environment_list(environment: Mapping[str, str] | Sequence[str] | None) -> list[str]:
    """An environment as "NAME=value" entries. Raises InvalidInput for an entry without a name."""
    if isinstance(environment, Mapping):
        entries = [f"{name}={value}" for name, value in environment.items()]
    else:
        entries = list(environment or ())
    for entry in entries:
        if not entry.partition("=")[0]:
            raise InvalidInput(f"invalid environment variable: {entry}", hint="write NAME=value")
    return entries


def _environment(image: Sequence[str], given: Sequence[str]) -> list[str]:
    """What the user gave as it is, and after it what only the image has: the order that Docker records."""
    names = {entry.partition("=")[0] for entry in given}
    return [*given, *(entry for entry in image if entry.partition("=")[0] not in names)]


def command_line(config: Mapping[str, Any]) -> list[str]:
    """ENTRYPOINT and CMD joined. Raises InvalidInput where both are empty."""
    words = [*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ())]
    if not words:
        raise InvalidInput(
            "No command specified", hint="give a command after the image's name: labctr run IMAGE /bin/bash"
        )
    return words
