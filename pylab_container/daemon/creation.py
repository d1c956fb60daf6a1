"""The body of POST /containers/create, put into the engine's words.

It is Docker's Config with a HostConfig and a NetworkingConfig in it. Whatever in it asks for something that the
engine does not do is refused: a limit that is not put into effect is worse than none. Clients send every field they
know, so empty ones, and those that say what happens anyway, ask for nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

from msgspec import Struct

from pylab_container.daemon import fields, shapes
from pylab_container.daemon.call import Json
from pylab_container.docker.hostconfig import NUMBERS, port_bindings
from pylab_container.docker.options import ContainerOptions, UpdateOptions
from pylab_container.errors import InvalidInput
from pylab_container.networks.endpoint_documents import endpoint_request
from pylab_container.oci import blockio

_RUNTIMES = ("runc", "io.containerd.runc.v2")
"""Both names of the one that there is."""
_HARMLESS: Mapping[str, tuple[tuple[Any, ...], str]] = {
    "IOMaximumBandwidth": ((), "Invalid QoS settings: linux does not support configuration of maximum bandwidth"),
    "IOMaximumIOps": ((), "Invalid QoS settings: linux does not support configuration of maximum IOPs"),
    "Isolation": (("default",), "Invalid isolation: \"{}\" - linux only supports 'default'"),
    "Runtime": (_RUNTIMES, "Unknown runtime specified {}"),
    "StorageOpt": ((), "--storage-opt is supported only for overlay over xfs with 'pquota' mount option"),
}
"""{field: (what it may be, what is said of all else, in moby's words)}."""
_REFUSED = "IOMaximumBandwidth IOMaximumIOps Isolation Runtime StorageOpt".split()
"""Fields of HostConfig that only may say what happens anyway."""
_CONFIG = {
    **shapes.named("ArgsEscaped AttachStderr AttachStdin AttachStdout NetworkDisabled OpenStdin StdinOnce Tty", bool),
    **shapes.named("Domainname Hostname Image MacAddress Runtime StopSignal User WorkingDir", str),
    **shapes.named("Cmd Entrypoint Shell", shapes.WORDS),
    **shapes.named("Env OnBuild", [str]),
    **shapes.named("ExposedPorts Volumes", {"*": {}}),
    "Healthcheck": {"Test": [str], **shapes.named("Interval Timeout StartPeriod StartInterval Retries", int)},
    "Labels": shapes.NAMES,
    "StopTimeout": int,
}
ULIMITS = [{"Name": str, "Soft": int, "Hard": int}]
_RATES = [{"Path": str, "Rate": int}]
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
_LIMITS = {
    **shapes.named(
        "BlkioWeight CpuCount CpuPercent CpuPeriod CpuQuota CpuRealtimePeriod CpuRealtimeRuntime CpuShares "
        "KernelMemory KernelMemoryTCP Memory MemoryReservation MemorySwap MemorySwappiness NanoCpus OomScoreAdj "
        "PidsLimit ShmSize",
        int,
    ),
    **shapes.named("CgroupParent CpusetCpus CpusetMems", str),
    **shapes.named(" ".join(blockio.FIELDS.values()), _RATES),
    blockio.WEIGHTS: [{"Path": str, "Weight": int}],
    "OomKillDisable": bool,
    "RestartPolicy": {"Name": str, "MaximumRetryCount": int},
    "Ulimits": ULIMITS,
}
_HOST_CONFIG = {
    **shapes.named(" ".join(_REFUSED), shapes.ANY),
    **_LIMITS,
    **shapes.named("AutoRemove Init Privileged PublishAllPorts ReadonlyRootfs", bool),
    **shapes.named(
        "Cgroup CgroupnsMode ContainerIDFile IpcMode NetworkMode PidMode UTSMode UsernsMode VolumeDriver", str
    ),
    **shapes.named(
        "Binds DeviceCgroupRules Dns DnsOptions DnsSearch ExtraHosts GroupAdd Links MaskedPaths "
        "ReadonlyPaths SecurityOpt VolumesFrom",
        [str],
    ),
    **shapes.named("Annotations Sysctls Tmpfs", shapes.NAMES),
    **shapes.named("CapAdd CapDrop", shapes.WORDS),
    "ConsoleSize": [int],
    "DeviceRequests": [
        {"Driver": str, "Count": int, "DeviceIDs": [str], "Capabilities": [[str]], "Options": shapes.NAMES}
    ],
    "Devices": [shapes.named("PathOnHost PathInContainer CgroupPermissions", str)],
    "LogConfig": {"Type": str, "Config": shapes.NAMES},
    "Mounts": [_MOUNT],
    "PortBindings": {"*": [{"HostIp": str, "HostPort": str}]},
}
_SYSCTLS = "com.docker.network.endpoint.sysctls"
"""Sets sysctls of one interface since 1.46."""
ENDPOINT = {
    **shapes.named("Aliases Links", [str]),
    "DriverOpts": shapes.NAMES,
    "IPAMConfig": {"IPv4Address": str, "IPv6Address": str, "LinkLocalIPs": [str]},
    "MacAddress": str,
}
"""The shape of an EndpointSettings, as far as it is the client's to choose."""
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
UPDATE = {**shapes.named(" ".join(_REFUSED), shapes.ANY), **_LIMITS}
"""The shape of POST /containers/{id}/update."""


_PORTS = re.compile("([0-9]{1,9}(-[0-9]{1,9})?)?", re.ASCII)


class Wanted(Struct, frozen=True):
    """A container that a client wants.

    image, command  as containers.create() takes them
    config          fields of Config that have no keyword, and are only written down
    host_config     the same of HostConfig
    networks        what it wants on each network: {name: EndpointSettings}
    """

    image: str
    command: list[str] | None
    options: ContainerOptions
    config: Json
    host_config: Json
    networks: Json


def wanted(body: Json, *, name: str, shares_ipc: bool = False, readonly_recursive: bool = True) -> Wanted:
    """What a body asks for. Raises InvalidInput for what cannot be, and for what the engine does not do.

    shares_ipc          where nothing is said of its IPC, others may join it: so it was until 1.39
    readonly_recursive  False: read-only binds leave mounts below them as they are: so it was until 1.43
    """
    host = _host(body)
    if shares_ipc and not fields.text(host, "IpcMode"):
        host = {**host, "IpcMode": "shareable"}
    _refuse_unknown(body, host)
    if not _CONFIG.keys() & body.keys():
        raise InvalidInput("Config cannot be empty in order to create a container", hint="send at least an Image")
    image = fields.text(body, "Image")
    if not (image or body.get("Cmd") or body.get("Entrypoint")):
        raise InvalidInput("No command specified", hint="send at least an Image")
    options: dict[str, Any] = {**_process(body), **_limits(host), **_rights(host), **_network(host), **_files(host)}
    if fields.flag(body, "NetworkDisabled"):
        options["network_mode"] = "none"
    options |= {"name": _called(name), "readonly_recursive": readonly_recursive, **_life(body, host)}
    given = {key: value for key, value in options.items() if value is not None}
    return Wanted(
        image=image,
        command=body.get("Cmd"),
        options=cast(ContainerOptions, given),
        config=_recorded(body),
        host_config=_recorded_of_host(host),
        networks=_endpoints(fields.child(body, "NetworkingConfig")),
    )


def _host(body: Json) -> Json:
    """HostConfig. Very old clients have none but its fields beside it, or some of them (moby runconfig, 20.10)."""
    inner = fields.child(body, "HostConfig")
    moved = ("CpuShares", "CpusetCpus", "Memory", "MemorySwap", "VolumeDriver") if inner else _HOST_CONFIG.keys()
    outer = {name: body[name] for name in moved if body.get(name)}
    if cpus := fields.text(body, "Cpuset"):
        outer.setdefault("CpusetCpus", cpus)
    return {**inner, **{name: value for name, value in outer.items() if not inner.get(name)}}


def _called(name: str) -> str | None:
    if name == "/":
        raise InvalidInput("Invalid container name (/), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", hint="name=NAME")
    return name.removeprefix("/") or None


def _refuse_unknown(body: Json, host: Json) -> None:
    if fields.text(body, "Runtime") not in ("", *_RUNTIMES):
        raise InvalidInput(_HARMLESS["Runtime"][1].format(body["Runtime"]), hint="there is runc")
    if fields.text(host, "VolumeDriver") not in ("", "local") and (body.get("Volumes") or host.get("Binds")):
        raise InvalidInput(f"HostConfig.VolumeDriver {host['VolumeDriver']} is not supported", hint="there is local")
    for name in _REFUSED:
        value = host.get(name)
        allowed, words = _HARMLESS[name]
        if not _is_empty(value) and value not in allowed:
            raise InvalidInput(words.format(value), hint="leave it out")


def _is_empty(value: object) -> bool:
    """null, 0, false, "", [] and {}, and lists of such things."""
    return all(map(_is_empty, value)) if isinstance(value, list) else not value


# ---- Config ----------------------------------------------------------------------------------


def _process(body: Json) -> Json:
    stdin = fields.flag(body, "OpenStdin")
    return {
        "hostname": fields.text(body, "Hostname"),
        "domainname": fields.text(body, "Domainname"),
        "user": fields.text(body, "User"),
        "working_dir": fields.text(body, "WorkingDir"),
        "environment": fields.texts(body, "Env"),
        "labels": fields.labels(body, "Labels"),
        "entrypoint": fields.texts(body, "Entrypoint") or None,
        "tty": fields.flag(body, "Tty"),
        "stdin_open": stdin,
        "stdin_once": stdin and fields.flag(body, "StdinOnce"),
        "exposed_ports": list(fields.child(body, "ExposedPorts")),
        "mac_address": fields.text(body, "MacAddress"),
        "attach": [name for name in ("stdin", "stdout", "stderr") if fields.flag(body, f"Attach{name.capitalize()}")],
    }


def _life(body: Json, host: Json) -> Json:
    policy, log = fields.child(host, "RestartPolicy"), fields.child(host, "LogConfig")
    return {
        "healthcheck": fields.child(body, "Healthcheck") or None,
        "stop_signal": fields.text(body, "StopSignal") or None,
        "stop_timeout": fields.number(body, "StopTimeout"),
        "restart_policy": policy if fields.text(policy, "Name") else None,
        "auto_remove": fields.flag(host, "AutoRemove"),
        # What Docker calls json-file is the file that logs are read from.
        "log_config": {"Type": fields.text(log, "Type") or "json-file", "Config": fields.labels(log, "Config")},
    }


def _recorded(body: Json) -> Json:
    """What has no keyword; and how nothing was said of triggers: null, or an empty list."""
    recorded: Json = {name: None for name in ("Env", "Volumes") if not body.get(name)}
    if not body.get("OnBuild"):
        recorded["OnBuild"] = body.get("OnBuild")
    if fields.flag(body, "NetworkDisabled"):
        recorded["NetworkDisabled"] = True
    if volumes := fields.child(body, "Volumes"):
        recorded["Volumes"] = volumes
    if shell := fields.texts(body, "Shell"):
        recorded["Shell"] = shell
    return recorded


# ---- HostConfig ------------------------------------------------------------------------------


def _limits(host: Json) -> Json:
    """Zero is no limit, wherever it stands."""
    return {
        **{name: fields.number(host, field) or None for name, field in NUMBERS.items()},
        "blkio_weight_device": fields.children(host, blockio.WEIGHTS),
        "mem_limit": fields.number(host, "Memory") or None,
        "mem_reservation": fields.number(host, "MemoryReservation") or None,
        "memswap_limit": fields.number(host, "MemorySwap") or None,
        "nano_cpus": fields.number(host, "NanoCpus") or None,
        "mem_swappiness": fields.number(host, "MemorySwappiness"),
        "cpu_period": fields.number(host, "CpuPeriod") or None,
        "cpu_quota": fields.number(host, "CpuQuota") or None,
        "cpuset_cpus": fields.text(host, "CpusetCpus"),
        "cpuset_mems": fields.text(host, "CpusetMems"),
        "pids_limit": fields.number(host, "PidsLimit") or None,
        "shm_size": fields.number(host, "ShmSize") or None,
        "oom_kill_disable": fields.flag(host, "OomKillDisable"),
        "cgroup_parent": fields.text(host, "CgroupParent"),
        **{name: fields.children(host, field) for name, field in blockio.FIELDS.items()},
        "oom_score_adj": fields.number(host, "OomScoreAdj") or 0,
        "ulimits": fields.children(host, "Ulimits"),
    }


def _rights(host: Json) -> Json:
    return {
        "annotations": fields.labels(host, "Annotations"),
        "privileged": fields.flag(host, "Privileged"),
        "read_only": fields.flag(host, "ReadonlyRootfs"),
        "cap_add": fields.texts(host, "CapAdd"),
        "cap_drop": fields.texts(host, "CapDrop"),
        "security_opt": fields.texts(host, "SecurityOpt"),
        "group_add": fields.texts(host, "GroupAdd"),
        "devices": [_device(device) for device in fields.children(host, "Devices")],
        "sysctls": fields.labels(host, "Sysctls"),
        "cgroupns": fields.text(host, "CgroupnsMode"),
        "device_cgroup_rules": fields.texts(host, "DeviceCgroupRules"),
        "ipc_mode": fields.text(host, "IpcMode"),
        "pid_mode": fields.text(host, "PidMode"),
        "uts_mode": fields.text(host, "UTSMode"),
        "userns_mode": fields.text(host, "UsernsMode"),
        "init": host.get("Init"),
        "console_size": _console_size(host),
        "masked_paths": host.get("MaskedPaths"),
        "readonly_paths": host.get("ReadonlyPaths"),
    }


def _device(device: Json) -> str:
    source = fields.text(device, "PathOnHost")
    target = fields.text(device, "PathInContainer") or source
    return f"{source}:{target}:{fields.text(device, 'CgroupPermissions') or 'rwm'}"


def _console_size(host: Json) -> tuple[int, int] | None:
    match host.get("ConsoleSize"):
        case [int(rows), int(columns)] if rows >= 0 and columns >= 0:
            return (rows, columns)
        case None:
            return None
    raise InvalidInput("invalid value of ConsoleSize", hint="it is [rows, columns]")


def _files(host: Json) -> Json:
    return {
        "volumes": fields.texts(host, "Binds"),
        "mounts": fields.children(host, "Mounts"),
        "tmpfs": fields.labels(host, "Tmpfs"),
        "volumes_from": fields.texts(host, "VolumesFrom"),
    }


def _network(host: Json) -> Json:
    bindings = _bindings(host)
    return {
        "network_mode": fields.text(host, "NetworkMode") or "default",
        # Of ports that another container's network cannot have, the engine complains; others are as they are sent.
        "ports": bindings if fields.text(host, "NetworkMode").startswith("container:") else None,
        "publish_all_ports": fields.flag(host, "PublishAllPorts"),
        "dns": fields.texts(host, "Dns"),
        "dns_opt": fields.texts(host, "DnsOptions"),
        "dns_search": fields.texts(host, "DnsSearch"),
        "extra_hosts": fields.texts(host, "ExtraHosts"),
        "links": fields.texts(host, "Links"),
    }


def _endpoints(networking: Json) -> Json:
    """{network: what is wanted on it}, as the engine keeps it; the default network has its own name here."""
    named = fields.child(networking, "EndpointsConfig")
    return {"bridge" if name == "default" else name: endpoint_wish(fields.child(named, name)) for name in named}


def endpoint_wish(settings: Json) -> Json:
    """What of an EndpointSettings is the client's to choose, as the engine keeps it. Raises InvalidInput."""
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


def _bindings(host: Json) -> Json:
    """PortBindings; raises InvalidInput for what is none, of the numbers in dockerd's words."""
    found = fields.child(host, "PortBindings")
    for port, published in found.items():
        for text in (port, *(fields.text(one, "HostPort") for one in published or ())):
            _check_ports(text.partition("/")[0])
    bindings = {port: fields.children(found, port) or [{}] for port in found}
    port_bindings({"ports": bindings})
    return bindings


def _check_ports(text: str) -> None:
    if not _PORTS.fullmatch(text) or any(int(number) >= 1 << 16 for number in text.split("-") if number):
        raise InvalidInput(f'invalid port specification: "{text}"', hint="a port is a number up to 65535")


# Lists and objects of HostConfig, which are written down as they are sent where they are empty: null or not.
_NULLABLE = (
    "BlkioDeviceReadBps BlkioDeviceReadIOps BlkioDeviceWriteBps BlkioDeviceWriteIOps BlkioWeightDevice CapAdd CapDrop "
    "DeviceCgroupRules DeviceRequests Devices Dns DnsOptions DnsSearch ExtraHosts GroupAdd Links PortBindings "
    "SecurityOpt Ulimits VolumesFrom"
).split()


def _recorded_bindings(host: Json) -> Json | None:
    sent: Json | None = host.get("PortBindings")
    full = {"HostIp": "", "HostPort": ""}
    return (
        {port: bindings and [{**full, **one} for one in bindings] for port, bindings in sent.items()} if sent else sent
    )


_DEVICE_REQUEST: Json = {"Driver": "", "Count": 0, "DeviceIDs": None, "Capabilities": None, "Options": None}


def _sees_the_host(host: Json) -> bool:
    return fields.flag(host, "Privileged") or "host" in (fields.text(host, "IpcMode"), fields.text(host, "PidMode"))


def _recorded_of_host(host: Json) -> Json:
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
    if not mode.startswith("container:"):  # the engine records that one's id
        recorded["NetworkMode"] = mode
    recorded |= {"Binds": host.get("Binds"), "PortBindings": _recorded_bindings(host)}
    if _sees_the_host(host) and not host.get("SecurityOpt"):
        recorded["SecurityOpt"] = ["label=disable"]  # moby's own, whatever it means without SELinux
    return recorded


# ---- update ------------------------------------------------------------------------------------

_FIXED = frozenset([*_REFUSED, *_LIMITS]) - frozenset(
    "BlkioWeight CpuPeriod CpuQuota CpuRealtimePeriod CpuRealtimeRuntime CpuShares CpusetCpus CpusetMems KernelMemory "
    "Memory MemoryReservation MemorySwap NanoCpus PidsLimit RestartPolicy "
    "Ulimits".split()  # dockerd takes these, too, and changes nothing
)


def changes(body: Json) -> UpdateOptions:
    """The body of POST /containers/{id}/update. Raises InvalidInput."""
    for name in _FIXED:
        if not _is_empty(body.get(name)):
            raise InvalidInput(f"{name} cannot be updated", hint="leave it out")
    limits = _limits(body)
    policy = fields.child(body, "RestartPolicy")
    given = {name: limits[name] for name in _UPDATES if limits.get(name)}
    if (pids := fields.number(body, "PidsLimit")) is not None:
        given["pids_limit"] = pids  # 0, too, takes a limit away
    if fields.text(policy, "Name"):
        given["restart_policy"] = policy
    return cast(UpdateOptions, given)


_UPDATES = tuple(name for name in UpdateOptions.__annotations__ if name != "restart_policy")
