"""Shell completion in real shells: the words that bash and zsh get for a line, and silence when something is wrong."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pylab_container.store import names

CONTAINERS = {"a" * 64: "/web", "b" * 64: "/worker", "c" * 64: "/db-1"}
DIGEST = "sha256:" + "0" * 64


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    """A data root with only the files that hold names."""
    documents = {
        **{f"containers/{key}/config.v2.json": {"ID": key, "Name": name} for key, name in CONTAINERS.items()},
        f"networks/{'d' * 64}.json": {"Id": "d" * 64, "Name": "backend"},
        "volumes/data/volume.json": {},
        "volumes/cache/volume.json": {},
        "image/overlay2/repositories.json": {
            "Repositories": {
                "debian": {"debian:12": DIGEST, "debian:12-web": DIGEST, f"debian@{DIGEST}": DIGEST},
                "localhost:5000/httpd": {"localhost:5000/httpd:latest": DIGEST},
            }
        },
    }
    for path, document in documents.items():
        file = tmp_path / "root" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(document))
    return tmp_path / "root"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> str:
    """$PATH with a labctr of this source tree."""
    script = tmp_path_factory.mktemp("venv") / "bin/labctr"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nPYTHONPATH={repository} exec {sys.executable} -m pylab_container "$@"\n')
    script.chmod(0o755)
    return f"{script.parent}:{os.environ['PATH']}"


@pytest.fixture(scope="module")
def bash_script(path: str) -> str:
    done = subprocess.run(["labctr", "completion", "bash"], env={"PATH": path}, capture_output=True, check=True)
    return done.stdout.decode()


def in_bash(line: str, script: str, path: str, root: Path | str = "") -> list[str]:
    """The words that bash would put in the place of the last one, with the variables that it sets for a function."""
    word = line.rpartition(" ")[2].replace("=", ":").rpartition(":")[2].lstrip("'")
    program = (
        'eval "$1"; COMP_LINE=$2 COMP_POINT=${#2}; _labctr_completion labctr "$3" ""; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    environment = {"PATH": path, "LABCTR_ROOT": str(root)}
    command = ["bash", "--norc", "-c", program, "bash", script, line, word]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("labctr ru", ["run"]),
        ("labctr container re", ["rename", "restart"]),
        ("labctr container se", []),
        ("labctr rm --vol", ["--volumes"]),
        ("labctr save --format o", ["oci-archive", "oci-dir"]),
        ("labctr rm ", ["db-1", "web", "worker"]),
        ("labctr rm web w", ["worker"]),
        ("labctr logs -f w", ["web", "worker"]),
        ("labctr logs web ", []),
        ("labctr rmi deb", ["debian:12", "debian:12-web"]),
        ("labctr rmi debian:", ["12", "12-web"]),
        ("labctr rmi debian:12-", ["12-web"]),
        ("labctr rmi localhost:5000/h", ["5000/httpd:latest"]),
        ("labctr run -it --rm --network ba", ["backend"]),
        ("labctr run -it --rm --network=b", ["backend", "bridge"]),
        ("labctr run --volumes-from d", ["db-1"]),
        ("labctr volume rm ", ["cache", "data"]),
        ("labctr network connect back", ["backend"]),
        ("labctr network connect backend w", ["web", "worker"]),
        ("labctr inspect d", ["data", "db-1", "debian:12", "debian:12-web"]),
        ("labctr inspect --type volume d", ["data"]),
        ("labctr cp w", ["web:", "worker:"]),
        ("labctr rm 'w", ["web", "worker"]),
        ("labctr rm --nosuch w", ["web", "worker"]),
    ],
)
def test_bash_completes(line: str, words: list[str], bash_script: str, path: str, data_root: Path) -> None:
    assert in_bash(line, bash_script, path, data_root) == words


def test_the_data_root_of_the_command_line_counts(bash_script: str, path: str, data_root: Path) -> None:
    assert in_bash(f"labctr --root {data_root} rm w", bash_script, path, "/nonexistent") == ["web", "worker"]
    assert in_bash("labctr --root /nonexistent rm w", bash_script, path, data_root) == []
    assert not Path("/nonexistent").exists()


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"Name": 1}', '{"Name": "/a\\u001b;x"}', '{"Name": "/$(id)"}'])
def test_a_damaged_record_has_no_name(damage: str, data_root: Path) -> None:
    (data_root / f"containers/{'a' * 64}/config.v2.json").write_text(damage)
    (data_root / f"containers/{'c' * 64}/config.v2.json").unlink()
    assert names.container_names(data_root) == ["worker"]


def test_a_damaged_data_root_has_no_names(tmp_path: Path, data_root: Path) -> None:
    (data_root / "image/overlay2/repositories.json").write_text("damaged")
    shutil.rmtree(data_root / "networks")
    (data_root / "networks").touch()
    (data_root / "image/vfs").symlink_to(tmp_path)
    functions = (names.image_names, names.network_names)
    assert [function(data_root) for function in functions] == [[], []]
    assert [function(tmp_path / "nosuch") for function in functions] == [[], []]


def test_completion_changes_nothing(bash_script: str, path: str, data_root: Path) -> None:
    before = sorted(data_root.rglob("*"))
    in_bash("labctr inspect ", bash_script, path, data_root)
    assert sorted(data_root.rglob("*")) == before


def test_completion_is_silent_without_an_answer(path: str) -> None:
    environment = {"PATH": path, "_LABCTR_COMPLETE": "bash_complete"}
    done = subprocess.run(["labctr"], env=environment, capture_output=True, check=False)
    assert (done.stdout, done.stderr) == (b"", b"")


def test_completion_loads_no_engine(repository: Path, data_root: Path) -> None:
    program = (
        "import sys; from pylab_container import cli; cli.main();"
        "print(sorted({'pylab_container.engine', 'asyncio'} & {*sys.modules}))"
    )
    environment = {
        "_LABCTR_COMPLETE": "bash_complete",
        "COMP_LINE": "labctr rm w",
        "COMP_WORD": "w",
        "LABCTR_ROOT": str(data_root),
    }
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=repository, check=True)
    assert done.stdout.splitlines() == ["plain,web", "plain,worker", "[]"]


ZSH = r"""
autoload -Uz compinit; compinit -u -d {dump}
source <(labctr completion zsh)
compadd() {{ print -r -- "$@[-1]" ${{(P)@[-1]}} >> {result} }}
_describe() {{ print -r -- described ${{(P)@[-2]}} >> {result} }}
words=({words}) CURRENT={current}
_labctr_completion
"""


def test_zsh_completes(path: str, data_root: Path, tmp_path: Path) -> None:
    result = tmp_path / "result"

    def complete(*words: str) -> str:
        result.write_text("")
        quoted = " ".join(f"'{word}'" for word in words)
        program = ZSH.format(dump=tmp_path / "dump", result=result, words=quoted, current=len(words))
        environment = {"PATH": path, "LABCTR_ROOT": str(data_root), "HOME": str(tmp_path)}
        done = subprocess.run(["zsh", "-f", "-c", program], env=environment, capture_output=True, text=True)
        assert done.stderr == ""
        return result.read_text()

    assert complete("labctr", "rmi", "debian:") == "completions debian:12 debian:12-web\n"
    assert complete("labctr", "run", "--network=b") == "completions --network=backend --network=bridge\n"
    assert (
        complete("labctr", "wa")
        == "described wait:Block until one or more containers stop, then print their exit codes\n"
    )
    assert complete("labctr", "--root", "/nonexistent", "rm", "") == ""


def test_setup_installs_completion_for_the_shells_that_are_there(repository: Path, tmp_path: Path, path: str) -> None:
    (tmp_path / ".venv").symlink_to(Path(path.partition(":")[0]).parent)
    (tmp_path / "zsh").mkdir()
    text = (repository / "scripts/setup").read_text()
    function = text[text.index("install_completion() {") :].partition("\n}\n")[0]
    program = f"{function}\n}}\nbash_completions=bash zsh_completions=zsh install_completion"
    subprocess.run(["bash", "-euc", program], cwd=tmp_path, check=True)
    assert not (tmp_path / "bash").exists()
    assert (tmp_path / "zsh/_labctr").read_text().startswith("#compdef labctr\n")
