"""Several stages: only the needed ones, at the same time, copying from each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from pylab_container import Engine
from pylab_container.build.recipe import BuildOptions
from pylab_container.engine.builds import plan
from pylab_container.errors import BuildFailed, DockerfileError, ImageNotFound, InvalidInput
from tests.support.contexts import Context, caches, run


def instructions(engine: Engine, directory: Path, **options: str) -> list[str]:
    report = engine.images.build(directory, **options).build_report  # type: ignore[arg-type]
    assert report is not None
    return [step.instruction for step in report.steps]


def test_files_are_copied_from_an_earlier_stage_by_name_and_by_number(engine: Engine, context: Context) -> None:
    directory = context(
        "FROM busybox:1 AS Compile\nRUN mkdir /out && echo made > /out/a && chown 1000 /out/a\n"
        "FROM busybox:1\nCOPY --from=compile /out /by-name\nCOPY --from=0 /out/a /by-number\n"
    )
    built = engine.images.build(directory)
    assert run(engine, built, "cat /by-name/a /by-number; stat -c %u /by-name/a") == "made\nmade\n1000\n"
    assert caches(engine.images.build(directory)) == ["hit"] * 3


def test_files_are_copied_from_an_image(engine: Engine, context: Context) -> None:
    built = engine.images.build(context("FROM scratch\nCOPY --from=busybox:1 /etc/passwd /bin/busybox /\n"))
    assert [layer.size > 1000 for layer in built.layers] == [True]


def test_a_stage_continues_an_earlier_one_with_its_config(engine: Engine, context: Context) -> None:
    built = engine.images.build(
        context("FROM busybox:1 AS base\nENV A=1\nARG B=2\nUSER student\nFROM base\nRUN echo $A-${B:-none} > /tmp/x\n")
    )
    assert run(engine, built, "cat /tmp/x") == "1-none\n"
    assert built.config.config["User"] == "student"


def test_stages_that_the_target_does_not_need_are_not_made(engine: Engine, context: Context) -> None:
    directory = context(
        "FROM busybox:1 AS a\nRUN echo a > /a\nFROM busybox:1 AS broken\nRUN false\n"
        "FROM busybox:1 AS c\nCOPY --from=a /a /\nFROM busybox:1 AS last\nRUN false\n"
    )
    told = instructions(engine, directory, target="C")
    assert told == ["FROM busybox:1 AS a", "RUN echo a > /a", "FROM busybox:1 AS c", "COPY --from=a /a /"]
    with pytest.raises(InvalidInput, match="failed to reach build target d"):
        engine.images.build(directory, target="d")


def test_independent_stages_are_made_at_the_same_time(engine: Engine, context: Context) -> None:
    """Each stage waits until all three have begun, so the build would fail if it ran them in sequence."""
    meet = "timeout 300 sh -c 'until [ $(ls /meet | wc -l) = 3 ]; do sleep 0.1; done'"
    stages = "".join(
        f"FROM busybox:1 AS s{i}\nRUN --mount=type=cache,target=/meet touch /meet/{i}; {meet} && echo {i} > /n{i}\n"
        for i in range(3)
    )
    copies = "".join(f"COPY --from=s{i} /n{i} /\n" for i in range(3))
    built = engine.images.build(context(f"{stages}FROM busybox:1\n{copies}"))
    assert run(engine, built, "cat /n0 /n1 /n2") == "0\n1\n2\n"
    report = built.build_report
    assert report is not None
    assert [step.number for step in report.steps] == list(range(1, 11))
    assert report.stages == ("s0", "s1", "s2", "stage-3")


def test_stages_that_want_a_new_cache_at_once_find_it_whole(engine: Engine, context: Context) -> None:
    mount = "--mount=type=cache,id=shared,from=full,source=/files,target=/c"
    stages = "".join(f"FROM busybox:1 AS s{i}\nRUN {mount} ls /c | wc -l > /n{i}\n" for i in range(6))
    copies = "".join(f"COPY --from=s{i} /n{i} /\n" for i in range(6))
    full = "FROM busybox:1 AS full\nRUN mkdir /files; cd /files; seq 3000 | xargs touch\n"
    built = engine.images.build(context(f"{full}{stages}FROM busybox:1\n{copies}"))
    assert run(engine, built, "sort -u /n?") == "3000\n"


def test_the_same_step_in_two_stages_is_made_once(engine: Engine, context: Context) -> None:
    step = "RUN sleep 0.3; cat /proc/sys/kernel/random/uuid > /id\n"
    built = engine.images.build(
        context(
            f"FROM busybox:1 AS a\n{step}FROM busybox:1 AS b\n{step}"
            "FROM busybox:1\nCOPY --from=a /id /a\nCOPY --from=b /id /b\n"
        )
    )
    assert run(engine, built, "cmp /a /b && echo same") == "same\n"
    assert sorted(caches(built)[:2]) == ["hit", "miss"]


def test_a_failing_stage_ends_the_commands_of_the_others(engine: Engine, context: Context) -> None:
    """The other stage's command takes ten minutes, which is longer than a test's time limit."""
    meet = "--mount=type=cache,target=/meet"
    await_slow = "timeout 300 sh -c 'until [ -e /meet/slow ]; do sleep 0.05; done'"
    directory = context(
        f"FROM busybox:1 AS slow\nRUN {meet} touch /meet/slow; sleep 600; touch /meet/finished\n"
        f"FROM busybox:1 AS bad\nRUN {meet} {await_slow}; echo no; exit 4\n"
        "FROM busybox:1\nCOPY --from=slow / /\nCOPY --from=bad / /\n"
    )
    with pytest.raises(BuildFailed) as caught:
        engine.images.build(directory)
    assert (caught.value.status, caught.value.output) == (4, b"no\n")
    assert not list((engine.data_root / "builder/cache").rglob("finished"))
    assert engine.containers.list(all=True) == []


def test_triggers_of_the_base_image_are_carried_out_first(engine: Engine, context: Context) -> None:
    engine.images.build(context("ONBUILD COPY a /a\nONBUILD RUN echo $V >> /a\nENV V=base\n"), tag="parent:1")
    built = engine.images.build(context("FROM parent:1\nRUN cat /a > /b\n", {"a": "A\n"}))
    assert run(engine, built, "cat /b") == "A\nbase\n"
    assert not built.config.config["OnBuild"]


def test_a_stage_that_only_a_trigger_names_may_wait_for_another_stage(engine: Engine, context: Context) -> None:
    """The two stages once waited for each other: the build of `trigger` held a lock that `slow` needs at its COPY."""
    engine.images.build(context("ONBUILD COPY --from=trigger /b /c\n"), tag="parent:1")
    built = engine.images.build(
        context(
            "FROM busybox:1 AS first\nRUN echo A > /a\n"
            "FROM busybox:1 AS slow\nRUN sleep 0.5\nCOPY --from=first /a /a\n"
            "FROM busybox:1 AS trigger\nCOPY --from=slow /a /b\n"
            "FROM parent:1\nCOPY --from=slow /a /d\n"
        )
    )
    assert run(engine, built, "cat /c /d") == "A\nA\n"


def test_a_stage_without_anything_is_no_image(engine: Engine, context: Context) -> None:
    with pytest.raises(DockerfileError, match="No image was generated"):
        engine.images.build(context("FROM scratch\n"))


def test_a_stage_that_does_not_exist_yet_is_taken_for_an_image(engine: Engine, context: Context) -> None:
    with pytest.raises(ImageNotFound, match="later"):
        engine.images.build(
            context("FROM busybox:1\nCOPY --from=later /a /\nFROM busybox:1 AS later\n", {}), target="0"
        )


def test_platform_arguments_are_known_to_who_declares_them(engine: Engine, context: Context) -> None:
    text = "FROM --platform=$BUILDPLATFORM busybox:1\nARG TARGETARCH\nRUN echo $TARGETARCH-$TARGETOS > /x\n"
    architecture = engine.images.get("busybox:1").config.architecture
    assert run(engine, engine.images.build(context(text)), "cat /x") == f"{architecture}-\n"
    with pytest.raises(ImageNotFound, match="is of platform"):
        engine.images.build(context("FROM --platform=linux/s390x busybox:1\n"))


def test_a_plan_makes_nothing_and_tells_all(engine: Engine, context: Context) -> None:
    directory = context(
        "FROM busybox:1 AS a\nRUN echo a > /a\nFROM busybox:1 AS unused\nRUN false\n"
        "FROM busybox:1\nENV X=1\nCOPY --from=a /a /\nRUN cat /a\n"
    )
    before = sorted(engine.data_root.rglob("*"))
    planned = plan(engine.parts, directory, BuildOptions())
    assert sorted(engine.data_root.rglob("*")) == before
    assert planned.left_out == ("unused",)
    assert planned.needs == {"a": (), "stage-2": ("a",)}
    assert [step.cache for step in planned.steps] == ["", "miss", "", "miss", "miss", "miss"]
    engine.images.build(directory)
    assert [step.cache for step in plan(engine.parts, directory, BuildOptions()).steps] == [
        "",
        "hit",
        "",
        "hit",
        "hit",
        "hit",
    ]
