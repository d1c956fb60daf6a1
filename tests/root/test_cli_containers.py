"""run's options, ps, inspect and the commands on containers, in docker's words; most calls run in this process."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.commands import Labctr, Terminal
from tests.support.waiting import PATIENCE, eventually

pytestmark = pytest.mark.usefixtures("image")

SLEEP = ("busybox:1", "sleep", "1000")


@pytest.fixture
def web(cli: Labctr) -> str:
    """A running container with labels, a variable and a published port; its id."""
    options = ["-l", "a=b", "-l", "c=d", "-e", "A=1", "--expose", "22", "-p", "127.0.0.1::80"]
    return cli("run", "-d", "--name", "web", *options, *SLEEP).stdout.strip()


def test_mistakes_in_options_have_dockers_words_and_status(cli: Labctr) -> None:
    cases = {
        ("--restart", "foo"): "invalid restart policy",
        ("--rm", "--restart", "always"): "conflicting options: cannot specify both --restart and --rm",
        ("--pull", "foo"): 'invalid pull option: \'foo\': must be one of "always", "missing" or "never"',
        ("-d", "-a", "stdout"): "conflicting options: cannot specify both --attach and --detach",
        ("-a", "foo"): "valid streams are STDIN, STDOUT and STDERR",
        ("--mount", "foo"): "invalid field 'foo' must be a key=value pair",
        ("--mount", "type=bind,source=/nosuch,target=/x"): "bind source path does not exist: /nosuch",
        ("--mount", "type=tmpfs,target=/x,tmpfs-mode=9"): "invalid value for tmpfs-mode: 9",
        ("--mount", "type=tmpfs,target=/x,color=red"): "unexpected key 'color'",
        ("--detach-keys", "ctrl-pp"): "invalid detach keys",
        ("--health-interval", "x"): 'time: invalid duration "x"',
        ("--health-cmd", "true", "--no-healthcheck"): "--no-healthcheck conflicts with --health-* options",
        ("--label-file", "/nosuch"): "open /nosuch: No such file or directory",
        ("-m", "1k"): "Minimum memory limit allowed is 6MB",
        ("--ulimit", "foo"): "invalid ulimit argument: foo",
        ("--add-host", "foo"): 'bad format for add-host: "foo"',
        ("-p", "x:y"): "Invalid containerPort: y",
        ("-w", "relative"): "it needs to be an absolute path",
        ("--network", "nosuch"): "network nosuch not found",
        ("--network", "name=bridge,color=red"): "invalid field 'color' in --network",
    }
    for options, words in cases.items():
        done = cli("run", *options, "busybox:1", "true", check=False)
        assert (done.returncode, words in done.stderr) == (125, True), (options, done.stderr)
    assert cli("ps", "-aq").stdout == ""


def test_every_option_is_recorded_under_dockers_field_name(cli: Labctr, tmp_path: Path) -> None:
    (tmp_path / "labels").write_text("# comment\nfrom=file\n")
    options = {
        ("--label-file", str(tmp_path / "labels")): ("Config.Labels", '{"from":"file"}'),
        ("--domainname", "lab"): ("Config.Domainname", '"lab"'),
        ("--stop-signal", "SIGINT", "--stop-timeout", "3"): ("Config.StopTimeout", "3"),
        ("--restart", "on-failure:2"): (
            "HostConfig.RestartPolicy",
            '{"Name":"on-failure","MaximumRetryCount":2}',
        ),
        ("--log-opt", "max-size=10m"): ("HostConfig.LogConfig.Config", '{"max-size":"10m"}'),
        ("--tmpfs", "/run:size=1m"): ("HostConfig.Tmpfs", '{"/run":"size=1m"}'),
        ("--read-only",): ("HostConfig.ReadonlyRootfs", "true"),
        ("--shm-size", "1m"): ("HostConfig.ShmSize", "1048576"),
        ("--cap-add", "NET_ADMIN", "--cap-drop", "KILL"): ("HostConfig.CapDrop", '["CAP_KILL"]'),
        ("--dns", "10.0.0.1", "--dns-search", "lab"): ("HostConfig.Dns", '["10.0.0.1"]'),
        ("--add-host", "db:10.0.0.2"): ("HostConfig.ExtraHosts", '["db:10.0.0.2"]'),
        ("--oom-score-adj", "500"): ("HostConfig.OomScoreAdj", "500"),
        ("--sysctl", "net.ipv4.ip_forward=1"): ("HostConfig.Sysctls", '{"net.ipv4.ip_forward":"1"}'),
        ("--cpuset-cpus", "0", "-c", "512"): ("HostConfig.CpuShares", "512"),
        ("--memory", "64m", "--memory-swap", "128m"): ("HostConfig.MemorySwap", "134217728"),
        ("--pid", "host", "--ipc", "host", "--uts", "host"): ("HostConfig.PidMode", '"host"'),
        ("--init", "--privileged"): ("HostConfig.Init", "true"),
        ("--ulimit", "nofile=64:128"): ("HostConfig.Ulimits", '[{"Name":"nofile","Hard":128,"Soft":64}]'),
        ("-p", "127.0.0.1:8080:80/udp"): (
            "HostConfig.PortBindings",
            '{"80/udp":[{"HostIp":"127.0.0.1","HostPort":"8080"}]}',
        ),
        ("--health-cmd", "true", "--health-interval", "1m30s", "--health-retries", "2"): (
            "Config.Healthcheck",
            '{"Test":["CMD-SHELL","true"],"Interval":90000000000,"Retries":2}',
        ),
    }
    for given, (field, value) in options.items():
        container_id = cli("create", *given, "busybox:1", "true").stdout.strip()
        assert cli("inspect", "-f", f"{{{{json .{field}}}}}", container_id).stdout.strip() == value


def test_mounts_of_all_kinds_are_there(cli: Labctr, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("bound\n")
    options = [
        *("--mount", f"type=bind,src={tmp_path},dst=/bind,readonly"),
        *("--mount", "type=volume,source=data,target=/data"),
        *("--mount", "type=tmpfs,target=/memory,tmpfs-size=1m"),
        *("--tmpfs", "/more"),
    ]
    script = "cat /bind/file; touch /bind/x 2>/dev/null || echo read-only; stat -f -c %T /memory /more; touch /data/x"
    done = cli("run", "--rm", *options, "busybox:1", "sh", "-c", script)
    assert done.stdout == "bound\nread-only\ntmpfs\ntmpfs\n"
    assert cli("run", "--rm", "-v", "data:/d", "busybox:1", "ls", "/d").stdout == "x\n"


def test_cidfile_holds_the_id_and_is_never_overwritten(labctr: Labctr, cli: Labctr, tmp_path: Path) -> None:
    path = tmp_path / "cid"
    container_id = labctr("run", "-d", "--cidfile", str(path), *SLEEP).stdout.strip()
    assert path.read_text() == container_id
    done = cli("run", "--cidfile", str(path), *SLEEP, check=False)
    assert done.returncode == 125
    assert "container ID file found" in done.stderr
    assert cli("run", "--cidfile", str(tmp_path / "new"), "nosuch", check=False).returncode == 125
    assert not (tmp_path / "new").exists()


def test_go_flags_take_a_value_with_an_equals_sign(labctr: Labctr, cli: Labctr) -> None:
    done = labctr("run", "--rm=true", "--init=false", "-e", "--rm=false", "busybox:1", "echo", "--rm=true")
    assert done.stdout == "--rm=true\n"
    assert cli("ps", "-aq").stdout == ""


def test_attach_chooses_streams(labctr: Labctr) -> None:
    done = labctr("run", "--rm", "-a", "stdout", "busybox:1", "sh", "-c", "echo out; echo err >&2")
    assert (done.stdout, done.stderr) == ("out\n", "")


def test_pull_never_reports_a_missing_image(cli: Labctr) -> None:
    assert cli("run", "--rm", "--pull", "never", "busybox:1", "echo", "x").stdout == "x\n"
    done = cli("run", "--pull", "never", "nosuch", check=False)
    assert (done.returncode, done.stderr.splitlines()[0]) == (125, "Error: No such image: nosuch:latest")


# -- ps ----------------------------------------------------------------------------------------


def test_ps_has_formats(labctr: Labctr, cli: Labctr, web: str) -> None:
    assert cli("ps", "--format", '{{.ID}} {{.Names}} {{.State}} {{.Labels}} {{.Label "a"}}').stdout == (
        f"{web[:12]} web running a=b,c=d b\n"
    )
    assert cli("ps", "--format", r"table {{.Names}}\t{{.Image}}").stdout == "NAMES     IMAGE\nweb       busybox:1\n"
    document = json.loads(labctr("ps", "--format", "json").stdout)
    assert document["Command"] == '"sleep 1000"'
    assert re.fullmatch(r"22/tcp, 127\.0\.0\.1:\d+->80/tcp", document["Ports"])
    done = cli("ps", "--format", "{{.Nope}}", check=False)
    assert (done.returncode, "can't evaluate field Nope" in done.stderr) == (1, True)
    assert re.search(r"\n.* web +\d+B \(virtual \d\.\d+MB\)\n", cli("ps", "-s").stdout)
    assert "SIZE" in cli("ps", "-s").stdout.splitlines()[0]


@pytest.mark.parametrize(
    ("conditions", "found"),
    [
        (["name=web"], ["web"]),
        (["name=^/w"], ["web"]),
        (["name=e"], ["web"]),
        (["status=exited"], ["old"]),
        (["status=exited", "status=running"], ["old", "web"]),
        (["exited=3"], ["old"]),
        (["exited=0"], []),
        (["label=a"], ["web"]),
        (["label=a=b", "label=c=x"], []),
        (["ancestor=busybox:1"], ["old", "web"]),
        (["ancestor=nosuch"], []),
        (["volume=data"], ["old"]),
        (["volume=/d"], ["old"]),
        (["network=bridge"], ["old", "web"]),
        (["network=none"], []),
        (["before=old"], ["web"]),
        (["since=web"], ["old"]),
        (["health=none"], ["old", "web"]),
        (["health=healthy"], []),
        (["expose=22"], ["web"]),
        (["expose=80"], ["web"]),
        (["publish=80"], []),
        (["publish=22"], []),
        (["publish=1024-65535"], ["web"]),
        (["publish=1024-65535/udp"], []),
    ],
)
def test_ps_filters_as_docker_does(cli: Labctr, web: str, conditions: list[str], found: list[str]) -> None:
    cli("run", "--name", "old", "-v", "data:/d", "busybox:1", "sh", "-c", "exit 3", check=False)
    options = [word for condition in conditions for word in ("--filter", condition)]
    assert cli("ps", "-a", "--format", "{{.Names}}", *options).stdout.split() == found


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ("foo=bar", "Invalid filter 'foo'"),
        ("name", "bad format of filter (expected name=value)"),
        ("status=bogus", "Invalid filter 'status=bogus'"),
        ("health=bogus", "Unrecognised filter value for health: bogus"),
        ("exited=x", "Invalid filter 'exited=x'"),
        ("before=nosuch", "No such container: nosuch"),
        ("name=[", "invalid filter value"),
    ],
)
def test_an_invalid_filter_is_refused(cli: Labctr, condition: str, words: str) -> None:
    done = cli("ps", "--filter", condition, check=False)
    assert (done.returncode, words in done.stderr) == (1, True), done.stderr


# -- one after the other -----------------------------------------------------------------------


def test_several_containers_do_what_they_can(labctr: Labctr, cli: Labctr, web: str) -> None:
    done = labctr("stop", "-t", "0", "nosuch", "web", "other", check=False)
    assert (done.returncode, done.stdout) == (1, "web\n")
    assert done.stderr.count("Error: No such container: ") == 2
    done = labctr("start", "nosuch", "web", check=False)
    assert (done.returncode, done.stdout) == (1, "web\n")
    done = cli("rm", "nosuch", "web", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"You cannot remove a running container {web}" in done.stderr
    assert cli("rm", "-f", "nosuch").returncode == 0


def test_pausing_and_its_refusals(labctr: Labctr, cli: Labctr, web: str) -> None:
    assert labctr("pause", "web").stdout == "web\n"
    assert cli("ps", "--format", "{{.State}}").stdout == "paused\n"
    assert cli("ps", "--format", "{{.Status}}").stdout.endswith(" (Paused)\n")
    assert f"Container {web} is already paused" in cli("pause", "web", check=False).stderr
    assert "is paused" in cli("exec", "web", "true", check=False).stderr
    assert labctr("unpause", "web").stdout == "web\n"
    assert f"Container {web} is not paused" in cli("unpause", "web", check=False).stderr


def test_rename_keeps_names_apart(labctr: Labctr, cli: Labctr, web: str) -> None:
    cli("create", "--name", "other", *SLEEP)
    assert labctr("rename", "web", "new").stdout == ""
    assert cli("inspect", "-f", "{{.Name}}", "new").stdout == "/new\n"
    assert 'The container name "/other" is already in use' in cli("rename", "new", "other", check=False).stderr
    assert cli("rename", "new", "new", check=False).returncode == 1
    assert cli("rename", "nosuch", "x", check=False).returncode == 1


def test_port_and_top(labctr: Labctr, cli: Labctr, web: str) -> None:
    shown = labctr("port", "web").stdout
    assert re.fullmatch(r"80/tcp -> 127\.0\.0\.1:\d+\n", shown)
    assert cli("port", "web", "80").stdout == shown.partition(" -> ")[2]
    done = cli("port", "web", "99", check=False)
    assert (done.returncode, done.stderr.splitlines()[0]) == (1, "Error: No public port '99' published for web")
    eventually(lambda: cli("top", "web").stdout.endswith("sleep 1000\n"))  # until then its process is runc's
    heading, row = labctr("top", "web").stdout.splitlines()
    assert heading.split() == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    assert row.endswith("sleep 1000")
    assert re.fullmatch(r"PID +COMMAND\n\d+ +sleep\n", cli("top", "web", "-eo", "pid,comm").stdout)
    assert "Couldn't find PID" in cli("top", "web", "-eo", "comm", check=False).stderr
    cli("stop", "-t", "0", "web")
    assert f"Container {web} is not running" in cli("top", "web", check=False).stderr
    assert cli("port", "web").stdout == ""


def test_update_changes_limits(labctr: Labctr, cli: Labctr, web: str) -> None:
    assert labctr("update", "-m", "64m", "--memory-swap", "64m", "--restart", "always", "web").stdout == "web\n"
    assert cli("inspect", "-f", "{{.HostConfig.Memory}} {{.HostConfig.RestartPolicy.Name}}", "web").stdout == (
        "67108864 always\n"
    )
    assert "you must provide one or more flags" in cli("update", "web", check=False).stderr


def test_restart_gives_a_new_process(labctr: Labctr, cli: Labctr, web: str) -> None:
    before = cli("inspect", "-f", "{{.State.Pid}}", "web").stdout
    assert labctr("restart", "-t", "0", "web").stdout == "web\n"
    assert cli("inspect", "-f", "{{.State.Pid}}", "web").stdout not in (before, "0\n")


def test_inspect_finds_objects_of_several_kinds(labctr: Labctr, cli: Labctr, web: str) -> None:
    cli("volume", "create", "data")
    done = labctr("inspect", "web", "busybox:1", "data", "bridge", "nosuch", check=False)
    assert done.returncode == 1
    assert len(json.loads(done.stdout)) == 4
    assert done.stderr.startswith("Error: No such object: nosuch")
    assert cli("inspect", "--type", "image", "web", check=False).returncode == 1
    assert cli("inspect", "-s", "-f", "{{.SizeRw}} {{if .SizeRootFs}}yes{{end}}", "web").stdout == "0 yes\n"
    assert cli("inspect", "-f", '{{index .Config.Labels "a"}} {{join .Config.Env ","}}', "web").stdout.startswith("b ")
    assert json.loads(cli("inspect", "-f", "json", "web").stdout)["Id"] == web


# -- exec and attach ---------------------------------------------------------------------------


def test_exec_reports_a_missing_program_once(labctr: Labctr, web: str) -> None:
    done = labctr("exec", "web", "nosuch", check=False)
    assert done.returncode == 127
    assert done.stderr.count("executable file not found") == 1
    assert done.stderr.startswith('Error: exec: "nosuch": executable file not found in $PATH\nHint: ')


def test_exec_keeps_streams_apart_and_does_not_wait_for_background_processes(labctr: Labctr, web: str) -> None:
    done = labctr("exec", "web", "sh", "-c", "echo out; echo err >&2; exit 3", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")
    assert labctr("exec", "web", "sh", "-c", "sleep 30 >/dev/null 2>&1 & echo x").stdout == "x\n"


def test_exec_takes_files_of_variables_and_privileges(cli: Labctr, web: str, tmp_path: Path) -> None:
    (tmp_path / "variables").write_text("A=file\nB=file\n")
    done = cli("exec", "--env-file", str(tmp_path / "variables"), "-e", "A=given", "web", "sh", "-c", "echo $A $B")
    assert done.stdout == "given file\n"
    script = "grep CapEff /proc/self/status"
    plain, privileged = (cli("exec", *more, "web", "sh", "-c", script).stdout for more in ((), ("--privileged",)))
    assert int(plain.split()[1], 16) < int(privileged.split()[1], 16)


def test_other_keys_may_detach_from_a_container(terminal: Callable[..., Terminal], cli: Labctr) -> None:
    screen = terminal("run", "-it", "--name", "shell", "--detach-keys", "ctrl-x,q", "busybox:1", "sh")
    screen.expect("# ")
    screen.type(b"echo $((6*7))\r")
    screen.expect("42")
    screen.type(b"\x18q")
    screen.expect("read escape sequence")
    assert screen.wait() == 0
    assert cli("ps", "--format", "{{.Names}}").stdout == "shell\n"


def test_without_sig_proxy_a_signal_ends_only_the_command(command: list[str], repository: Path, cli: Labctr) -> None:
    cli("run", "-d", "--name", "web", "busybox:1", "sh", "-c", "while :; do echo up; sleep 0.1; done")
    line = [*command, "attach", "--sig-proxy=false", "web"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, cwd=repository) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.terminate()
        process.wait(PATIENCE)
    assert cli("inspect", "-f", "{{.State.Status}}", "web").stdout == "running\n"


def test_attach_refuses_a_container_that_does_not_run(cli: Labctr, web: str) -> None:
    cli("pause", "web")
    assert "You cannot attach to a paused container" in cli("attach", "web", check=False).stderr
    cli("unpause", "web")
    cli("stop", "-t", "0", "web")
    assert "You cannot attach to a stopped container" in cli("attach", "web", check=False).stderr


# -- images and the engine, through templates --------------------------------------------------


def test_other_listings_take_templates_too(labctr: Labctr, cli: Labctr) -> None:
    assert cli("images", "--format", "{{.Repository}}:{{.Tag}}").stdout == "busybox:1\n"
    assert cli("images", "-q", "-f", "dangling=true").stdout == ""
    assert cli("images", "-f", "reference=busy*", "--format", "{{.Tag}}").stdout == "1\n"
    assert cli("info", "-f", "{{.Driver}}").stdout == "overlay2\n"
    assert labctr("version", "--format", "{{.Server.Version}}").stdout
    assert cli("system", "df", "--format", "{{.Type}}={{.TotalCount}}").stdout.startswith("Images=1\n")
