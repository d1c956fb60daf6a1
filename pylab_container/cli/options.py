"""The options that `run` and `create` have in common, and what they mean to the engine.

Most go to the engine as they stand, under docker-py's names, which their variables here have;
creation.py reads those that have a grammar of their own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from pylab_container.cli import arguments
from pylab_container.cli.creation import Creation


def _flag(*names: str, help: str) -> Callable[..., Any]:
    return click.option(*names, is_flag=True, help=help)


def _list(*names: str, metavar: str, help: str, complete: arguments.Completion | None = None) -> Callable[..., Any]:
    return click.option(*names, multiple=True, metavar=metavar, help=f"{help} Repeatable.", shell_complete=complete)


def _text(*names: str, metavar: str, help: str, complete: arguments.Completion | None = None) -> Callable[..., Any]:
    return click.option(*names, metavar=metavar, help=help, shell_complete=complete)


def _number(*names: str, help: str) -> Callable[..., Any]:
    return click.option(*names, type=int, metavar="N", help=help)


REFUSED = {
    "--annotation": "annotations are for other runtimes",
    "--blkio-weight": "disks have no weights without the scheduler bfq: write --device-read-bps",
    "--blkio-weight-device": "disks have no weights without the scheduler bfq: write --device-read-bps",
    "--cpu-count": "it is for Windows: write --cpus",
    "--cpu-percent": "it is for Windows: write --cpus",
    "--cpu-rt-period": "real-time groups are not supported by this kernel's cgroups",
    "--cpu-rt-runtime": "real-time groups are not supported by this kernel's cgroups",
    "--gpus": "no device plugins: write --device",
    "--health-start-interval": "checks have one interval: write --health-interval",
    "--io-maxbandwidth": "it is for Windows",
    "--io-maxiops": "it is for Windows",
    "--kernel-memory": "the kernel has done away with it: write --memory",
    "--storage-opt": "the size of a container's layer is not limited: overlay2 needs xfs with quotas for that",
    "--use-api-socket": "mount the socket: -v /run/labctr.sock:/var/run/docker.sock",
}
"""Options of `docker run` that are refused, and why. A limit that is not put into effect is worse than none."""


ONLY = {"--isolation": "default", "--runtime": "runc", "--volume-driver": "local"}
"""Options with one value that says what happens anyway."""


def _refused(name: str, reason: str, *, but: str = "") -> Callable[..., Any]:
    """An option that may not be given; or only with one value."""

    def refuse(_context: click.Context, _option: click.Parameter, value: str | None) -> None:
        if value and value != but:
            raise click.UsageError(f"{name} {value if but else ''}".rstrip() + f" is not supported: {reason}")

    switch = name == "--use-api-socket"
    return click.option(name, hidden=True, expose_value=False, callback=refuse, is_flag=switch, default=None)


_OPTIONS = (
    click.argument("image", shell_complete=arguments.images),
    click.argument("command", nargs=-1, type=click.UNPROCESSED),
    # what it is called, and what it runs
    _text("--name", metavar="NAME", help="Its name."),
    _flag("-i", "--interactive", "stdin_open", help="Pass standard input on."),
    _flag("-t", "--tty", help="Give it a terminal."),
    _list("-a", "--attach", "attach", metavar="STREAM", help="Connect only stdin, stdout or stderr."),
    _text("--entrypoint", metavar="PROGRAM", help="Replaces the image's ENTRYPOINT."),
    _list("-e", "--env", "environment", metavar="NAME[=VALUE]", help="A variable."),
    _list("--env-file", "environment_files", metavar="FILE", complete=arguments.files, help="Variables, one a line."),
    _text("-w", "--workdir", "working_dir", metavar="DIR", help="The working directory in the container."),
    _text("-u", "--user", metavar="NAME|UID[:GROUP|GID]", help="Who the command runs as."),
    _list("--group-add", metavar="GROUP", help="One more group of its user."),
    _list("-l", "--label", "labels", metavar="NAME[=VALUE]", help="A label."),
    _list("--label-file", "label_files", metavar="FILE", complete=arguments.files, help="Labels, one a line."),
    _text("--cidfile", metavar="FILE", complete=arguments.files, help="Write its id into FILE."),
    _text("--pull", metavar="missing|never|always", help="When to fetch the image.  [default: missing]"),
    _text("--platform", metavar="OS/ARCH", help="Of the image that is fetched."),
    _flag("-q", "--quiet", help="Do not show how the image is fetched."),
    _flag("--init", help="An init as first process, which reaps zombies and passes signals on."),
    # its life
    _text("--restart", metavar="POLICY", help="no, on-failure[:N], always or unless-stopped.  [default: no]"),
    _text("--stop-signal", metavar="SIGNAL", help="What asks it to end."),
    _number("--stop-timeout", help="Seconds from being asked to being killed."),
    _text("--health-cmd", metavar="COMMAND", help="A shell command that succeeds while it is well."),
    _text("--health-interval", metavar="TIME", help="Between two checks: 30s."),
    _text("--health-timeout", metavar="TIME", help="How long one may take: 30s."),
    _text("--health-start-period", metavar="TIME", help="Failures until then do not count: 1m."),
    _number("--health-retries", help="So many failures in a row make it unhealthy."),
    _flag("--no-healthcheck", help="Do not do the image's check."),
    _text("--log-driver", metavar="NAME", help="json-file or none."),
    _list("--log-opt", "log_options", metavar="NAME=VALUE", help="max-size=10m."),
    # files
    _list("-v", "--volume", "volumes", metavar="[SOURCE:]DIR[:ro]", help="Mount SOURCE at DIR."),
    _list("--mount", "mounts", metavar="type=…,source=…,target=…", help="Mount a bind, volume or tmpfs."),
    _list("--tmpfs", metavar="DIR[:OPTIONS]", help="Memory as a directory."),
    _list(
        "--volumes-from", metavar="CONTAINER[:ro]", complete=arguments.containers, help="Mount what CONTAINER mounts."
    ),
    _flag("--read-only", help="Nothing of its root can be written."),
    _list("--device", "devices", metavar="DEVICE[:PATH][:rwm]", help="A device of the host."),
    _list("--device-cgroup-rule", "device_cgroup_rules", metavar="RULE", help="Devices it may use: 'c 10:200 rwm'."),
    _text("--shm-size", metavar="BYTES", help="The size of /dev/shm.  [default: 64m]"),
    # network
    _list(
        "--network",
        "--net",
        "networks",
        metavar="NAME",
        complete=arguments.networks,
        help="bridge, none, host, container:NAME or a network.",
    ),
    _list("--network-alias", "--net-alias", "network_aliases", metavar="NAME", help="One more name in its network."),
    _text("--ip", "ipv4_address", metavar="ADDRESS", help="Its IPv4 address."),
    _text("--ip6", "ipv6_address", metavar="ADDRESS", help="Its IPv6 address."),
    _list("--link-local-ip", "link_local_ips", metavar="ADDRESS", help="One more address: 169.254.1.2, fe80::2."),
    _list(
        "--link",
        "links",
        metavar="CONTAINER[:ALIAS]",
        complete=arguments.containers,
        help="A name for CONTAINER, and variables about it.",
    ),
    _text("--mac-address", metavar="ADDRESS", help="Of its interface."),
    _list("-p", "--publish", "publish", metavar="[[ADDRESS:]PORT:]PORT[/udp]", help="Publish a port on the host."),
    _flag("-P", "--publish-all", "publish_all_ports", help="Publish all exposed ports."),
    _list("--expose", metavar="PORT[/udp]", help="A port that it serves."),
    _text("-h", "--hostname", metavar="NAME", help="The host name in the container."),
    _text("--domainname", metavar="NAME", help="The domain name in the container."),
    _list("--add-host", "extra_hosts", metavar="NAME:ADDRESS", help="A line of its /etc/hosts."),
    _list("--dns", metavar="ADDRESS", help="A name server."),
    _list("--dns-search", metavar="DOMAIN", help="A domain in which names are looked up."),
    _list("--dns-option", "--dns-opt", "dns_opt", metavar="OPTION", help="An option of resolv.conf(5)."),
    # limits
    _text("-m", "--memory", "mem_limit", metavar="BYTES", help="At most so much memory: 512m, 2g."),
    _text("--memory-swap", "memswap_limit", metavar="BYTES", help="Memory and swap together; -1: no limit."),
    _text("--memory-reservation", "mem_reservation", metavar="BYTES", help="What it keeps when memory is short."),
    click.option("--cpus", type=float, metavar="N", help="At most so many processors: 1.5."),
    _number("--cpu-period", help="Microseconds of a period of --cpu-quota.  [default: 100000]"),
    _number("--cpu-quota", help="Microseconds of all processors in each period."),
    _number("-c", "--cpu-shares", help="Its weight against others.  [default: 1024]"),
    _text("--cpuset-cpus", metavar="0-3,5", help="On which processors."),
    _text("--cpuset-mems", metavar="0,1", help="On which memory nodes."),
    _number("--pids-limit", help="At most so many tasks."),
    _number("--memory-swappiness", "mem_swappiness", help="How readily its memory is swapped out, 0 to 100."),
    _list("--ulimit", "ulimits", metavar="NAME=SOFT[:HARD]", help="nofile=1024:2048."),
    _list("--device-read-bps", metavar="DEVICE:BYTES", help="At most so many bytes a second: /dev/sda:1mb."),
    _list("--device-write-bps", metavar="DEVICE:BYTES", help="The same for writing."),
    _list("--device-read-iops", metavar="DEVICE:N", help="At most so many operations a second."),
    _list("--device-write-iops", metavar="DEVICE:N", help="The same for writing."),
    _text("--cgroup-parent", metavar="PATH", help="The cgroup that its own is in."),
    _flag("--oom-kill-disable", help="Let it wait for memory instead of killing it (cgroup v1)."),
    _number("--oom-score-adj", help="How soon it is killed when memory is short, -1000 to 1000."),
    _list("--sysctl", "sysctls", metavar="NAME=VALUE", help="A kernel setting of its namespaces."),
    # security and namespaces
    _flag("--privileged", help="All capabilities and devices: as root on the host."),
    _list("--cap-add", metavar="NAME", help="A capability more."),
    _list("--cap-drop", metavar="NAME", help="A capability less."),
    _list("--security-opt", metavar="OPTION", help="no-new-privileges, seccomp=unconfined, …"),
    _text("--pid", "pid_mode", metavar="host|container:NAME", help="Whose processes it sees."),
    _text("--ipc", "ipc_mode", metavar="MODE", help="private, shareable, none, host or container:NAME."),
    _text("--uts", "uts_mode", metavar="host", help="Share the host's name."),
    _text("--cgroupns", metavar="host|private", help="Which cgroups it sees."),
    _text("--userns", "userns_mode", metavar="host|remap", help="Map its users to others."),
    # what docker knows and this engine does not do: see below
    *(_refused(name, reason) for name, reason in REFUSED.items()),
    *(_refused(name, f"there is {value}", but=value) for name, value in ONLY.items()),
    click.option("--disable-content-trust", is_flag=True, default=True, hidden=True, expose_value=False),
)


def creation_options(function: Callable[..., object]) -> Callable[..., object]:
    """Give a command these options; it gets them as one Creation."""
    names = [parameter.name for parameter in _parameters() if parameter.name and parameter.expose_value]

    @functools.wraps(function)
    def wrapper(**values: Any) -> object:
        given = {name: values.pop(name) for name in names}
        return function(creation=Creation(given.pop("image"), given.pop("command"), given), **values)

    decorated: Callable[..., object] = wrapper
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


def _parameters() -> list[click.Parameter]:
    def nothing() -> None: ...

    for option in _OPTIONS:
        option(nothing)
    found: list[click.Parameter] = nothing.__click_params__  # type: ignore[attr-defined]
    return found
