"""The engine as a whole: info, version, system down and fsck."""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING, Any

import click

from pylab_container import __version__
from pylab_container.cli.command import Command, open_engine
from pylab_container.cli.printing import pass_on, say
from pylab_container.text.visible import visible

if TYPE_CHECKING:
    from pylab_container.maintenance.info import Info


_FORMAT = click.option("-f", "--format", "format_", metavar="TEMPLATE", help="A Go template, or json.")


def _show(document: dict[str, Any], format_: str) -> None:
    from pylab_container.docker.template import Template
    from pylab_container.docker.template_values import json_of

    pass_on(json_of(document) if format_ == "json" else Template(format_).render(document))


@click.command(cls=Command)
@_FORMAT
def version(*, format_: str | None) -> None:
    """Show the version."""
    machine = os.uname()
    system, python = machine.sysname.lower(), platform.python_version()
    if format_:
        from pylab_container.images.image import machine_architecture

        own = {"Version": __version__, "PythonVersion": python, "Os": system, "Arch": machine_architecture()}
        # There is no server: client and engine are one process, and one version.
        _show({"Client": own, "Server": own}, format_)
        return
    say(f"labctr:\n Version:          {__version__}")
    say(f" Python version:   {python}")
    say(f" OS/Arch:          {system}/{machine.machine}")


@click.command(cls=Command)
@_FORMAT
def info(*, format_: str | None) -> None:
    """Show what the engine has, and the machine under it."""
    from pylab_container.text.sizes import human_binary

    told = open_engine().info()
    if format_:
        _show(_info_document(told), format_)
        return
    lines = [
        f"Containers: {told.containers}",
        f" Running: {told.running}",
        f" Paused: {told.paused}",
        f" Stopped: {told.stopped}",
        f"Images: {told.images}",
        f"Server Version: {told.server_version}",
        f"Storage Driver: {told.storage_driver}",
        *(f" {name}: {value}" for name, value in told.driver_status),
        f"Logging Driver: {told.logging_driver}",
        f"Cgroup Driver: {told.cgroup_driver}",
        f"Cgroup Version: {told.cgroup_version}",
        f"Runtimes: {told.runtime}",
        f"Default Runtime: {told.runtime}",
        f"Kernel Version: {told.kernel_version}",
        f"Operating System: {told.operating_system}",
        "OSType: linux",
        f"Architecture: {told.architecture}",
        f"CPUs: {told.cpus}",
        f"Total Memory: {human_binary(told.memory)}",
        f"Name: {told.name}",
        f"Root Dir: {told.root_dir}",
    ]
    say("\n".join(lines))


def _info_document(told: Info) -> dict[str, Any]:
    """The same under the field names of Docker's `GET /info`."""
    return {
        "Containers": told.containers,
        "ContainersRunning": told.running,
        "ContainersPaused": told.paused,
        "ContainersStopped": told.stopped,
        "Images": told.images,
        "Driver": told.storage_driver,
        "DriverStatus": [list(pair) for pair in told.driver_status],
        "LoggingDriver": told.logging_driver,
        "CgroupDriver": told.cgroup_driver,
        "CgroupVersion": told.cgroup_version,
        "KernelVersion": told.kernel_version,
        "OperatingSystem": told.operating_system,
        "OSType": "linux",
        "Architecture": told.architecture,
        "NCPU": told.cpus,
        "MemTotal": told.memory,
        "DockerRootDir": told.root_dir,
        "Name": told.name,
        "ServerVersion": told.server_version,
        "DefaultRuntime": told.runtime,
        "Runtimes": {told.runtime: {"path": told.runtime}},
    }


@click.command(cls=Command)
def down() -> None:
    """Remove the bridges and their rules, while no container uses them."""
    open_engine().networks.down()


@click.command(cls=Command)
@click.option("--repair", is_flag=True, help="Mend what can be mended without losing anything.")
@click.option("--deep", is_flag=True, help="Rebuild every layer and compare its digest, too.")
def fsck(*, repair: bool, deep: bool) -> int:
    """Check that everything in the data root agrees. Exit status 1 if something is wrong and not repaired."""
    findings = open_engine(recover=False).fsck(repair=repair, deep=deep)
    for finding in findings:
        say(f"{'repaired' if finding.repaired else 'found'}: {visible(finding.sentence)}")
        say(f"  {visible(str(finding.path))}")
    left = sum(not finding.repaired for finding in findings)
    say(f"{len(findings)} found, {left} left" if findings else "nothing found")
    return 1 if left else 0


@click.command(cls=Command)
def check() -> int:
    """Show what this machine can do, and what to do about the rest. Exit status 1 if the engine lacks something."""
    checks = open_engine(recover=False).check()
    width = max(len(one.name) for one in checks)
    for one in checks:
        state = "ok" if one.ok else "missing" if one.needed else "optional"
        say(f"{one.name:{width}}  {state:8}  {one.found}")
        if one.remedy:
            say(f"{'':{width}}            {one.remedy}")
    return 1 if any(one.needed and not one.ok for one in checks) else 0
