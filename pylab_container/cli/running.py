"""Commands on a running container: port, top, update."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from pylab_container.cli import arguments
from pylab_container.cli.command import Command, each, open_engine
from pylab_container.cli.printing import say
from pylab_container.cli.ps import published_ports
from pylab_container.errors import InvalidInput, NotFound
from pylab_container.oci.image import Json
from pylab_container.text.visible import visible

_MIN_COLUMN_WIDTH = 20  # characters; docker has this minimum for top only
_PADDING = 3  # characters between columns


@click.command(cls=Command)
@click.argument("container", shell_complete=arguments.containers)
@click.argument("private_port", metavar="[PORT[/PROTOCOL]]", required=False)
def port(*, container: str, private_port: str | None) -> None:
    """List port mappings or a specific mapping for the container."""
    published = {name: bindings for name, bindings in _published(container).items() if bindings}
    if private_port is None:
        lines = sorted(f"{name} -> {_address(binding)}" for name, bindings in published.items() for binding in bindings)
        say("".join(f"{line}\n" for line in lines), nl=False)
        return
    number, _, protocol = private_port.partition("/")
    bindings = published.get(f"{number}/{protocol.lower() or 'tcp'}")
    if not bindings:
        raise NotFound(f"No public port '{private_port}' published for {container}", hint=f"labctr port {container}")
    say("\n".join(map(_address, bindings)))


def _published(container: str) -> Json:
    return published_ports(open_engine().containers.get(container))


def _address(binding: Mapping[str, str]) -> str:
    address = binding["HostIp"]
    return f"[{address}]:{binding['HostPort']}" if ":" in address else f"{address}:{binding['HostPort']}"


@click.command(cls=Command, context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("container", shell_complete=arguments.containers)
@click.argument("arguments", metavar="[OPTIONS OF PS]", nargs=-1, type=click.UNPROCESSED)
def top(*, container: str, arguments: tuple[str, ...]) -> None:
    """Display the running processes of a container."""
    from pylab_container.containers import processes

    engine = open_engine()
    titles, rows = processes.top(engine.data, engine.runtime, engine.containers.get(container).record, list(arguments))
    lines = [list(map(visible, line)) for line in (titles, *rows)]
    widths = [max(_MIN_COLUMN_WIDTH, _PADDING + max(map(len, column))) for column in zip(*lines, strict=True)]
    widths[-1] = 0
    for line in lines:
        say("".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)))


@click.command(cls=Command)
@click.argument("containers", metavar="CONTAINER...", nargs=-1, required=True, shell_complete=arguments.containers)
@click.option("-m", "--memory", "mem_limit", metavar="BYTES", help="Memory limit: 512m, 2g.")
@click.option(
    "--memory-swap", "memswap_limit", metavar="BYTES", help="Limit of memory and swap together; -1: no limit."
)
@click.option(
    "--memory-reservation", "mem_reservation", metavar="BYTES", help="Memory that it keeps when memory is short."
)
@click.option("--cpus", type=float, metavar="N", help="Number of CPUs: 1.5.")
@click.option("-c", "--cpu-shares", type=int, metavar="N", help="CPU shares (relative weight).")
@click.option("--cpuset-cpus", metavar="0-3,5", help="CPUs in which to allow execution.")
@click.option("--cpuset-mems", metavar="0,1", help="Memory nodes in which to allow execution.")
@click.option("--pids-limit", type=int, metavar="N", help="Limit of tasks; -1: no limit.")
@click.option("--restart", metavar="POLICY", help="no, on-failure[:N], always or unless-stopped.")
def update(
    *,
    containers: tuple[str, ...],
    mem_limit: str | None,
    memswap_limit: str | None,
    mem_reservation: str | None,
    cpus: float | None,
    cpu_shares: int | None,
    cpuset_cpus: str | None,
    cpuset_mems: str | None,
    pids_limit: int | None,
    restart: str | None,
) -> int:
    """Update configuration of one or more containers."""
    from pylab_container.docker.hostconfig import parse_restart_policy

    options = {
        "mem_limit": mem_limit,
        "memswap_limit": memswap_limit,
        "mem_reservation": mem_reservation,
        "nano_cpus": round(cpus * 10**9) if cpus else None,
        "cpu_shares": cpu_shares,
        "cpuset_cpus": cpuset_cpus,
        "cpuset_mems": cpuset_mems,
        "pids_limit": pids_limit,
        "restart_policy": parse_restart_policy(restart) if restart else None,
    }
    changes: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    if not changes:
        raise InvalidInput("you must provide one or more flags when using this command", hint="labctr update --help")
    engine = open_engine()

    def change(name: str) -> None:
        engine.containers.get(name).update(**changes)

    return each(containers, change)
