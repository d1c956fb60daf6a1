"""Containers in the data root are Docker's: dockerd goes on with ours, and we with dockerd's."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from pylab_container import Engine
from pylab_container.errors import NotFound
from pylab_container.images.image import Image
from tests.support.api import serving
from tests.support.commands import Labctr
from tests.support.dockerd import Docker, copy_of, run_dockerd, run_dockerd_with_bridge
from tests.support.waiting import eventually

PRINTS = r"echo one; echo two >&2; head -c 20000 /dev/zero | tr '\0' x; echo; printf '\377é\nhalf'; echo >> /run-count"
OUTPUT = b"one\n" + b"x" * 20000 + b"\n\xff\xc3\xa9\nhalf"
WRITES = "echo data > /data/file; echo bound > /host/file; echo new > /new; rm /bin/plain"


def shown(text: bytes) -> bytes:
    """Output as dockerd keeps it: bytes that are not UTF-8 are replaced."""
    return text.decode(errors="replace").encode()


def comparable(mounts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return mounts in a fixed order, with volume paths relative to the data root, because one data root is a copy."""
    below = [
        {**mount, "Source": str(mount["Source"]).partition("/volumes/")[2]} if mount["Type"] == "volume" else mount
        for mount in mounts
    ]
    return sorted(below, key=lambda mount: str(mount["Destination"]))


# -- dockerd's containers in our engine --------------------------------------------------------


@pytest.fixture(scope="module")
def docker_root(
    tmp_path_factory: pytest.TempPathFactory, busybox_tar: Path, isolation: None
) -> tuple[Path, dict[str, Any]]:
    """A data root on which dockerd has created containers, and the containers' inspect documents."""
    top = tmp_path_factory.mktemp("docker")
    (top / "host").mkdir()
    (top / "profile.json").write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW"}))
    said = {}
    with run_dockerd_with_bridge(top / "root") as docker:
        docker.run("import", busybox_tar, "busybox:1")
        docker.run("run", "--name", "prints", "busybox:1", "sh", "-c", PRINTS)
        docker.run("run", "-t", "--name", "tty", "busybox:1", "echo", "hi")
        mounts = ["-v", "data:/data", "-v", "/anonymous", "-v", f"{top}/host:/host", "-v", f"{top}/host:/read:ro"]
        tmpfs = ["--tmpfs", "/t:size=1m,mode=700", "--mount", "type=tmpfs,target=/u,tmpfs-size=1048576,tmpfs-mode=0700"]
        docker.run("run", "--name", "mounts", *mounts, "busybox:1", "sh", "-c", WRITES)
        docker.run("create", "--name", "memory", *tmpfs, "busybox:1", "sleep", "1000")
        docker.run("create", "--name", "borrows", "--volumes-from", "mounts:ro", "busybox:1", "sleep", "1000")
        docker.run("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m", "special")
        docker.run("create", "--name", "special", "-v", "special:/data", "busybox:1", "sleep", "1000")
        docker.run("network", "create", "lost")
        docker.run("create", "--name", "net", "--network", "lost", "--network-alias", "a", "busybox:1", "sleep", "1000")
        checked = ["--health-cmd", "true", "--health-interval", "100ms", "-e", "A=1", "-l", "l=v", "-p", "8099:80"]
        docker.run("create", "--name", "checked", *checked, "--hostname", "me", "busybox:1", "sleep", "1000")
        rights = ["--security-opt", f"seccomp={top}/profile.json", "--security-opt", "no-new-privileges"]
        docker.run("create", "--name", "rights", *rights, "--memory", "64m", "busybox:1", "sleep", "1000")
        rotated = ["--log-opt", "max-size=500", "--log-opt", "max-file=3", "--log-opt", "compress=true"]
        docker.run("run", "--name", "rotated", *rotated, "busybox:1", "sh", "-c", "seq 20")
        docker.run("run", "--log-driver", "local", "--name", "local", "busybox:1", "echo", "x")
        docker.run("run", "-d", "--name", "failed", "busybox:1", "sh", "-c", "exit 3")
        docker.run("wait", "failed")
        docker.run("run", "-d", "--name", "running", "busybox:1", "sleep", "1000")
        docker.run("run", "-d", "--name", "always", "--restart", "always", "busybox:1", "sleep", "1000")
        docker.run("run", "-d", "--name", "frozen", "busybox:1", "sleep", "1000")
        docker.run("pause", "frozen")
        said = {one["Name"]: one for one in docker.json("inspect", *docker.lines("ps", "-aq"))}
        # As the machine's power failure leaves it: what ran is recorded as running.
        shutil.copytree(top / "root/containers", top / "containers")
    shutil.rmtree(top / "root/containers")
    (top / "containers").rename(top / "root/containers")
    return top / "root", said


@pytest.fixture
def adopted(engine: Engine, docker_root: tuple[Path, dict[str, Any]]) -> Engine:
    """Our engine on a copy of that data root."""
    shutil.rmtree(engine.data_root)
    copy_of(docker_root[0], engine.data_root)
    return Engine(engine.data_root)


def test_we_list_and_describe_dockerd_s_containers_as_it_does(
    adopted: Engine, docker_root: tuple[Path, dict[str, Any]]
) -> None:
    assert adopted.fsck() == []
    found = {container.name: container for container in adopted.containers.list(all=True)}
    assert {f"/{name}" for name in found} == set(docker_root[1])
    states = {name: container.status for name, container in found.items()}
    assert states.pop("always") in ("restarting", "running")
    ran = {
        "prints": "exited",
        "tty": "exited",
        "mounts": "exited",
        "rotated": "exited",
        "failed": "exited",
        "local": "exited",
    }
    lost = {"running": "exited", "frozen": "exited"}
    assert states == ran | lost | dict.fromkeys(("borrows", "memory", "net", "checked", "rights", "special"), "created")
    assert found["failed"].wait() == 3
    assert found["running"].wait() == 255
    for name, container in found.items():
        theirs, ours = docker_root[1][f"/{name}"], json.loads(json.dumps(container.attrs))
        for document in (theirs, ours):
            document["Mounts"] = comparable(document["Mounts"])
        same = ("Id", "Created", "Path", "Args", "Image", "Config", "HostConfig", "Mounts", "Driver")
        assert {key: ours[key] for key in same} == {key: theirs[key] for key in same}, name
        record, directory = container.record, adopted.data_root / "containers" / container.id
        written = json.loads((directory / "config.v2.json").read_bytes())
        assert record.host_config.document() == json.loads((directory / "hostconfig.json").read_bytes()), name
        assert record.config.document() == written["Config"], name
        if name in ran:
            assert {key: ours["State"][key] for key in theirs["State"]} == theirs["State"]


def test_our_daemon_starts_where_dockerd_was(adopted: Engine, repository: Path) -> None:
    with serving(adopted.data_root, repository) as daemon:
        names = {one["Names"][0] for one in daemon.api.get("/containers/json", all=1).document}
        assert names == {f"/{container.name}" for container in adopted.containers.list(all=True)}
        assert daemon.complaints() == []


def test_we_read_dockerd_s_logs(adopted: Engine, cli: Labctr) -> None:
    get = adopted.containers.get
    assert get("prints").logs(stderr=False) == shown(OUTPUT)
    assert get("prints").logs(stdout=False) == b"two\n"
    assert get("tty").logs() == b"hi\r\n"
    numbers = get("rotated").logs().split()
    assert numbers == [str(number).encode() for number in range(1, 21)][-len(numbers) :]
    assert len(numbers) > 10
    assert cli("logs", "--tail", "1", "prints").stdout == "half"
    assert "does not support reading" in cli("logs", "local", check=False).stderr


def test_we_go_on_with_dockerd_s_containers(adopted: Engine, docker_root: tuple[Path, dict[str, Any]]) -> None:
    get = adopted.containers.get
    assert [(change.path, change.kind) for change in get("prints").diff()] == [("/run-count", 1)]
    get("prints").start()
    get("prints").wait()
    assert get("prints").logs(stderr=False) == shown(OUTPUT) + OUTPUT
    assert (get("prints").upper / "run-count").read_bytes() == b"\n\n"
    mounts = get("mounts")
    assert (Path(adopted.data_root) / "volumes/data/_data/file").read_text() == "data\n"
    mounts.start()
    assert mounts.wait() == 1  # /bin/plain was removed before
    memory = get("memory")
    memory.start()
    lines = memory.exec_run(["cat", "/proc/mounts"]).output.decode().splitlines()
    points = [line.split()[1:4] for line in lines if line.split()[1] in ("/t", "/u")]
    assert [(point, "size=1024k,mode=700" in options) for point, _, options in sorted(points)] == [
        ("/t", True),
        ("/u", True),
    ]
    special = get("special")
    special.start()
    assert b" /data tmpfs rw,relatime,size=1024k" in special.exec_run(["cat", "/proc/mounts"]).output
    borrower = get("borrows")
    borrower.start()
    assert borrower.exec_run(["cat", "/data/file", "/host/file"]).output == b"data\nbound\n"
    assert borrower.exec_run(["touch", "/data/other"]).exit_code != 0
    checked = get("checked")
    checked.start()
    eventually(lambda: checked.health == "healthy")
    assert checked.exec_run(["sh", "-c", "hostname; echo $A"]).output == b"me\n1\n"
    assert checked.ports["80/tcp"][0]["HostPort"] == "8099"
    rights = get("rights")
    rights.start()
    assert b"NoNewPrivs:\t1" in rights.exec_run(["cat", "/proc/self/status"]).output
    committed = get("prints").commit("lab/adopted:1")
    assert adopted.containers.run(committed, ["cat", "/run-count"], remove=True, network_mode="none") == b"\n\n"
    data, _ = get("mounts").get_archive("/new")
    assert b"new\n" in b"".join(data)
    for container in adopted.containers.list(all=True):
        container.remove(force=True, v=True)
    assert os.listdir(adopted.data_root / "containers") == []
    assert [volume.name for volume in adopted.volumes.list()] == ["data", "special"]
    assert adopted.fsck() == []


def test_a_network_that_only_dockerd_has_is_missed_at_the_start_alone(adopted: Engine) -> None:
    container = adopted.containers.get("net")
    assert container.attrs["NetworkSettings"]["Networks"]["lost"]["Aliases"] == ["a"]
    with pytest.raises(NotFound, match="network lost not found") as caught:
        container.start()
    assert "labctr network create lost" in caught.value.hint
    assert container.status == "created"
    network = adopted.networks.create("lost")
    network.connect(container)
    container.start()
    assert container.status == "running"
    container.remove(force=True)


# -- our containers in dockerd -----------------------------------------------------------------


@pytest.fixture
def ours(engine: Engine, image: Image, tmp_path: Path) -> Engine:
    """A data root on which our engine has created the same containers."""
    (tmp_path / "host").mkdir()
    containers = engine.containers
    for name, tty, command in (("prints", False, ["sh", "-c", PRINTS]), ("tty", True, ["echo", "hi"])):
        containers.create(image, command, name=name, tty=tty, network_mode="none").start()
    volumes = ["data:/data", f"{tmp_path}/host:/host", f"{tmp_path}/host:/read:ro"]
    options: dict[str, Any] = {
        "volumes": volumes,
        "tmpfs": {"/t": "size=1m,mode=700"},
        "mounts": [
            {"Type": "tmpfs", "Target": "/u", "TmpfsOptions": {"SizeBytes": 1 << 20, "Mode": 0o700}},
            {"Type": "volume", "Target": "/anonymous"},
        ],
    }
    script = f"{WRITES}; exec sleep 1000"
    containers.run_detached(image, ["sh", "-c", script], name="mounts", network_mode="none", **options)
    joined = containers.run_detached(image, ["sleep", "1000"], name="joined", ports={"80/tcp": 8098})
    joined.stop(timeout=0)
    containers.create(image, ["sleep", "1000"], name="made", labels={"l": "v"}, environment=["A=1"], hostname="me")
    rights = ["no-new-privileges", f"seccomp={json.dumps({'defaultAction': 'SCMP_ACT_ALLOW'})}"]
    containers.create(image, ["sleep", "1000"], name="rights", security_opt=rights, network_mode="none")
    engine.volumes.create("special", driver_opts={"type": "tmpfs", "device": "tmpfs", "o": "size=1m"})
    special = ["special:/data"]
    containers.create(image, ["sleep", "1000"], name="special", volumes=special, network_mode="none")
    failed = containers.create(image, ["sh", "-c", "exit 3"], name="failed", network_mode="none")
    failed.start()
    failed.wait()
    for name in ("prints", "tty"):
        containers.get(name).wait()
    eventually(lambda: (tmp_path / "host/file").exists())
    containers.get("mounts").stop(timeout=0)
    return engine


def described(docker: Docker) -> dict[str, Any]:
    return {one["Name"].removeprefix("/"): one for one in docker.json("inspect", *docker.lines("ps", "-aq"))}


def test_dockerd_lists_describes_and_reads_our_containers(ours: Engine, tmp_path: Path) -> None:
    attrs = {container.name: json.loads(json.dumps(container.attrs)) for container in ours.containers.list(all=True)}
    with run_dockerd(copy_of(ours.data_root, tmp_path / "copy")) as docker:
        theirs = described(docker)
        assert set(theirs) == set(attrs)
        for name, own in attrs.items():
            assert comparable(theirs[name]["Mounts"]) == comparable(own["Mounts"]), name
            for key in ("Id", "Created", "Path", "Args", "Image", "Config", "Driver", "RestartCount"):
                assert theirs[name][key] == own[key], (name, key)
            assert {key: own["State"][key] for key in theirs[name]["State"]} == theirs[name]["State"]
        assert docker.run("logs", "tty") == b"hi\r\n"
        assert docker.run("logs", "prints") == shown(OUTPUT)
        lines = docker.lines("logs", "--timestamps", "--tail", "2", "prints")
        assert [line[31:] for line in lines] == ["\ufffdé", "half"]


def test_dockerd_goes_on_with_our_containers_and_we_with_them_again(ours: Engine, tmp_path: Path) -> None:
    copy = copy_of(ours.data_root, tmp_path / "copy")
    with run_dockerd_with_bridge(copy) as docker:
        docker.run("start", "joined")
        (joined,) = docker.json("inspect", "joined")
        assert joined["NetworkSettings"]["IPAddress"].startswith("172.31.98.")
        assert joined["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"] == "8098"
        docker.run("rm", "-f", "joined")
        docker.run("start", "-a", "prints")
        assert docker.run("logs", "prints") == shown(OUTPUT) * 2
        docker.run("start", "mounts")
        assert docker.run("exec", "mounts", "cat", "/data/file", "/host/file") == b"data\nbound\n"
        options = docker.run("exec", "mounts", "cat", "/proc/mounts").decode()
        for point in ("/t", "/u"):
            (line,) = [line for line in options.splitlines() if f" {point} tmpfs " in line]
            assert "size=1024k,mode=700" in line
        assert " /read " in options
        docker.run("start", "special", "rights")
        assert b" /data tmpfs rw,relatime,size=1024k" in docker.run("exec", "special", "cat", "/proc/mounts")
        assert b"NoNewPrivs:\t1" in docker.run("exec", "rights", "cat", "/proc/self/status")
        assert docker.run("diff", "mounts").decode().splitlines().count("A /new") == 1
        docker.run("rename", "failed", "renamed")
        docker.run("rm", "-f", "rights", "special")
        docker.run("stop", "-t", "0", "mounts")
    shutil.rmtree(ours.data_root)
    copy_of(copy, ours.data_root)
    again = Engine(ours.data_root)
    names = sorted(container.name for container in again.containers.list(all=True))
    assert names == ["made", "mounts", "prints", "renamed", "tty"]
    assert again.containers.get("prints").logs(stderr=False) == OUTPUT + shown(OUTPUT)
    again.containers.get("mounts").remove(v=True)
    assert [volume.name for volume in again.volumes.list()] == ["data", "special"]


def test_dockerd_removes_our_containers_with_their_unnamed_volumes(ours: Engine, tmp_path: Path) -> None:
    with run_dockerd(copy_of(ours.data_root, tmp_path / "copy")) as docker:
        docker.run("rm", "-v", *docker.lines("ps", "-aq"))
        assert docker.lines("volume", "ls", "-q") == ["data", "special"]
        assert os.listdir(docker.data_root / "containers") == []
        assert os.listdir(docker.data_root / "image/overlay2/layerdb/mounts") == []


def test_what_ran_under_our_engine_is_what_dockerd_finds_stopped(engine: Engine, image: Image, tmp_path: Path) -> None:
    container = engine.containers.run_detached(image, ["sleep", "1000"], name="web", network_mode="none")
    shutil.copytree(engine.data_root / "containers", tmp_path / "containers")
    os.kill(container.pid, signal.SIGKILL)
    container.wait()
    copy = copy_of(engine.data_root, tmp_path / "copy")
    shutil.rmtree(copy / "containers")
    (tmp_path / "containers").rename(copy / "containers")
    with run_dockerd(copy) as docker:
        state = docker.json("inspect", "web")[0]["State"]
        assert (state["Status"], state["Pid"]) == ("exited", 0)
        docker.run("start", "web")
        docker.run("rm", "-f", "web")
