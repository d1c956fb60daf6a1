"""Commands on the engine: info, version, system check, down and fsck."""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING, Any

import click

from pylab_container.cli.command import Command, open_engine
from pylab_container.cli.printing import pass_on, say
from pylab_container.text.visible import visible
from pylab_container.version import __version__

if TYPE_CHECKING:
    pass


_FORMAT = click.option("-f", "--format", "format_", metavar="TEMPLATE", help="A Go template, or json.")


def _show(document: dict[str, Any], format_: str) -> None:
    from pylab_container.docker.template import Template
    from pylab_container.docker.template_values import json_of

    pass_on(json_of(document) if format_ == "json" else Template(format_).render(document))


@click.command(cls=Command)
@_FORMAT
def version(*, format_: str | None) -> None:
    """Show the labctr version information."""
    machine = os.uname()
    system, python = machine.sysname.lower(), platform.python_version()
    if format_:
        from pylab_container.images.image import machine_architecture

        own = {"Version": __version__, "PythonVersion": python, "Os": system, "Arch": machine_architecture()}
        # The client and the engine are one process, so the server has the same version.
        _show({"Client": own, "Server": own}, format_)
        return
    say(f"labctr:\n Version:          {__version__}")
    say(f" Python version:   {python}")
    say(f" OS/Arch:          {system}/{machine.machine}")


@click.command(cls=Command)
@_FORMAT
def info(*, format_: str | None) -> None:
    """Display system-wide information."""
    from pylab_container.text.sizes import human_binary

    information = open_engine().info()
    if format_:
        _show(information.document(), format_)
        return
    lines = [
        f"Containers: {information.containers}",
        f" Running: {information.running}",
        f" Paused: {information.paused}",
        f" Stopped: {information.stopped}",
        f"Images: {information.images}",
        f"Server Version: {information.server_version}",
        f"Storage Driver: {information.storage_driver}",
        *(f" {name}: {value}" for name, value in information.driver_status),
        f"Logging Driver: {information.logging_driver}",
        f"Cgroup Driver: {information.cgroup_driver}",
        f"Cgroup Version: {information.cgroup_version}",
        f"Runtimes: {information.runtime}",
        f"Default Runtime: {information.runtime}",
        f"Kernel Version: {information.kernel_version}",
        f"Operating System: {information.operating_system}",
        "OSType: linux",
        f"Architecture: {information.architecture}",
        f"CPUs: {information.cpus}",
        f"Total Memory: {human_binary(information.memory)}",
        f"Name: {information.name}",
        f"Root Dir: {information.root_dir}",
    ]
    say("\n".join(lines))


@click.command(cls=Command)
def down() -> None:
    """Remove the unused bridges and their firewall rules."""
    open_engine().networks.down()


@click.command(cls=Command)
@click.option("--repair", is_flag=True, help="Repair what can be repaired without loss.")
@click.option("--deep", is_flag=True, help="Also rebuild every layer and compare its digest.")
def fsck(*, repair: bool, deep: bool) -> int:
    """Check and repair the data root.

    The exit status is 1 if a finding is not repaired.
    """
    findings = open_engine(recover=False).fsck(repair=repair, deep=deep)
    for finding in findings:
        say(f"{'repaired' if finding.repaired else 'found'}: {visible(finding.sentence)}")
        say(f"  {visible(str(finding.path))}")
    left = sum(not finding.repaired for finding in findings)
    say(f"{len(findings)} found, {left} left" if findings else "nothing found")
    return 1 if left else 0


@click.command(cls=Command)
def check() -> int:
    """Show what this machine supports and how to add what is missing.

    The exit status is 1 if the engine lacks something that it needs.
    """
    checks = open_engine(recover=False).check()
    width = max(len(item.name) for item in checks)
    for item in checks:
        state = "ok" if item.ok else "missing" if item.needed else "optional"
        say(f"{item.name:{width}}  {state:8}  {item.found}")
        if item.remedy:
            say(f"{'':{width}}            {item.remedy}")
    return 1 if any(item.needed and not item.ok for item in checks) else 0
