"""The keywords of containers.create(), and the documents that record a container.

The keywords are docker-py's. documents() makes Docker's Config and HostConfig of them and of the image's config;
`inspect` shows these documents, and launch.py puts them into effect. Nothing here reads the disk: names of other
containers and of volumes are resolved by creation.py.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from pylab_container.containers import health
from pylab_container.docker import limits
from pylab_container.docker.hostconfig import (
    NETWORK_MODES,
    anonymous_volumes,
    complete_memory,
    exposed_ports,
    host_config,
    requested_network,
)
from pylab_container.errors import InvalidInput
from pylab_container.networks.addresses import parse_address, parse_mac
from pylab_container.networks.link_variables import link_pairs
from pylab_container.oci.container_config import ContainerConfig
from pylab_container.oci.environment import merge_environment as merge_environment
from pylab_container.oci.host_config import HostConfig
from pylab_container.oci.image import Json
from pylab_container.oci.mounts import (
    MountPoint,
    declared_volume,
    parse_mount,
    parse_tmpfs,
    parse_volume,
    parse_volumes,
    refuse_duplicates,
)
from pylab_container.oci.network_settings import EndpointIpam, EndpointSettings
from pylab_container.oci.signals import signal_number
from pylab_container.text.visible import check_line, visible

if TYPE_CHECKING:
    from typing import TypedDict
else:

    class TypedDict:
        # typing's compiles each annotation when the class is made, which costs every `labctr run` 1.5 ms.
        def __init_subclass__(cls, *, total: bool) -> None: ...


class ContainerOptions(TypedDict, total=False):
    """The keywords of containers.create() and run(); each is optional.

    annotations    {"name": "value"}: for the runtime, in config.json
    attach         some of "stdin", "stdout" and "stderr", which the caller will attach to; only recorded
    cgroup_parent  the parent of the container's cgroup: "/class"
    cgroupns       "private": a cgroup namespace of its own
    console_size   (rows, columns) of its terminal at the start
    devices        "/dev/on/the/host[:/dev/in/the/container][:rwm]"
    device_cgroup_rules  "c 10:200 rwm": further devices that it may use
    environment    {"NAME": "value"} or ["NAME=value"]
    exposed_ports  ["80/tcp"]: recorded, and published by publish_all_ports only
    extra_hosts    {"name": "address"}; "host-gateway" is the host's address on the container's network
    healthcheck    {"test": ["CMD", …] | ["CMD-SHELL", …] | ["NONE"] | "shell text",
                   "interval", "timeout", "start_period", "start_interval": nanoseconds, "retries": count}
    link_local_ips  further addresses of its interface: 169.254.x.y and fe80::…
    links          {"NAME": "alias"}, or "NAME:alias": a name and, on the default bridge, environment variables
    log_config     {"Type": "json-file", "Config": {"max-size": "10m"}}
    masked_paths   hidden files in /proc and /sys instead of the default ones; readonly_paths: read-only ones
    mounts         documents as docker-py's types.Mount makes them
    network        its name; network_mode also "none", "host" and "container:NAME"
    ports          {"80/tcp": 8080 | ("127.0.0.1", 8080) | None (any) | [several]}
    readonly_recursive  False: submounts of a read-only bind stay writable, as before Docker 25.0
    restart_policy {"Name": "on-failure", "MaximumRetryCount": 3}
    stdin_once     with stdin_open: its input ends when the first client detaches
    stop_timeout   seconds
    tmpfs          {"/run": "size=64m,mode=755"}
    ulimits        {"Name": "nofile", "Soft": 512, "Hard": 1024} or "nofile=512:1024"
    volumes        as -v takes them: "/on/the/host:/in/the/container[:ro]", or docker-py's mapping
    volumes_from   "CONTAINER[:ro]"

    The limits are those of oci.bundle.Limits, which documents them, under docker-py's names:

    mem_limit, memswap_limit, mem_reservation, shm_size, kernel_memory, kernel_memory_tcp
                   bytes; the first four also as "512m"
    nano_cpus      processors times 10⁹
    cpu_rt_period, cpu_rt_runtime   Limits.realtime_…
    blkio_weight   Limits.block_weight; blkio_weight_device for single disks: [{"Path": "/dev/sda", "Weight": 500}]
    device_read_bps, device_write_bps, device_read_iops, device_write_iops
                   [{"Path": "/dev/sda", "Rate": bytes or operations per second}]
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
    """The keywords of Container.update(): those of ContainerOptions that can be changed later."""

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
    """Properties of the host that limit the options.

    memory_nodes  NUMA nodes: "0-1"
    unsupported   attributes of HostConfig that its kernel does not support (runtime/cgroup.py)
    """

    name: str
    processors: int
    memory_nodes: str = "0"
    unsupported: frozenset[str] = frozenset()


class Documents(Struct, frozen=True):
    """The documents of a new container.

    mounts    the requested mounts; volumes have no directory yet
    networks  NetworkSettings.Networks before the start: {network: endpoint}
    warnings  options that were changed or have no effect, in Docker's words
    """

    config: ContainerConfig
    host_config: HostConfig
    mounts: list[MountPoint]
    networks: Mapping[str, EndpointSettings]
    warnings: list[str]


def refuse_unknown(options: Mapping[str, Any]) -> None:
    """Raise TypeError for an unknown keyword, with Python's words."""
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
    borrowed: Sequence[MountPoint] = (),
) -> Documents:
    """Make the documents of a new container from its image and options.

    image_config  the `config` of the image
    borrowed      mounts of other containers (--volumes-from). As in Docker the container's own mounts replace them,
                  and they replace VOLUMEs of the image.

    Raises InvalidInput for an invalid value, TypeError for an unknown keyword.
    """
    refuse_unknown(options)
    requested = host_config(options, processors=host.processors, memory_nodes=host.memory_nodes)
    supported, warnings = limits.discard(requested, host.unsupported)
    limited = complete_memory(supported)
    base = ContainerConfig.parse(dict(image_config)).completed()
    # In Docker the container has the host's name only with --network host, not with --uts host.
    host_name = host.name if limited.network_mode == "host" else container_id[:12]
    config = _config(base, command, options, image_name=image_name, host_name=host_name)
    command_line(config)
    entries = _mounts(options)
    refuse_duplicates(entries)
    by_destination = {mount.destination: mount for mount in borrowed}  # of two with one destination, the last
    entries += [mount for place, mount in by_destination.items() if place not in _destinations(entries)]
    declared = (declared_volume(path) for path in sorted(config.volumes))
    entries += [volume for volume in declared if volume.destination not in _destinations(entries)]
    return Documents(config, limited, entries, _networks(options), warnings)


def _destinations(entries: Sequence[MountPoint]) -> set[str]:
    return {entry.destination for entry in entries}


def _mounts(options: ContainerOptions) -> list[MountPoint]:
    entries = [
        *(parse_volume(text) for text in parse_volumes(options.get("volumes") or ())),
        *(parse_mount(document) for document in options.get("mounts") or ()),
        *(parse_tmpfs(destination, words) for destination, words in (options.get("tmpfs") or {}).items()),
    ]
    if options.get("readonly_recursive", True):
        return entries
    return [
        replace(entry, read_only_non_recursive=True)
        if entry.type == "bind" and not entry.read_only_force_recursive
        else entry
        for entry in entries
    ]


def _networks(options: ContainerOptions) -> dict[str, EndpointSettings]:
    """Return {network: endpoint} for the requested network, with the addresses and names that the user chose."""
    mode = requested_network(options)
    if mode.startswith("container:"):
        return {}
    addresses = EndpointIpam(
        ipv4_address=options.get("ipv4_address") or "",
        ipv6_address=options.get("ipv6_address") or "",
        link_local_ips=tuple(map(parse_address, options.get("link_local_ips") or ())),
    )
    links = tuple(":".join(pair) for pair in link_pairs(options.get("links") or ()))
    endpoint = EndpointSettings(
        ipam_config=addresses if addresses.document() else None,
        links=() if mode in NETWORK_MODES else links,
        aliases=tuple(check_line(alias, "network alias") for alias in options.get("network_aliases") or ()),
    )
    return {mode: endpoint}


# ---- Config ----------------------------------------------------------------------------------


def _config(
    base: ContainerConfig,
    command: str | Sequence[str] | None,
    options: ContainerOptions,
    *,
    image_name: str,
    host_name: str,
) -> ContainerConfig:
    """Return the image's config with the options on top, as `docker run` merges them."""
    stdin_open = bool(options.get("stdin_open"))
    attached = options.get("attach", ())
    merged = replace(
        base,
        hostname=_hostname(options) or host_name,
        domainname=check_line(options.get("domainname") or "", "domain name"),
        user=str(options.get("user") or "") or base.user,
        attach_stdin="stdin" in attached,
        attach_stdout="stdout" in attached,
        attach_stderr="stderr" in attached,
        exposed_ports=_sorted(base.exposed_ports, exposed_ports(options)),
        tty=bool(options.get("tty")),
        open_stdin=stdin_open,
        stdin_once=stdin_open and options.get("stdin_once", True),
        env=tuple(_environment(base.env, environment_list(options.get("environment")))),
        healthcheck=health.merge(base.healthcheck, options.get("healthcheck")),
        image=image_name,
        volumes=_sorted(base.volumes, anonymous_volumes(options)),
        working_dir=_working_directory(options.get("working_dir") or "") or base.working_dir,
        labels=_sorted(base.labels, labels(options.get("labels"))),
        nulls=base.nulls - {"Env", "Labels"},
    )
    return _with_stop_settings(_with_command(merged, command, options), options)


def _sorted(base: Mapping[str, Any], more: Mapping[str, Any]) -> Json:
    """Merge both into one mapping, sorted by key as Go writes maps; more replaces entries of base."""
    return dict(sorted({**base, **more}.items()))


def _with_command(
    config: ContainerConfig, command: str | Sequence[str] | None, options: ContainerOptions
) -> ContainerConfig:
    """Set CMD and ENTRYPOINT if they were requested; a new ENTRYPOINT removes the image's CMD."""
    entrypoint, words = arguments(options.get("entrypoint")), arguments(command)
    if entrypoint is not None:
        # `--entrypoint ""` sends one empty word: it removes the image's ENTRYPOINT.
        kept = () if entrypoint == [""] else tuple(entrypoint)
        config = replace(config, entrypoint=kept, cmd=(), nulls=config.nulls | {"Entrypoint", "Cmd"})
    return replace(config, cmd=tuple(words)) if words else config


def _with_stop_settings(config: ContainerConfig, options: ContainerOptions) -> ContainerConfig:
    """Set the stop signal and the stop timeout, and the MAC address."""
    signal, timeout, address = options.get("stop_signal"), options.get("stop_timeout"), options.get("mac_address")
    if signal:
        signal_number(signal)
    return replace(
        config,
        stop_signal=signal or config.stop_signal,
        stop_timeout=config.stop_timeout if timeout is None else int(timeout),
        mac_address=parse_mac(address) if address else config.mac_address,
    )


def _hostname(options: ContainerOptions) -> str:
    name = options.get("hostname") or ""
    if name and (len(name) > 63 or not re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?", name)):
        raise InvalidInput(
            f"invalid hostname format: {visible(name)}", hint="use letters, digits, - and ., at most 63 characters"
        )
    return name


def _working_directory(path: str) -> str:
    if path and not path.startswith("/"):
        raise InvalidInput(
            f"the working directory '{path}' is invalid, it needs to be an absolute path", hint="write -w /srv"
        )
    return "/" + posixpath.normpath(path).lstrip("/") if path else ""


def labels(entries: Mapping[str, str] | Sequence[str] | None) -> dict[str, str]:
    """Return labels as a mapping; docker-py also takes a list of names, with empty values."""
    return dict(entries) if isinstance(entries, Mapping) else dict.fromkeys(entries or (), "")


def arguments(command: str | Sequence[str] | None) -> list[str] | None:
    """Return a command as a list of words; a string is split as in a shell."""
    if command is None:
        return None
    return shlex.split(command) if isinstance(command, str) else list(command)


def environment_list(environment: Mapping[str, str] | Sequence[str] | None) -> list[str]:
    """Return an environment as "NAME=value" entries. Raises InvalidInput for an entry without a name."""
    if isinstance(environment, Mapping):
        entries = [f"{name}={value}" for name, value in environment.items()]
    else:
        entries = list(environment or ())
    for entry in entries:
        if not entry.partition("=")[0]:
            raise InvalidInput(f"invalid environment variable: {entry}", hint="write NAME=value")
    return entries


def _environment(image: Sequence[str], requested: Sequence[str]) -> list[str]:
    """Return the user's entries, then those that only the image has: the order that Docker records."""
    names = {entry.partition("=")[0] for entry in requested}
    return [*requested, *(entry for entry in image if entry.partition("=")[0] not in names)]


def command_line(config: ContainerConfig) -> list[str]:
    """Join ENTRYPOINT and CMD. Raises InvalidInput if both are empty."""
    words = [*config.entrypoint, *config.cmd]
    if not words:
        raise InvalidInput(
            "No command specified", hint="give a command after the image's name: labctr run IMAGE /bin/bash"
        )
    return words
