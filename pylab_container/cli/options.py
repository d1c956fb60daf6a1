"""The options that `run` and `create` share.

Most are passed to the engine unchanged, under docker-py's names, which are the names of their variables here.
creation.py parses the options that have a syntax.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from pylab_container.cli import arguments
from pylab_container.cli.creation import Creation


def _flag_option(*names: str, help: str) -> Callable[..., Any]:
    return click.option(*names, is_flag=True, help=help)


def _list_option(
    *names: str, metavar: str, help: str, complete: arguments.Completion | None = None
) -> Callable[..., Any]:
    return click.option(*names, multiple=True, metavar=metavar, help=f"{help} Repeatable.", shell_complete=complete)


def _text_option(
    *names: str, metavar: str, help: str, complete: arguments.Completion | None = None
) -> Callable[..., Any]:
    return click.option(*names, metavar=metavar, help=help, shell_complete=complete)


def _number_option(*names: str, help: str) -> Callable[..., Any]:
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
    "--kernel-memory": "Linux has not supported it since 5.16: write --memory",
    "--storage-opt": "the size of a container's layer is not limited: overlay2 needs xfs with quotas for that",
    "--use-api-socket": "mount the socket: -v /run/labctr.sock:/var/run/docker.sock",
}
"""Options of `docker run` that are refused, with the reason. A limit without effect would be worse than an error."""


ONLY = {"--isolation": "default", "--runtime": "runc", "--volume-driver": "local"}
"""Options that are accepted with one value only, which has no effect."""


def _refused(name: str, reason: str, *, allowed: str = "") -> Callable[..., Any]:
    """Return an option that is refused unless it has the allowed value."""

    def refuse(_context: click.Context, _option: click.Parameter, value: str | None) -> None:
        if value and value != allowed:
            raise click.UsageError(f"{name} {value if allowed else ''}".rstrip() + f" is not supported: {reason}")

    switch = name == "--use-api-socket"
    return click.option(name, hidden=True, expose_value=False, callback=refuse, is_flag=switch, default=None)


_OPTIONS = (
    click.argument("image", shell_complete=arguments.images),
    click.argument("command", nargs=-1, type=click.UNPROCESSED),
    # name and command
    _text_option("--name", metavar="NAME", help="Assign a name to the container."),
    _flag_option("-i", "--interactive", "stdin_open", help="Keep standard input open."),
    _flag_option("-t", "--tty", help="Allocate a terminal."),
    _list_option("-a", "--attach", "attach", metavar="STREAM", help="Attach only to stdin, stdout or stderr."),
    _text_option("--entrypoint", metavar="PROGRAM", help="Overwrite the default ENTRYPOINT of the image."),
    _list_option("-e", "--env", "environment", metavar="NAME[=VALUE]", help="Set an environment variable."),
    _list_option(
        "--env-file",
        "environment_files",
        metavar="FILE",
        complete=arguments.files,
        help="Read environment variables from FILE, one per line.",
    ),
    _text_option("-w", "--workdir", "working_dir", metavar="DIR", help="Working directory in the container."),
    _text_option("-u", "--user", metavar="NAME|UID[:GROUP|GID]", help="User of the command."),
    _list_option("--group-add", metavar="GROUP", help="Add a group to its user."),
    _list_option("-l", "--label", "labels", metavar="NAME[=VALUE]", help="Set a label."),
    _list_option(
        "--label-file",
        "label_files",
        metavar="FILE",
        complete=arguments.files,
        help="Read labels from FILE, one per line.",
    ),
    _text_option("--cidfile", metavar="FILE", complete=arguments.files, help="Write the container id to FILE."),
    _text_option("--pull", metavar="missing|never|always", help="When to pull the image.  [default: missing]"),
    _text_option("--platform", metavar="OS/ARCH", help="Platform of the image to pull."),
    _flag_option("-q", "--quiet", help="Suppress the pull output."),
    _flag_option("--init", help="Run an init that forwards signals and reaps zombies."),
    # lifecycle
    _text_option("--restart", metavar="POLICY", help="no, on-failure[:N], always or unless-stopped.  [default: no]"),
    _text_option("--stop-signal", metavar="SIGNAL", help="Signal to stop the container."),
    _number_option("--stop-timeout", help="Seconds between the stop signal and the kill."),
    _text_option("--health-cmd", metavar="COMMAND", help="Shell command to check health."),
    _text_option("--health-interval", metavar="TIME", help="Time between two checks: 30s."),
    _text_option("--health-timeout", metavar="TIME", help="Maximum time of one check: 30s."),
    _text_option("--health-start-period", metavar="TIME", help="Start period in which failures do not count: 1m."),
    _number_option("--health-retries", help="Consecutive failures that make it unhealthy."),
    _flag_option("--no-healthcheck", help="Disable the health check of the image."),
    _text_option("--log-driver", metavar="NAME", help="Logging driver: json-file or none."),
    _list_option("--log-opt", "log_options", metavar="NAME=VALUE", help="Log driver option: max-size=10m."),
    # files
    _list_option(
        "-v", "--volume", "volumes", metavar="[SOURCE:]DIR[:ro]", help="Bind mount a volume or a directory at DIR."
    ),
    _list_option(
        "--mount",
        "mounts",
        metavar="type=…,source=…,target=…",
        help="Attach a filesystem mount: bind, volume or tmpfs.",
    ),
    _list_option("--tmpfs", metavar="DIR[:OPTIONS]", help="Mount a tmpfs directory."),
    _list_option(
        "--volumes-from",
        metavar="CONTAINER[:ro]",
        complete=arguments.containers,
        help="Mount the volumes of CONTAINER.",
    ),
    _flag_option("--read-only", help="Mount the container's root filesystem read-only."),
    _list_option("--device", "devices", metavar="DEVICE[:PATH][:rwm]", help="Add a host device."),
    _list_option(
        "--device-cgroup-rule",
        "device_cgroup_rules",
        metavar="RULE",
        help="Add a rule of allowed devices: 'c 10:200 rwm'.",
    ),
    _text_option("--shm-size", metavar="BYTES", help="Size of /dev/shm.  [default: 64m]"),
    # network
    _list_option(
        "--network",
        "--net",
        "networks",
        metavar="NAME",
        complete=arguments.networks,
        help="Connect to bridge, none, host, container:NAME or a network.",
    ),
    _list_option(
        "--network-alias", "--net-alias", "network_aliases", metavar="NAME", help="Add a network-scoped alias."
    ),
    _text_option("--ip", "ipv4_address", metavar="ADDRESS", help="IPv4 address."),
    _text_option("--ip6", "ipv6_address", metavar="ADDRESS", help="IPv6 address."),
    _list_option(
        "--link-local-ip", "link_local_ips", metavar="ADDRESS", help="Link-local address: 169.254.1.2, fe80::2."
    ),
    _list_option(
        "--link",
        "links",
        metavar="CONTAINER[:ALIAS]",
        complete=arguments.containers,
        help="Add a link to another container.",
    ),
    _text_option("--mac-address", metavar="ADDRESS", help="MAC address."),
    _list_option(
        "-p", "--publish", "publish", metavar="[[ADDRESS:]PORT:]PORT[/udp]", help="Publish a port to the host."
    ),
    _flag_option("-P", "--publish-all", "publish_all_ports", help="Publish all exposed ports to random ports."),
    _list_option("--expose", metavar="PORT[/udp]", help="Expose a port."),
    _text_option("-h", "--hostname", metavar="NAME", help="Container host name."),
    _text_option("--domainname", metavar="NAME", help="Container NIS domain name."),
    _list_option("--add-host", "extra_hosts", metavar="NAME:ADDRESS", help="Add a line to /etc/hosts."),
    _list_option("--dns", metavar="ADDRESS", help="Set a custom DNS server."),
    _list_option("--dns-search", metavar="DOMAIN", help="Set a custom DNS search domain."),
    _list_option("--dns-option", "--dns-opt", "dns_opt", metavar="OPTION", help="Set an option of resolv.conf(5)."),
    # limits
    _text_option("-m", "--memory", "mem_limit", metavar="BYTES", help="Memory limit: 512m, 2g."),
    _text_option(
        "--memory-swap", "memswap_limit", metavar="BYTES", help="Limit of memory and swap together; -1: no limit."
    ),
    _text_option("--memory-reservation", "mem_reservation", metavar="BYTES", help="Memory soft limit."),
    click.option("--cpus", type=float, metavar="N", help="Number of CPUs: 1.5."),
    _number_option("--cpu-period", help="Period of --cpu-quota in microseconds.  [default: 100000]"),
    _number_option("--cpu-quota", help="Limit of CPU time in microseconds per period."),
    _number_option("-c", "--cpu-shares", help="CPU shares (relative weight).  [default: 1024]"),
    _text_option("--cpuset-cpus", metavar="0-3,5", help="CPUs in which to allow execution."),
    _text_option("--cpuset-mems", metavar="0,1", help="Memory nodes in which to allow execution."),
    _number_option("--pids-limit", help="Limit of tasks."),
    _number_option("--memory-swappiness", "mem_swappiness", help="Memory swappiness, 0 to 100."),
    _list_option("--ulimit", "ulimits", metavar="NAME=SOFT[:HARD]", help="Ulimit option: nofile=1024:2048."),
    _list_option(
        "--device-read-bps", metavar="DEVICE:BYTES", help="Limit of the read rate in bytes per second: /dev/sda:1mb."
    ),
    _list_option("--device-write-bps", metavar="DEVICE:BYTES", help="Limit of the write rate in bytes per second."),
    _list_option("--device-read-iops", metavar="DEVICE:N", help="Limit of the read rate in operations per second."),
    _list_option("--device-write-iops", metavar="DEVICE:N", help="Limit of the write rate in operations per second."),
    _text_option("--cgroup-parent", metavar="PATH", help="Parent cgroup."),
    _flag_option("--oom-kill-disable", help="Disable the OOM killer (cgroup v1)."),
    _number_option("--oom-score-adj", help="Preference of the OOM killer, -1000 to 1000."),
    _list_option("--sysctl", "sysctls", metavar="NAME=VALUE", help="Set a kernel parameter of its namespaces."),
    # security and namespaces
    _flag_option("--privileged", help="Give all capabilities and devices: as root on the host."),
    _list_option("--cap-add", metavar="NAME", help="Add a Linux capability."),
    _list_option("--cap-drop", metavar="NAME", help="Drop a Linux capability."),
    _list_option("--security-opt", metavar="OPTION", help="Security option: no-new-privileges, seccomp=unconfined, …"),
    _text_option("--pid", "pid_mode", metavar="host|container:NAME", help="PID namespace."),
    _text_option(
        "--ipc", "ipc_mode", metavar="MODE", help="IPC mode: private, shareable, none, host or container:NAME."
    ),
    _text_option("--uts", "uts_mode", metavar="host", help="UTS namespace."),
    _text_option("--cgroupns", metavar="host|private", help="Cgroup namespace."),
    _text_option("--userns", "userns_mode", metavar="host|remap", help="User namespace."),
    # options that docker has and this engine refuses
    *(_refused(name, reason) for name, reason in REFUSED.items()),
    *(_refused(name, f"the only value is {value}", allowed=value) for name, value in ONLY.items()),
    click.option("--disable-content-trust", is_flag=True, default=True, hidden=True, expose_value=False),
)


def creation_options(function: Callable[..., object]) -> Callable[..., object]:
    """Add these options to a command, which receives them as one Creation."""
    names = [parameter.name for parameter in _parameters() if parameter.name and parameter.expose_value]

    @functools.wraps(function)
    def wrapper(**values: Any) -> object:
        options = {name: values.pop(name) for name in names}
        return function(creation=Creation(options.pop("image"), options.pop("command"), options), **values)

    decorated: Callable[..., object] = wrapper
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


def _parameters() -> list[click.Parameter]:
    def nothing() -> None: ...

    for option in _OPTIONS:
        option(nothing)
    parameters: list[click.Parameter] = nothing.__click_params__  # type: ignore[attr-defined]
    return parameters
