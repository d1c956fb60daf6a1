"""A network and mount namespace for each test process, so that test processes run side by side.

    machine                                   test process (isolated())
    ─────────────────────────────             ─────────────────────────────────────────
    labctr0, other test processes             a labctr0, nft rules, ports and loopback of its own
    veth labtest<pid>  <address>.1  ────────  eth0  <address>.2, default route, DNS as before
    nft: masquerade for <address>             /sys shows this network namespace
    cgroups, processes: shared                /run/pylab-container is empty

The engine keeps machine-wide state in exactly these places: interfaces, rules and ports in the network namespace,
the name servers' and the forwarder's files in /run/pylab-container. Data roots and cgroups have unique names.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

from pylab_container.host import linux, programs

_MS_REC = 16384
_RESOLV_CONF = Path("/etc/resolv.conf")
_RESOLVED_UPSTREAM = Path("/run/systemd/resolve/resolv.conf")  # systemd-resolved(8): the servers behind 127.0.0.53


@contextlib.contextmanager
def isolated() -> Iterator[None]:
    """Move this process into its own network and mount namespace, with a route to the outside, until it exits.

    unshare(2) moves only the calling thread and the threads that it starts later: call it in the main thread. After
    the block the interface and the rules outside of the namespaces are removed; the process stays in them.
    """
    _remove_tables_of_dead_processes()
    uplink = _uplink()
    table, link = f"labctr_tests_{os.getpid()}", f"labtest{os.getpid()}"
    network = f"100.{random.randint(64, 127)}.{random.randint(0, 255)}.{4 * random.randint(0, 63)}"
    host, inner = _address(network, 1), _address(network, 2)
    with open("/proc/thread-self/ns/net") as outside:
        linux.unshare(linux.CLONE_NEWNS | linux.CLONE_NEWNET)
        _separate_mounts()
        programs.run(["ip", "link", "set", "lo", "up"])
        try:
            if uplink:
                name, mtu = uplink
                _outside(outside.fileno(), f"ip link add {link} mtu {mtu} type veth peer name eth0 netns {os.getpid()}")
                _outside(outside.fileno(), f"ip address add {host}/30 dev {link}")
                _outside(outside.fileno(), f"ip link set {link} up")
                _outside(outside.fileno(), "echo 1 > /proc/sys/net/ipv4/ip_forward")
                rule = f"add rule inet {table} postrouting ip saddr {network}/30 oifname {name} masquerade"
                chain = f"add chain inet {table} postrouting {{ type nat hook postrouting priority srcnat; }}"
                _outside(outside.fileno(), f"nft -f - <<< 'add table inet {table}\n{chain}\n{rule}'")
                programs.run(["ip", "link", "set", "eth0", "mtu", mtu, "up"])
                programs.run(["ip", "address", "add", f"{inner}/30", "dev", "eth0"])
                programs.run(["ip", "route", "add", "default", "via", host])
            yield
        finally:
            if uplink:
                _outside(outside.fileno(), f"nft delete table inet {table}")
                _outside(outside.fileno(), f"ip link delete {link}")


def _address(network: str, number: int) -> str:
    start, _, last = network.rpartition(".")
    return f"{start}.{int(last) + number}"


def _uplink() -> tuple[str, str] | None:
    """Return the interface of the default route and its MTU; None without a default route."""
    routes = json.loads(programs.run(["ip", "-json", "route", "show", "default"]).output or "[]")
    if not routes:
        return None
    name = str(routes[0]["dev"])
    (link,) = json.loads(programs.run(["ip", "-json", "link", "show", name]).output)
    return name, str(link["mtu"])


def _separate_mounts() -> None:
    """Make all mounts private, show the new network namespace in /sys, and hide the machine's /run/pylab-container.

    sysfs shows the network namespace in which it was mounted (sysfs(5)), so it is mounted again. The cgroup mounts
    below the old one are moved to the new one.
    """
    run = Path("/run/pylab-container")
    run.mkdir(exist_ok=True)
    linux.mount("none", "/", "", linux.MS_PRIVATE | _MS_REC)
    linux.mount("tmpfs", str(run), "tmpfs", 0, "mode=755")
    holder = run / "cgroup"
    holder.mkdir()
    programs.run(["mount", "--rbind", "/sys/fs/cgroup", str(holder)])
    programs.run(["mount", "-t", "sysfs", "sysfs", "/sys"])
    programs.run(["mount", "--move", str(holder), "/sys/fs/cgroup"])
    holder.rmdir()
    if "nameserver 127." in _RESOLV_CONF.read_text() and _RESOLVED_UPSTREAM.exists():
        programs.run(["mount", "--bind", str(_RESOLVED_UPSTREAM), os.path.realpath(_RESOLV_CONF)])


def _outside(namespace: int, script: str) -> None:
    """Run a shell command in the machine's network namespace.

    namespace  file descriptor of that namespace
    """
    command = ["nsenter", f"--net=/proc/self/fd/{namespace}", "bash", "-c", script]
    done = subprocess.run(command, pass_fds=[namespace], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{script}: {done.stderr}"


def _remove_tables_of_dead_processes() -> None:
    """Remove the rules of killed test processes. The kernel removed their veths together with their namespaces."""
    for line in programs.run(["nft", "list", "tables", "inet"], check=False).output.splitlines():
        name = line.split()[-1]
        if name.startswith("labctr_tests_") and not Path("/proc", name.rpartition("_")[2]).exists():
            programs.run(["nft", "delete", "table", "inet", name], check=False)
