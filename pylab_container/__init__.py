"""A container engine to learn from: images, layers, overlay2 and build, in Docker's own format.

    from pylab_container import Engine

    engine = Engine("/var/lib/pylab-container")
    image = engine.images.import_("debian.tar", "debian:12")
    engine.containers.run(image, ["cat", "/etc/debian_version"])

The source is meant to be read. Start at `engine/`: `import_`, `commit`, `build` and `run`
are recipes of a few lines, and every mechanism that they name lives in the layer below.

What is exported here is the interface: the engine, its collections, the things in them, the values that their
functions return, and the errors. It is imported when it is first used (PEP 562): `labctr version` must not pay for
the whole engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pylab_container.errors import (
    BuildFailed,
    CommandNotExecutable,
    CommandNotFound,
    Conflict,
    ContainerFailed,
    ContainerNotFound,
    CorruptStore,
    DockerfileError,
    Forbidden,
    ImageNotFound,
    InUse,
    InvalidArchive,
    InvalidInput,
    InvalidReference,
    LabError,
    MissingExtra,
    MissingProgram,
    NotFound,
    NotRoot,
    RegistryFailed,
    RuntimeFailed,
    StepRefused,
    Unauthorized,
    Unavailable,
    Unimplemented,
    Unreachable,
)
from pylab_container.version import __version__ as __version__

if TYPE_CHECKING:
    from pylab_container.containers.execution import Exec, ExecutionCollection
    from pylab_container.containers.root_filesystem import Change, PathStatus
    from pylab_container.engine import Engine
    from pylab_container.engine.container import Container, ExecResult
    from pylab_container.engine.containers import ContainerCollection
    from pylab_container.engine.images import ImageCollection
    from pylab_container.engine.networks import Network, NetworkCollection
    from pylab_container.engine.volumes import Volume, VolumeCollection
    from pylab_container.events import PushResult
    from pylab_container.images.build_report import BuildReport
    from pylab_container.images.image import HistoryEntry, Image
    from pylab_container.images.removal import Removal
    from pylab_container.maintenance.check import Check
    from pylab_container.maintenance.fsck.report import Finding
    from pylab_container.maintenance.info import Info
    from pylab_container.maintenance.pruning import Pruned
    from pylab_container.maintenance.usage import DiskUsage
    from pylab_container.oci.ids import ContainerId, VolumeName
    from pylab_container.oci.image import ImageConfig, Json
    from pylab_container.oci.manifest import Descriptor
    from pylab_container.runtime.logs import LogLine, LogReader
    from pylab_container.runtime.monitor import Attachment
    from pylab_container.store.container_store import ContainerRecord
    from pylab_container.store.layer_store import Layer


__all__ = [
    "Attachment",
    "BuildFailed",
    "BuildReport",
    "Change",
    "Check",
    "CommandNotExecutable",
    "CommandNotFound",
    "Conflict",
    "Container",
    "ContainerCollection",
    "ContainerFailed",
    "ContainerId",
    "ContainerNotFound",
    "ContainerRecord",
    "CorruptStore",
    "Descriptor",
    "DiskUsage",
    "DockerfileError",
    "Engine",
    "Exec",
    "ExecResult",
    "ExecutionCollection",
    "Finding",
    "Forbidden",
    "HistoryEntry",
    "Image",
    "ImageCollection",
    "ImageConfig",
    "ImageNotFound",
    "InUse",
    "Info",
    "InvalidArchive",
    "InvalidInput",
    "InvalidReference",
    "Json",
    "LabError",
    "Layer",
    "LogLine",
    "LogReader",
    "MissingExtra",
    "MissingProgram",
    "Network",
    "NetworkCollection",
    "NotFound",
    "NotRoot",
    "PathStatus",
    "Pruned",
    "PushResult",
    "RegistryFailed",
    "Removal",
    "RuntimeFailed",
    "StepRefused",
    "Unauthorized",
    "Unavailable",
    "Unimplemented",
    "Unreachable",
    "Volume",
    "VolumeCollection",
    "VolumeName",
]

_PLACES = {
    "containers.execution": "Exec ExecutionCollection",
    "containers.root_filesystem": "Change PathStatus",
    "engine": "Engine",
    "engine.container": "Container ExecResult",
    "engine.containers": "ContainerCollection",
    "engine.images": "ImageCollection",
    "engine.networks": "Network NetworkCollection",
    "engine.volumes": "Volume VolumeCollection",
    "events": "PushResult",
    "images.build_report": "BuildReport",
    "images.image": "HistoryEntry Image",
    "images.removal": "Removal",
    "maintenance.check": "Check",
    "maintenance.fsck.report": "Finding",
    "maintenance.info": "Info",
    "maintenance.pruning": "Pruned",
    "maintenance.usage": "DiskUsage",
    "oci.ids": "ContainerId VolumeName",
    "oci.image": "ImageConfig Json",
    "oci.manifest": "Descriptor",
    "runtime.monitor": "Attachment",
    "runtime.logs": "LogLine LogReader",
    "store.container_store": "ContainerRecord",
    "store.layer_store": "Layer",
}
"""Module → what of it is imported when it is first used: the same as the imports for type checkers above."""

if not TYPE_CHECKING:  # or a type checker would accept every name

    def __getattr__(name: str) -> object:
        for module, exported in _PLACES.items():
            if name in exported.split():
                from importlib import import_module

                value = globals()[name] = getattr(import_module(f"{__name__}.{module}"), name)
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def load_ipython_extension(shell: Any) -> None:
    """`%load_ext pylab_container`: the magics %labctr and %docker, and rich displays."""
    from pylab_container.notebook.magics import register

    register(shell)
