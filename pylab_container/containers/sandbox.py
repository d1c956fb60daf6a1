"""What a container may use of the host, as its HostConfig requests.

Rights, limits, devices and namespaces.

Each function reads the record and the machine and returns values of oci/bundle.py. A request that the machine cannot
fulfil is an error at the start of the container; none is ignored.
"""

from __future__ import annotations

import json
import os
import resource
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from pylab_container.errors import Conflict, ContainerNotFound, InvalidInput, MissingProgram, RuntimeFailed
from pylab_container.host import programs
from pylab_container.oci import blockio, bundle, seccomp, security
from pylab_container.oci.capabilities import DEFAULT_CAPABILITIES, capabilities_of, choose_capabilities
from pylab_container.oci.host_config import HostConfig
from pylab_container.runtime import cgroup
from pylab_container.runtime.runc import cgroup_version
from pylab_container.store.container_store import ContainerRecord

INIT_DESTINATION = "/sbin/docker-init"
_INIT_PROGRAMS = ("docker-init", "tini-static", "tini", "catatonit")

# Directories of /dev that each container has its own of, or without devices (containerd, HostDevices).
_OWN_DIRECTORIES = frozenset(("pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"))


class Namespaces(Struct, frozen=True, kw_only=True):
    """Namespaces, as bundle.runtime_config() takes them.

    "" is a new one, a path one to join, None the host's.
    """

    network: str | None = ""
    pid: str | None = ""
    ipc: str | None = ""
    uts: str | None = ""


def privileged(record: ContainerRecord) -> bool:
    """Whether the container runs with --privileged."""
    return record.host_config.privileged


def security_options(record: ContainerRecord) -> security.SecurityOptions:
    """Parse --security-opt. Raises InvalidInput."""
    options = record.host_config.security_opt
    return security.parse(options) if options else security.SecurityOptions()


def with_profile(option: str) -> str:
    """Replace the path of a seccomp profile in a --security-opt by the profile.

    So the container keeps the profile of its creation if the file changes. Raises InvalidInput for an unreadable file.
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


# -- capabilities, resource limits, seccomp ------------------------------------------------------


def with_rights(process: bundle.Process, record: ContainerRecord) -> bundle.Process:
    """Give a process the capabilities and limits of its container.

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
    """Return the container's capabilities.

    Docker's defaults with --cap-add and --cap-drop, or all with --privileged.
    """
    host = record.host_config
    add, drop = host.cap_add, host.cap_drop
    if not (add or drop or privileged(record)):
        return DEFAULT_CAPABILITIES
    available = _available_capabilities()
    chosen = choose_capabilities(add=("ALL",) if privileged(record) else add, drop=drop, available=available)
    named = choose_capabilities(add=[name for name in add if name.upper() != "ALL"], drop=("ALL",))
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
    return "CAP_SYS_RESOURCE" in capabilities_of(int(_own_status("CapEff"), 16))


def _rlimits(host_config: HostConfig) -> tuple[tuple[str, int, int], ...]:
    limits = tuple((ulimit.name, ulimit.soft, ulimit.hard) for ulimit in host_config.ulimits)
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

    The daemon of a VM protects itself by a low score (labctr.service), which its containers must not inherit. Without
    CAP_SYS_RESOURCE a score cannot be lowered (proc(5)): the default 0 then means that of the engine.
    Raises RuntimeFailed for another score.
    """
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
    """Return the seccomp filter, None without one. Raises InvalidInput for an invalid profile.

    A privileged container has no default profile, but keeps one of its own, as in moby 23.0 (daemon/seccomp_linux.go).
    """
    chosen = security_options(record).seccomp
    if chosen == {} or (privileged(record) and chosen is None):
        return None
    machine = os.uname()
    try:
        return seccomp.resolve(
            seccomp.default_profile() if chosen is None else chosen,
            capabilities=process.capabilities,
            architecture=machine.machine,
            kernel=machine.release,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(
            f"Decoding seccomp profile failed: {error!r}", hint="compare it with Docker's default profile"
        ) from error


def limits(host_config: HostConfig) -> bundle.Limits:
    """Return the cgroup limits of a HostConfig; 0 and null are no limit. Raises InvalidInput."""
    return bundle.Limits(
        memory=host_config.memory or None,
        memory_swap=host_config.memory_swap or None if host_config.memory and cgroup.swap_is_limited() else None,
        memory_reservation=host_config.memory_reservation or None,
        cpus=host_config.nano_cpus / 10**9 if host_config.nano_cpus else None,
        swappiness=_swappiness(host_config),
        cpu_period=host_config.cpu_period or None,
        cpu_quota=host_config.cpu_quota or None,
        cpu_shares=host_config.cpu_shares or None,
        cpuset_cpus=host_config.cpuset_cpus,
        cpuset_mems=host_config.cpuset_mems,
        pids=host_config.pids_limit or None,
        kernel_memory=host_config.kernel_memory or None,
        kernel_memory_tcp=host_config.kernel_memory_tcp or None,
        realtime_period=host_config.cpu_realtime_period or None,
        realtime_runtime=host_config.cpu_realtime_runtime or None,
        block_weight=host_config.blkio_weight or None,
        throttles=tuple(_throttles(host_config)),
        oom_kill_disabled=_oom_kill_disabled(host_config),
    )


def _throttles(host_config: HostConfig) -> Iterator[blockio.Throttle]:
    for kind, devices in (
        ("throttleReadBpsDevice", host_config.blkio_device_read_bps),
        ("throttleReadIOPSDevice", host_config.blkio_device_read_iops),
        ("throttleWriteBpsDevice", host_config.blkio_device_write_bps),
        ("throttleWriteIOPSDevice", host_config.blkio_device_write_iops),
    ):
        for device in devices:
            yield blockio.Throttle(kind, *_disk_numbers(device.path), device.rate)
    for weighted in host_config.blkio_weight_device:
        yield blockio.Throttle("weightDevice", *_disk_numbers(weighted.path), weighted.weight)


def _disk_numbers(path: str) -> tuple[int, int]:
    """The major and minor number of the block device at path. Raises InvalidInput."""
    try:
        status = os.stat(path)
    except OSError as error:
        raise InvalidInput(f"stat {path}: {error.strerror}", hint="lsblk -p lists the disks") from None
    if not stat.S_ISBLK(status.st_mode):
        raise InvalidInput(f"{path} is not a disk", hint="lsblk -p lists the disks")
    return os.major(status.st_rdev), os.minor(status.st_rdev)


def _oom_kill_disabled(host_config: HostConfig) -> bool:
    disabled = bool(host_config.oom_kill_disable)
    if disabled and cgroup_version() == "2":
        raise InvalidInput("the OOM killer cannot be disabled on this machine", hint="cgroup v2 does not have it")
    return disabled


def _swappiness(host_config: HostConfig) -> int | None:
    if host_config.memory_swappiness is not None and cgroup_version() == "2":
        raise InvalidInput("memory swappiness cannot be chosen on this machine", hint="cgroup v2 does not have it")
    return host_config.memory_swappiness


# -- devices -------------------------------------------------------------------------------------


def devices(record: ContainerRecord) -> list[bundle.Device]:
    """Return the devices of --device, or all of the machine with --privileged.

    Raises InvalidInput for a path without devices, RuntimeFailed for --gpus.
    """
    for request in record.host_config.device_requests:
        _refuse_request(request)
    if privileged(record):
        return [device for device in map(_device, _device_files(Path("/dev"))) if device is not None]
    devices: list[bundle.Device] = []
    for entry in record.host_config.devices:
        devices += _named_devices(entry.path_on_host, entry.path_in_container, entry.cgroup_permissions)
    return devices


def _refuse_request(request: Mapping[str, Any]) -> None:
    """Raise RuntimeFailed for --gpus, whose devices a driver chooses.

    As dockerd without a driver does at the start.
    """
    sets = " ".join(f"[{' '.join(names)}]" for names in request.get("Capabilities") or ())
    raise RuntimeFailed(
        f'could not select device driver "{request.get("Driver") or ""}" with capabilities: [{sets}]',
        hint="name the devices themselves: --device",
    )


def _named_devices(source: str, target: str, access: str) -> list[bundle.Device]:
    """One device, or all in a directory."""
    places = device_places(source, target)
    devices = [device for file, inside in places if (device := _device(file, inside, access))]
    if not devices:
        reason = "not a device node" if Path(source).exists() else "no such file or directory"
        raise InvalidInput(
            f'error gathering device information while adding custom device "{source}": {reason}',
            hint="ls -l /dev lists the machine's devices",
        )
    return devices


def device_places(source: str, target: str) -> list[tuple[Path, str]]:
    """Return (path on the host, path in the container) of the devices of a --device.

    It names one file, or a directory of devices.
    """
    path = Path(source).resolve()
    files = sorted(_device_files(path)) if path.is_dir() else [path]
    return [(file, f"{target}{str(file).removeprefix(str(path))}") for file in files]


def _device(path: Path, inside: str = "", access: str = "rwm") -> bundle.Device | None:
    """The device at path; None if the file is not a device or does not exist."""
    try:
        status = path.stat()
    except OSError:
        return None
    kinds = {stat.S_IFCHR: "c", stat.S_IFBLK: "b"}
    kind = kinds.get(stat.S_IFMT(status.st_mode))
    if kind is None:
        return None
    return bundle.Device(
        path=inside or str(path),
        kind=kind,
        major=os.major(status.st_rdev),
        minor=os.minor(status.st_rdev),
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        access=access,
    )


def _device_files(top: Path) -> Iterator[Path]:
    for directory, names, files in os.walk(top):
        names[:] = [name for name in names if name not in _OWN_DIRECTORIES]
        for name in files:
            path = Path(directory) / name
            if name not in ("console", "ptmx", "tty") and not path.is_symlink():
                yield path


# -- namespaces ----------------------------------------------------------------------------------


def joined_containers(record: ContainerRecord, find: Callable[[str], ContainerRecord]) -> dict[str, ContainerRecord]:
    """Return the running containers whose namespaces a container joins.

    The keys are "network", "pid" and "ipc".

    find  returns the settled record of the container with a name or id

    Raises Conflict if one does not run, ContainerNotFound.
    """
    host = record.host_config
    modes = {"network": host.network_mode, "pid": host.pid_mode, "ipc": host.ipc_mode}
    return {
        kind: _joined(kind, find(mode.removeprefix("container:")), record.id)
        for kind, mode in modes.items()
        if mode.startswith("container:")
    }


def _joined(kind: str, record: ContainerRecord, own_id: str) -> ContainerRecord:
    if record.id == own_id:
        raise Conflict("cannot join own network", hint="choose another container, or another network")
    if not record.pid:
        raise Conflict(_not_running(kind, record.id), hint=f"labctr start {record.name}")
    if kind == "ipc" and record.host_config.ipc_mode not in ("shareable", "host"):
        raise Conflict(
            f"can't join IPC of container {record.id}: non-shareable IPC "
            "(hint: use IpcMode:shareable for the donor container)",
            hint="create that container with --ipc shareable",
        )
    return record


def namespaces(record: ContainerRecord, joined: Mapping[str, ContainerRecord]) -> Namespaces:
    """Return which namespaces are new, the host's, or another container's.

    joined  from joined_containers()
    """
    host = record.host_config
    return Namespaces(
        network=_namespace(host.network_mode, joined.get("network"), "net"),
        pid=_namespace(host.pid_mode, joined.get("pid"), "pid"),
        ipc=_namespace(host.ipc_mode, joined.get("ipc"), "ipc"),
        uts=None if host.uts_mode == "host" else "",
    )


def _namespace(mode: str, joined: ContainerRecord | None, file: str) -> str | None:
    if mode == "host":
        return None
    return f"/proc/{joined.pid}/ns/{file}" if joined else ""


def _not_running(kind: str, container_id: str) -> str:
    stopped = f"container {container_id} is not running"
    network = f"cannot join network of a non running container: {container_id}"
    return {"network": network, "ipc": f"can't join IPC of container {container_id}: {stopped}"}.get(kind, stopped)


def resolve(host_config: HostConfig, find: Callable[[str], ContainerRecord]) -> HostConfig:
    """Replace "container:NAME" by "container:ID" in the modes of a HostConfig.

    Raises ContainerNotFound.

    find  returns the record of the container with a name or id

    The container whose network is joined may be created later: the start looks for it again.
    """
    changes = {}
    for attribute, name in (("network_mode", "NetworkMode"), ("pid_mode", "PidMode"), ("ipc_mode", "IpcMode")):
        mode = getattr(host_config, attribute)
        if mode.startswith("container:"):
            try:
                changes[attribute] = f"container:{find(mode.removeprefix('container:')).id}"
            except ContainerNotFound as error:
                if attribute != "network_mode":
                    raise ContainerNotFound(error.message, hint=f"{name} names it") from None
    return replace(host_config, **changes)


# -- the init program of --init ------------------------------------------------------------------


def init_mount(record: ContainerRecord) -> list[bundle.Mount]:
    """Return the mount of the init program.

    It is the container's first process, and reaps orphaned processes.
    """
    if not record.host_config.init:
        return []
    options = ("rbind", "rprivate", "ro")
    return [bundle.Mount(source=_init_program(), destination=INIT_DESTINATION, type="bind", options=options)]


def init_command(record: ContainerRecord, process: bundle.Process) -> bundle.Process:
    """Put the init program before the command of a process, with --init."""
    if not record.host_config.init:
        return process
    words = (INIT_DESTINATION,) if _init_program().endswith("catatonit") else (INIT_DESTINATION, "--")
    return replace(process, argv=(*words, *process.argv))


def _init_program() -> str:
    for name in _INIT_PROGRAMS:
        try:
            path = programs.find(name)
        except MissingProgram:
            continue
        return os.path.realpath(path)
    raise MissingProgram("no init program is installed for --init", hint="apt-get install tini")
