"""What the documents of the data root must look like for the engine to use them: known fields have known types.

A field that is not listed may hold anything, and one that is missing has its default: other versions of Docker write
more fields, and fewer. Sources: moby container/container.go, api/types/container and api/types/network, 20.10.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct

from pylab_container.docker.hostconfig import DEFAULTS
from pylab_container.text.timestamps import parse_rfc3339

_Texts = list[str] | None
_Any = dict[str, Any] | None


class _HealthShape(Struct):
    Status: str = ""
    FailingStreak: int = 0
    Log: list[dict[str, Any]] | None = None


class _StateShape(Struct):
    Pid: int
    ExitCode: int
    StartedAt: str
    FinishedAt: str
    Running: bool
    Paused: bool = False
    Restarting: bool = False
    Dead: bool = False
    RemovalInProgress: bool = False
    Error: str = ""
    OOMKilled: bool = False
    Health: _HealthShape | None = None


class _CheckShape(Struct):
    Test: _Texts = None
    Interval: int = 0
    Timeout: int = 0
    StartPeriod: int = 0
    StartInterval: int = 0
    Retries: int = 0


class _ConfigShape(Struct):
    Hostname: str | None = None
    Domainname: str | None = None
    User: str | None = None
    Tty: bool | None = None
    OpenStdin: bool | None = None
    StdinOnce: bool | None = None
    Env: _Texts = None
    Cmd: _Texts = None
    Entrypoint: _Texts = None
    OnBuild: _Texts = None
    Shell: _Texts = None
    Image: str | None = None
    WorkingDir: str | None = None
    MacAddress: str | None = None
    StopSignal: str | None = None
    StopTimeout: int | None = None
    Volumes: _Any = None
    ExposedPorts: _Any = None
    Labels: dict[str, str] | None = None
    Healthcheck: _CheckShape | None = None


class _MountShape(Struct):
    Type: Literal["bind", "volume", "tmpfs", "npipe", "cluster"]
    Destination: str
    Source: str = ""
    Name: str = ""
    Mode: str | None = None
    RW: bool = True
    Propagation: str | None = None
    Options: Any = None
    Labels: dict[str, str] | None = None
    DriverOpts: dict[str, str] | None = None


class _SpecShape(Struct):
    Source: str = ""
    ReadOnly: bool = False
    BindOptions: _Any = None
    VolumeOptions: _Any = None
    TmpfsOptions: _Any = None


class _PointShape(Struct):
    Destination: str
    RW: bool
    Type: Literal["bind", "volume", "tmpfs", "npipe", "cluster", ""] = ""
    Source: str = ""
    Name: str = ""
    Relabel: str = ""
    Propagation: str = ""
    Spec: _SpecShape | None = None


class _EndpointShape(Struct):
    NetworkID: str | None = None
    IPAddress: str | None = None
    IPPrefixLen: int | None = None
    GlobalIPv6Address: str | None = None
    GlobalIPv6PrefixLen: int | None = None
    MacAddress: str | None = None
    Links: _Texts = None
    Aliases: _Texts = None
    IPAMConfig: _Any = None
    DriverOpts: dict[str, str] | None = None


class _NetworkSettingsShape(Struct):
    Networks: dict[str, _EndpointShape | None] | None = None
    Ports: dict[str, list[dict[str, str]] | None] | None = None


class RecordShape(Struct):
    """config.v2.json."""

    ID: str
    Name: str
    Created: str
    Image: str
    Path: str
    State: _StateShape
    Config: _ConfigShape
    Args: _Texts = None
    Driver: str = ""
    NetworkSettings: _NetworkSettingsShape | None = None
    MountPoints: dict[str, _PointShape] | None = None
    Mounts: list[_MountShape] | None = None
    RestartCount: int = 0
    RestartDelay: float = 0
    HasBeenManuallyStopped: bool = False

    def __post_init__(self) -> None:
        for moment in (self.Created, self.State.StartedAt, self.State.FinishedAt):
            parse_rfc3339(moment)
        if self.State.Pid < 0:
            raise ValueError("a process has no negative number")
        for mount in self.Mounts or ():
            if mount.Type == "volume" and not mount.Name:
                raise ValueError("a volume among the mounts has no name")


class HostShape(Struct):
    """hostconfig.json; the other fields are compared with Docker's defaults, in check_host()."""

    NetworkMode: str
    RestartPolicy: dict[str, Any] | None = None
    LogConfig: dict[str, Any] | None = None
    Links: _Texts = None
    ExtraHosts: _Texts = None
    GroupAdd: _Texts = None
    CapAdd: _Texts = None
    CapDrop: _Texts = None
    SecurityOpt: _Texts = None
    Binds: _Texts = None
    Tmpfs: dict[str, str] | None = None
    Sysctls: dict[str, str] | None = None
    Annotations: dict[str, str] | None = None
    PortBindings: dict[str, list[dict[str, str]] | None] | None = None
    Devices: list[dict[str, Any]] | None = None
    Ulimits: list[dict[str, Any]] | None = None


def check_host(document: Mapping[str, Any]) -> None:
    """Raise ValueError for a field of hostconfig.json whose type is not that of Docker's default."""
    for name, default in DEFAULTS.items():
        value = document.get(name)
        if value is not None and default is not None and not isinstance(value, type(default)):
            raise ValueError(f"Expected `{type(default).__name__}`, got `{type(value).__name__}` - at `$.{name}`")


class _PoolShape(Struct):
    Subnet: str
    Gateway: str = ""
    IPRange: str = ""
    AuxiliaryAddresses: dict[str, str] | None = None


class _IpamShape(Struct):
    Config: list[_PoolShape]
    Driver: str | None = None
    Options: dict[str, str] | None = None


class NetworkShape(Struct):
    """networks/<id>.json: Docker's Network object."""

    Id: str
    Name: str
    Created: str
    Driver: str
    IPAM: _IpamShape
    EnableIPv6: bool
    Internal: bool
    Attachable: bool
    Scope: str
    Options: dict[str, str]
    Labels: dict[str, str]

    def __post_init__(self) -> None:
        parse_rfc3339(self.Created)
        if not self.IPAM.Config:
            raise ValueError("it has no subnet")
        for pool in self.IPAM.Config:
            _check_pool(pool)


def _check_pool(pool: _PoolShape) -> None:
    import ipaddress  # slow to import, and needed only by networks of users

    for network in filter(None, (pool.Subnet, pool.IPRange)):
        ipaddress.ip_network(network, strict=False)
    for address in filter(None, (pool.Gateway, *(pool.AuxiliaryAddresses or {}).values())):
        ipaddress.ip_interface(address)


class VolumeShape(Struct):
    """volumes/<name>/volume.json."""

    CreatedAt: str | None = None
    Labels: dict[str, str] | None = None
    Options: dict[str, str] | None = None

    def __post_init__(self) -> None:
        if self.CreatedAt:
            parse_rfc3339(self.CreatedAt)


class VolumeOptionsShape(Struct):
    """volumes/<name>/opts.json: moby volume/local, optsConfig."""

    MountType: str = ""
    MountOpts: str = ""
    MountDevice: str = ""


class RepositoriesShape(Struct):
    """repositories.json."""

    Repositories: dict[str, dict[str, str]]
