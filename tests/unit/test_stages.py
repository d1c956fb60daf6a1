"""Stages: what each needs, and which a target needs."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from pylab_container.dockerfile import parser
from pylab_container.dockerfile.stages import Stages, find_stage
from pylab_container.errors import DockerfileError, InvalidInput


def stages(text: str, buildargs: Mapping[str, str] | None = None) -> Stages:
    parsed = parser.parse(text)
    return Stages.of(parsed, source="Dockerfile", buildargs=buildargs or {}, platform={"TARGETARCH": "amd64"})


def needed(text: str, target: str = "") -> list[str]:
    found = stages(text)
    return [stage.label for stage in found.needed(found.target(target))]


THREE = "FROM a AS one\nFROM b AS two\nFROM c AS three\n"


def test_only_what_the_target_needs_is_needed() -> None:
    assert needed(THREE + "FROM d\nCOPY --from=one /a /a\n") == ["one", "stage-3"]
    assert needed(THREE + "FROM two\n") == ["two", "stage-3"]
    assert needed(THREE + "FROM d\nRUN --mount=from=three,target=/x true\n") == ["three", "stage-3"]


def test_what_a_needed_stage_needs_is_needed_too() -> None:
    assert needed("FROM a AS one\nFROM one AS two\nFROM x\nFROM y\nCOPY --from=two . .\n") == ["one", "two", "stage-3"]


def test_a_target_needs_nothing_that_comes_after_it() -> None:
    assert needed(THREE + "FROM one\n", target="two") == ["two"]
    assert needed(THREE, target="0") == ["one"]
    assert needed(THREE, target="TWO") == ["two"]


def test_a_stage_of_a_later_name_hides_an_earlier_one() -> None:
    assert needed("FROM a AS x\nFROM b AS x\nFROM c\nCOPY --from=x . .\n") == ["x", "stage-2"]
    found = stages("FROM a AS x\nFROM b AS x\n")
    assert find_stage("x", found.stages) == 1


def test_a_number_is_a_stage_for_copy_and_an_image_for_from() -> None:
    assert needed("FROM a\nFROM b\nCOPY --from=0 . .\n") == ["stage-0", "stage-1"]
    assert needed("FROM a\nFROM 0\n") == ["stage-1"]


def test_a_stage_is_no_source_of_itself_or_of_an_earlier_one() -> None:
    assert needed("FROM a AS one\nCOPY --from=two . .\nFROM b AS two\nCOPY --from=two . .\n") == ["two"]


def test_from_takes_the_arguments_above_it_and_the_platform() -> None:
    text = "ARG TAG=12\nARG NAME=debian:$TAG\nFROM --platform=linux/$TARGETARCH $NAME\n"
    assert stages(text).stages[0].base == "debian:12"
    assert stages(text, {"TAG": "13"}).stages[0].base == "debian:13"
    assert stages(text).stages[0].platform == "linux/amd64"


def test_a_base_without_a_name_is_pointed_at() -> None:
    with pytest.raises(DockerfileError, match=r"base name \(\$BASE\) should not be blank") as caught:
        stages("ARG BASE\nFROM $BASE\n")
    assert (caught.value.line, caught.value.column) == (2, 6)


@pytest.mark.parametrize("text", ["RUN true\nFROM a\n", "ENV A=1\nFROM a\n"])
def test_only_arg_may_stand_before_from(text: str) -> None:
    with pytest.raises(DockerfileError, match="no build stage in current context"):
        stages(text)


def test_a_file_without_from_has_nothing_to_build() -> None:
    with pytest.raises(DockerfileError, match="no build stage"):
        stages("ARG A=1\n")


def test_an_unknown_target_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(InvalidInput, match="failed to reach build target tow") as caught:
        stages(THREE).target("tow")
    assert "two" in caught.value.hint
