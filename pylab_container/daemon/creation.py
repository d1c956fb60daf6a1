"""Parse the bodies of POST /containers/create, /containers/{id}/start and /containers/{id}/update.

A body of create is Docker's Config with a HostConfig and a NetworkingConfig in it. A field that requests a feature that
this engine lacks is an error, because a limit without effect is worse than an error. Clients send every field that
they know, so an empty value, and one that describes the only implementation, request nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from msgspec import Struct

from pylab_container.daemon import fields, shapes
from pylab_container.docker.hostconfig import NUMBERS, port_bindings
from pylab_container.docker.options import ContainerOptions, UpdateOptions
from pylab_container.errors import InvalidInput
from pylab_container.networks.endpoint_documents import endpoint_request
from pylab_container.oci.container_config import ContainerConfig
from pylab_container.oci.document import Document
from pylab_container.oci.host_config import DeviceMapping, HostConfig
from pylab_container.oci.image import Json
from pylab_container.oci.network_settings import EndpointSettings

_RUNTIMES = ("runc", "io.containerd.runc.v2")
"""Two names of the same runtime."""
_SINGLE_CHOICE: Mapping[str, tuple[tuple[Any, ...], str]] = {
    "IOMaximumBandwidth": ((), "Invalid QoS settings: linux does not support configuration of maximum bandwidth"),
    "IOMaximumIOps": ((), "Invalid QoS settings: linux does not support configuration of maximum IOPs"),
    "Isolation": (("default",), "Invalid isolation: \"{}\" - linux only supports 'default'"),
    "Runtime": (_RUNTIMES, "Unknown runtime specified {}"),
    "StorageOpt": ((), "--storage-opt is supported only for overlay over xfs with 'pquota' mount option"),
}
"""{field of HostConfig: (values that are accepted besides the empty one, moby's error for all others)}."""

_CONFIG = {
    **shapes.of(ContainerConfig),
    **shapes.named("Cmd Entrypoint Shell", shapes.WORDS),
    **shapes.named("ExposedPorts Volumes", {"*": {}}),
    "Runtime": str,
}
_MOUNT = {
    **shapes.named("Type Source Target Consistency", str),
    "ReadOnly": bool,
    "BindOptions": {
        "Propagation": str,
        **shapes.named("NonRecursive CreateMountpoint ReadOnlyNonRecursive ReadOnlyForceRecursive", bool),
    },
    "VolumeOptions": {
        "NoCopy": bool,
        "Labels": shapes.NAMES,
        "Subpath": str,
        "DriverConfig": {"Name": str, "Options": shapes.NAMES},
    },
    "TmpfsOptions": {"SizeBytes": int, "Mode": int, "Options": [[str]]},
    "ClusterOptions": shapes.ANY,
}
_HOST_CONFIG = {
    **shapes.of(HostConfig),
    **dict.fromkeys(_SINGLE_CHOICE, shapes.ANY),
    **shapes.named("CapAdd CapDrop", shapes.WORDS),
    "DeviceRequests": [
        {"Driver": str, "Count": int, "DeviceIDs": [str], "Capabilities": [[str]], "Options": shapes.NAMES}
    ],
    "Mounts": [_MOUNT],
    "PortBindings": {"*": [{"HostIp": str, "HostPort": str}]},
}
ULIMITS = _HOST_CONFIG["Ulimits"]
"""The shape of the parameter ulimits of POST /build."""
_SYSCTLS = "com.docker.network.endpoint.sysctls"
"""Driver option that sets sysctls of one interface since version 1.46 of the API."""
ENDPOINT = {
    name: shape
    for name, shape in shapes.of(EndpointSettings).items()
    if name in ("Aliases", "DriverOpts", "IPAMConfig", "Links", "MacAddress")
}
"""The shape of an EndpointSettings in a request: the fields that the client may choose."""
CREATE = {
    **_HOST_CONFIG,
    **_CONFIG,
    "Cpuset": str,
    "HostConfig": _HOST_CONFIG,
    "NetworkingConfig": {"EndpointsConfig": {"*": ENDPOINT}},
}
"""The shape of POST /containers/create."""
COMMIT = _CONFIG
"""The shape of POST /commit."""
START = {**_HOST_CONFIG, "HostConfig": _HOST_CONFIG}
"""The shape of POST /containers/{id}/start, which may have a body until 1.23: a HostConfig, or an object with one."""
_UPDATABLE = (
    "BlkioWeight CpuPeriod CpuQuota CpuRealtimePeriod CpuRealtimeRuntime CpuShares CpusetCpus CpusetMems KernelMemory "
    "Memory MemoryReservation MemorySwap NanoCpus PidsLimit RestartPolicy "
    "Ulimits"  # dockerd accepts these too, without effect
).split()
_FIXED = (
    *_SINGLE_CHOICE,
    *"BlkioDeviceReadBps BlkioDeviceReadIOps BlkioDeviceWriteBps BlkioDeviceWriteIOps BlkioWeightDevice".split(),
    *"CgroupParent CpuCount CpuPercent KernelMemoryTCP MemorySwappiness OomKillDisable OomScoreAdj ShmSize".split(),
)
UPDATE = {name: _HOST_CONFIG[name] for name in (*_UPDATABLE, *_FIXED)}
"""The shape of POST /containers/{id}/update. A field of _FIXED that is not empty is an error."""

_PORT_RANGE = re.compile("([0-9]{1,9}(-[0-9]{1,9})?)?", re.ASCII)


class CreateRequest(Struct, frozen=True):
    """A container that a client requests.

    image, command  as containers.create() takes them
    config          fields of Config that have no keyword and are only recorded; the others are missing
    host_config     the same of HostConfig
    networks        {network: its EndpointSettings}
    """

    image: str
    command: list[str] | None
    options: ContainerOptions
    config: ContainerConfig
    host_config: HostConfig
    networks: Mapping[str, EndpointSettings]


def parse(body: Json, *, name: str, shares_ipc: bool = False, readonly_recursive: bool = True) -> CreateRequest:
    """Parse a body of the shape CREATE or START. Raises InvalidInput.

    shares_ipc          without an IpcMode the container's IPC namespace is shareable, as until version 1.39 of the API
    readonly_recursive  False: submounts of a read-only bind stay writable, as until version 1.43
    """
    sent = _sent_host_config(body)
    if shares_ipc and not fields.text(sent, "IpcMode"):
        sent = {**sent, "IpcMode": "shareable"}
    _refuse_unsupported(body, sent)
    if not _CONFIG.keys() & body.keys():
        raise InvalidInput("Config cannot be empty in order to create a container", hint="send at least an Image")
    config, host = ContainerConfig.parse(body), _parse_host_config(sent)
    if not (config.image or config.cmd or config.entrypoint):
        raise InvalidInput("No command specified", hint="send at least an Image")
    options: dict[str, Any] = {**_process(config), **_limits(host), **_rights(host), **_network(host), **_files(host)}
    if config.network_disabled:
        options["network_mode"] = "none"
    options |= {"name": _container_name(name), "readonly_recursive": readonly_recursive, **_life(config, host)}
    return CreateRequest(
        image=config.image,
        command=body.get("Cmd"),
        options=cast(ContainerOptions, {key: value for key, value in options.items() if value is not None}),
        config=ContainerConfig.parse(_recorded_config(body)),
        host_config=HostConfig.parse(_recorded_host_config(sent)),
        networks=_endpoints(fields.child(body, "NetworkingConfig")),
    )


def _sent_host_config(body: Json) -> Json:
    """Return the HostConfig of a body. Very old clients send its fields beside it (moby runconfig, 20.10)."""
    inner = fields.child(body, "HostConfig")
    moved = ("CpuShares", "CpusetCpus", "Memory", "MemorySwap", "VolumeDriver") if inner else _HOST_CONFIG.keys()
    outer = {name: body[name] for name in moved if body.get(name)}
    if cpus := fields.text(body, "Cpuset"):
        outer.setdefault("CpusetCpus", cpus)
    host = {**inner, **{name: value for name, value in outer.items() if not inner.get(name)}}
    if published := host.get("PortBindings"):
        host["PortBindings"] = {port: places and list(map(_binding, places)) for port, places in published.items()}
    return host


def _binding(place: Json) -> dict[str, str]:
    """Return an entry of PortBindings with both fields; null becomes an empty string, as in Go."""
    return {"HostIp": fields.text(place, "HostIp"), "HostPort": fields.text(place, "HostPort")}


def _parse_host_config(sent: Json) -> HostConfig:
    """Parse a HostConfig that has its shape. Raises InvalidInput."""
    size = sent.get("ConsoleSize")
    if size is not None and (len(size) != 2 or min(size) < 0):
        raise InvalidInput("invalid value of ConsoleSize", hint="send [rows, columns]")
    # The shape allows any value in these fields, and an empty one is ignored.
    return HostConfig.parse({name: value for name, value in sent.items() if name not in _SINGLE_CHOICE})


def _container_name(name: str) -> str | None:
    if name == "/":
        raise InvalidInput(
            "Invalid container name (/), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", hint="send name=NAME"
        )
    return name.removeprefix("/") or None


def _refuse_unsupported(body: Json, host: Json) -> None:
    if fields.text(body, "Runtime") not in ("", *_RUNTIMES):
        raise InvalidInput(_SINGLE_CHOICE["Runtime"][1].format(body["Runtime"]), hint="use runc")
    if fields.text(host, "VolumeDriver") not in ("", "local") and (body.get("Volumes") or host.get("Binds")):
        raise InvalidInput(f"HostConfig.VolumeDriver {host['VolumeDriver']} is not supported", hint="use local")
    for name, (accepted, message) in _SINGLE_CHOICE.items():
        value = host.get(name)
        if not _is_empty(value) and value not in accepted:
            raise InvalidInput(message.format(value), hint="leave it out")


def _is_empty(value: object) -> bool:
    """Return whether a value is null, 0, false, "", [] or {}, or a list of such values."""
    return all(map(_is_empty, value)) if isinstance(value, list) else not value


# ---- Config ----------------------------------------------------------------------------------


def _process(config: ContainerConfig) -> Json:
    stdin = config.open_stdin
    return {
        "hostname": config.hostname,
        "domainname": config.domainname,
        "user": config.user,
        "working_dir": config.working_dir,
        "environment": list(config.env),
        "labels": dict(config.labels),
        "entrypoint": list(config.entrypoint) or None,
        "tty": config.tty,
        "stdin_open": stdin,
        "stdin_once": stdin and config.stdin_once,
        "exposed_ports": list(config.exposed_ports),
        "mac_address": config.mac_address,
        "attach": [
            name
            for name, attached in (
                ("stdin", config.attach_stdin),
                ("stdout", config.attach_stdout),
                ("stderr", config.attach_stderr),
            )
            if attached
        ],
    }


def _life(config: ContainerConfig, host: HostConfig) -> Json:
    return {
        "healthcheck": config.healthcheck.document() if config.healthcheck else None,
        "stop_signal": config.stop_signal or None,
        "stop_timeout": config.stop_timeout,
        "restart_policy": host.restart_policy.document() if host.restart_policy.name else None,
        "auto_remove": host.auto_remove,
        "log_config": {"Type": host.log_config.type or "json-file", "Config": dict(host.log_config.config)},
    }


def _recorded_config(body: Json) -> Json:
    """Return the fields that have no keyword. Empty Env and Volumes become null; OnBuild stays as it was sent."""
    recorded: Json = {name: None for name in ("Env", "Volumes") if not body.get(name)}
    if not body.get("OnBuild"):
        recorded["OnBuild"] = body.get("OnBuild")
    return recorded | {name: body[name] for name in ("NetworkDisabled", "Volumes", "Shell") if body.get(name)}


# ---- HostConfig ------------------------------------------------------------------------------


def _limits(host: HostConfig) -> Json:
    """Return the limits as docker-py's keywords, None instead of 0."""
    return {
        **{name: getattr(host, attribute) or None for name, attribute in NUMBERS.items()},
        "blkio_weight_device": _documents(host.blkio_weight_device),
        "mem_limit": host.memory or None,
        "mem_reservation": host.memory_reservation or None,
        "memswap_limit": host.memory_swap or None,
        "nano_cpus": host.nano_cpus or None,
        "mem_swappiness": host.memory_swappiness,
        "cpu_period": host.cpu_period or None,
        "cpu_quota": host.cpu_quota or None,
        "cpuset_cpus": host.cpuset_cpus,
        "cpuset_mems": host.cpuset_mems,
        "pids_limit": host.pids_limit or None,
        "shm_size": host.shm_size or None,
        "oom_kill_disable": host.oom_kill_disable,
        "cgroup_parent": host.cgroup_parent,
        "device_read_bps": _documents(host.blkio_device_read_bps),
        "device_read_iops": _documents(host.blkio_device_read_iops),
        "device_write_bps": _documents(host.blkio_device_write_bps),
        "device_write_iops": _documents(host.blkio_device_write_iops),
        "oom_score_adj": host.oom_score_adj,
        "ulimits": _documents(host.ulimits),
    }


def _rights(host: HostConfig) -> Json:
    return {
        "annotations": dict(host.annotations),
        "privileged": host.privileged,
        "read_only": host.readonly_rootfs,
        "cap_add": list(host.cap_add),
        "cap_drop": list(host.cap_drop),
        "security_opt": list(host.security_opt),
        "group_add": list(host.group_add),
        "devices": [_device_text(device) for device in host.devices],
        "sysctls": dict(host.sysctls),
        "cgroupns": host.cgroupns_mode,
        "device_cgroup_rules": list(host.device_cgroup_rules),
        "ipc_mode": host.ipc_mode,
        "pid_mode": host.pid_mode,
        "uts_mode": host.uts_mode,
        "userns_mode": host.userns_mode,
        "init": host.init,
        "console_size": host.console_size,
        "masked_paths": list(host.masked_paths) if host.has("MaskedPaths") else None,
        "readonly_paths": list(host.readonly_paths) if host.has("ReadonlyPaths") else None,
    }


def _device_text(device: DeviceMapping) -> str:
    """A device as --device takes it."""
    target = device.path_in_container or device.path_on_host
    return f"{device.path_on_host}:{target}:{device.cgroup_permissions or 'rwm'}"


def _documents(parts: Sequence[Document]) -> list[Json]:
    """Return parts of a HostConfig in the form of docker-py's keywords."""
    return [part.document() for part in parts]


def _files(host: HostConfig) -> Json:
    return {
        "volumes": list(host.binds),
        "mounts": list(host.mounts),
        "tmpfs": dict(host.tmpfs),
        "volumes_from": list(host.volumes_from),
    }


def _network(host: HostConfig) -> Json:
    bindings = _checked_bindings(host.port_bindings)
    return {
        "network_mode": host.network_mode or "default",
        # With another container's network the engine refuses ports. Otherwise PortBindings are recorded as sent.
        "ports": bindings if host.network_mode.startswith("container:") else None,
        "publish_all_ports": host.publish_all_ports,
        "dns": list(host.dns),
        "dns_opt": list(host.dns_options),
        "dns_search": list(host.dns_search),
        "extra_hosts": list(host.extra_hosts),
        "links": list(host.links),
    }


def _endpoints(networking: Json) -> dict[str, EndpointSettings]:
    """Return {network: requested endpoint}; the network "default" is named bridge."""
    named = fields.child(networking, "EndpointsConfig")
    return {"bridge" if name == "default" else name: parse_endpoint(fields.child(named, name)) for name in named}


def parse_endpoint(settings: Json) -> EndpointSettings:
    """Parse an EndpointSettings of a request. Raises InvalidInput."""
    chosen = fields.child(settings, "IPAMConfig")
    if _SYSCTLS in fields.labels(settings, "DriverOpts"):
        raise InvalidInput(f"the driver option {_SYSCTLS} is not supported", hint="set sysctls of the container")
    return endpoint_request(
        aliases=fields.texts(settings, "Aliases"),
        links=fields.texts(settings, "Links"),
        ipv4_address=fields.text(chosen, "IPv4Address"),
        ipv6_address=fields.text(chosen, "IPv6Address"),
        link_local_ips=fields.texts(chosen, "LinkLocalIPs"),
        driver_opt=fields.labels(settings, "DriverOpts"),
        mac_address=fields.text(settings, "MacAddress"),
    )


def _checked_bindings(published: Mapping[str, list[dict[str, str]] | None]) -> Json:
    """Return PortBindings in the form of docker-py's keyword. Raises InvalidInput, for a port in dockerd's words."""
    for port, places in published.items():
        for text in (port, *(place.get("HostPort", "") for place in places or ())):
            _check_ports(text.partition("/")[0])
    bindings = {port: places or [{}] for port, places in published.items()}
    port_bindings({"ports": bindings})
    return bindings


def _check_ports(text: str) -> None:
    if not _PORT_RANGE.fullmatch(text) or any(int(number) >= 1 << 16 for number in text.split("-") if number):
        raise InvalidInput(f'invalid port specification: "{text}"', hint="a port is a number up to 65535")


# Fields of HostConfig that are recorded as null, [] or {} as the client sent them.
_NULLABLE = (
    "BlkioDeviceReadBps BlkioDeviceReadIOps BlkioDeviceWriteBps BlkioDeviceWriteIOps BlkioWeightDevice CapAdd CapDrop "
    "DeviceCgroupRules DeviceRequests Devices Dns DnsOptions DnsSearch ExtraHosts GroupAdd Links PortBindings "
    "SecurityOpt Ulimits VolumesFrom"
).split()


_DEVICE_REQUEST: Json = {"Driver": "", "Count": 0, "DeviceIDs": None, "Capabilities": None, "Options": None}


def _shares_host_namespaces(host: Json) -> bool:
    return fields.flag(host, "Privileged") or "host" in (fields.text(host, "IpcMode"), fields.text(host, "PidMode"))


def _recorded_host_config(host: Json) -> Json:
    """Return the fields of a HostConfig that are recorded as they were sent, in addition to those of the keywords."""
    recorded = {name: host.get(name) for name in _NULLABLE if not host.get(name)}
    recorded |= {name: fields.text(host, name) for name in ("Cgroup", "ContainerIDFile", "Isolation", "VolumeDriver")}
    recorded["CpuCount"] = fields.number(host, "CpuCount") or 0
    if requests := fields.children(host, "DeviceRequests"):
        recorded["DeviceRequests"] = [{**_DEVICE_REQUEST, **request} for request in requests]
    recorded["Runtime"] = fields.text(host, "Runtime") or "runc"
    recorded |= {name: host[name] for name in ("CapAdd", "CapDrop") if host.get(name)}
    policy = fields.child(host, "RestartPolicy")
    recorded["RestartPolicy"] = {"Name": "", "MaximumRetryCount": 0, **policy}
    mode = fields.text(host, "NetworkMode") or "default"
    if not mode.startswith("container:"):  # the engine replaces its name by its id
        recorded["NetworkMode"] = mode
    recorded |= {"Binds": host.get("Binds"), "PortBindings": host.get("PortBindings")}
    if _shares_host_namespaces(host) and not host.get("SecurityOpt"):
        recorded["SecurityOpt"] = ["label=disable"]  # as moby does, also without SELinux
    return recorded


# ---- update ------------------------------------------------------------------------------------


def changes(body: Json) -> UpdateOptions:
    """Parse a body of the shape UPDATE. Raises InvalidInput."""
    for name in _FIXED:
        if not _is_empty(body.get(name)):
            raise InvalidInput(f"{name} cannot be updated", hint="leave it out")
    host = _parse_host_config(body)
    limits = _limits(host)
    updates = {name: limits[name] for name in _UPDATES if limits.get(name)}
    if host.pids_limit is not None:
        updates["pids_limit"] = host.pids_limit  # 0 removes a limit
    if host.restart_policy.name:
        updates["restart_policy"] = host.restart_policy.document()
    return cast(UpdateOptions, updates)


_UPDATES = tuple(name for name in UpdateOptions.__annotations__ if name != "restart_policy")
