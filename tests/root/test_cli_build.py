"""`labctr build` and `labctr builder`: some calls as processes and in terminals, most of them in this process."""

from __future__ import annotations

import io
import re
import shlex
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pylab_container import Engine
from tests.support.commands import Labctr, Terminal
from tests.support.contexts import Context

pytestmark = pytest.mark.usefixtures("image")

NUMBER = "[0-9a-f]{12}"


def test_build_prints_its_steps_and_uses_the_cache(labctr: Labctr, cli: Labctr, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM busybox:1\nRUN echo made > /made && echo said\n")
    built = labctr("build", "-t", "made:1", str(context)).stdout
    number = "[0-9a-f]{12}"
    assert re.fullmatch(
        rf"Step 1/2 : FROM busybox:1\n ---> {number}\nStep 2/2 : RUN echo made > /made && echo said\n"
        rf" ---> Running in {number}\nsaid\nRemoving intermediate container {number}\n ---> {number}\n"
        rf"Successfully built {number}\nSuccessfully tagged made:1\n",
        built,
    )
    again = labctr("build", "-t", "made:1", str(context)).stdout
    assert " ---> Using cache\n" in again
    assert labctr("build", "-q", str(context)).stdout.startswith("sha256:")
    assert cli("run", "--rm", "made:1", "cat", "/made").stdout == "made\n"


def test_build_ends_with_the_failed_steps_status(labctr: Labctr) -> None:
    done = labctr("build", "-", input="FROM busybox:1\nRUN exit 7\n", check=False)
    assert done.returncode == 7
    assert "Error: The command '/bin/sh -c exit 7' returned a non-zero code: 7" in done.stderr


def test_a_mistake_in_a_dockerfile_is_pointed_at(cli: Labctr) -> None:
    done = cli("build", "-", input="FROM busybox:1\nRUNN x\n", check=False)
    assert done.returncode == 1
    assert "Dockerfile:2:1: unknown instruction: RUNN\n    RUNN x\n    ^\nHint: did you mean RUN?" in done.stderr


# -- what goes in ------------------------------------------------------------------------------


def test_several_names_arguments_labels_and_a_target(cli: Labctr, context: Context, engine: Engine) -> None:
    folder = context(
        "FROM busybox:1 AS base\nARG A\nARG B=2\nRUN echo $A-$B > /ab\nFROM base AS rest\nRUN exit 1\n",
    )
    options = ("--build-arg", "A=1", "--label", "who=me", "--target", "base", "--network", "none", "--rm")
    built = cli("build", "-t", "one", "-t", "two:2", *options, str(folder)).stdout
    assert built.endswith("Successfully tagged one:latest\nSuccessfully tagged two:2\n")
    assert "Step 5/5 : LABEL who=me\n" in built
    assert engine.images.get("two:2").labels == {"who": "me"}
    assert cli("run", "--rm", "--network", "none", "one", "cat", "/ab").stdout == "1-2\n"


def test_the_other_words_for_build_are_the_same_command(cli: Labctr, context: Context) -> None:
    folder = str(context("ENV A=1\n"))
    ids = {cli(*words, "-q", folder).stdout for words in (["build"], ["image", "build"], ["builder", "build"])}
    assert len(ids) == 1


def test_standard_input_is_a_dockerfile_a_folder_or_the_dockerfile_of_a_folder(
    cli: Labctr, command: list[str], context: Context, repository: Path
) -> None:
    folder = context("COPY file /file\n", {"file": "content\n"})
    named = cli("build", "-q", str(folder)).stdout
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(folder, arcname=".")
    streamed = subprocess.run(
        [*command, "build", "-q", "-"], input=buffer.getvalue(), capture_output=True, cwd=repository, check=True
    )
    assert streamed.stdout.decode() == named
    text = (folder / "Dockerfile").read_text()
    assert cli("build", "-q", "-f", "-", str(folder), input=text).stdout == named
    assert cli("build", "-q", "-", input="FROM busybox:1\nENV A=1\n").stdout.startswith("sha256:")


def test_secrets_come_from_files_and_variables_and_are_in_no_layer(
    cli: Labctr, context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_text("from a file\n")
    monkeypatch.setenv("TOKEN", "from a variable")
    seen = "RUN --mount=type=secret,id=key --mount=type=secret,id=TOKEN cat /run/secrets/key /run/secrets/TOKEN\n"
    options = ("--secret", f"id=key,src={tmp_path}/key", "--secret", "id=TOKEN", "--network", "none")
    built = cli("build", "-t", "secret", *options, str(context(seen))).stdout
    assert "from a file\nfrom a variable\n" in built
    done = cli("run", "--rm", "--network", "none", "secret", "ls", "/run/secrets", check=False)
    assert "No such file or directory" in done.stderr


def test_run_resolves_added_hosts(cli: Labctr, context: Context) -> None:
    folder = context("RUN grep -E 'db|six' /etc/hosts\n")
    hosts = ("--add-host", "db:10.0.0.2", "--add-host", "six=[fd00::1]")
    built = cli("build", "--network", "none", *hosts, str(folder)).stdout
    assert re.search(r"10\.0\.0\.2\s+db\n", built)
    assert re.search(r"fd00::1\s+six\n", built)


def test_the_id_file_holds_the_id_and_never_an_old_one(cli: Labctr, context: Context, tmp_path: Path) -> None:
    path = tmp_path / "id"
    image_id = cli("build", "-q", "--iidfile", str(path), str(context("ENV A=1\n"))).stdout.strip()
    assert path.read_text() == image_id
    cli("build", "--iidfile", str(path), str(context("FROM nosuch:1\n")), check=False)
    assert not path.exists()


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--nonsense", "."], 125, "No such option"),
        (["--memory", "1g", "."], 125, "No such option"),
        (["--progress", "tty", "."], 125, "'tty' is not one of"),
        ([], 1, "Missing argument"),
        (["nosuch"], 1, "'nosuch'"),
        (["-t", "Upper", "."], 1, "repository names are lower-case"),
        (["--cache-from", "type=gha", "."], 1, "give the name of an image"),
        (["--add-host", "db", "."], 1, 'bad format for add-host: "db"'),
        (["--add-host", "db:home", "."], 1, 'invalid IP address in add-host: "home"'),
        (["--secret", "key", "."], 1, "invalid field 'key'"),
        (["--secret", "src=key", "."], 1, "no id"),
        (["--secret", "id=key,type=tpm", "."], 1, 'unsupported secret type "tpm"'),
        (["--secret", "id=key,src=/nosuch", "."], 1, "cannot read /nosuch: No such file or directory"),
        (["--secret", "id=key,env=NOSUCH_", "."], 1, "the environment variable NOSUCH_"),
        (["-f", "-", "-"], 1, "can't use stdin for both build context and dockerfile"),
    ],
)
def test_a_mistake_on_the_command_line_is_refused(
    cli: Labctr, engine: Engine, options: list[str], status: int, message: str
) -> None:
    done = cli("build", *options, check=False)
    assert done.returncode == status
    assert message in done.stderr
    assert len(engine.images.list(all=True)) == 1


# -- what comes out ----------------------------------------------------------------------------

STAGES = """FROM busybox:1 AS slow
RUN sleep 0.2; echo slow
FROM busybox:1 AS quick
RUN echo quick > /quick; echo quick
FROM busybox:1 AS unused
RUN exit 1
FROM busybox:1
COPY --from=slow /bin/plain /plain
COPY --from=quick /quick /quick
"""


def test_stages_built_concurrently_are_printed_one_after_the_other(cli: Labctr, context: Context) -> None:
    built = cli("build", "--network", "none", str(context(STAGES))).stdout
    assert re.findall(r"^Step (\d)/7 : (\w+)", built, re.MULTILINE) == [
        ("1", "FROM"),
        ("2", "RUN"),
        ("3", "FROM"),
        ("4", "RUN"),
        ("5", "FROM"),
        ("6", "COPY"),
        ("7", "COPY"),
    ]
    assert re.search(rf"RUN sleep 0.2; echo slow\n ---> Running in {NUMBER}\nslow\nRemoving", built)
    assert re.search(rf"RUN echo quick > /quick; echo quick\n ---> Running in {NUMBER}\nquick\nRemoving", built)


def test_triggers_are_printed_as_docker_prints_them(cli: Labctr, context: Context) -> None:
    cli("build", "-t", "parent", str(context("ONBUILD RUN echo trigger\nONBUILD ENV A=1\n")))
    built = cli("build", "--network", "none", str(context("FROM parent\nENV B=1\n"))).stdout
    assert re.fullmatch(
        rf"Step 1/2 : FROM parent\n# Executing 2 build triggers\n ---> Running in {NUMBER}\ntrigger\n"
        rf"Removing intermediate container {NUMBER}\n ---> {NUMBER}\nStep 2/2 : ENV B=1\n ---> {NUMBER}\n"
        rf"Successfully built {NUMBER}\n",
        built,
    )


def test_a_trigger_that_fails_is_named(cli: Labctr, context: Context) -> None:
    cli("build", "-t", "parent", str(context("ONBUILD RUN exit 6\n")))
    done = cli("build", "--network", "none", str(context("FROM parent\n")), check=False)
    assert done.returncode == 6
    assert "\n    ONBUILD of parent: RUN exit 6\nHint: " in done.stderr


def test_a_quiet_build_that_fails_prints_everything(cli: Labctr, context: Context) -> None:
    for option in ("-q", "--progress=quiet"):
        done = cli("build", option, "--network", "none", str(context("RUN echo before; exit 3\n")), check=False)
        assert (done.returncode, done.stdout) == (3, "")
        assert re.search(
            rf"Step 2/2 : RUN echo before; exit 3\n ---> Running in {NUMBER}\nbefore\n"
            rf"Removing intermediate container {NUMBER}\nError: ",
            done.stderr,
        )


def test_a_failed_step_is_named_and_its_hint_opens_a_shell_there(
    labctr: Labctr, terminal: Callable[..., Terminal], context: Context, command: list[str]
) -> None:
    folder = context('ENV E=kept\nWORKDIR /srv\nENTRYPOINT ["cat"]\nRUN echo half > made; \\\n  exit 4\n')
    done = labctr("build", "--network", "none", str(folder), check=False)
    assert done.returncode == 4
    *_, message, place, hint = done.stderr.splitlines()
    assert message == "Error: The command '/bin/sh -c echo half > made;   exit 4' returned a non-zero code: 4"
    assert place == "    Dockerfile:5: RUN echo half > made;   exit 4"
    words = shlex.split(hint.rpartition(": ")[2])
    assert words[:3] == ["labctr", *command[3:]]
    screen = terminal(*words[3:])
    screen.type(b"cat made; echo $E in $PWD; exit 5\n")
    screen.expect("half\r\nkept in /srv")
    assert screen.wait() == 5


def test_warnings_follow_a_build_and_check_explains_them(cli: Labctr, context: Context, engine: Engine) -> None:
    folder = context("CMD sh\n")
    assert " 1 warning found (labctr build --check tells more):\n - JSONArgs" in cli("build", str(folder)).stderr
    cli("builder", "prune", "-af")
    for option in ("--check", "--call=check"):
        done = cli("build", option, str(folder), check=False)
        assert done.returncode == 1
        assert done.stdout.startswith(
            "Check complete, 1 warning has been found!\n\nWARNING: JSONArgsRecommended - labs/"
        )
    assert len(engine.images.list(all=True)) == 1
    clean = cli("build", "--check", str(context('CMD ["sh"]\n')))
    assert clean.stdout == "Check complete, no warnings found.\n"


def test_a_check_shows_all_warnings_even_where_they_are_errors(cli: Labctr, context: Context) -> None:
    folder = context("# check=error=true\nFROM busybox:1\nMAINTAINER me\nCMD sh\n")
    assert "2 warnings have been found!" in cli("build", "--check", str(folder), check=False).stdout
    done = cli("build", str(folder), check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "lint violation found for rules: MaintainerDeprecated, JSONArgsRecommended" in done.stderr


def test_a_check_points_at_a_syntax_error(cli: Labctr, context: Context) -> None:
    done = cli("build", "--check", str(context("RUNN x\n")), check=False)
    assert done.returncode == 1
    assert "Dockerfile:2:1: unknown instruction: RUNN\n    RUNN x\n    ^\n" in done.stderr


def test_explain_shows_what_was_reused_why_not_and_what_it_cost(cli: Labctr, context: Context) -> None:
    text = "COPY file /file\nRUN rm /file; echo 12345 > /made\n"
    cli("build", "-q", "--network", "none", str(context(text, {"file": "1"})))
    folder = context(text, {"file": "two"})
    table = cli("build", "--network", "none", "--explain", str(folder)).stdout.partition("\n\n")[2]
    first, from_, copy, run, _, total = table.splitlines()
    assert first.split() == ["STEP", "STAGE", "INSTRUCTION", "CACHE", "SECONDS", "ADDED", "FILES", "WHY"]
    assert from_.split()[:4] == ["1/3", "stage-0", "FROM", "busybox:1"]
    assert re.fullmatch(r"2/3 .* miss +[\d.]+ +3B +\+1 ~0 -0 +changed: file", copy)
    assert re.fullmatch(r"3/3 .* miss +[\d.]+ +6B +\+1 ~0 -1 +step 2 was made anew", run)
    assert re.fullmatch(r"3 steps in [\d.]+ seconds: 0 from the cache, 2 made anew, 9B of new layers", total)
    again = cli("build", "--network", "none", "--explain", str(folder)).stdout
    assert "2 from the cache, 0 made anew, 0B of new layers" in again


def test_a_dry_run_shows_what_would_be_done_and_does_nothing(cli: Labctr, context: Context, engine: Engine) -> None:
    folder = context(STAGES)

    def files() -> dict[Path, int]:
        """All files of the data root with their times; locks and scratch directories come and go."""
        found = Path(engine.data_root).rglob("*")
        return {path: path.lstat().st_mtime_ns for path in found if path.is_file() and path.parent.name != "locks"}

    before = files()
    planned = cli("build", "--dry-run", str(folder)).stdout
    assert files() == before
    assert re.search(r"^quick +-\nstage-3 +slow, quick\nLeft out, for stage-3 does not need it: unused$", planned, re.M)
    assert re.search(r"^2/7 +slow +RUN sleep 0.2; echo slow +miss +\w+", planned, re.MULTILINE)
    cli("build", "-q", "--network", "none", str(folder))
    again = cli("build", "--dry-run", str(folder)).stdout
    assert again.endswith("Nothing was made. In the cache: 4; to be made: 0.\n")


def test_a_terminal_shows_a_step_while_it_runs(
    terminal: Callable[..., Terminal], cli: Labctr, context: Context
) -> None:
    screen = terminal("build", "--network", "none", str(context("RUN echo begun; sleep 1000; echo done\n")))
    screen.expect("begun\r\n")
    [container_id] = cli("ps", "-q").stdout.split()
    # The container may end before this command in it does.
    cli("exec", container_id, "sh", "-c", "until killall sleep; do sleep 0.1; done", check=False)
    screen.expect("done\r\n")
    screen.expect("Successfully built")
    assert screen.wait() == 0


def test_ctrl_c_ends_a_build_at_once(
    terminal: Callable[..., Terminal], context: Context, cli: Labctr, engine: Engine
) -> None:
    screen = terminal("build", "--network", "none", str(context("RUN echo begun; sleep 1000\n")))
    screen.expect("begun\r\n")
    screen.type(b"\x03")
    assert screen.wait() == 130
    assert cli("ps", "-aq").stdout == ""


def test_a_reader_that_closes_its_pipe_does_not_stop_a_build(
    command: list[str], context: Context, engine: Engine, repository: Path
) -> None:
    words = shlex.join([*command, "build", "-t", "built", "--network", "none", str(context("RUN seq 100000\n"))])
    done = subprocess.run(
        ["sh", "-c", f"{words} | head -n 1"], capture_output=True, text=True, cwd=repository, check=True
    )
    assert done.stdout == "Step 1/2 : FROM busybox:1\n"
    assert engine.images.get("built")


# -- builder prune -----------------------------------------------------------------------------


def test_builder_prune_asks_and_names_what_it_removes(labctr: Labctr, cli: Labctr, context: Context) -> None:
    cli("build", "-t", "named", str(context("ENV A=1\nENV B=1\n")))
    dangling = cli("build", "-q", str(context("ENV C=1\n"))).stdout
    asked = labctr("builder", "prune", input="n\n").stdout
    assert asked == ("WARNING! This will remove all dangling build cache.\nAre you sure you want to continue? [y/N] ")
    assert cli("builder", "prune", "-f").stdout == (
        f"Deleted build cache objects:\n{dangling}\nTotal reclaimed space: 0B\n"
    )
    every = labctr("builder", "prune", "-a", input="y\n").stdout
    assert every.startswith("WARNING! This will remove all build cache.\n")
    assert every.count("sha256:") == 1
    assert cli("builder", "prune", "-f", "--filter", "label=x").stdout == "Total reclaimed space: 0B\n"
    done = cli("builder", "prune", "-f", "--filter", "nonsense=x", check=False)
    assert (done.returncode, done.stderr.splitlines()[0]) == (1, "Error: Invalid filter 'nonsense'")


def test_system_prune_and_df_count_the_build_cache(cli: Labctr, context: Context) -> None:
    folder = context("RUN --mount=type=cache,target=/c echo 12345 > /c/file\nRUN printf 123 > /made; exit 1\n")
    cli("build", "--network", "none", str(folder), check=False)
    assert re.search(r"^Build Cache     3         0         9B        9B \(100%\)$", cli("system", "df").stdout, re.M)
    verbose = cli("system", "df", "-v").stdout.partition("Build cache usage: 9B\n")[2]
    assert [line.split()[1] for line in verbose.splitlines()[2:]] == ["regular", "regular", "exec.cachemount"]
    assert "  - all dangling build cache\n" in cli("system", "prune", input="n").stdout
    cli("system", "prune", "-f", "--filter", "label=x")
    pruned = cli("system", "prune", "-f").stdout
    assert "Deleted build cache objects:\n" in pruned
    assert pruned.endswith("Total reclaimed space: 9B\n")
    assert re.search(r"^Build Cache     0         0         0B        0B$", cli("system", "df").stdout, re.MULTILINE)
