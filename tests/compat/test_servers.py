"""Real servers from Debian run as containers, with volumes and published ports, and keep their data.

One image with all four is built from a minimal Debian; each test runs one of them.
"""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pylab_container import Engine
from pylab_container.engine.container import Container
from pylab_container.host import programs
from pylab_container.images.image import Image
from tests.support.network import free_port
from tests.support.waiting import eventually

DOCKERFILE = """FROM debian:lab
ENV DEBIAN_FRONTEND=noninteractive
RUN apt-get update -q && apt-get install -qy --no-install-recommends apache2 nginx-light postgresql redis-server
COPY --chmod=755 <<'EOF' /postgres
#!/bin/sh
set -e
test -d $PGDATA/base || initdb -A trust
exec postgres -h 0.0.0.0 -k /tmp
EOF
"""
SERVERS_START = 180.0  # seconds; postgres creates a database cluster first
PATH = "/usr/lib/postgresql/15/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Engine, Image]]:
    """An engine, and the image with the servers in it."""
    scratch = tmp_path_factory.mktemp("servers")
    # What is kept in the image holds for apt in the build, too: no fsync per file, and no manuals to unpack.
    quick = ["--dpkgopt=force-unsafe-io", "--dpkgopt=path-exclude=/usr/share/man/*"]
    quick += ["--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/locale/*"]
    programs.run(["mmdebstrap", "--variant=minbase", "--quiet", *quick, "bookworm", str(scratch / "debian.tar")])
    engine = Engine(scratch / "root")
    engine.images.import_(scratch / "debian.tar", "debian:lab")
    (scratch / "context").mkdir()
    (scratch / "context/Dockerfile").write_text(DOCKERFILE)
    yield engine, engine.images.build(scratch / "context", tag="servers:lab")
    for container in engine.containers.list(all=True):
        container.remove(force=True, v=True)


@pytest.fixture
def port() -> int:
    """A port that no server listens on."""
    return free_port()


@pytest.fixture
def serve(house: tuple[Engine, Image]) -> Iterator[Callable[..., Container]]:
    """Start a server; after the test, remove its container and its volume."""
    engine, image = house
    started: list[Container] = []

    def run(command: list[str], inside: int, port: int, **options: Any) -> Container:
        container = engine.containers.run_detached(
            image, command, ports={f"{inside}/tcp": ("127.0.0.1", port)}, **options
        )
        started.append(container)
        return container

    yield run
    for container in started:
        container.remove(force=True, v=True)
    for volume in engine.volumes.list():
        volume.remove()


def patiently(ask: Callable[[], str]) -> str:
    """The answer of a server that may still be starting."""
    return eventually(lambda: (ask(),), ignoring=(OSError, AssertionError), seconds=SERVERS_START)[0]


def page(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
        body: bytes = answer.read()
    return body.decode()


def redis(port: int, command: str) -> str:
    """One command in redis' own words, one line of answer or the text that it announces."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection, connection.makefile("rwb") as stream:
        stream.write(f"{command}\r\n".encode())
        stream.flush()
        line = stream.readline().decode().strip()
        assert line, "it hung up"
        assert not line.startswith("-LOADING"), "it still reads its data"
        return stream.readline().decode().strip() if line.startswith("$") else line


def query(container: Container, text: str) -> str:
    result = container.exec_run(["psql", "-h", "/tmp", "-U", "postgres", "-Atc", text], user="postgres")
    assert result.exit_code == 0, result.output
    return result.output.decode().strip()


@pytest.mark.parametrize("server", ["apache2", "nginx"])
def test_a_web_server_serves_a_volume_before_and_after_a_restart(
    serve: Callable[..., Container], port: int, server: str
) -> None:
    command = {"apache2": ["apachectl", "-D", "FOREGROUND"], "nginx": ["nginx", "-g", "daemon off;"]}[server]
    container = serve(command, 80, port, volumes=["site:/var/www/html"])
    container.exec_run(["sh", "-c", f"echo {server} was here > /var/www/html/index.html"])
    assert patiently(lambda: page(port)) == f"{server} was here\n"
    container.restart(timeout=5)
    assert patiently(lambda: page(port)) == f"{server} was here\n"


def test_redis_keeps_its_data_through_stop_and_start_and_in_another_container(
    serve: Callable[..., Container], port: int
) -> None:
    command = ["redis-server", "--dir", "/var/lib/redis", "--appendonly", "yes", "--bind", "0.0.0.0"]
    command += ["--protected-mode", "no"]
    container = serve(command, 6379, port, volumes=["redis:/var/lib/redis"], user="redis")
    assert patiently(lambda: redis(port, "SET who student")) == "+OK"
    container.stop()
    container.start()
    assert patiently(lambda: redis(port, "GET who")) == "student"
    container.remove(force=True)
    serve(command, 6379, port, volumes=["redis:/var/lib/redis"], user="redis")
    assert patiently(lambda: redis(port, "GET who")) == "student"


def test_postgres_keeps_its_data_through_stop_and_start_and_in_another_container(
    serve: Callable[..., Container], port: int
) -> None:
    options = {
        "volumes": ["data:/var/lib/postgresql"],
        "user": "postgres",
        "environment": {"PGDATA": "/var/lib/postgresql/lab", "PATH": PATH},
        "stop_signal": "SIGINT",
    }
    container = serve(["/postgres"], 5432, port, **options)
    patiently(lambda: query(container, "CREATE TABLE who (name text)"))
    query(container, "INSERT INTO who VALUES ('student')")
    container.stop()
    container.start()
    assert patiently(lambda: query(container, "SELECT name FROM who")) == "student"
    container.stop()
    container.remove()
    other = serve(["/postgres"], 5432, port, **options)
    assert patiently(lambda: query(other, "SELECT name FROM who")) == "student"
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(
            (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")
        )  # SSLRequest: any postgres answers it
        assert connection.recv(1) in (b"S", b"N")
