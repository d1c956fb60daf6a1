"""RUN: here-documents, mounts, networks, and the state after a failed step."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Literal

import pytest

from pylab_container import Engine
from pylab_container.build.recipe import BuildOptions
from pylab_container.engine.builds import build
from pylab_container.errors import BuildFailed, DockerfileError, LabError
from pylab_container.images.image import Image
from tests.support.contexts import Context, caches, run

pytestmark = pytest.mark.shared_engine


def files(engine: Engine, directory: Path) -> list[str]:
    """Build an image and return the files that its last layer changed."""
    layer = engine.images.build(directory).layers[-1]
    return sorted(engine.data.layers.changes(layer))


def test_a_heredoc_is_the_shells_text(engine: Engine, context: Context) -> None:
    built = engine.images.build(context("RUN <<EOF\necho one > /x\necho two >> /x\nEOF\n"))
    assert run(engine, built, "cat /x") == "one\ntwo\n"


def test_a_heredoc_with_an_interpreter_is_a_program(engine: Engine, context: Context) -> None:
    directory = context("RUN <<EOF\n#!/bin/cat\nhello\nEOF\nRUN <<'EOF'\n#!/bin/sh -e\necho $0 > /x\nEOF\n")
    built = engine.images.build(directory)
    assert run(engine, built, "cat /x; ls -d /dev/pipes 2>&1 || true").startswith("/dev/pipes/EOF\n")
    assert caches(engine.images.build(directory)) == ["hit", "hit"]


def test_a_heredoc_goes_into_a_command_and_the_shell_expands_it(engine: Engine, context: Context) -> None:
    text = "ENV V=value\nRUN cat <<EOF > /a && cat <<'END' > /b\n$V\nEOF\n$V\nEND\n"
    assert run(engine, engine.images.build(context(text)), "cat /a /b") == "value\n$V\n"


def test_a_bind_mount_shows_the_context_and_takes_no_part_in_the_image(engine: Engine, context: Context) -> None:
    directory = context(
        "RUN --mount=target=/src --mount=source=sub/b,target=/one cat /src/a /one > /out; ! touch /src/a\n",
        {"a": "A", "sub/b": "B", "no": "N", ".dockerignore": "no\n"},
    )
    built = engine.images.build(directory)
    assert run(engine, built, "cat /out; ls /").startswith("AB")
    assert files(engine, directory) == ["/out"]
    (directory / "no").write_text("ignored files count for nothing")
    assert caches(engine.images.build(directory)) == ["hit"]
    (directory / "a").write_text("C")
    assert caches(engine.images.build(directory)) == ["miss"]


def test_what_is_written_to_a_stages_files_is_dropped(engine: Engine, context: Context) -> None:
    directory = context(
        "FROM busybox:1 AS s\nRUN echo s > /s\n"
        "FROM busybox:1\nRUN --mount=from=s,target=/m,rw echo new > /m/new && cat /m/s > /x\n"
        "RUN --mount=from=s,target=/m ls /m > /y\n"
    )
    built = engine.images.build(directory)
    assert run(engine, built, "cat /x; grep -c new /y || true; ls -d /m 2>&1 || true").split("\n")[:2] == ["s", "0"]


def test_a_cache_outlives_the_build_and_is_no_part_of_the_image(engine: Engine, context: Context) -> None:
    text = "RUN --mount=type=cache,target=/c,mode=0700,uid=1000 echo {} >> /c/log; "
    text += "cp /c/log /seen; stat -c %u-%a /c >> /seen\n"
    engine.images.build(context(text.format("one")))
    built = engine.images.build(context(text.format("two")))
    assert run(engine, built, "cat /seen") == "one\ntwo\n1000-700\n"
    assert files(engine, context(text.format("two"))) == ["/seen"]


def test_caches_of_one_id_with_another_owner_or_mode_are_apart(engine: Engine, context: Context) -> None:
    lines = [
        f"RUN --mount=type=cache,id=one,target=/c{options} echo {number} >> /c/log; cat /c/log >> /seen; "
        "stat -c %u:%g:%a /c >> /seen\n"
        for number, options in enumerate(
            ["", ",uid=1000", ",gid=1000", ",mode=0700", ",uid=0,gid=0,mode=755", ",uid=1000"]
        )
    ]
    built = engine.images.build(context("".join(lines)))
    seen = run(engine, built, "cat /seen").split()
    assert seen[:8] == ["0", "0:0:755", "1", "1000:0:755", "2", "0:1000:755", "3", "0:0:700"]
    assert seen[8:] == ["0", "4", "0:0:755", "1", "5", "1000:0:755"]


def test_a_tmpfs_is_gone_afterwards(engine: Engine, context: Context) -> None:
    directory = context(
        "RUN --mount=type=tmpfs,target=/t,size=1m echo x > /t/x && mount | grep -o 'size=1024k' > /out\n"
    )
    assert run(engine, engine.images.build(directory), "cat /out; ls /t 2>&1 | wc -l").startswith("size=1024k\n")


def test_a_secret_is_seen_by_its_step_and_by_nobody_else(engine: Engine, context: Context, tmp_path: Path) -> None:
    secret = "s3" + "cret"  # the Dockerfile has it turned round
    (tmp_path / "token").write_text(secret)
    directory = context(
        "RUN --mount=type=secret,id=token stat -c %a /run/secrets/token > /mode && "
        "rev /run/secrets/token | grep -q terc3s\n"
        "RUN --mount=type=secret,id=token,env=TOKEN test $(echo $TOKEN | rev) = terc3s && "
        "! test -e /run/secrets/token\n"
        "RUN --mount=type=secret,id=other ! test -e /run/secrets/other\n"
    )
    built = engine.images.build(directory, secrets={"token": tmp_path / "token"})
    assert run(engine, built, "cat /mode; ls /run/secrets 2>&1 | grep -c token || true") == "400\n0\n"
    traces = [path for path in engine.data_root.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
    assert traces == []
    assert not (engine.runtime.path / "secrets").exists() or not list((engine.runtime.path / "secrets").iterdir())


def test_a_required_secret_that_nobody_gave_is_named(engine: Engine, context: Context) -> None:
    directory = context("RUN --mount=type=secret,id=token,required true\n")
    with pytest.raises(DockerfileError, match="secret token: not found") as caught:
        engine.images.build(directory)
    assert "--secret id=token" in caught.value.hint


@pytest.mark.parametrize(
    ("flag", "option", "interfaces"),
    [("--network=none ", "", "lo"), ("", "none", "lo"), ("--network=default ", "", "eth0 lo")],
)
def test_a_step_has_the_network_that_it_or_the_build_asks_for(
    engine: Engine, context: Context, flag: str, option: str, interfaces: str
) -> None:
    directory = context(f"RUN {flag}ls /sys/class/net | sort | xargs > /x\n")
    built = engine.images.build(directory, network_mode=option)
    assert run(engine, built, "cat /x") == f"{interfaces}\n"


def test_a_step_knows_the_hosts_of_the_command_line(engine: Engine, context: Context) -> None:
    directory = context("RUN grep -w db /etc/hosts > /x\n")
    built = engine.images.build(directory, extra_hosts={"db": "10.9.8.7"})
    assert run(engine, built, "cat /x").split() == ["10.9.8.7", "db"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("RUN --security=insecure true", "security.insecure is not allowed"),
        ("RUN --device=all true", "device is not supported"),
        ("RUN --network=moon true", 'unsupported network mode "moon"'),
        ("RUN --mount=type=ssh true", "type ssh is not supported"),
        ("RUN --mount=type=bind,target=/a,source=nowhere true", "nowhere"),
        ("RUN --mount=type=bind true", "target is missing"),
    ],
)
def test_what_a_step_cannot_have_is_refused_with_its_line(
    engine: Engine, context: Context, line: str, words: str
) -> None:
    with pytest.raises(DockerfileError, match=words) as caught:
        engine.images.build(context(f"ENV A=1\n{line}\n"))
    assert caught.value.line == 3
    assert caught.value.hint


def test_a_failed_step_keeps_its_root_until_the_next_prune(engine: Engine, context: Context) -> None:
    directory = context("ARG WHO=me\nWORKDIR /work\nRUN echo half > done; echo the reason; exit 7\n")
    with pytest.raises(BuildFailed) as caught:
        engine.images.build(directory)
    failed = engine.images.get(caught.value.image_id)
    assert (caught.value.status, caught.value.output) == (7, b"the reason\n")
    assert f"labctr --root {engine.data_root} run -it --rm {failed.id[7:19]} /bin/sh" in caught.value.hint
    assert run(engine, failed, "pwd; cat done; echo $WHO") == "/work\nhalf\nme\n"
    with pytest.raises(BuildFailed):  # the kept image is not used as a cache
        engine.images.build(directory)
    engine.images.prune()
    assert failed not in engine.images.list(all=True)
    assert engine.fsck() == []


@pytest.mark.parametrize(
    ("keep", "command", "states"),
    [
        ("never", "true", []),
        ("never", "false", []),
        ("failed", "true", []),
        ("failed", "exit 7", [7]),
        ("failed", '["/nowhere"]', [127]),
        ("always", "touch /x", [0]),
        ("always", "--mount=type=tmpfs,target=/m touch /x", []),
    ],
)
def test_the_container_of_a_step_stays_where_that_is_wanted(
    engine: Engine, image: Image, keep: Literal["never", "failed", "always"], command: str, states: list[int]
) -> None:
    text = io.BytesIO(f"FROM busybox:1\nRUN {command}\n".encode())
    try:
        build(engine.parts, text, BuildOptions(keep=keep))
    except LabError:
        assert keep != "always"
    assert [found.record.exit_code for found in engine.containers.list(all=True)] == states
    assert engine.fsck() == []


def test_a_container_that_stays_has_what_its_step_changed_as_the_image_has(engine: Engine, image: Image) -> None:
    text = io.BytesIO(b"FROM busybox:1\nRUN echo it > /x\n")
    built = build(engine.parts, text, BuildOptions(keep="always"))
    (container,) = engine.containers.list(all=True)
    assert [change.path for change in container.diff()] == ["/x"]
    assert run(engine, built, "cat /x") == "it\n"
    container.start()
    assert container.wait() == 0
    container.remove()
    assert run(engine, built, "cat /x") == "it\n"


def test_a_failed_step_whose_container_stays_leaves_no_image(engine: Engine, image: Image) -> None:
    before = engine.images.list(all=True)
    with pytest.raises(BuildFailed) as caught:
        build(engine.parts, io.BytesIO(b"FROM busybox:1\nRUN touch /x; exit 7\n"), BuildOptions(keep="failed"))
    assert caught.value.image_id == ""
    assert engine.containers.list(all=True)[0].short_id in caught.value.hint
    assert engine.images.list(all=True) == before
