"""`create`, option by option: the recorded settings are those that dockerd records for the same options."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pylab_container import Engine
from pylab_container.cli import main
from tests.support.dockerd import Docker, client_version

Json = dict[str, Any]

# Of the image rich:1; all other words are of an image without a configuration.
RICH = ("ENV A=1", 'CMD ["sh"]', "EXPOSE 99", "VOLUME /v", "LABEL one=two", "USER 1:1", "WORKDIR /w")
CHECK = "HEALTHCHECK --interval=5s CMD true"

CASES = """
    plain:1 true
    plain:1 sh -c 'echo hi'
    rich:1
    rich:1 echo hi
    -i plain:1 sh
    -t plain:1 sh
    -it plain:1 sh
    -a stdout plain:1 true
    -a stdin -i plain:1 true
    --rm plain:1 true
    --rm -i plain:1 true
    --name given plain:1 true
    -e A=2 -e C= rich:1
    -w /srv rich:1
    -u 7 plain:1 true
    -u root:root rich:1
    -h box plain:1 true
    -h box.lab plain:1 true
    -h box --domainname lab plain:1 true
    --entrypoint /bin/x rich:1
    --entrypoint /bin/x rich:1 word
    --entrypoint '' rich:1 sh
    -l one=three -l four rich:1
    --init plain:1 true
    --group-add 5 --group-add audio plain:1 true
    -v /srv:/t plain:1 true
    -v /srv:/t:ro plain:1 true
    -v /srv:/t:ro,rslave plain:1 true
    -v vol:/t plain:1 true
    -v vol:/t:ro,nocopy plain:1 true
    -v /t plain:1 true
    -v /v rich:1
    -v /w/../v2 -v named:/v rich:1
    --mount type=bind,source=/srv,target=/t plain:1 true
    --mount type=bind,src=/srv,dst=/t,readonly,bind-propagation=rslave plain:1 true
    --mount type=volume,src=vol,dst=/t plain:1 true
    --mount type=volume,src=vol,dst=/t,volume-nocopy plain:1 true
    --mount type=volume,dst=/t plain:1 true
    --mount type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1770 plain:1 true
    --tmpfs /t plain:1 true
    --tmpfs /t:size=1m,mode=700 plain:1 true
    --volumes-from peer plain:1 true
    --volumes-from peer:ro plain:1 true
    --read-only plain:1 true
    --device /dev/null plain:1 true
    --device /dev/null:/dev/x:r plain:1 true
    --shm-size 8m plain:1 true
    -p 8080:80 plain:1 true
    -p 8080:80 -p 8081:80 -p 53:53/udp plain:1 true
    -p 127.0.0.1::80/udp plain:1 true
    -p 8000-8002:80-82 plain:1 true
    -p '[::1]:8080:80' plain:1 true
    -P rich:1
    --expose 81 --expose 90-92/udp rich:1
    --network none plain:1 true
    --network host plain:1 true
    --network container:peer plain:1 true
    --dns 192.0.2.1 --dns-search x.y --dns-option ndots:2 plain:1 true
    --add-host a:192.0.2.1 --add-host b:host-gateway plain:1 true
    --cap-add NET_ADMIN --cap-drop mknod plain:1 true
    --cap-add ALL --cap-drop CAP_SYS_ADMIN plain:1 true
    --security-opt no-new-privileges plain:1 true
    --security-opt no-new-privileges:true --security-opt seccomp=unconfined plain:1 true
    --security-opt apparmor=unconfined plain:1 true
    --privileged plain:1 true
    -m 64m plain:1 true
    -m 64m --memory-swap 128m plain:1 true
    -m 64m --memory-swap -1 plain:1 true
    -m 64m --memory-reservation 32m plain:1 true
    --cpus 0.5 plain:1 true
    -c 512 --cpuset-cpus 0 --cpuset-mems 0 plain:1 true
    --pids-limit 20 plain:1 true
    --cgroup-parent /class plain:1 true
    --device-read-bps /dev/vda:1mb --device-read-bps /dev/vdb:2k plain:1 true
    --device-write-bps /dev/vda:3 --device-read-iops /dev/vda:4 --device-write-iops /dev/vda:5 plain:1 true
    --memory 64m --oom-kill-disable plain:1 true
    --oom-kill-disable plain:1 true
    --pids-limit 0 plain:1 true
    --pids-limit -1 plain:1 true
    --oom-score-adj 500 plain:1 true
    --ulimit nofile=10:20 --ulimit nproc=5 plain:1 true
    --sysctl net.ipv4.ip_forward=1 plain:1 true
    --restart always plain:1 true
    --restart on-failure:3 plain:1 true
    --restart unless-stopped plain:1 true
    --stop-signal SIGUSR1 --stop-timeout 3 plain:1 true
    --health-cmd 'true x' --health-interval 2s --health-retries 4 --health-start-period 5s plain:1 true
    --health-timeout 9s rich:1
    --no-healthcheck rich:1
    --pid host plain:1 true
    --pid container:peer plain:1 true
    --ipc host plain:1 true
    --ipc shareable plain:1 true
    --ipc container:peer plain:1 true
    --ipc none plain:1 true
    --uts host plain:1 true
    --log-driver none plain:1 true
    --log-driver syslog plain:1 true
    --log-opt max-size=1m plain:1 true
""".strip().splitlines()

# Options of Docker that the engine does not support, and values that it cannot apply. It refuses them.
REFUSED = """
    --blkio-weight 300
    --cpu-rt-runtime 1000
    --device-read-bps null:1mb
    --device-write-iops /dev/vda:1mb
    --gpus all
    --isolation hyperv
    --kernel-memory 64m
    --runtime bogus
    --security-opt apparmor=mine
    --security-opt label=type:mine
    --storage-opt size=1g
    --sysctl kernel.hostname=x
    --userns nosuch
    --volume-driver nfs
""".strip().splitlines()


# Options whose lists differ between docker commands: 20.10 leaves an empty one out where labctr and newer ones send it;
# 23.0 to 25.0.6 and 26.0 to 27.1.1 send an empty one whatever is asked for (docker/cli issue 5321).
LIMITS_OF_DEVICES = ("BlkioDeviceReadBps", "BlkioDeviceReadIOps", "BlkioDeviceWriteBps", "BlkioDeviceWriteIOps")


class Peers(NamedTuple):
    """Two engines with the same images, and a container by the name peer in each.

    client  the version of the docker command
    """

    docker: Docker
    ours: Engine
    client: tuple[int, ...]


@pytest.fixture(scope="module")
def peers(dockerd: Docker, busybox_tar: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peers]:
    top = tmp_path_factory.mktemp("options")
    ours = Engine(top / "ours")
    changes = [word for change in (*RICH, CHECK) for word in ("-c", change)]
    docker = dockerd.at("1.41")  # labctr shows documents as dockerd 20.10 does
    for image, words in (("plain:1", []), ("rich:1", changes)):
        docker.run("import", *words, busybox_tar, image)
        assert labctr(ours, "import", *words, str(busybox_tar), image) == 0
    peer = ["create", "--name", "peer", "--ipc", "shareable", "-v", "shared:/shared", "plain:1", "true"]
    docker.run(*peer)
    assert labctr(ours, *peer) == 0
    yield Peers(docker, ours, client_version())
    for container in ours.containers.list(all=True):
        container.remove(v=True)


def labctr(engine: Engine, *words: str) -> int:
    return main(["--root", str(engine.data_root), *words])


def plain(inspected: Json, engine_root: Path) -> Json:
    """Return the comparable part of `inspect`: without ids and paths in the data root."""
    container_id, short_id = inspected["Id"], inspected["Id"][:12]
    fields = ("Path", "Args", "Config", "HostConfig", "Mounts", "NetworkSettings")
    text = json.dumps({field: inspected[field] for field in fields}, sort_keys=True)
    text = text.replace(container_id, "SELF").replace(short_id, "SELF").replace(str(engine_root), "ROOT")
    found: Json = json.loads(re.sub(r"[0-9a-f]{64}", "ID", text))
    found["Mounts"].sort(key=lambda mount: mount["Destination"])
    found["Config"]["Env"] = sorted(found["Config"]["Env"] or ())  # its order is that of a hash table with Docker
    return found


def without_differences(ours: Json, dockers: Json, client: tuple[int, ...]) -> tuple[Json, Json]:
    """The two without what differs for a reason."""
    host, other = ours["HostConfig"], dockers["HostConfig"]
    for field in LIMITS_OF_DEVICES:
        if client < (23,):
            host[field] = host[field] or None
        elif client < (27, 1, 2):
            other[field] = other[field] or host[field]
    # What was typed, in older commands: 28 sends full names.
    for field in ("CapAdd", "CapDrop"):
        names = other[field] or ()
        other[field] = [name if name == "ALL" else f"CAP_{name.upper().removeprefix('CAP_')}" for name in names] or None
    # Newer daemons have no limits of the kernel's memory any more, and mask one path more.
    other |= {field: other.get(field, 0) for field in ("KernelMemory", "KernelMemoryTCP")}
    if other["MaskedPaths"]:
        other["MaskedPaths"] = [path for path in other["MaskedPaths"] if path != "/sys/devices/virtual/powercap"]
    for endpoint in dockers["NetworkSettings"]["Networks"].values():
        endpoint.pop("DNSNames", None)  # since API 1.44, but shown to older clients, too
    # Since API 1.44 Docker, too, writes down the network's name.
    if other["NetworkMode"] == "default":
        other["NetworkMode"] = "bridge"
    # The docker command sends an empty list where dockerd writes null for other clients.
    other["Ulimits"] = other["Ulimits"] or None
    # dockerd disables SELinux labels for a container in the host's PID namespace. We do not support SELinux.
    if host["SecurityOpt"] is None and other["SecurityOpt"] == ["label=disable"]:
        other["SecurityOpt"] = None
    # No volume drivers.
    for mount in other.get("Mounts") or ():
        (mount.get("VolumeOptions") or {}).pop("DriverConfig", None)
        (mount.get("BindOptions") or {}).pop("ReadOnlyNonRecursive", None)  # newer daemons note what older clients mean
    return ours, dockers


def differences(ours: Any, dockers: Any, place: str = "") -> Iterator[str]:
    """Return the fields in which two documents differ."""
    if isinstance(ours, Mapping) and isinstance(dockers, Mapping):
        for name in sorted({*ours, *dockers}):
            yield from differences(ours.get(name, "(none)"), dockers.get(name, "(none)"), f"{place}.{name}")
    elif ours != dockers:
        yield f"{place[1:]}: ours {ours!r}, Docker's {dockers!r}"


@pytest.mark.parametrize("words", [case.strip() for case in CASES])
def test_create_writes_down_what_docker_writes_down(
    peers: Peers, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["create", *shlex.split(words)]
    (docker_id,) = peers.docker.lines(*arguments)
    status = labctr(peers.ours, *arguments)
    printed = capsys.readouterr()
    assert status == 0, printed.err
    container = peers.ours.containers.get(printed.out.strip())
    try:
        ours = plain(container.attrs, peers.ours.data_root)
        dockers = plain(peers.docker.api.get(f"/containers/{docker_id}/json").document, peers.docker.data_root)
        assert list(differences(*without_differences(ours, dockers, peers.client))) == []
    finally:
        container.remove()
        assert peers.docker.api.delete(f"/containers/{docker_id}").status == 204


@pytest.mark.parametrize("words", [case.strip() for case in REFUSED])
def test_what_cannot_be_done_is_refused_with_a_hint_and_leaves_nothing(
    peers: Peers, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = [container.id for container in peers.ours.containers.list(all=True)]
    status = labctr(peers.ours, "create", *shlex.split(words), "plain:1", "true")
    told = capsys.readouterr().err
    assert status in (1, 125)
    assert "Hint: " in told or "--help' for help" in told
    assert [container.id for container in peers.ours.containers.list(all=True)] == before
