"""A docker user's usual commands, given to labctr on one data root, from the first to the last.

They run in this process; test_cli.py runs each command as a process.
Each line is (command, expectation). Words in {braces} stand for the output of an earlier line.
    "text"        exactly this is on standard output
    re"…"         (a compiled pattern) it is found on standard output
    (1, "text")   the command fails with this status, and the text is in its output or error
    None          any output
    "name="       before a command: its output is remembered under that name
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.support.commands import Labctr

_ID = re.compile(r"^[0-9a-f]{64}\n$")
_IMAGE_ID = re.compile(r"^sha256:[0-9a-f]{64}\n$")

Expected = str | re.Pattern[str] | tuple[int, str] | None


def has(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.MULTILINE)


BEGINNING: list[tuple[str, Expected]] = [
    ("version", has("Version:")),
    ("info --format '{{.Driver}} {{.Containers}}'", "overlay2 0\n"),
    ("images", has("^REPOSITORY +TAG +IMAGE ID +CREATED +SIZE\nbusybox +1 ")),
    ("tag busybox:1 base", ""),
    ("images --format '{{.Repository}}:{{.Tag}}'", has("^base:latest$")),
    ("inspect -f '{{.Architecture}} {{.Os}}' base", has("^\\w+ linux$")),
    ("history -q base", has("^[0-9a-f]{12}$")),
    ("run --rm base echo hello", "hello\n"),
    ("run --rm base sh -c 'exit 3'", (3, "")),
    ("run --rm base nosuch", (127, "executable file not found")),
    ("run --rm base /etc", (126, "")),
    ("run --rm nosuch true", (125, "Unable to find image 'nosuch:latest' locally")),
    ("run --nosuch base true", (125, "No such option")),
    ("run --rm -e A=1 -e B=2 base sh -c 'echo $A$B'", "12\n"),
    ("run --rm -w /tmp -u student base sh -c 'pwd; id -un'", "/tmp\nstudent\n"),
    ("run --rm -h lab --domainname example base hostname", "lab\n"),
    ("run --rm --entrypoint echo base -n x", "x"),
    ("run --rm --read-only base touch /x", (1, "Read-only file system")),
    ("run --rm --network none base ls /sys/class/net", "lo\n"),
    ("run --rm --add-host db:10.9.8.7 base grep db /etc/hosts", has("^10.9.8.7\\s+db$")),
    ("run --rm --dns 10.9.8.7 base cat /etc/resolv.conf", has("^nameserver 10.9.8.7$")),
    ("run --rm --tmpfs /scratch:size=1m base df -m /scratch", has("^tmpfs +1 ")),
    ("run --rm -m 64m --pids-limit 30 base true", ""),
    ("run --rm --cap-drop ALL base chown student /tmp", (1, "Operation not permitted")),
    ("run --rm --ulimit nofile=77:77 base sh -c 'ulimit -n'", "77\n"),
    ("run --rm --init base sh -c 'cat /proc/1/comm'", None),
    ("run --rm --sysctl net.ipv4.ip_forward=1 base cat /proc/sys/net/ipv4/ip_forward", "1\n"),
]

CONTAINERS: list[tuple[str, Expected]] = [
    ("id=run -d --name web -l tier=front -p 127.0.0.1::80 base httpd -f", _ID),
    ("ps", has('^CONTAINER ID .*\n[0-9a-f]{12} +base +"httpd -f" +.* ago +Up .*127.0.0.1:\\d+->80/tcp +web$')),
    ("ps -q --no-trunc", "{id}\n"),
    ("port web 80", has("^127.0.0.1:\\d+$")),
    ("inspect -f '{{.State.Status}} {{.Config.Labels.tier}}' web", "running front\n"),
    ("inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' web", has("^[\\d.]+$")),
    ("exec web sh -c 'echo page > /index.html'", ""),
    ("exec web sh -c 'until wget -qO- http://localhost/index.html 2> /dev/null; do sleep 0.1; done'", "page\n"),
    ("exec web nosuch", (127, "executable file not found")),
    ("exec -e X=y -w /etc -u student web sh -c 'echo $X; pwd; id -u'", "y\n/etc\n1000\n"),
    ("exec -d web touch /made", ""),
    ("top web", has("^UID .*CMD\nroot .*httpd -f$")),
    ("stats --no-stream --format '{{.Name}} {{.PIDs}}' web", has("^web \\d+$")),
    ("diff web", has("^A /index.html$")),
    ("cp web:/index.html -", None),
    ("pause web", "web\n"),
    ("ps --filter status=paused --format '{{.Names}}'", "web\n"),
    ("exec web true", (1, "paused")),
    ("unpause web", "web\n"),
    ("update --memory 64m --memory-swap 64m web", "web\n"),
    ("inspect -f '{{.HostConfig.Memory}}' web", "67108864\n"),
    ("rename web www", ""),
    ("inspect -f '{{.Name}}' {id}", "/www\n"),
    ("run -d --name www base true", (125, "is already in use by container")),
    ("restart -t 0 www", "www\n"),
    ("stop -t 0 www", "www\n"),
    ("ps", has("^CONTAINER ID[^\n]*\n$")),
    ("ps -a --format '{{.Status}}'", has("^Exited \\(137\\) .* ago$")),
    ("exec www true", (1, "is not running")),
    ("start www", "www\n"),
    ("kill -s KILL www", "www\n"),
    ("wait www", "137\n"),
    ("kill www", (1, "is not running")),
    ("rm www", "www\n"),
    ("rm www", (1, "No such container: www")),
    ("run --name talk base sh -c 'echo out; echo err >&2'", "out\n"),
    ("logs talk", "out\n"),
    ("logs --tail 1 -t talk", has("^(\\d{4}-\\d\\d-\\d\\dT\\S+Z out)?$")),
    ("start -a talk", "out\n"),
    ("logs talk", "out\nout\n"),
    ("ps -l --format '{{.Names}} {{.Command}}'", has("^talk ")),
    ("ps -a -n 1 -q", has("^[0-9a-f]{12}$")),
    ("create --name later base echo late", _ID),
    ("ps -a --filter status=created --format '{{.Names}} {{.Status}}'", "later Created\n"),
    ("start -a later", "late\n"),
    ("container ls -aq --filter name=later", has("^[0-9a-f]{12}$")),
    ("container prune -f", has("Deleted Containers:\n[0-9a-f]{64}\n")),
    ("ps -aq", ""),
]

IMAGES: list[tuple[str, Expected]] = [
    ("run --name change base sh -c 'echo data > /data'", ""),
    ('image=commit -m changed -c \'CMD ["cat", "/data"]\' change mine:1', _IMAGE_ID),
    ("run --rm mine:1", "data\n"),
    ("inspect -f '{{json .Config.Cmd}} {{.Comment}}' mine:1", '["cat","/data"] changed\n'),
    ("history --no-trunc mine:1", has("changed")),
    ("save -o {scratch}/mine.tar mine:1", ""),
    ("export -o {scratch}/change.tar change", ""),
    ("rm change", "change\n"),
    ("rmi mine:1", has("^Untagged: mine:1\nDeleted: {image}$")),
    ("run --rm mine:1", (125, "Unable to find image 'mine:1' locally")),
    ("load -i {scratch}/mine.tar", "Loaded image: mine:1\n"),
    ("run --rm mine:1", "data\n"),
    ("import {scratch}/change.tar flat", _IMAGE_ID),
    ("run --rm flat cat /data", "data\n"),
    ("build -q -t built {scratch}/context", _IMAGE_ID),
    ("run --rm built", "built\n"),
    ("images --filter reference=built --format '{{.Repository}}'", "built\n"),
    ("rmi built flat nosuch", (1, "No such image: nosuch")),
    ("system df --format '{{.Type}}'", "Images\nContainers\nLocal Volumes\nBuild Cache\n"),
]

VOLUMES: list[tuple[str, Expected]] = [
    ("volume create data", "data\n"),
    ("run --rm -v data:/d base sh -c 'echo kept > /d/file'", ""),
    ("run --rm --mount type=volume,src=data,dst=/d,readonly base cat /d/file", "kept\n"),
    ("run --rm -v data:/d:ro base touch /d/x", (1, "Read-only file system")),
    ("run --rm -v {scratch}/context:/c base cat /c/Dockerfile", has("^FROM base$")),
    ("run -d --name user -v data:/d base sleep 1000", _ID),
    ("volume rm data", (1, "volume is in use")),
    ("volume ls -q", "data\n"),
    ("volume inspect -f '{{.Driver}} {{.Scope}}' data", "local local\n"),
    ("rm -fv user", "user\n"),
    ("volume rm data", "data\n"),
    ("volume rm data", (1, "no such volume")),
]

NETWORKS: list[tuple[str, Expected]] = [
    ("network=network create lab", _ID),
    ("network create lab", (1, "network with name lab already exists")),
    ("network ls --format '{{.Name}}' --filter type=custom", "lab\n"),
    ("run -d --name shop --network lab base sleep 1000", _ID),
    ("run --rm --network lab base ping -c1 shop", has("1 packets received")),
    ("run --rm base ping -c1 -W1 shop", (1, "bad address")),
    ("run -d --name front base sleep 1000", _ID),
    ("network connect --alias face lab front", ""),
    ("exec shop ping -c1 face", has("1 packets received")),
    ("network inspect -f '{{len .Containers}}' lab", "2\n"),
    ("network disconnect lab front", ""),
    ("network rm lab", (1, "has active endpoints")),
    ("run --rm --network container:shop base hostname", None),
    ("rm -f shop front", "shop\nfront\n"),
    ("network rm lab", "lab\n"),
    ("run --rm --network lab base true", (125, "network lab not found")),
]

ENDING: list[tuple[str, Expected]] = [
    # Not "db": the filter takes the beginnings of ids, too.
    (
        "events --since 10m --until 0s --filter event=destroy --filter container=shop --format '{{.Action}}'",
        "destroy\n",
    ),
    (
        "run -d --name sick --health-cmd 'echo >>/c; false' --health-interval 100ms --health-retries 1 base sleep 1000",
        _ID,
    ),
    # The second check comes when the result of the first is recorded.
    ("exec sick sh -c 'until [ $(wc -l < /c) -ge 2 ]; do sleep 0.1; done 2> /dev/null'", ""),
    ("ps --filter health=unhealthy --format '{{.Names}} {{.Status}}'", has("^sick Up .* \\(unhealthy\\)$")),
    ("rm -f sick", "sick\n"),
    ("run -d --name again --restart on-failure:2 base false", _ID),
    ("wait again", "1\n"),
    ("inspect -f '{{.RestartCount}}' again", "2\n"),
    ("rm -f again", "again\n"),
    ("system prune -f", has("Total reclaimed space")),
    ("ps -a", has("^CONTAINER ID[^\n]*\n$")),
]


@pytest.mark.usefixtures("image")
def test_a_session_of_docker_commands(cli: Labctr, tmp_path: Path) -> None:
    (tmp_path / "context").mkdir()
    (tmp_path / "context" / "Dockerfile").write_text('FROM base\nRUN echo built > /built\nCMD ["cat", "/built"]\n')
    remembered = {"scratch": str(tmp_path)}
    for line, expected in (*BEGINNING, *CONTAINERS, *IMAGES, *VOLUMES, *NETWORKS, *ENDING):
        name, command = _remembered_name(line)
        words = [_filled(word, remembered) for word in shlex.split(command)]
        done = cli(*words, check=False)
        _check(line, expected, done.returncode, done.stdout, done.stderr, remembered)
        if name:
            remembered[name] = done.stdout.strip()


def _remembered_name(line: str) -> tuple[str, str]:
    match = re.match(r"([a-z]+)=(.*)", line)
    return (match[1], match[2]) if match else ("", line)


def _filled(text: str, remembered: dict[str, str]) -> str:
    for name, value in remembered.items():
        text = text.replace("{" + name + "}", value)
    return text


def _check(line: str, expected: Expected, status: int, output: str, errors: str, remembered: dict[str, str]) -> None:
    shown = f"labctr {line}\nstatus {status}\n{output}{errors}"
    if isinstance(expected, tuple):
        assert (status, expected[1] in output + errors) == (expected[0], True), shown
        return
    assert status == 0, shown
    if isinstance(expected, re.Pattern):
        assert re.search(_filled(expected.pattern, remembered), output, re.MULTILINE), shown
    elif expected is not None:
        assert output == _filled(expected, remembered), shown
