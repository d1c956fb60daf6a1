"""A real registry behind the daemon: pull, push and login as the docker command and docker-py ask for them."""

from __future__ import annotations

import base64
import io
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import docker
import pytest

from pylab_container import Engine
from pylab_container.images.image import Image
from tests.support.api import Api, Daemon, messages
from tests.support.faults import Answer, FaultyProxy, Handler
from tests.support.pair import clear
from tests.support.registries import PASSWORD, USER, RunningRegistry
from tests.support.waiting import eventually, never_within

# docker-py leaves the connection of an answer that it has not read to its end to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def docker_config(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The config.json of the clients and of the daemon's owner."""
    directory = tmp_path_factory.mktemp("docker-config")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCKER_CONFIG", str(directory))
        yield directory / "config.json"


@pytest.fixture(autouse=True)
def _no_login(docker_config: Path) -> Iterator[None]:
    """Each test begins without a config.json, logged in nowhere."""
    yield
    docker_config.unlink(missing_ok=True)


@pytest.fixture
def engine(docker_config: Path, daemon_of_module: tuple[Engine, Daemon]) -> Engine:
    """The engine of this module, on the data root of its daemon."""
    return daemon_of_module[0]


@pytest.fixture
def daemon(daemon_of_module: tuple[Engine, Daemon]) -> Iterator[Daemon]:
    """The daemon of this module; each test begins with nothing in it."""
    yield daemon_of_module[1]
    clear(daemon_of_module[1].api)


@pytest.fixture
def client(daemon: Daemon) -> Iterator[docker.DockerClient]:
    one = docker.DockerClient(base_url=f"unix://{daemon.socket}", version="auto")
    yield one
    one.close()


def test_the_docker_command_logs_in_pushes_and_pulls(
    daemon: Daemon, engine: Engine, image: Image, locked: RunningRegistry
) -> None:
    name = f"{locked.host}/command:1"
    daemon.docker("tag", "busybox:1", name)
    refused = daemon.docker("push", name, check=False)
    assert refused.returncode == 1
    assert "no basic auth credentials" in refused.stderr or "nauthorized" in refused.stderr
    daemon.docker("login", "-u", USER, "--password-stdin", locked.host, input=PASSWORD.encode())
    pushed = daemon.docker("push", name).stdout
    assert f"The push refers to repository [{locked.host}/command]" in pushed
    digest = pushed.rpartition("digest: ")[2].split()[0]
    daemon.docker("rmi", name, "busybox:1")
    pulled = daemon.docker("pull", name).stdout
    assert f"Digest: {digest}\nStatus: Downloaded newer image for {name}\n" in pulled
    assert engine.images.get(name).id == image.id


def test_a_wrong_password_is_refused_with_401(daemon: Daemon, locked: RunningRegistry) -> None:
    who = {"username": USER, "password": "wrong", "serveraddress": locked.host}
    answer = daemon.api.post("/auth", who)
    assert answer.status == 401
    who["password"] = PASSWORD
    assert daemon.api.post("/auth", who).document == {"Status": "Login Succeeded", "IdentityToken": ""}


def test_docker_py_pushes_pulls_and_looks_a_name_up(
    client: docker.DockerClient, image: Image, locked: RunningRegistry
) -> None:
    who = {"username": USER, "password": PASSWORD}
    client.images.get("busybox:1").tag(f"{locked.host}/py", "1")
    lines = list(client.images.push(f"{locked.host}/py", "1", auth_config=who, stream=True, decode=True))
    assert "Size" in lines[-1]["aux"]
    client.images.remove(f"{locked.host}/py:1")
    client.images.remove("busybox:1")
    assert client.images.pull(f"{locked.host}/py", tag="1", auth_config=who).id == image.id
    found = client.images.get_registry_data(f"{locked.host}/py:1", auth_config=who)
    assert found.id == lines[-1]["aux"]["Digest"]
    assert found.has_platform("linux/amd64")


def test_docker_py_hears_of_an_image_that_the_registry_has_not(
    client: docker.DockerClient, locked: RunningRegistry
) -> None:
    with pytest.raises(docker.errors.NotFound):
        client.images.pull(f"{locked.host}/nothing", tag="1", auth_config={"username": USER, "password": PASSWORD})


def test_a_client_that_names_nobody_does_not_come_in_as_the_daemon_s_owner(
    daemon: Daemon, engine: Engine, image: Image, locked: RunningRegistry
) -> None:
    engine.login(USER, PASSWORD, locked.host)
    name = f"{locked.host}/owners"
    engine.images.tag(image, f"{name}:1")
    engine.images.push(f"{name}:1")
    answer = daemon.api.post("/images/create", fromImage=name, tag="1")
    assert answer.status >= 400
    assert "auth" in answer.message


def test_a_build_pulls_its_base_and_tells_how_far_it_is(
    client: docker.DockerClient, image: Image, registry: RunningRegistry
) -> None:
    client.images.get("busybox:1").tag(f"{registry.host}/base", "1")
    client.images.push(f"{registry.host}/base", "1")
    client.images.remove(f"{registry.host}/base:1")
    client.images.remove("busybox:1")
    dockerfile = f"FROM {registry.host}/base:1\nRUN true\n".encode()
    lines = list(client.api.build(fileobj=io.BytesIO(dockerfile), decode=True, rm=True))
    assert "Pull complete" in [line.get("status") for line in lines]
    assert lines[-1]["stream"].startswith("Successfully built")


# -- headers -------------------------------------------------------------------------------------

_WHO = json.dumps({"username": USER, "password": PASSWORD, "email": "ü?>~"}).encode()
_WRITTEN = {
    "base64url": (base64.urlsafe_b64encode(_WHO), True),
    "without padding": (base64.urlsafe_b64encode(_WHO).rstrip(b"="), True),
    "base64": (base64.b64encode(_WHO), True),
    "no base64": (b"!!!", False),
    "no JSON": (base64.urlsafe_b64encode(b"garbage"), False),
    "a list": (base64.urlsafe_b64encode(b"[]"), False),
}


@pytest.mark.parametrize("name", _WRITTEN)
def test_who_asks_is_read_from_a_header_and_what_cannot_be_read_is_nobody(
    daemon: Daemon, engine: Engine, image: Image, locked: RunningRegistry, name: str
) -> None:
    written, known = _WRITTEN[name]
    reference = f"{locked.host}/headers"
    engine.images.tag(image, f"{reference}:1")
    engine.images.push(f"{reference}:1", auth_config={"username": USER, "password": PASSWORD})
    daemon.docker("rmi", "--force", image.id)
    headers = {"X-Registry-Auth": written.decode()}
    answer = daemon.api.request(
        "POST", "/images/create", parameters={"fromImage": reference, "tag": "1"}, headers=headers
    )
    assert (answer.status == 200) == known
    assert known or "no basic auth credentials" in answer.message


def test_a_build_is_told_who_asks_each_registry(
    daemon: Daemon, engine: Engine, image: Image, locked: RunningRegistry
) -> None:
    reference = f"{locked.host}/headers:2"
    engine.images.tag(image, reference)
    engine.images.push(reference, auth_config={"username": USER, "password": PASSWORD})
    daemon.docker("rmi", "--force", image.id)
    everybody = {locked.host: {"username": USER, "password": PASSWORD}, "elsewhere": {"username": "x"}}
    for config, known in ((json.dumps(everybody), True), ("garbage", False)):
        headers = {"X-Registry-Config": base64.urlsafe_b64encode(config.encode()).decode()}
        context = f"FROM {reference}\n".encode()
        lines = daemon.api.request("POST", "/build", context, parameters={"pull": 1}, headers=headers).lines
        assert ("error" not in lines[-1]) == known
        assert known or "no basic auth credentials" in lines[-1]["error"]


# -- several clients, and such that go -----------------------------------------------------------


@dataclass
class Slow:
    """A registry with one image, shared:1, whose layer drips as long as the test does not say hurry."""

    proxy: FaultyProxy
    hurry: threading.Event = field(default_factory=threading.Event)

    @property
    def name(self) -> str:
        return f"{self.proxy.host}/shared"

    def drip(self, handler: Handler, answer: Answer) -> None:
        handler.start(answer, len(answer.body))
        position = 0
        while not self.hurry.wait(0.1) and position < len(answer.body) - 1:  # for minutes: never to its end
            handler.wfile.write(answer.body[position : position + 500])
            position += 500
        handler.wfile.write(answer.body[position:])


@pytest.fixture
def remote(engine: Engine, image: Image, daemon: Daemon, registry: RunningRegistry) -> Iterator[Slow]:
    """A slow registry, of whose image the engine has nothing."""
    with FaultyProxy(registry.host) as proxy:
        slow = Slow(proxy)
        engine.images.tag(image, f"{registry.host}/shared:1")
        engine.images.push(f"{registry.host}/shared:1")
        daemon.docker("rmi", "--force", image.id)
        (layer,) = registry.inspect("shared:1")["layers"]
        proxy.inject(slow.drip, path=f"/blobs/{layer['digest']}", times=100)
        yield slow
        slow.hurry.set()


def _begun(api: Api, remote: Slow) -> tuple[socket.socket, bytes]:
    """Return a client whose pull has begun to fetch a layer, and the output that it has received."""
    client = api.connect()
    client.sendall(
        f"POST /images/create?fromImage={remote.name}&tag=1 HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n".encode()
    )
    told = b""
    while b"Downloading" not in told:
        told += client.recv(1 << 16)
    return client, told


def test_a_pull_ends_with_the_client_that_asked_for_it(daemon: Daemon, engine: Engine, remote: Slow) -> None:
    before = daemon.resources()[0]
    _begun(daemon.api, remote)[0].close()
    eventually(lambda: daemon.resources()[0] <= before)
    remote.hurry.set()
    assert never_within(0.5, lambda: engine.images.list(all=True))
    assert engine.fsck(deep=True) == []
    assert daemon.api.post("/images/create", fromImage=remote.name, tag="1").status == 200
    assert len(engine.images.list()) == 1


def test_clients_that_pull_one_image_at_once_share_it(daemon: Daemon, engine: Engine, remote: Slow) -> None:
    (first, _), *others = [_begun(daemon.api, remote) for _ in range(3)]
    with_three = daemon.resources()[0]
    first.close()  # the other two still wait for the image
    eventually(lambda: daemon.resources()[0] < with_three)
    remote.hurry.set()
    for client, told in others:
        with client, client.makefile("rb") as rest:
            whole = (told + rest.read()).decode()
        assert "Pull complete" in whole
        assert '"error"' not in whole
    asked = [request.path for request in remote.proxy.requests_of("GET", "/blobs/")]
    assert len(asked) == len(set(asked)) == 2  # the config and the layer
    assert len(engine.images.list()) == 1
    assert engine.fsck(deep=True) == []


def test_each_message_of_a_push_and_a_pull_is_a_chunk(
    client: docker.DockerClient, daemon: Daemon, image: Image, registry: RunningRegistry
) -> None:
    name = f"{registry.host}/chunks"
    client.images.get("busybox:1").tag(name, "1")
    for path in (f"/images/{name}/push?tag=1", f"/images/create?fromImage={name}&tag=1"):
        head = f"POST /v1.41{path} HTTP/1.1\r\nHost: d\r\nX-Registry-Auth: e30=\r\nContent-Length: 0\r\n\r\n"
        told = messages(daemon.api.chunks(head.encode()))
        assert len(told) >= 3
        assert not any("error" in one for one in told)
