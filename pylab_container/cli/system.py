"""The engine as a whole: info, version, system down and fsck."""

from __future__ import annotations

import os
import platform

import click

from pylab_container import __version__
from pylab_container.cli.command import Command, open_engine


@click.command(cls=Command)
def version() -> None:
    """Show the version."""
    machine = os.uname()
    click.echo(f"labctr:\n Version:          {__version__}")
    click.echo(f" Python version:   {platform.python_version()}")
    click.echo(f" OS/Arch:          {machine.sysname.lower()}/{machine.machine}")


@click.command(cls=Command)
def info() -> None:
    """Show what the engine has, and the machine under it."""
    from pylab_container.formats.sizes import human_binary

    told = open_engine().info()
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
    click.echo("\n".join(lines))


@click.command(cls=Command)
def down() -> None:
    """Remove the bridge and its NAT rules, while no container uses them."""
    open_engine().bridge.remove()


@click.command(cls=Command)
@click.option("--repair", is_flag=True, help="Mend what can be mended without losing anything.")
@click.option("--deep", is_flag=True, help="Rebuild every layer and compare its digest, too.")
def fsck(*, repair: bool, deep: bool) -> int:
    """Check that everything in the data root agrees. Exit status 1 if something is wrong and not repaired."""
    findings = open_engine(recover=False).fsck(repair=repair, deep=deep)
    for finding in findings:
        click.echo(f"{'repaired' if finding.repaired else 'found'}: {finding.sentence}\n  {finding.path}")
    left = sum(not finding.repaired for finding in findings)
    click.echo(f"{len(findings)} found, {left} left" if findings else "nothing found")
    return 1 if left else 0
