"""The labs' exercises: each check accepts the right answer and refuses wrong ones; and the labs' helpers."""

from __future__ import annotations

import os
import pathlib
import platform
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pylab_container import Engine, ImageCollection
from pylab_container.errors import BuildFailed, ContainerFailed, ImageNotFound, InvalidInput, LabError, RuntimeFailed
from pylab_container.events import ImageChanged
from pylab_container.images.image import Image
from pylab_container.notebook import display, magics
from pylab_container.notebook import lab as labs
from pylab_container.notebook.display import Note
from pylab_container.notebook.lab import Lab

SLEEP = ["sleep", "1000"]


@pytest.fixture(autouse=True)
def root(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the test's labs use its data root, and undo the variables that they set."""
    monkeypatch.setenv("LABCTR_ROOT", str(engine.data_root))
    monkeypatch.setenv("LAB", "")


def kinds(number: str, exercise: int, subject: object, *answers: object) -> list[str]:
    lab = Lab(number)
    notes = [lab.check(exercise, answer, subject) for answer in answers]
    return [note.kind for note in notes if isinstance(note, Note)]


# -- exercises ---------------------------------------------------------------------------------


def test_lab_01_1_counts_layers(image: Image) -> None:
    assert kinds("01", 1, image, 1, 2, "one", None) == ["ok", "no", "no", "open"]


def test_lab_01_2_wants_the_layers_directory(engine: Engine, image: Image) -> None:
    cache_id = image.layers[0].cache_id
    right = engine.data_root / "overlay2" / cache_id / "diff"
    answers = (str(right), right, f"$LABCTR_ROOT/overlay2/{cache_id}/diff", right.parent, "/missing", 3)
    assert kinds("01", 2, image, *answers) == ["ok", "ok", "ok", "no", "no", "no"]


def test_lab_01_3_wants_a_second_image_of_the_same_tar(engine: Engine, image: Image, busybox_tar: Path) -> None:
    again = engine.images.import_(busybox_tar, "busybox:again", message="again")
    container = engine.containers.create(image, SLEEP)
    (container.upper / "new").touch()
    other = container.commit("busybox:other")
    assert kinds("01", 3, image, again, image, other, "busybox:again") == ["ok", "no", "no", "no"]


def test_lab_05_1_wants_the_whiteout(image: Image, engine: Engine) -> None:
    container = engine.containers.run_detached(image, SLEEP)
    container.exec_run(["sh", "-c", "rm /etc/group; touch /etc/new"])
    upper = container.upper
    answers = (upper / "etc/group", "etc/group", upper / "etc/new", container.merged / "etc/group", "/dev/null")
    assert kinds("05", 1, upper, *answers) == ["ok", "ok", "no", "no", "no"]


def test_lab_05_2_counts_the_layers_below(image: Image, engine: Engine) -> None:
    container = engine.containers.create(image, SLEEP)
    assert kinds("05", 2, container, 2, 1, 3) == ["ok", "no", "no"]


def test_a_lab_shows_the_source_of_its_engine(engine: Engine) -> None:
    lab = Lab("01")
    shown = lab.source("images.import_")
    assert shown == lab.source(lab.engine.images.import_) == lab.source(ImageCollection.import_)
    assert shown.path == "pylab_container/engine/images.py"


def test_an_exercise_that_a_lab_does_not_have_is_an_error() -> None:
    with pytest.raises(InvalidInput, match="no exercise 9"):
        Lab("01").check(9, None)


def build(engine: Engine, directory: Path, *lines: str) -> Image:
    directory.mkdir(exist_ok=True)
    (directory / "Dockerfile").write_text("\n".join(["FROM busybox:1", *lines, 'CMD ["/serve"]', ""]))
    return engine.images.build(directory)


# -- starting again ---------------------------------------------------------------------------


def test_reset_removes_containers_images_and_their_descendants(
    image: Image, engine: Engine, busybox_tar: Path, tmp_path: Path
) -> None:
    engine.containers.run_detached(image, SLEEP, name="c1000").commit("httpd:v1")
    build(engine, tmp_path / "context", "RUN touch /a").tag("built:1")
    engine.images.import_(busybox_tar, "busybox:1", message="the name moves here")
    Lab("01").reset("busybox:1", "never:made")
    assert engine.images.list(all=True) == []
    assert engine.containers.list(all=True) == []
    assert os.listdir(engine.data_root / "overlay2") == ["l"]


def test_reset_of_a_built_image_also_removes_earlier_builds_but_not_their_base(
    image: Image, engine: Engine, tmp_path: Path
) -> None:
    for number in (1, 2):
        build(engine, tmp_path / "context", "RUN touch /a", f"RUN touch /{number}").tag("built:1")
    Lab("03").reset("built:1")
    assert engine.images.list(all=True) == [image]


def test_reset_removes_containers_by_name(image: Image, engine: Engine) -> None:
    engine.containers.run_detached(image, SLEEP, name="c1000")
    kept = engine.containers.create(image, SLEEP, name="other")
    Lab("02").reset("httpd:v1", containers=["c1000", "never"])
    assert engine.containers.list(all=True) == [kept]


def test_reset_does_not_take_a_name_for_the_prefix_of_an_id(
    image: Image, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pylab_container.engine.containers.generate_container_id", lambda: "c1000".ljust(64, "0"))
    kept = engine.containers.create(image, SLEEP)
    Lab("02").reset("httpd:v1", containers=["c1000"])
    assert engine.containers.list(all=True) == [kept]


def test_a_lab_creates_its_own_data_root_late_and_removes_all_of_it(engine: Engine, busybox_tar: Path) -> None:
    lab = Lab("05", own_root=True)
    assert not lab.data_root.exists()
    lab.engine.images.import_(busybox_tar, "busybox:1")
    Lab("05", own_root=True).reset()
    assert not lab.data_root.exists()
    assert lab.data_root == engine.data_root / "labs/05/root"


# -- what labs need ----------------------------------------------------------------------------


def test_require_finds_the_image_or_imports_the_tar_of_lab_01(engine: Engine, busybox_tar: Path) -> None:
    lab = Lab("02")
    (lab.labs / "01").mkdir()
    (lab.labs / "01/bookworm.tar").symlink_to(busybox_tar)
    made = lab.require("01", image="debian12:latest")
    assert lab.require("01", image="debian12:latest") == made
    assert engine.images.get("debian12:latest") == made


def test_only_lab_01_can_be_required() -> None:
    with pytest.raises(InvalidInput, match="lab 03"):
        Lab("02").require("03", image="x")


def test_a_command_runs_once_and_leaves_nothing_half_made() -> None:
    lab = Lab("01")
    lab.once("echo run >> $LAB/made", makes="$LAB/made")
    lab.once("echo run >> $LAB/made", makes="$LAB/made")
    assert (lab.directory / "made").read_text() == "run\n"
    with pytest.raises(RuntimeFailed, match="out of luck"):
        lab.once("mkdir -p $LAB/part/deep; echo out of luck >&2; exit 3", makes="$LAB/part")
    assert [path.name for path in lab.directory.iterdir()] == ["made"]


def test_a_command_that_was_interrupted_runs_again() -> None:
    lab = Lab("01")
    (lab.directory / "made").mkdir()
    (lab.directory / ".made.unfinished").touch()
    lab.once("mkdir $LAB/made; touch $LAB/made/whole", makes="$LAB/made")
    assert (lab.directory / "made/whole").exists()


def test_the_notebook_of_lab_01_makes_what_the_others_require(repository: Path) -> None:
    source = (repository / "labs/01_base_image.ipynb").read_text()
    for command in (labs.MAKE_SYSTEM, labs.PACK_SYSTEM):
        said = command.replace("$LAB/{distribution}", "{system}")
        assert said in source
    assert labs.PACKAGES in source


def test_apt_sources_are_those_of_the_machine(tmp_path: Path) -> None:
    lab = Lab("01")
    own = platform.freedesktop_os_release()["VERSION_CODENAME"]
    lab.apt_sources(own)
    lines = (lab.directory / f"{own}.list").read_text().splitlines()
    assert lines
    assert all(line.startswith("deb ") and line.split()[2].startswith(own) for line in lines)
    other = "trixie" if own == "bookworm" else "bookworm"
    lab.apt_sources(other)
    assert {line.split()[2] for line in (lab.directory / f"{other}.list").read_text().splitlines()} == {other}


# -- showing -----------------------------------------------------------------------------------


def test_watch_shows_what_happened(image: Image, capsys: pytest.CaptureFixture[str]) -> None:
    lab = Lab("01")
    with lab.watch(ImageChanged):
        lab.engine.images.tag("busybox:1", "busybox:2")
    assert f"image tagged {image.id[7:19]} as busybox:2" in capsys.readouterr().out


def test_expect_shows_the_error_and_insists_on_it(capsys: pytest.CaptureFixture[str]) -> None:
    lab = Lab("01")
    with lab.expect(ImageNotFound):
        lab.engine.images.get("nothing")
    assert "ImageNotFound: No such image: nothing\nHint:" in capsys.readouterr().out
    with pytest.raises(InvalidInput, match="nothing went wrong"), lab.expect(ImageNotFound):
        pass


def test_shell_shows_output_errors_and_status(capsys: pytest.CaptureFixture[str]) -> None:
    Lab("01").shell("echo $LAB; echo wrong >&2; exit 3")
    assert capsys.readouterr().out == "$LAB\nwrong\n[status 3]\n"


def test_stages_show_the_data_root_as_differences(engine: Engine, busybox_tar: Path) -> None:
    lab = Lab("05", own_root=True)
    assert lab.stage("before").lines()[1] == "(nothing there)"
    image = lab.engine.images.import_(busybox_tar, "busybox:1")
    lab.stage("with an image")
    lab.engine.containers.create(image, SLEEP, name="c1000")
    lines = lab.stage("with a container").lines()
    assert sum(bool(line.startswith("+") and "-init" in line) for line in lines) == 2  # its directory, and a link to it
    assert not any(line.startswith("-") for line in lines)
    lab.reset()


@pytest.mark.parametrize("name", ["/etc/motd", "../02/Dockerfile", "link/Dockerfile", "a/../../x"])
def test_a_lab_writes_only_into_its_own_directory(engine: Engine, tmp_path: Path, name: str) -> None:
    lab = Lab("01")
    (lab.directory / "link").symlink_to(tmp_path)
    with pytest.raises(InvalidInput, match="not in the lab's directory"):
        lab.write(name, "x")
    assert not (tmp_path / "Dockerfile").exists()


def test_changes_of_a_commit_are_instructions_and_not_a_mapping(image: Image, engine: Engine) -> None:
    container = engine.containers.create(image, SLEEP)
    changes: Any = {"Cmd": ["httpd"]}
    with pytest.raises(InvalidInput, match="not a mapping") as raised:
        container.commit("httpd:v2", changes=changes)
    assert "conf=" in raised.value.hint
    assert engine.images.list("httpd") == []


def test_a_failed_step_shows_its_last_lines_in_a_notebook(image: Image, engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox:1\nRUN seq 30; echo wrong >&2; exit 7\n")
    with pytest.raises(BuildFailed) as raised:
        engine.images.build(tmp_path)
    shell = SimpleNamespace(_showtraceback=lambda *_: None)
    lines = display._show_error(shell, BuildFailed, raised.value, None)
    assert lines[:10] == [*map(str, range(22, 31)), "wrong"]


# -- magics ------------------------------------------------------------------------------------


def test_a_magic_runs_the_command_on_the_labs_data_root(image: Image, capsys: pytest.CaptureFixture[str]) -> None:
    magics.run("run --rm busybox:1 sh -c 'echo out; echo also >&2'")
    assert capsys.readouterr().out == "out\nalso\n"


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("run --rm busybox:1 missing", 'exec: "missing": executable file not found', "check the spelling"),
        ("rmi nothing", "No such image: nothing", "labctr images"),
        ("frobnicate", "No such command 'frobnicate'.", ""),
        ("images --frob", "No such option", ""),
    ],
)
def test_a_magic_that_fails_raises_what_the_command_said(image: Image, line: str, message: str, hint: str) -> None:
    with pytest.raises(LabError) as raised:
        magics.run(line)
    assert message in raised.value.message
    assert hint in raised.value.hint
    assert "Error:" not in str(raised.value)


def test_a_program_that_fails_has_another_error_than_a_command_that_fails(
    image: Image, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ContainerFailed, match="status 3"):
        magics.run("run --rm busybox:1 sh -c 'echo before; exit 3'")
    assert capsys.readouterr().out == "before\n"


def test_the_findings_of_a_check_are_not_an_error_of_the_cell(
    image: Image, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox:1\nWORKDIR srv\n")
    magics.run(f"build --check {tmp_path}")
    shown = capsys.readouterr().out
    assert "WorkdirRelativePath" in shown
    assert shown.endswith("[status 1]\n")


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("images -q | wc -l", "1\n"),
        ("images --format '{{.Repository}}' | tr b B", "BusyBox\n"),
        ("images | head -1 | cut -c1-10", "REPOSITORY\n"),
        ("images -q >$LAB/ids; wc -l <$LAB/ids", "1\n"),
        ("images -q | while read id; do docker inspect -f '{{.Os}}' $id; done", "linux\n"),
        ('inspect -f "{{.RepoTags}} {{len .RootFS.Layers}}" {name}', "[busybox:1] 1\n"),
        ("run --rm {name} echo '{name}' {a,b} '{\"x\": 1}'", 'busybox:1 a b {"x": 1}\n'),
    ],
)
def test_a_magic_is_a_line_of_a_terminal(
    image: Image, capsys: pytest.CaptureFixture[str], line: str, shown: str
) -> None:
    Lab("01")  # sets $LAB
    magics.run(magics.expanded(line, {"name": "busybox:1"}))
    assert capsys.readouterr().out == shown


def test_a_pipe_does_not_hide_that_the_command_fails(image: Image) -> None:
    with pytest.raises(LabError, match="never:made"):
        magics.run("inspect --type image never:made | cat")


def test_a_magic_leaves_templates_to_docker_and_expands_variables() -> None:
    known = {"name": "web", "image": pathlib.PurePath("a/b")}
    assert (
        magics.expanded("{name} {image.name} {other} {{.Names}} {{name}} {}", known)
        == "web b {other} {{.Names}} {{name}} {}"
    )


def test_a_line_with_an_open_quotation_is_refused() -> None:
    with pytest.raises(InvalidInput, match="No closing quotation"):
        magics.words("ps 'x")


def test_a_terminal_is_refused_before_anything_runs(image: Image, engine: Engine) -> None:
    with pytest.raises(InvalidInput, match="no terminal"):
        magics.run("run -it busybox:1 sh")
    assert engine.containers.list(all=True) == []
