"""Third-party clients of the daemon: docker-py, the docker command and skopeo."""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from pylab_container import Engine
from pylab_container.images.image import Image
from tests.support.api import Daemon
from tests.support.dockerd import client_version
from tests.support.pair import clear

# docker-py leaves the connection of an answer that it has not read to its end to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def engine(daemon_of_module: tuple[Engine, Daemon]) -> Engine:
    """The engine of this module, on the data root of its daemon."""
    return daemon_of_module[0]


@pytest.fixture
def daemon(daemon_of_module: tuple[Engine, Daemon]) -> Iterator[Daemon]:
    """The daemon of this module; each test begins with nothing in it."""
    yield daemon_of_module[1]
    clear(daemon_of_module[1].api)


@pytest.fixture
def client(daemon: Daemon) -> Iterator[docker.DockerClient]:
    """docker-py, which negotiates the version."""
    one = docker.DockerClient(base_url=f"unix://{daemon.socket}", version="auto")
    yield one
    one.close()


# -- docker-py ----------------------------------------------------------------------------------


def test_docker_py_negotiates_the_newest_version(client: docker.DockerClient) -> None:
    assert client.api.api_version == "1.47"
    assert client.ping()


def test_docker_py_imports_lists_tags_and_removes_images(client: docker.DockerClient, busybox_tar: Path) -> None:
    told = client.api.import_image(str(busybox_tar), repository="base", tag="1", changes=['CMD ["echo", "x"]'])
    image_id = json.loads(told.splitlines()[-1])["status"]
    image = client.images.get("base:1")
    assert (image.id, image.attrs["Config"]["Cmd"]) == (image_id, ["echo", "x"])
    assert image.tag("other", "2")
    assert [one.id for one in client.images.list("other")] == [image_id]
    assert client.images.list("base:1")[0].tags == ["base:1", "other:2"]
    client.images.remove("base:1")
    with pytest.raises(docker.errors.ImageNotFound):
        client.images.get("base:1")
    assert client.api.remove_image("other:2") == [{"Untagged": "other:2"}, {"Deleted": image_id}] + [
        {"Deleted": layer} for layer in image.attrs["RootFS"]["Layers"]
    ]


def test_docker_py_saves_and_loads(client: docker.DockerClient, image: Image) -> None:
    archive = b"".join(client.images.get("busybox:1").save(named=True))
    client.images.remove("busybox:1")
    assert [one.id for one in client.images.load(archive)] == [image.id]
    assert client.images.get("busybox:1").id == image.id


def test_docker_py_builds_and_tells_of_a_failure(client: docker.DockerClient, image: Image) -> None:
    built, log = client.images.build(fileobj=io.BytesIO(b"FROM busybox:1\nRUN echo hello\n"), tag="built", rm=True)
    assert built.tags == ["built:latest"]
    assert "hello\n" in [line.get("stream") for line in log]
    with pytest.raises(docker.errors.BuildError) as failure:
        client.images.build(fileobj=io.BytesIO(b"FROM busybox:1\nRUN exit 9\n"))
    assert "returned a non-zero code: 9" in failure.value.msg
    with pytest.raises(docker.errors.APIError, match="unknown instruction: NOPE"):
        client.images.build(fileobj=io.BytesIO(b"FROM busybox:1\nNOPE\n"))


def test_docker_py_builds_a_folder_with_its_dockerignore_and_gzip(
    client: docker.DockerClient, image: Image, tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox:1\nADD . /test\nRUN ls /test\n")
    (tmp_path / ".dockerignore").write_text("ignored\n")
    (tmp_path / "ignored").touch()
    (tmp_path / "kept").touch()
    _, log = client.images.build(path=str(tmp_path), gzip=True)
    said = "".join(line.get("stream", "") for line in log)
    assert "kept" in said
    assert "ignored" not in said


def test_docker_py_shows_standard_error_of_a_build_in_red(client: docker.DockerClient, image: Image) -> None:
    stream = client.api.build(fileobj=io.BytesIO(b"FROM busybox:1\nRUN echo oops >&2\n"), decode=True)
    assert "\x1b[91moops\n\x1b[0m" in [line.get("stream") for line in stream]


def test_docker_py_builds_on_a_network_of_a_user(client: docker.DockerClient, engine: Engine, image: Image) -> None:
    network = client.networks.create("of-build")
    engine.containers.run_detached(image, ["sleep", "1000"], name="target", network="of-build")
    client.images.build(fileobj=io.BytesIO(b"FROM busybox:1\nRUN ping -c1 target\n"), network_mode=network.id)


def test_docker_py_makes_and_prunes_volumes_and_networks(client: docker.DockerClient) -> None:
    volume, network = client.volumes.create("vol", labels={"a": "b"}), client.networks.create("net1", labels={"c": "d"})
    assert (volume.attrs["Labels"], network.attrs["Labels"]) == ({"a": "b"}, {"c": "d"})
    assert client.volumes.list(filters={"label": "a"}) == [volume]
    assert client.networks.list(names=["net1"]) == [network]
    assert client.networks.prune() == {"NetworksDeleted": ["net1"]}
    volume.remove()
    with pytest.raises(docker.errors.NotFound):
        client.volumes.get("vol")


def test_docker_py_sees_events_as_they_happen(client: docker.DockerClient, image: Image) -> None:
    events = client.events(decode=True, filters={"type": "image"})
    image.tag("told:1")  # the answer has begun: nothing is missed from now on
    event = next(events)
    events.close()
    assert (event["Action"], event["Actor"]["Attributes"]["name"]) == ("tag", "told:1")


def test_docker_py_reads_df_and_info(client: docker.DockerClient, image: Image) -> None:
    assert client.df()["Images"][0]["Id"] == image.id
    assert client.info()["Images"] == 1


# -- the docker command -------------------------------------------------------------------------


def test_the_docker_command_builds_with_all_its_usual_options(daemon: Daemon, image: Image, tmp_path: Path) -> None:
    (tmp_path / "Other").write_text("FROM busybox:1 AS one\nARG A\nRUN echo got $A\nFROM one\nLABEL own=1\n")
    done = daemon.docker(
        "build", "-f", str(tmp_path / "Other"), "-t", "a:1", "-t", "b:2", "--build-arg", "A=x", "--label", "l=m",
        "--no-cache", "--rm", "--force-rm", "--memory", "64m", "--shm-size", "32m", "--add-host", "h:10.0.0.1",
        "--ulimit", "nofile=99:99", "--network", "none", str(tmp_path),
    ).stdout  # fmt: skip
    assert "got x" in done
    assert done.endswith("Successfully tagged a:1\nSuccessfully tagged b:2\n")
    assert daemon.docker("inspect", "-f", "{{.Config.Labels.l}}", "b:2").stdout == "m\n"


def test_the_docker_command_needs_no_variable_to_build(daemon: Daemon, image: Image, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox:1\n")
    environment = {key: value for key, value in daemon.environment.items() if key != "DOCKER_BUILDKIT"}
    done = subprocess.run(["docker", "build", str(tmp_path)], env=environment, capture_output=True, text=True)
    assert "Successfully built" in done.stdout


def test_the_docker_command_imports_commits_saves_and_loads(
    daemon: Daemon, busybox_tar: Path, tmp_path: Path, engine: Engine
) -> None:
    daemon.docker("import", "-c", "CMD sh", "-m", "words", str(busybox_tar), "base:1")
    assert "words" in daemon.docker("history", "base:1").stdout
    container = engine.containers.run_detached("base:1", ["touch", "/new"])
    container.wait()
    daemon.docker("commit", "-a", "me", "-c", "ENV A=b", container.id, "made:1")
    daemon.docker("save", "-o", str(tmp_path / "saved.tar"), "made:1", "base:1")
    daemon.docker("rmi", "made:1")
    assert daemon.docker("load", "-i", str(tmp_path / "saved.tar")).stdout.count("Loaded image: ") == 2
    assert daemon.docker("inspect", "-f", "{{.Author}} {{.Config.Env}}", "made:1").stdout.startswith("me [")


def test_the_docker_command_says_what_went_wrong(daemon: Daemon) -> None:
    shows_answers = client_version() >= (23,)  # older commands have words of their own for "not found"
    for words, of_daemon, of_command in [
        (["rmi", "nothing"], "No such image: nothing:latest\n", "No such image: nothing\n"),
        (["volume", "inspect", "nothing"], "get nothing: no such volume", "No such volume: nothing"),
        (["network", "rm", "nothing"], "network nothing not found", "No such network: nothing"),
        (["node", "ls"], "This node is not a swarm manager", "This node is not a swarm manager"),
        (["search", "x"], "cannot search", "cannot search"),
    ]:
        done = daemon.docker(*words, check=False)
        assert done.returncode != 0
        assert (of_daemon if shows_answers else of_command) in done.stderr


# -- skopeo -------------------------------------------------------------------------------------


def test_skopeo_copies_out_of_the_daemon_and_back(daemon: Daemon, image: Image, tmp_path: Path, engine: Engine) -> None:
    host = f"--src-daemon-host=unix://{daemon.socket}"
    _skopeo("copy", host, "docker-daemon:busybox:1", f"oci:{tmp_path}/layout:busybox")
    host = f"--dest-daemon-host=unix://{daemon.socket}"
    _skopeo("copy", host, f"oci:{tmp_path}/layout:busybox", "docker-daemon:again:1")
    assert engine.images.get("again:1").config.diff_ids == image.config.diff_ids


def _skopeo(*words: str) -> None:
    done = subprocess.run(["skopeo", "--insecure-policy", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
