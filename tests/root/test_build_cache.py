"""The build cache: hits, reasons for misses, and images from other sources (--cache-from)."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from pylab_container import Engine
from pylab_container.events import BuildWarning, Event
from tests.support.contexts import Context, caches, reasons, run

pytestmark = pytest.mark.shared_engine


def test_a_touched_file_is_the_same_file(engine: Engine, context: Context) -> None:
    directory = context("COPY a /a\n", {"a": "A"})
    engine.images.build(directory)
    os.utime(directory / "a", (1, 1))
    assert caches(engine.images.build(directory)) == ["hit"]
    (directory / "a").chmod(0o600)
    assert caches(engine.images.build(directory)) == ["miss"]


def test_a_miss_names_the_files_that_changed(engine: Engine, context: Context) -> None:
    directory = context("COPY . /all/\nRUN true\n", {"a": "1", "b": "1", "sub/c": "1", "gone": ""})
    first = engine.images.build(directory)
    assert reasons(first) == ["nothing of the kind was done on the image above before", "step 2 was made anew"]
    (directory / "a").write_text("2")
    (directory / "sub/c").write_text("2")
    (directory / "new").write_text("")
    (directory / "gone").unlink()
    assert reasons(engine.images.build(directory)) == [
        "changed: a, sub/c; new: new; gone: gone",
        "step 2 was made anew",
    ]


def test_a_miss_names_the_argument_that_changed(engine: Engine, context: Context) -> None:
    directory = context("ARG A=1\nARG B=1\nRUN echo $A $B\n")
    engine.images.build(directory)
    again = engine.images.build(directory, buildargs={"B": "2"})
    assert caches(again) == ["hit", "hit", "miss"]
    assert reasons(again)[2] == "ARG B is '2', it was '1'"


def test_a_miss_names_the_instruction_that_changed(engine: Engine, context: Context) -> None:
    engine.images.build(context("ENV A=1\nRUN echo one\n"))
    assert reasons(engine.images.build(context("ENV A=1\nRUN echo two\n"))) == [
        "",
        "the instruction changed, it was: echo one",
    ]


def test_a_miss_names_the_base_image_that_changed(engine: Engine, context: Context) -> None:
    engine.images.build(context("RUN true\n"))
    engine.images.build(context("LABEL a=1\n"), tag="busybox:1")
    assert "busybox:1 is another image now" in reasons(engine.images.build(context("RUN true\n")))[0]


def test_without_the_cache_everything_is_made_anew_and_says_so(engine: Engine, context: Context) -> None:
    directory = context("ENV A=1\nRUN true\n")
    engine.images.build(directory)
    again = engine.images.build(directory, nocache=True)
    assert caches(again) == ["miss", "miss"]
    assert set(reasons(again)) == {"the cache was not asked (--no-cache)"}


def test_steps_come_out_of_the_history_of_a_loaded_image(engine: Engine, context: Context, tmp_path: Path) -> None:
    directory = context('ENV A=1\nRUN cat /proc/sys/kernel/random/uuid > /id\nCMD ["sh"]\n')
    built = engine.images.build(directory, tag="made:1")
    other = Engine(tmp_path / "other")
    archive = tmp_path / "both.tar"
    engine.images.save(["made:1", "busybox:1"], archive)
    other.images.load(archive)
    assert caches(other.images.build(directory)) == ["miss"] * 3
    again = other.images.build(directory, cache_from=["made:1"])
    assert caches(again) == ["hit"] * 3
    assert again.id == built.id
    assert run(other, again, "cat /id") == run(engine, built, "cat /id")
    assert other.fsck() == []


def test_only_the_images_named_are_asked(engine: Engine, context: Context) -> None:
    engine.images.build(context("RUN true\n"), tag="made:1")
    engine.images.build(context("RUN echo other\n"), tag="other:1")
    again = engine.images.build(context("RUN true\n"), cache_from=["other:1"])
    assert (caches(again), reasons(again)) == (["miss"], ["the image that has it is not one of --cache-from"])
    with engine.events.collected() as events:
        engine.images.build(context("RUN true\n"), cache_from=["nobody:1"])
    assert any("nobody:1 is not here" in warning for warning in warnings(events))


def warnings(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, BuildWarning)]


def test_an_argument_that_nobody_asks_for_is_told(engine: Engine, context: Context) -> None:
    with engine.events.collected() as events:
        engine.images.build(context("ARG USED\nRUN true\n"), buildargs={"USED": "1", "UNUSED": "2", "HTTP_PROXY": "x"})
    assert warnings(events) == ["[Warning] One or more build-args [UNUSED] were not consumed"]


def test_a_report_counts_bytes_and_files(engine: Engine, context: Context) -> None:
    directory = context("COPY a b /d/\nRUN echo xx > /d/a && rm /d/b && touch /d/c\nENV A=1\n", {"a": "12345", "b": ""})
    for _ in range(2):
        report = engine.images.build(directory).build_report
        assert report is not None
        copied, ran, configured = report.steps[1:]
        assert (copied.bytes, copied.files.added, copied.files.total) == (5, 3, 3)
        assert (ran.bytes, ran.files.added, ran.files.changed, ran.files.removed) == (3, 1, 1, 1)
        assert (configured.bytes, configured.files.total) == (0, 0)
        assert all(step.seconds >= 0 <= step.started <= report.seconds for step in report.steps)


def test_a_build_tells_what_a_careful_reader_would(engine: Engine, context: Context) -> None:
    report = engine.images.build(context("MAINTAINER me\nCMD sh\n")).build_report
    assert report is not None
    assert [warning.rule for warning in report.warnings] == ["MaintainerDeprecated", "JSONArgsRecommended"]


def test_a_dockerfile_alone_is_read_from_a_stream(engine: Engine, image: object) -> None:
    built = engine.images.build(io.BytesIO(b"FROM busybox:1\nENV A=1\n"))
    assert "A=1" in built.config.config["Env"]


def test_a_cache_of_missing_images_is_no_cache(engine: Engine, context: Context) -> None:
    directory = context("RUN true\n")
    engine.images.build(directory)
    assert caches(engine.images.build(directory, cache_from=["nobody:1"])) == ["miss"]


def test_what_a_flag_does_is_part_of_what_the_cache_knows(engine: Engine, context: Context) -> None:
    files = {"d/a": "A"}
    for flags in ("", "--link ", "--parents ", "--chmod=600 ", "--chown=1 ", "--exclude=b "):
        built = engine.images.build(context(f"COPY {flags}d /new/\n", files))
        assert caches(built) == (["hit"] if flags == "--exclude=b " else ["miss"])


def test_a_linked_copy_knows_the_users_of_the_image(engine: Engine, context: Context) -> None:
    built = engine.images.build(context("COPY --link --chown=student a /new/\n", {"a": ""}))
    assert run(engine, built, "stat -c %u:%g /new/a") == "1000:1000\n"
