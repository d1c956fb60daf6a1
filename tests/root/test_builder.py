"""Builds of whole Dockerfiles: the image, the use of the cache, and error messages."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from pylab_container import Engine
from pylab_container.errors import BuildFailed, DockerfileError, ImageNotFound, InvalidInput
from pylab_container.images.image import Image
from tests.support.contexts import Context, caches, run

pytestmark = pytest.mark.shared_engine


@pytest.mark.smoke
def test_every_instruction_ends_up_in_the_config(engine: Engine, context: Context) -> None:
    directory = context(
        """MAINTAINER "a student"
LABEL one=1 "two words"="2 3"
ENV A=b C="d e"
ENV OLD style with spaces
ARG V=3
WORKDIR /srv
WORKDIR sub
RUN echo $V-$A > out
USER student
EXPOSE 80 443/tcp
VOLUME /data
STOPSIGNAL SIGINT
ENTRYPOINT ["sh"]
CMD ["-c", "id -u"]
"""
    )
    config = engine.images.build(directory, tag="all:1").config
    assert config.author == '"a student"'
    wanted = {
        "Labels": {"one": "1", "two words": "2 3"},
        "Env": [
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "A=b",
            "C=d e",
            "OLD=style with spaces",
        ],
        "WorkingDir": "/srv/sub",
        "User": "student",
        "ExposedPorts": {"443/tcp": {}, "80/tcp": {}},
        "Volumes": {"/data": {}},
        "StopSignal": "SIGINT",
        "Entrypoint": ["sh"],
        "Cmd": ["-c", "id -u"],
    }
    assert {name: config.config[name] for name in wanted} == wanted
    assert engine.containers.run("all:1", remove=True, network_mode="none") == b"1000\n"
    assert run(engine, engine.images.get("all:1"), "cat /srv/sub/out") == "3-b\n"


def test_only_steps_that_change_files_add_layers(engine: Engine, context: Context, image: Image) -> None:
    built = engine.images.build(context("ENV A=1\nRUN true\nRUN touch /file\nCMD sh\n"))
    assert len(built.config.diff_ids) == len(image.config.diff_ids) + 1
    assert [step.get("empty_layer", False) for step in built.config.history[1:]] == [True, True, False, True]


@pytest.mark.smoke
def test_a_second_build_is_all_hits_and_the_same_image(engine: Engine, context: Context) -> None:
    directory = context("COPY a /a\nRUN cat /a > /b\nCMD sh\n", {"a": "1"})
    first = engine.images.build(directory)
    os.utime(directory / "a", (1, 1))  # only the content counts
    second = engine.images.build(directory)
    assert caches(first) == ["miss"] * 3
    assert caches(second) == ["hit"] * 3
    assert first == second


def test_a_changed_file_misses_from_its_copy_on(engine: Engine, context: Context) -> None:
    text = "ENV A=1\nCOPY a /a\nRUN cat /a > /b\n"
    engine.images.build(context(text, {"a": "1"}))
    changed = engine.images.build(context(text, {"a": "2"}))
    assert caches(changed) == ["hit", "miss", "miss"]
    assert run(engine, changed, "cat /b") == "2"


def test_a_changed_build_argument_misses_and_nocache_asks_nobody(engine: Engine, context: Context) -> None:
    directory = context("ARG V\nRUN echo $V > /v\n")
    engine.images.build(directory, buildargs={"V": "1"})
    other = engine.images.build(directory, buildargs={"V": "2"})
    assert caches(other) == ["hit", "miss"]
    assert run(engine, other, "cat /v") == "2\n"
    assert caches(engine.images.build(directory, buildargs={"V": "2"}, nocache=True)) == ["miss", "miss"]


def test_copy_puts_files_and_folders_where_docker_does(engine: Engine, context: Context) -> None:
    directory = context(
        """COPY a /plain
COPY a /folder/
COPY a /etc
COPY tree /copied
COPY a tree/b /many/
COPY *.txt /texts/
WORKDIR /w
COPY a .
""",
        {"a": "A", "tree/b": "B", "tree/deep/c": "C", "x.txt": "X", "y.txt": "Y"},
    )
    built = engine.images.build(directory)
    listing = "find /plain /folder /etc/a /copied /many /texts /w -type f | sort"
    assert run(engine, built, listing).split() == [
        "/copied/b",
        "/copied/deep/c",
        "/etc/a",
        "/folder/a",
        "/many/a",
        "/many/b",
        "/plain",
        "/texts/x.txt",
        "/texts/y.txt",
        "/w/a",
    ]


def test_copied_files_belong_to_root_and_keep_mode_and_time(engine: Engine, context: Context) -> None:
    directory = context("COPY a /a\n", {"a": "A"})
    os.chmod(directory / "a", 0o750)
    os.chown(directory / "a", 1000, 1000)
    os.utime(directory / "a", (86400, 86400))
    assert run(engine, engine.images.build(directory), "stat -c '%a %u %g %Y' /a") == "750 0 0 86400\n"


def test_add_extracts_archives_and_copies_everything_else(engine: Engine, context: Context) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        member = tarfile.TarInfo("inner/file")
        member.size, member.uid = 2, 7
        tar.addfile(member, io.BytesIO(b"hi"))
    directory = context(
        "ADD t.tgz /x/\nADD plain.gz /x/\n", {"t.tgz": archive.getvalue(), "plain.gz": b"\x1f\x8bno tar"}
    )
    built = engine.images.build(directory)
    assert run(engine, built, "cat /x/inner/file; stat -c ' %u' /x/inner/file") == "hi 7\n"
    assert run(engine, built, "ls /x") == "inner\nplain.gz\n"


def test_a_copy_through_the_images_symbolic_link_stays_inside(engine: Engine, context: Context, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    directory = context(f"RUN ln -s {outside} /link && mkdir -p {outside}\nCOPY a /link/\n", {"a": "A"})
    built = engine.images.build(directory)
    assert list(outside.iterdir()) == []
    assert run(engine, built, f"cat {outside}/a") == "A"


def test_the_context_ends_at_its_folder(engine: Engine, context: Context, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    directory = context("COPY link /x\n", {})
    (directory / "link").symlink_to("../secret")
    for text, words in (("COPY link /x\n", "not found in build context"), ("COPY ../secret /x\n", "forbidden path")):
        context(text)
        with pytest.raises(DockerfileError, match=words):
            engine.images.build(directory)


def test_dockerignore_keeps_files_out_and_exceptions_bring_them_back(engine: Engine, context: Context) -> None:
    directory = context(
        "COPY . /all/\n",
        {"a.log": "", "keep.log": "", "sub/b.log": "", ".dockerignore": "**/*.log\n!keep.log\nDockerfile\n"},
    )
    built = engine.images.build(directory)
    assert run(engine, built, "cd /all && find . -type f | sort").split() == ["./.dockerignore", "./keep.log"]


def test_temporary_containers_are_gone_and_their_layers_were_renamed(engine: Engine, context: Context) -> None:
    with engine.events.collected() as events:
        built = engine.images.build(context("RUN dd if=/dev/zero of=/big bs=1M count=8 2>/dev/null\n"))
    assert engine.containers.list(all=True) == []
    assert any("runc" in event.sentence() for event in events)
    assert built.layers[-1].size == 8 << 20


def test_a_failing_command_ends_the_build_with_its_last_words(engine: Engine, context: Context) -> None:
    directory = context("RUN touch /kept\nRUN echo what went wrong; exit 3\n")
    with pytest.raises(BuildFailed, match=r"returned a non-zero code: 3") as caught:
        engine.images.build(directory, tag="never:1")
    assert caught.value.status == 3
    assert b"what went wrong" in caught.value.output
    assert engine.containers.list(all=True) == []
    assert not any("never:1" in image.tags for image in engine.images.list(all=True))


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("RNU true\n", 2, "RUN"),
        ("COPY missing /x\n", 2, "not found in build context"),
        ("ENV A=1\nEXPOSE 80 # the web\n", 3, "starts no comment"),
        ("ADD Dockerfile /x # no comment\n", 2, "starts no comment"),
        ("COPY a b c /not-a-folder\n", 2, "end with a /"),
        ("COPY http://127.0.0.1/a /b\n", 2, "source can't be a URL for COPY"),
        ("EXPOSE $NOTHING/x\n", 2, "no port"),
    ],
)
def test_a_mistake_is_pointed_at(engine: Engine, context: Context, text: str, line: int, words: str) -> None:
    before = {image.id for image in engine.images.list(all=True)}
    with pytest.raises(DockerfileError) as caught:
        engine.images.build(context(text, {"a": "", "b": "", "c": ""}))
    assert caught.value.line == line
    assert words in str(caught.value)
    assert "^" in str(caught.value)
    assert caught.value.hint
    assert len({image.id for image in engine.images.list(all=True)} - before) <= line - 2


def test_a_missing_base_image_or_dockerfile_is_named(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="failed to read Dockerfile"):
        engine.images.build(tmp_path)
    with pytest.raises(InvalidInput, match="not found or not a directory"):
        engine.images.build(tmp_path / "nowhere")
    (tmp_path / "Dockerfile").write_text("FROM nobody/has:this\n")
    with pytest.raises(ImageNotFound, match=r"Dockerfile:1: No such image: nobody/has:this"):
        engine.images.build(tmp_path)


def test_an_image_can_be_built_from_scratch(engine: Engine, tmp_path: Path, image: Image) -> None:
    (tmp_path / "Dockerfile").write_text('FROM scratch\nCOPY hello /\nCMD ["/hello"]\n')
    (tmp_path / "hello").write_text("hi")
    built = engine.images.build(tmp_path, tag="scratch:1")
    assert len(built.layers) == 1
    assert built.config.config["Cmd"] == ["/hello"]


def test_changes_below_a_declared_volume_are_not_kept(engine: Engine, context: Context) -> None:
    built = engine.images.build(context("VOLUME /data\nRUN touch /data/lost /kept\n"))
    assert run(engine, built, "ls /data /kept") == "/kept\n\n/data:\n"
