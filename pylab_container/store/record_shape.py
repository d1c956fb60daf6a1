"""Types of the fields in the data root's documents; a document with other types is damaged.

A field that is not listed may have any value, and a missing one has its default: other versions of Docker write more
fields, and fewer. Sources: moby container/container.go, api/types/container and api/types/network, 20.10.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

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


class RecordShape(Struct):
    """config.v2.json.

    ContainerConfig.parse() and NetworkSettings.parse() check the types in its documents.
    """

    ID: str
    Name: str
    Created: str
    Image: str
    Path: str
    State: _StateShape
    Config: dict[str, Any]
    Args: _Texts = None
    Driver: str = ""
    NetworkSettings: _Any = None
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
    """hostconfig.json: the required field. HostConfig.parse() checks the types of the others."""

    NetworkMode: str


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
