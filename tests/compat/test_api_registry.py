"""A real registry behind the daemon: pull, push and login as the docker command and docker-py ask for them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from pylab_container import Engine
from pylab_container.engine.images.image import Image
from tests.registries import PASSWORD, USER, RunningRegistry, running
from tests.root.api import Daemon

# docker-py leaves the connection of an answer that it has not read to its end to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    """It wants a password."""
    with running(tmp_path_factory.mktemp("locked"), password=True) as started:
        yield started


@pytest.fixture
def client(daemon: Daemon) -> Iterator[docker.DockerClient]:
    one = docker.DockerClient(base_url=f"unix://{daemon.socket}", version="auto")
    yield one
    one.close()


@pytest.fixture(autouse=True)
def _nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client without a config.json, so that nobody is logged in."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))


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
    client: docker.DockerClient, image: Image, tmp_path: Path
) -> None:
    with running(tmp_path / "open") as registry:
        client.images.get("busybox:1").tag(f"{registry.host}/base", "1")
        client.images.push(f"{registry.host}/base", "1")
        client.images.remove(f"{registry.host}/base:1")
        client.images.remove("busybox:1")
        dockerfile = f"FROM {registry.host}/base:1\nRUN true\n".encode()
        lines = list(client.api.build(fileobj=io.BytesIO(dockerfile), decode=True, rm=True))
    assert "Pull complete" in [line.get("status") for line in lines]
    assert lines[-1]["stream"].startswith("Successfully built")
