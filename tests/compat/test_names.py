"""The same name lookups in containers of dockerd and of our daemon: nslookup, whole DNS messages, and files in /etc."""

from __future__ import annotations

import re
import shlex
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from dnslib import EDNS0, DNSRecord

from tests.support.api import Api
from tests.support.network import inside
from tests.support.sides import IMAGE, docker
from tests.support.waiting import PATIENCE

SETUP = f"""
network create one
network create two
network create --internal inner
run -d --name alpha --network one --network-alias al --network-alias pool {IMAGE} sleep 600
run -d --name beta --network one --network-alias pool --hostname box --domainname lab.test {IMAGE} sleep 600
run -d --name gamma --network one --link alpha:lnk --link beta --link later:al --dns 192.0.2.1 --dns 2001:db8::1
    --dns-search foo.test --dns-search lab.test --dns-opt rotate --dns-opt ndots:3 --add-host ah:192.0.2.9
    {IMAGE} sleep 600
run -d --name Delta --network inner {IMAGE} sleep 600
run -d --name guest --dns-search . --dns-opt timeout:2 {IMAGE} sleep 600
run -d --name default {IMAGE} sleep 600
run -d --name joined --network container:gamma {IMAGE} sleep 600
run -d --name gone --network one {IMAGE} sleep 600
run -d --name old --network one {IMAGE} sleep 600
run -d --name left --network one {IMAGE} sleep 600
network connect --alias visitor one guest
network connect two beta
rm -f gone
rename old new
network disconnect one left
"""

NSLOOKUPS = """
beta alpha
beta al.
beta pool
beta beta
beta box
beta ALPHA
beta alpha.one
beta pool.one.
beta beta.two
beta visitor
beta guest
beta new
beta -type=aaaa alpha
beta -type=mx alpha
guest al.
gamma lnk.
gamma lnk.one.
gamma beta.
gamma al.
gamma gone.
gamma old.
gamma left.
gamma nobody.
joined lnk.
Delta delta.
"""

MESSAGES = [
    ("beta", "alpha", "A", 0),
    ("beta", "aLpHa", "AAAA", 0),
    ("beta", "alpha", "A", 1232),
    ("beta", "alpha.one", "MX", 0),
    ("gamma", "nobody", "AAAA", 0),
]

FILES = ["alpha", "beta", "gamma", "Delta", "guest", "default", "joined"]


@pytest.fixture(scope="module")
def sockets(sockets: tuple[Path, Path]) -> tuple[Path, Path]:
    """Docker's daemon and ours, with the same containers."""

    def set_up(side: Path) -> None:
        for line in SETUP.replace("\n    ", " ").strip().splitlines():
            done = docker(side, *shlex.split(line))
            assert done.returncode == 0, (line, done.stderr)

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(set_up, sockets))
    return sockets


@cache
def containers(side: Path) -> list[dict[str, Any]]:
    """The inspect document of each container; no test changes it."""
    api = Api(side, "1.41")  # later versions have only those aliases that were requested
    return [api.get(f"/containers/{one['Id']}/json").document for one in api.get("/containers/json").document]


def normal(side: Path, text: str) -> str:
    """A text with names in the place of addresses and ids; in an order of its own, for answers come in any."""
    for one in containers(side):
        name, networks = one["Name"], one["NetworkSettings"]["Networks"]
        text = text.replace(one["Id"][:12], f"<{name}>")
        for network, endpoint in networks.items():
            if address := endpoint["IPAddress"]:
                text = re.sub(rf"(?<![\d.]){re.escape(address)}(?![\d.])", f"<{name} {network}>", text)
    blocks = [sorted(block.splitlines()) for block in text.split("\n\n")]
    return "\n\n".join(sorted("\n".join(block) for block in blocks))


@pytest.mark.parametrize("line", NSLOOKUPS.strip().splitlines())
def test_nslookup_says_the_same(sockets: tuple[Path, Path], line: str) -> None:
    container, *words = line.split()
    theirs, ours = (docker(side, "exec", container, "nslookup", *words) for side in sockets)
    told = [normal(side, one.stdout.decode()) for side, one in zip(sockets, (theirs, ours), strict=True)]
    assert told[1] == told[0]
    assert ours.returncode == theirs.returncode


def test_an_address_has_the_same_name(sockets: tuple[Path, Path]) -> None:
    script = "nslookup $(nslookup alpha. | sed -n 's/^Address: //p') | sed -n 's/.*name = //p'"
    told = [docker(side, "exec", "gamma", "sh", "-c", script).stdout for side in sockets]
    assert told == [b"alpha.one\n", b"alpha.one\n"]


@pytest.mark.parametrize(("container", "name", "kind", "size"), MESSAGES)
def test_messages_are_the_same(sockets: tuple[Path, Path], container: str, name: str, kind: str, size: int) -> None:
    question = DNSRecord.question(name, kind)
    if size:
        question.add_ar(EDNS0(udp_len=size))

    def exchange() -> bytes:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
            asker.settimeout(PATIENCE)
            asker.sendto(bytes(question.pack()), ("127.0.0.11", 53))
            return asker.recv(65535)

    told = []
    for side in sockets:
        pid = int(docker(side, "inspect", "-f", "{{.State.Pid}}", container).stdout)
        told.append(normal(side, str(DNSRecord.parse(inside(pid, exchange)))))
    assert told[1] == told[0]


@pytest.mark.parametrize("container", FILES)
def test_the_files_of_etc_are_the_same(sockets: tuple[Path, Path], container: str) -> None:
    told = [
        normal(side, docker(side, "exec", container, "cat", f"/etc/{name}").stdout.decode())
        for name in ("resolv.conf", "hosts")
        for side in sockets
    ]
    assert told[1] == told[0]
    assert told[3] == told[2]


def test_endpoints_have_the_same_aliases(sockets: tuple[Path, Path]) -> None:
    told = []
    for side in sockets:
        documents = {one["Name"]: one["NetworkSettings"]["Networks"] for one in containers(side)}
        aliases = {(name, network): one["Aliases"] for name, all in documents.items() for network, one in all.items()}
        told.append({key: {normal(side, alias) for alias in found or ()} for key, found in aliases.items()})
    assert told[1] == told[0]
