"""The labctr command as people and scripts use it: processes, pipes and terminals.

Each command runs as a process at least once; the other calls run in this process (fixture cli).
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pylab_container import Engine
from tests.support.commands import Labctr, Terminal
from tests.support.waiting import PATIENCE, eventually

ID = re.compile(r"[0-9a-f]{64}\n")
CTRL_C, CTRL_P, CTRL_Q = b"\x03", b"\x10", b"\x11"

pytestmark = pytest.mark.usefixtures("image")


# -- start-up and errors -----------------------------------------------------------------------


def test_version_imports_nothing_heavy(repository: Path) -> None:
    program = (
        "import sys; from pylab_container.cli import main; assert main(['version']) == 0;"
        "print([name for name in ('pylab_container.engine', 'pyroute2', 'rich', 'tqdm', 'zstandard', 'IPython')"
        " if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=repository, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert done.stdout.startswith("labctr:\n Version: ")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["run", "--nonsense", "busybox:1"], 125, "No such option"),
        (["run"], 1, "Missing argument"),
        (["run", "nosuch"], 125, "Unable to find image 'nosuch:latest' locally"),
        (["run", "Busybox"], 125, "repository names are lower-case"),
        (["run", "--rm", "busybox:1", "nosuch"], 127, 'exec: "nosuch": executable file not found in $PATH'),
        (["run", "--rm", "busybox:1", "/bin/plain"], 126, "permission denied"),
        (["run", "--rm", "--network", "moon", "busybox:1", "true"], 125, "network moon not found"),
        (["run", "-m", "much", "busybox:1", "true"], 125, 'invalid size: "much"'),
        (["run", "--env-file", "/nosuch", "busybox:1", "true"], 125, "open /nosuch: No such file or directory"),
        (["run", "--name", "-", "busybox:1", "true"], 125, "Invalid container name (-)"),
        (["run", "busybox:1"], 125, "No command specified"),
        (["run", "-it", "busybox:1", "sh"], 1, "the input device is not a TTY"),
        (["ps", "--nonsense"], 125, "No such option"),
        (["nonsense"], 1, "No such command"),
        (["rm", "nosuch"], 1, "No such container: nosuch"),
        (["exec", "nosuch", "true"], 1, "No such container: nosuch"),
        (["rmi", "nosuch"], 1, "No such image: nosuch"),
        (["inspect", "nosuch"], 1, "No such object: nosuch"),
        (["import", "/nosuch"], 1, "no such file: /nosuch"),
        (["logs", "--since", "noon", "nosuch"], 1, "No such container"),
    ],
)
def test_a_mistake_has_dockers_exit_code_and_one_sentence(
    cli: Labctr, arguments: list[str], status: int, message: str
) -> None:
    done = cli(*arguments, check=False)
    assert done.returncode == status
    assert message in done.stderr
    assert cli("ps", "-aq").stdout == ""


def test_an_error_comes_with_a_hint(labctr: Labctr) -> None:
    assert labctr("rmi", "busibox:1", check=False).stderr == (
        'Error: No such image: busibox:1\nHint: did you mean "busybox:1"?\n'
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "-i", "--rm", "busybox:1", "sh", "-c", "cat; echo err >&2; exit 3"],
        ["run", "--nonsense"],
        ["rmi", "nosuch"],
        ["volume", "prune"],
    ],
)
def test_a_command_in_this_process_has_the_results_of_a_process(
    labctr: Labctr, cli: Labctr, arguments: list[str]
) -> None:
    """Most tests of commands use the fixture cli."""
    process, here = (run(*arguments, input="in\n", check=False) for run in (labctr, cli))
    assert (here.returncode, here.stdout, here.stderr) == (process.returncode, process.stdout, process.stderr)


def test_a_group_alone_explains_itself(labctr: Labctr, cli: Labctr) -> None:
    assert "Commands:" in labctr("container").stdout
    assert "settle" not in cli("container", "--help").stdout


# -- images ------------------------------------------------------------------------------------


@pytest.mark.smoke
def test_import_prints_the_id_that_images_lists(labctr: Labctr, cli: Labctr, busybox_tar: Path) -> None:
    image_id = labctr("import", "-m", "by hand", str(busybox_tar), "base:2").stdout.strip()
    assert re.fullmatch("sha256:[0-9a-f]{64}", image_id)
    lines = labctr("images", "base").stdout.splitlines()
    assert lines[0].split("  ")[0] == "REPOSITORY"
    assert re.fullmatch(rf"base         2         {image_id[7:19]}   .* ago   [\d.]+MB", lines[1])
    assert cli("image", "ls", "-q", "--no-trunc", "base:2").stdout == f"{image_id}\n"
    assert "by hand" in labctr("history", "base:2").stdout


def test_import_reads_standard_input(command: list[str], repository: Path, busybox_tar: Path) -> None:
    with busybox_tar.open("rb") as file:
        done = subprocess.run([*command, "import", "-"], stdin=file, capture_output=True, cwd=repository, check=True)
    assert done.stdout.startswith(b"sha256:")
    assert done.stderr == b""


def test_import_shows_a_progress_bar_in_a_terminal(terminal: Callable[..., Terminal], busybox_tar: Path) -> None:
    screen = terminal("import", str(busybox_tar), "base:3")
    screen.expect("Importing:")
    screen.expect("sha256:")
    assert screen.wait() == 0


def test_tag_and_rmi_print_what_they_remove(labctr: Labctr, cli: Labctr) -> None:
    labctr("tag", "busybox:1", "other")
    assert labctr("rmi", "other").stdout == "Untagged: other:latest\n"
    done = cli("rmi", "nosuch", "busybox:1", check=False)
    assert done.returncode == 1
    assert re.fullmatch(r"Untagged: busybox:1\nDeleted: sha256:.{64}\nDeleted: sha256:.{64}\n", done.stdout)


# -- run ---------------------------------------------------------------------------------------


def test_run_keeps_output_and_errors_apart_and_rm_leaves_nothing(labctr: Labctr, cli: Labctr) -> None:
    done = labctr("run", "--rm", "busybox:1", "sh", "-c", "echo out; echo err >&2; exit 7", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")
    assert cli("ps", "-aq").stdout == ""


def test_run_feeds_standard_input_and_its_end(labctr: Labctr) -> None:
    text = "".join(f"line {number}\n" for number in range(100_000))  # more than any buffer on the way holds
    assert labctr("run", "-i", "--rm", "busybox:1", "cat", input=text).stdout == text


def test_without_i_standard_input_is_not_read(labctr: Labctr) -> None:
    assert labctr("run", "--rm", "busybox:1", "cat", input="unread").stdout == ""


@pytest.mark.parametrize("script", ["head -n1", "sleep 0.1; echo x"])
def test_the_output_of_a_program_that_leaves_input_unread_is_complete(labctr: Labctr, script: str) -> None:
    done = labctr("run", "-i", "--rm", "busybox:1", "sh", "-c", script, input="x\n" * 1_000_000)
    assert done.stdout == "x\n"


def test_a_reader_that_closes_its_pipe_ends_run_quietly(cli: Labctr, command: list[str], repository: Path) -> None:
    line = [*command, "run", "--rm", "busybox:1", "yes"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=repository) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"y\n"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert cli("ps", "-aq").stdout == ""


def test_everything_after_the_image_belongs_to_the_command(cli: Labctr) -> None:
    assert cli("run", "--rm", "busybox:1", "echo", "-it", "--rm", "--name").stdout == "-it --rm --name\n"


def test_run_options_reach_the_container(cli: Labctr, tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "file").write_text("shared\n")
    (tmp_path / "variables").write_text("# comment\nA=file\nB=file\n\n")
    options = ["-e", "A=option", "--env-file", str(tmp_path / "variables"), "-w", "/tmp", "-u", "student", "-h", "lab"]
    script = "pwd; id -un; hostname; echo $A $B; cat /shared/file"
    done = cli("run", "--rm", *options, "-v", f"{tmp_path}/shared:/shared:ro", "busybox:1", "sh", "-c", script)
    assert done.stdout == "/tmp\nstudent\nlab\noption file\nshared\n"


def test_limits_and_labels_are_recorded(labctr: Labctr, cli: Labctr) -> None:
    options = ["-m", "64m", "--cpus", "0.5", "--pids-limit", "20", "-l", "a=b", "--entrypoint", "echo"]
    container_id = labctr("create", "--name", "limited", *options, "busybox:1", "word").stdout.strip()
    [document] = json.loads(cli("inspect", "limited").stdout)
    assert document["Id"] == container_id
    assert (document["Path"], document["Args"]) == ("echo", ["word"])
    host = document["HostConfig"]
    assert (host["Memory"], host["NanoCpus"], host["PidsLimit"]) == (64 << 20, 500_000_000, 20)
    assert cli("inspect", "-f", "{{.Name}} {{json .Config.Labels}}", "limited").stdout == '/limited {"a":"b"}\n'
    assert labctr("start", "-a", "limited").stdout == "word\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_are_passed_on(command: list[str], repository: Path, number: int) -> None:
    script = "trap 'exit 4' INT TERM; echo ready; while :; do sleep 0.1; done"
    line = [*command, "run", "--rm", "busybox:1", "sh", "-c", script]
    with subprocess.Popen(line, stdout=subprocess.PIPE, cwd=repository) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        assert process.wait(PATIENCE) == 4


# -- run in a terminal -------------------------------------------------------------------------


def test_a_terminal_has_the_callers_size_from_the_start(terminal: Callable[..., Terminal]) -> None:
    screen = terminal("run", "-it", "--rm", "busybox:1", "stty", "size", rows=33, columns=101)
    screen.expect("33 101\r\n")
    assert screen.wait() == 0


def test_a_container_made_in_another_terminal_has_the_size_of_the_one_that_starts_it(
    terminal: Callable[..., Terminal],
) -> None:
    made = terminal("create", "-it", "--name", "sized", "busybox:1", "sh", "-c", "read x; stty size")
    assert made.wait() == 0
    screen = terminal("start", "-ai", "sized", rows=33, columns=101)
    screen.type(b"go\n")
    screen.expect("33 101\r\n")
    assert screen.wait() == 0


def test_a_terminal_follows_the_callers_size(terminal: Callable[..., Terminal]) -> None:
    screen = terminal("run", "-it", "--rm", "busybox:1", "sh", "-c", "trap 'stty size; exit 9' WINCH; echo up; read x")
    screen.expect("up")
    screen.resize(40, 120)
    screen.expect("40 120")
    assert screen.wait() == 9


def test_ctrl_c_goes_to_the_program_inside(terminal: Callable[..., Terminal]) -> None:
    screen = terminal(
        "run",
        "-it",
        "--rm",
        "busybox:1",
        "sh",
        "-c",
        "trap 'echo caught; exit 5' INT; echo up; while :; do sleep 0.1; done",
    )
    screen.expect("up")
    screen.type(CTRL_C)
    screen.expect("caught")
    assert screen.wait() == 5


def test_a_shell_in_a_terminal_ends_with_its_own_status(terminal: Callable[..., Terminal], cli: Labctr) -> None:
    screen = terminal("run", "-it", "--rm", "busybox:1", "sh")
    screen.expect("# ")
    screen.type(b"echo $((6*7))\r")
    screen.expect("\r\n42\r\n")
    screen.type(b"exit 9\r")
    assert screen.wait() == 9
    assert cli("ps", "-aq").stdout == ""


def test_ctrl_p_ctrl_q_detaches_and_attach_connects_again(terminal: Callable[..., Terminal], cli: Labctr) -> None:
    first = terminal("run", "-it", "--rm", "--name", "web", "busybox:1", "sh")
    first.expect("# ")
    first.type(b"echo typed > /typed\r" + CTRL_P + CTRL_Q)
    first.expect("read escape sequence")
    assert first.wait() == 0
    assert cli("inspect", "-f", "{{.State.Status}}", "web").stdout == "running\n"
    second = terminal("attach", "web", rows=30, columns=90)
    # The new size and what is typed go different ways, and may overtake each other.
    second.type(b"until [ \"$(stty size)\" = '30 90' ]; do :; done; cat /typed; stty size; exit 6\r")
    second.expect("typed\r\n30 90")
    assert second.wait() == 6
    assert cli("ps", "-aq").stdout == ""  # --rm still holds


def test_exec_in_a_terminal_has_a_terminal(terminal: Callable[..., Terminal], cli: Labctr) -> None:
    cli("run", "-d", "--name", "web", "busybox:1", "sleep", "100")
    screen = terminal("exec", "-it", "web", "sh", rows=31, columns=91)
    screen.expect("# ")
    screen.type(b"stty size; exit 8\r")
    screen.expect("31 91")
    assert screen.wait() == 8


# -- running containers ------------------------------------------------------------------------


def test_the_life_of_a_container(labctr: Labctr, cli: Labctr) -> None:
    container_id = labctr("run", "-d", "--name", "web", "busybox:1", "sleep", "1000").stdout
    assert ID.fullmatch(container_id)
    heading, row = labctr("ps").stdout.splitlines()
    assert re.split(r"\s{2,}", heading) == ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]
    assert re.fullmatch(rf'{container_id[:12]}   busybox:1   "sleep 1000"   .* ago   Up .* +web', row)
    assert cli("rm", "web", check=False).returncode == 1
    assert labctr("stop", "-t", "0", container_id[:4]).stdout == f"{container_id[:4]}\n"
    assert cli("ps", "-q").stdout == ""
    assert "Exited (137) " in cli("ps", "-a").stdout
    assert labctr("wait", "web").stdout == "137\n"
    assert labctr("start", "web").stdout == "web\n"
    assert labctr("kill", "-s", "KILL", "web").stdout == "web\n"
    assert labctr("container", "rm", "web").stdout == "web\n"
    assert cli("ps", "-aq").stdout == ""


def test_ps_shows_the_last_ones(cli: Labctr) -> None:
    ids = [cli("create", "busybox:1", "true").stdout.strip() for _ in range(3)]
    assert cli("ps", "-q").stdout == ""
    assert cli("ps", "-lq", "--no-trunc").stdout.split() == ids[2:]
    assert cli("ps", "-n", "2", "-q", "--no-trunc").stdout.split() == ids[:0:-1]
    assert "   Created   " in cli("ps", "-a").stdout


def test_exec_runs_a_further_command(labctr: Labctr, cli: Labctr) -> None:
    cli("run", "-d", "--name", "web", "busybox:1", "sleep", "1000")
    done = labctr(
        "exec", "-e", "A=b", "-w", "/tmp", "-u", "1000", "web", "sh", "-c", "pwd; id -u; echo $A; exit 3", check=False
    )
    assert (done.returncode, done.stdout) == (3, "/tmp\n1000\nb\n")
    assert labctr("exec", "-i", "web", "cat", input="hi\n").stdout == "hi\n"
    assert cli("exec", "web", "nosuch", check=False).returncode == 127
    assert cli("exec", "-it", "web", "sh", check=False).stderr.startswith("Error: the input device is not a TTY")
    assert labctr("exec", "-d", "web", "touch", "/made").stdout == ""


def test_logs_show_what_was_printed(labctr: Labctr, cli: Labctr) -> None:
    # In two runs: of one, the monitor may read the second line of a stream before the first one of the other.
    script = "test -e /again && exec echo three; touch /again; echo one; echo two >&2"
    cli("run", "--name", "web", "busybox:1", "sh", "-c", script)
    cli("start", "-a", "web")
    done = labctr("logs", "web")
    assert (done.stdout, done.stderr) == ("one\nthree\n", "two\n")
    assert cli("logs", "-n", "1", "web").stdout == "three\n"
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT[\d:.]+Z three\n", cli("logs", "-t", "--tail", "1", "web").stdout)
    assert labctr("logs", "--since", "1h", "-f", "web").stdout == "one\nthree\n"
    assert cli("logs", "--until", "1h", "web").stdout == ""
    assert "invalid time" in cli("logs", "--since", "noon", "web", check=False).stderr


def test_commit_makes_an_image(labctr: Labctr, cli: Labctr) -> None:
    cli("run", "--name", "web", "busybox:1", "sh", "-c", "echo changed > /new")
    image_id = labctr("commit", "-a", "me", "-m", "a file", "web", "changed:v1").stdout.strip()
    [document] = json.loads(labctr("image", "inspect", "changed:v1").stdout)
    assert (document["Id"], document["Author"], document["Comment"]) == (image_id, "me", "a file")
    assert cli("run", "--rm", "changed:v1", "cat", "/new").stdout == "changed\n"


def test_inspect_looks_up_containers_first_and_then_images(labctr: Labctr, cli: Labctr) -> None:
    cli("create", "--name", "web", "busybox:1", "true")
    done = labctr("inspect", "nosuch", "web", "busybox:1", check=False)
    assert done.returncode == 1
    assert done.stdout.startswith("[\n    {\n        ")
    assert [document.get("Name", "image") for document in json.loads(done.stdout)] == ["/web", "image"]
    done = cli("inspect", "-f", "{{range .X}}", "web", check=False)
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        64,
        "Error: template parsing error: template: :1: unexpected EOF",
    )


def test_info_counts(labctr: Labctr, cli: Labctr, engine: Engine) -> None:
    cli("create", "busybox:1", "true")
    printed = labctr("info").stdout
    assert printed.startswith("Containers: 1\n Running: 0\n Paused: 0\n Stopped: 1\nImages: 1\n")
    assert "\nStorage Driver: overlay2\n Backing Filesystem: " in printed
    assert f"\nRoot Dir: {engine.data_root}\n" in printed


def test_a_detached_container_with_rm_is_removed_by_its_monitor(labctr: Labctr, engine: Engine) -> None:
    container_id = labctr("run", "-d", "--rm", "busybox:1", "true").stdout.strip()
    directory = engine.data_root / "containers" / container_id
    eventually(lambda: not directory.exists())  # no command asks for the container in between


def test_start_attached_feeds_and_shows_a_created_container(labctr: Labctr) -> None:
    labctr("create", "-i", "--name", "web", "busybox:1", "sh", "-c", "read word; echo got $word; exit 3")
    done = labctr("start", "-ai", "web", input="it\n", check=False)
    assert (done.returncode, done.stdout) == (3, "got it\n")


def test_start_of_a_running_container_succeeds(labctr: Labctr, cli: Labctr) -> None:
    cli("run", "-d", "--name", "web", "busybox:1", "sleep", "1000")
    assert cli("start", "web").stdout == "web\n"
    assert labctr("restart", "-t", "0", "web").stdout == "web\n"
    assert cli("inspect", "-f", "{{.State.Running}}", "web").stdout == "true\n"


def test_attach_requires_a_running_container(labctr: Labctr, cli: Labctr) -> None:
    cli("create", "--name", "web", "busybox:1", "true")
    done = labctr("attach", "web", check=False)
    assert done.returncode == 1
    assert "You cannot attach to a stopped container, start it first" in done.stderr


def test_system_down_refuses_while_a_container_is_connected(labctr: Labctr, cli: Labctr) -> None:
    cli("run", "-d", "busybox:1", "sleep", "1000")
    done = labctr("system", "down", check=False)
    assert done.returncode == 1
    assert "has connected containers" in done.stderr


# -- archives and files ------------------------------------------------------------------------


def test_save_and_load_pass_images_on_through_a_pipe(
    engine: Engine, labctr: Labctr, command: list[str], tmp_path: Path
) -> None:
    other = ["--root", str(tmp_path / "other")]
    save = subprocess.Popen([*command, "save", "busybox:1", "busybox"], stdout=subprocess.PIPE)
    load = subprocess.run(
        [*command[:-2], *other, "load", "-q"], stdin=save.stdout, capture_output=True, text=True, check=True
    )
    assert save.stdout
    save.stdout.close()
    assert save.wait() == 0
    assert load.stdout == "Loaded image: busybox:1\n"
    image_id = engine.images.get("busybox:1").id
    labctr("image", "save", "-o", str(tmp_path / "file"), image_id)
    assert labctr("image", "load", "-i", str(tmp_path / "file")).stdout == f"Loaded image ID: {image_id}\n"
    loaded = Engine(tmp_path / "other")
    assert loaded.images.get("busybox:1").id == image_id


@pytest.mark.parametrize("arguments", [["save", "busybox:1"], ["export", "box"], ["cp", "box:/etc", "-"]])
def test_an_archive_is_not_written_to_a_terminal(
    cli: Labctr, terminal: Callable[..., Terminal], arguments: list[str]
) -> None:
    cli("create", "--name", "box", "--network", "none", "busybox:1", "true")
    opened = terminal(*arguments)
    opened.expect("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    assert opened.wait() == 1


def test_load_does_not_read_an_archive_from_a_terminal(terminal: Callable[..., Terminal]) -> None:
    opened = terminal("load")
    opened.expect("requested load from stdin, but stdin is empty")
    assert opened.wait() == 1


def test_save_writes_every_format(cli: Labctr, tmp_path: Path) -> None:
    for format, compress in (("oci-archive", "gzip"), ("oci-dir", "zstd"), ("docker-archive", "gzip")):
        output = str(tmp_path / format)
        cli("save", "--format", format, "--compress", compress, "-o", output, "busybox:1")
        cli("load", "-i", output)
    assert (tmp_path / "oci-dir/index.json").exists()
    failed = cli("save", "--format", "oci-dir", "busybox:1", check=False)
    assert (failed.returncode, "is a directory, not a stream" in failed.stderr) == (1, True)
    failed = cli("save", "-o", "/nowhere/x", "busybox:1", check=False)
    assert (failed.returncode, failed.stderr.splitlines()[0]) == (
        1,
        "Error: cannot write /nowhere/x: No such file or directory",
    )


def test_import_and_commit_change_the_config_with_instructions(engine: Engine, cli: Labctr, busybox_tar: Path) -> None:
    changes = ["-c", 'CMD ["sh", "-c"]', "--change", "ENV A=1 B=$PATH", "-c", "EXPOSE 80 90-91/udp"]
    cli("import", "-m", "hello", *changes, str(busybox_tar), "changed:1")
    image = engine.images.get("changed:1")
    assert image.history()[0].comment == "hello"
    assert (image.config.config["Cmd"], image.config.config["Env"]) == (["sh", "-c"], ["A=1", "B="])
    assert list(image.config.config["ExposedPorts"]) == ["80/tcp", "90/udp", "91/udp"]
    cli("create", "--name", "box", "--network", "none", "changed:1", "true")
    more = ["WORKDIR srv", "USER 7", "LABEL a=b", "VOLUME /v", "ONBUILD RUN echo  x", 'ENTRYPOINT ["e"]']
    cli("commit", *(word for change in more for word in ("-c", change)), "box", "changed:2")
    config = engine.images.get("changed:2").config.config
    assert (config["WorkingDir"], config["User"], config["Labels"]) == ("/srv", "7", {"a": "b"})
    assert (config["Volumes"], config["OnBuild"]) == ({"/v": {}}, ["RUN echo  x"])
    assert (config["Entrypoint"], config["Cmd"]) == (["e"], None)
    assert config["Env"] == ["A=1", "B="]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("RUN x", "run is not a valid change command"),
        ("FROM x", "from is not a valid change command"),
        ("STOPSIGNAL 9", "stopsignal is not a valid change command"),
        ("NONSENSE x", "nonsense is not a valid change command"),
        ("EXPOSE x", "x"),
        ("ENV", "ENV"),
    ],
)
def test_an_unknown_change_makes_no_image(
    engine: Engine, cli: Labctr, busybox_tar: Path, change: str, reason: str
) -> None:
    cli("create", "--name", "box", "--network", "none", "busybox:1", "true")
    for arguments in (["import", "-c", change, str(busybox_tar), "x:1"], ["commit", "-c", change, "box", "x:1"]):
        failed = cli(*arguments, check=False)
        assert failed.returncode == 1
        assert reason in failed.stderr
    assert [image.tags for image in engine.images.list()] == [["busybox:1"]]


def test_cp_diff_and_export_show_a_container_s_files(labctr: Labctr, cli: Labctr, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x" * 2000)
    cli("create", "--name", "box", "--network", "none", "busybox:1", "true")
    assert labctr("cp", str(tmp_path / "a"), "box:/tmp").stderr == "Successfully copied 3.58kB to box:/tmp\n"
    assert cli("cp", "-q", "box:/tmp/a", str(tmp_path / "b")).stderr == ""
    assert (tmp_path / "b").read_text() == "x" * 2000
    cli("container", "cp", "box:/etc/passwd", str(tmp_path))
    assert labctr("diff", "box").stdout == "C /tmp\nA /tmp/a\n"
    labctr("export", "-o", str(tmp_path / "tree.tar"), "box")
    names = subprocess.run(["tar", "-tf", tmp_path / "tree.tar"], capture_output=True, text=True, check=True).stdout
    assert {"etc/passwd", "tmp/a"} <= set(names.splitlines())
    for arguments, reason in (
        (["cp", "box:/a", "box:/b"], "copying between containers is not supported"),
        (["cp", "a", "b"], "must specify at least one container source"),
        (["cp", "-", "-"], "must specify at least one container source"),
        (["cp", "box:/nowhere", "x"], "Could not find the file /nowhere in the container"),
        (["cp", "nobox:/x", "x"], "No such container: nobox"),
        (["export", "nobox"], "No such container: nobox"),
        (["diff", "nobox"], "No such container: nobox"),
    ):
        failed = cli(*arguments, check=False)
        assert (failed.returncode, reason in failed.stderr) == (1, True), failed.stderr


def test_cp_of_a_dash_is_a_tar_on_the_streams(command: list[str], cli: Labctr, tmp_path: Path) -> None:
    cli("create", "--name", "box", "--network", "none", "busybox:1", "true")
    archive = subprocess.run([*command, "cp", "box:/etc/passwd", "-"], capture_output=True, check=True).stdout
    subprocess.run([*command, "cp", "-", "box:/tmp"], input=archive, check=True)
    cli("cp", "box:/tmp/passwd", str(tmp_path / "p"))
    assert (tmp_path / "p").read_text().startswith("root:")
    failed = subprocess.run([*command, "cp", "-", "box:/etc/passwd"], input=archive, capture_output=True)
    assert failed.returncode == 1


# -- space -------------------------------------------------------------------------------------


def test_prunes_ask_first_and_report_what_they_freed(engine: Engine, labctr: Labctr, cli: Labctr) -> None:
    asked = "WARNING! This will remove all stopped containers.\nAre you sure you want to continue? [y/N] "
    container_id = cli("create", "--network", "none", "busybox:1", "true").stdout.strip()
    for answer in ("", "n\n", "no\n"):
        assert cli("container", "prune", input=answer).stdout == asked
    printed = labctr("container", "prune", input="y\n").stdout
    assert printed == f"{asked}Deleted Containers:\n{container_id}\n\nTotal reclaimed space: 0B\n"
    assert cli("image", "prune", "-f").stdout == "Total reclaimed space: 0B\n"
    image = engine.images.get("busybox:1")
    size, chain = f"{image.size / 1e6:.4g}MB", image.config.chain_id
    assert labctr("image", "prune", "-a", "--force").stdout == (
        f"Deleted Images:\nuntagged: busybox:1\ndeleted: {image.id}\ndeleted: {chain}\n\n"
        f"Total reclaimed space: {size}\n"
    )


def test_system_prune_and_df_cover_all_kinds_of_objects(labctr: Labctr, cli: Labctr) -> None:
    cli("run", "--network", "none", "-v", "/data", "busybox:1", "sh", "-c", "printf 123 >/data/x; printf 45 >/y")
    lines = [line.split() for line in labctr("system", "df").stdout.splitlines()]
    assert lines[0] == ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]
    assert lines[1][:3] == ["Images", "1", "1"]
    assert lines[2] == ["Containers", "1", "0", "2B", "2B", "(100%)"]
    assert lines[3] == ["Local", "Volumes", "1", "1", "3B", "0B", "(0%)"]
    assert lines[4] == ["Build", "Cache", "0", "0", "0B", "0B"]
    detailed = cli("system", "df", "-v").stdout
    assert [line for line in detailed.splitlines() if line.endswith("usage:")] == [
        "Images space usage:",
        "Containers space usage:",
        "Local Volumes space usage:",
    ]
    asked = cli("system", "prune", "--volumes", input="n\n").stdout
    assert asked == (
        "WARNING! This will remove:\n  - all stopped containers\n"
        "  - all networks not used by at least one container\n"
        "  - all anonymous volumes not used by at least one container\n  - all dangling images\n"
        "  - all dangling build cache\n\n"
        "Are you sure you want to continue? [y/N] "
    )
    printed = labctr("system", "prune", "-a", "-f", "--volumes").stdout
    assert ("Deleted Volumes:" in printed, "untagged: busybox:1" in printed) == (True, True)
    assert cli("system", "df").stdout.splitlines()[1].split()[1:] == ["0", "0", "0B", "0B"]
    for arguments in (["--filter", "bogus=1"], ["--filter", "until"], ["--volumes", "--filter", "until=1h"]):
        assert cli("system", "prune", "-f", *arguments, check=False).returncode == 1
