"""Which warnings a Dockerfile gets. The cases are those of BuildKit's own tests of its linter, and some of ours."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from pylab_container.dockerfile.dockerignore import IgnorePatterns
from pylab_container.dockerfile.lint.linter import (
    BaseImage,
    LintWarning,
    check_options,
    lint,
    parse_check_options,
    render,
)
from pylab_container.dockerfile.lint.rules import RULES, Rule
from pylab_container.dockerfile.parser import parse, parse_syntax
from pylab_container.errors import DockerfileError, InvalidInput

REPOSITORY = Path(__file__).parents[2]
PLATFORM = {
    "BUILDPLATFORM": "linux/amd64",
    "TARGETPLATFORM": "linux/amd64",
    "TARGETOS": "linux",
    "TARGETARCH": "amd64",
}


def warnings(
    text: str,
    *,
    buildargs: Mapping[str, str] | None = None,
    target: str | None = None,
    ignore: str | None = None,
    images: Mapping[str, BaseImage] | None = None,
) -> tuple[LintWarning, ...]:
    return lint(
        parse(text),
        text=text,
        source="Dockerfile",
        buildargs=buildargs,
        target=target,
        ignored=None if ignore is None else IgnorePatterns.parse(ignore),
        images=images,
        platform=PLATFORM,
    )


def lines(rule: str, text: str, *, buildargs: Mapping[str, str] | None = None) -> list[int]:
    """The lines that one rule complains about; no other rule may complain."""
    found = warnings(text, buildargs=buildargs)
    assert {each.rule for each in found} <= {rule}
    return [each.line for each in found]


def one(text: str, *, images: Mapping[str, BaseImage] | None = None) -> LintWarning:
    (warning,) = warnings(text, images=images)
    return warning


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM scratch AS Build\n", [1]),
        ("FROM scratch AS build\n", []),
        ("FROM scratch\n", []),
    ],
)
def test_a_stage_name_is_written_in_small_letters(text: str, expected: list[int]) -> None:
    assert lines("StageNameCasing", text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM scratch as base\nFROM scratch AS base3\n", [1]),
        ("from scratch AS base\nfrom scratch as base2\n", [1]),
        ("FROM scratch aS base\n", [1]),
    ],
)
def test_as_is_written_like_from(text: str, expected: list[int]) -> None:
    assert lines("FromAsCasing", text) == expected


def test_a_from_in_mixed_casing_is_blamed_only_once() -> None:
    assert lines("ConsistentInstructionCasing", "From scratch as base\nFROM scratch AS base2\n") == [1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM scratch\nCOPY a \\\n\n.\nCOPY a \\\n.\n", [4]),
        ("FROM scratch\nCOPY a \\\n  \t\n\n.\n", [5]),
        ("FROM scratch\nCOPY a \\\n# a comment\n  # another\n.\n", []),
        ("FROM scratch\nCOPY a . \\\n\n", [3]),
        ("FROM scratch\nCOPY a . \\\n", []),
        ("FROM scratch\nCOPY <<EOF \\\n\n/a\none\n\ntwo\nEOF\n", [4]),
        ("FROM scratch\nCOPY <<EOF /a\none\n\ntwo\nEOF\n", []),
        ("FROM scratch\r\nCOPY a \\\r\n\r\n.\r\n", [4]),
        ("\ufeffFROM scratch\nCOPY a \\\n\n.\n", [4]),
    ],
)
def test_an_instruction_does_not_go_on_across_an_empty_line(text: str, expected: list[int]) -> None:
    assert lines("NoEmptyContinuation", text) == expected


def test_the_line_blamed_for_an_empty_continuation_is_the_instructions_last_one() -> None:
    warning = one("FROM scratch\nCOPY a \\\n\n.\n")
    assert (warning.line, warning.end_line, warning.text) == (4, 4, ".")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("From scratch\nFROM scratch\n", [1]),
        ("FROM scratch\ncopy a /foo\nCOPY a /bar\n", [2]),
        ("frOM scratch as base\nfrom scratch as base2\n", [1]),
        ("from scratch\nCOPY a /foo\ncopy a /bar\n", [2]),
        ("from scratch\nCOPY a /foo\nCOPY a /bar\nCOPY a /baz\n", [1]),
        ("FROM scratch\ncopy a /foo\ncopy a /bar\ncopy a /baz\n", [1]),
        ("FROM scratch\ncopy a /foo\n", [2]),
        ("from scratch\ncopy a /foo\ncopy a /bar\n", []),
        ("FROM scratch\nRUN <<'EOT'\nenv\nEOT\n", []),
        ("arg A=1\nFROM scratch\n", []),
        ("FROM scratch\nONBUILD run true\n", []),
    ],
)
def test_all_instructions_from_the_first_from_on_are_cased_as_most_are(text: str, expected: list[int]) -> None:
    assert lines("ConsistentInstructionCasing", text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM scratch AS b\nFROM scratch AS b\n", [2]),
        ("FROM scratch AS b1\nFROM scratch AS b2\n", []),
        ("FROM scratch\nFROM scratch\n", []),
    ],
)
def test_two_stages_have_two_names(text: str, expected: list[int]) -> None:
    assert lines("DuplicateStageName", text) == expected


def test_stage_names_that_differ_in_casing_are_the_same() -> None:
    found = warnings("FROM scratch AS b\nFROM scratch AS B\n")
    assert {(each.rule, each.line) for each in found} == {("StageNameCasing", 2), ("DuplicateStageName", 2)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM scratch AS scratch\nFROM scratch AS context\n", [1, 2]),
        ("FROM scratch\nFROM scratch AS a\n", []),
    ],
)
def test_no_stage_is_called_scratch_or_context(text: str, expected: list[int]) -> None:
    assert lines("ReservedStageName", text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM scratch\nCMD mycommand\n", [2]),
        ("FROM scratch\nENTRYPOINT mycommand\n", [2]),
        ('FROM scratch\nCMD ["mycommand"]\nENTRYPOINT ["mycommand"]\n', []),
        ("FROM scratch\nCMD [mycommand]\n", [2]),
        ("FROM scratch\nRUN mycommand\nHEALTHCHECK CMD mycommand\n", []),
        ('FROM scratch\nSHELL ["/bin/dash"]\nCMD mycommand\n', []),
        ('FROM scratch\nCMD mycommand\nSHELL ["/bin/dash"]\n', [2]),
        ('FROM scratch AS base\nSHELL ["/bin/dash"]\nFROM base\nENTRYPOINT mycommand\n', []),
        ('FROM scratch AS base\nSHELL ["/bin/dash"]\nFROM scratch\nCMD mycommand\n', [4]),
    ],
)
def test_cmd_and_entrypoint_are_json_unless_a_shell_was_chosen(text: str, expected: list[int]) -> None:
    assert lines("JSONArgsRecommended", text) == expected


def test_a_shell_chosen_by_the_base_image_counts_too() -> None:
    assert warnings("FROM pwsh\nCMD a\n", images={"pwsh": BaseImage(own_shell=True)}) == ()


@pytest.mark.parametrize(
    ("command", "json"),
    [
        ("nginx -g daemon", '["nginx", "-g", "daemon"]'),
        ("a && b", '["program", "argument"]'),
        ("echo $HOME", '["program", "argument"]'),
        ("", '["program", "argument"]'),
    ],
)
def test_simple_commands_are_translated_to_json_in_the_hint(command: str, json: str) -> None:
    assert one(f"FROM scratch\nCMD {command}\n").hint == f"write CMD {json}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM scratch\nMAINTAINER me@example.org\n", [2]),
        ('FROM scratch\nLABEL org.opencontainers.image.authors="me@example.org"\n', []),
    ],
)
def test_maintainer_is_outdated(text: str, expected: list[int]) -> None:
    assert lines("MaintainerDeprecated", text) == expected


def test_the_hint_for_maintainer_is_the_label_ready_to_paste() -> None:
    hint = one('FROM scratch\nMAINTAINER "httpd@example.com"\n').hint
    assert hint == 'write LABEL org.opencontainers.image.authors="httpd@example.com"'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ARG base=scratch\nFROM $base\n", []),
        ("ARG BUILDPLATFORM=linux/amd64\nFROM --platform=$BUILDPLATFORM scratch\n", []),
        ("FROM --platform=$BUILDPLATFORM scratch\n", []),
        ("ARG DEBUG\nFROM scratch${DEBUG}\n", []),
        ("ARG DEBUG\nFROM scra${DEBUG:-tch}\n", []),
        ('ARG DEBUG=""\nFROM scratch${DEBUG-@bogus}\n', []),
        ("FROM --platform=$BULIDPLATFORM scratch\n", [1]),
        ("ARG MY_ARCH=amd64\nFROM --platform=linux/${MYARCH} busybox\n", [2]),
        ("ARG tag=latest\nFROM busybox:${tag}${version} AS b\n", [2]),
        ("FROM scratch\nARG version=1\nFROM busybox:1${version}\n", [3]),
        ("FROM scratch${X:-}\n", [1]),
    ],
)
def test_from_uses_only_declared_arguments(text: str, expected: list[int]) -> None:
    assert lines("UndefinedArgInFrom", text) == expected


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("FROM --platform=$BULIDPLATFORM scratch\n", "did you mean BUILDPLATFORM?"),
        ("ARG MY_ARCH=amd64\nFROM --platform=linux/${MYARCH} busybox\n", "did you mean MY_ARCH?"),
        ("ARG tag=latest\nFROM busybox:${tag}${version} AS b\n", "declare it above the first FROM: ARG version=…"),
    ],
)
def test_a_mistyped_argument_of_from_is_recognised(text: str, hint: str) -> None:
    assert one(text).hint == hint


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM scratch\nWORKDIR app/\n", [2]),
        ("FROM scratch\nWORKDIR app\nWORKDIR sub\n", [2]),
        ("FROM scratch\nWORKDIR /app\nWORKDIR sub\n", []),
        ("FROM scratch AS a\nWORKDIR /app\nFROM a AS b\nWORKDIR subdir/\n", []),
        ("FROM scratch\nENV home=/app\nWORKDIR $home\n", []),
        ("FROM scratch\nENV home=app\nWORKDIR $home\n", [3]),
        ('FROM scratch\nWORKDIR "/app"\n', []),
        ("FROM scratch\nWORKDIR ${X:?no}\n", []),
    ],
)
def test_the_first_workdir_of_a_stage_is_absolute(text: str, expected: list[int]) -> None:
    found = [each.line for each in warnings(text) if each.rule == "WorkdirRelativePath"]
    assert found == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM scratch\nARG foo\nCOPY Dockerfile${foo} .\n", []),
        ("FROM alpine AS base\nARG foo=Dockerfile\nFROM base\nCOPY $foo .\n", []),
        ("FROM alpine AS base\nARG foo=Dockerfile\nFROM alpine\nCOPY $foo .\n", [4]),
        ('FROM alpine\nRUN echo $PATH\nRUN echo $nobody\nCMD ["$nobody"]\n', []),
        ("FROM alpine\nCOPY $foo .\nARG foo=bar\nRUN echo $foo\n", [2]),
        ("ARG foo=bar\nFROM alpine\nCOPY $foo .\n", [3]),
        ("ARG foo=bar\nFROM alpine\nARG foo\nCOPY $foo .\n", []),
        ("FROM alpine\nARG a=1 b=$a\n", []),
        ("FROM alpine\nENV a=1 b=$a\n", [2]),
        ("FROM alpine\nARG a=$b\n", [2]),
        ("FROM alpine\nENV a=${b:-1}\n", [2]),
        ("FROM alpine\nUSER $u\nVOLUME $v\nSTOPSIGNAL $s\nLABEL l=$l\n", [2, 3, 4, 5]),
        ("FROM alpine\nEXPOSE $port\nHEALTHCHECK CMD $x\nONBUILD COPY $x /\n", []),
        ("FROM alpine\nCOPY --chown=$owner a b\n", [2]),
        ("FROM alpine\nRUN --mount=type=bind,source=$dir,target=/x true\n", [2]),
        ("FROM alpine\nCOPY <<EOF /a\n$foo\nEOF\n", [2]),
        ("FROM alpine\nCOPY <<'EOF' /a\n$foo\nEOF\n", []),
        ("FROM alpine\nCOPY '$foo' \\$foo /a\n", []),
        ("FROM alpine\nCOPY $foo $foo $bar /a\n", [2, 2]),
        ("FROM alpine\nARG TARGETARCH\nCOPY $TARGETARCH /\n", []),
        ("FROM alpine\nCOPY $TARGETARCH /\n", [2]),
    ],
)
def test_variables_are_defined_before_their_use(text: str, expected: list[int]) -> None:
    assert lines("UndefinedVar", text) == expected


def test_the_default_of_an_argument_that_was_given_does_not_matter() -> None:
    assert warnings("FROM scratch\nARG a=$b\nCOPY $a /\n", buildargs={"a": "1"}) == ()


def test_the_environment_of_a_known_base_image_is_defined() -> None:
    text = "FROM python AS a\nFROM a\nCOPY $PYTHON_VERSION $PYTHON_VRSION /\n"
    images = {"python": BaseImage({"PYTHON_VERSION": "3.11"})}
    assert one(text, images=images).hint == "did you mean $PYTHON_VERSION?"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("FROM scratch\nENV PATH=$PAHT:/tmp/bin\n", "did you mean $PATH?"),
        ("FROM scratch\nARG DIR_A=a DIR_ASSETS=b\nCOPY $DIR_ASSET .\n", "did you mean $DIR_ASSETS?"),
        ("FROM scratch\nCOPY $foo .\n", "define foo above, with ARG or ENV"),
    ],
)
def test_a_mistyped_variable_is_recognised(text: str, hint: str) -> None:
    assert one(text).hint == hint


def test_a_hint_says_when_an_unknown_base_image_could_define_the_variable() -> None:
    text = "FROM mystery AS a\nFROM a\nCOPY $foo /\n"
    assert "the image mystery is not here" in one(text).hint
    assert "mystery" not in one(text, images={"mystery": BaseImage()}).hint


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('FROM scratch\nENTRYPOINT ["/a"]\nENTRYPOINT ["/b"]\nCMD ["/a"]\nCMD ["/b"]\n', [2, 4]),
        ('FROM scratch\nHEALTHCHECK CMD ["/a"]\nCOPY a b\nHEALTHCHECK NONE\n', [2]),
        ('FROM scratch\nCMD ["/a"]\nCMD ["/b"]\nCMD ["/c"]\n', [2, 3]),
        ('FROM scratch AS a\nCMD ["/a"]\nENTRYPOINT ["/a"]\nFROM a AS b\nCMD ["/b"]\nENTRYPOINT ["/b"]\n', []),
        ('FROM scratch AS a\nONBUILD CMD ["/a"]\nFROM a\nCMD ["/b"]\n', [3]),
    ],
)
def test_what_a_later_instruction_of_the_stage_replaces_has_no_effect(text: str, expected: list[int]) -> None:
    assert lines("MultipleInstructionsDisallowed", text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM scratch\nENV testkey value\nLABEL key value\n", [2, 3]),
        ("FROM scratch\nENV testkey=value\nLABEL key=value\n", []),
        ("FROM scratch\nENV a=1 b=2\n", []),
        ("FROM scratch\nENV a b=c\n", [2]),
        ("FROM scratch\nENV\ta\t= b\n", [2]),
        ("FROM scratch\nENV \\\n  a=1\n", []),
        ("FROM scratch AS base\nONBUILD ENV a b\nFROM base\n", [3]),
    ],
)
def test_names_and_values_are_joined_by_an_equals_sign(text: str, expected: list[int]) -> None:
    assert lines("LegacyKeyValueFormat", text) == expected


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("ENV a b c", 'write ENV a="b c"'),
        ('LABEL a "b c"', 'write LABEL a="b c"'),
        ("ENV a b=c", "write ENV a=b=c"),
    ],
)
def test_the_hint_for_the_old_form_is_the_new_one(written: str, hint: str) -> None:
    assert one(f"FROM scratch\n{written}\n").hint == hint


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM --platform=$TARGETPLATFORM scratch\n", [1]),
        ("FROM --platform=${TARGETPLATFORM} scratch\n", [1]),
        ("FROM --platform=$BUILDPLATFORM scratch\n", []),
        ("FROM --platform=$TARGETOS/$TARGETARCH scratch\n", []),
        ("FROM --platform=$TARGETPLATFORM/v8 scratch\n", []),
    ],
)
def test_the_targets_platform_needs_no_flag(text: str, expected: list[int]) -> None:
    assert lines("RedundantTargetPlatform", text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM --platform=linux/amd64 scratch\n", [1]),
        ("FROM --platform=linux/amd64 scratch AS base\n", [1]),
        ("FROM --platform=linux/amd64 scratch AS my_amd64_stage\n", []),
        ("FROM --platform=linux/amd64 scratch AS linux\n", []),
        ("FROM --platform=x86_64 scratch AS amd64\n", []),
        ("FROM --platform=arm64 scratch AS build\n", [1]),
        ("FROM --platform=linux scratch AS for-amd64\n", []),
        ("FROM --platform=my/own/odd/platform scratch\n", []),
        ("FROM --platform=nonsense scratch\n", []),
        ("ARG P=linux/amd64\nFROM --platform=$P scratch\n", []),
    ],
)
def test_a_fixed_platform_is_named_by_its_stage(text: str, expected: list[int]) -> None:
    assert lines("FromPlatformFlagConstDisallowed", text) == expected


@pytest.mark.parametrize(
    ("text", "actual", "expected"),
    [
        ("FROM box\n", "linux/arm64", [1]),
        ("FROM box\n", "linux/amd64", []),
        ("FROM box\n", "", []),
        ("ARG P=linux/arm64\nFROM --platform=$P box\n", "linux/arm64/v8", []),
        ("FROM scratch AS box\nFROM box\n", "linux/arm64", []),
    ],
)
def test_the_base_image_is_for_the_platform_of_the_build(text: str, actual: str, expected: list[int]) -> None:
    found = warnings(text, images={"box": BaseImage(platform=actual)})
    assert [(each.rule, each.line) for each in found] == [("InvalidBaseImagePlatform", line) for line in expected]


@pytest.mark.parametrize(
    ("instruction", "count"),
    [
        ("ARG SECRET_PASSPHRASE", 1),
        ("ENV SUPER_Secret=foo", 1),
        ("ENV password=bar secret=baz", 2),
        ("ARG super_duper_secret_token=foo auth=bar", 2),
        ("ENV apikey=bar sunflower=foo", 1),
        ("ENV git_key=", 1),
        ("ENV PUBLIC_KEY=", 0),
        ("ARG public_token", 0),
        ("ENV MYSQL_PASSWORD_FILE=/run/secrets/password", 0),
        ("ARG TOKEN_VERSION", 0),
        ("ENV KEYBOARD=de monkey=1", 0),
        ("ENV $name=1", 1),
    ],
)
def test_secrets_are_not_put_into_arg_or_env(instruction: str, count: int) -> None:
    assert lines("SecretsUsedInArgOrEnv", f"FROM scratch\nARG name=token\n{instruction}\n") == [3] * count


def test_an_argument_above_the_first_from_ends_with_it_and_may_be_secret() -> None:
    assert warnings("ARG TOKEN\nFROM scratch\n") == ()


@pytest.mark.parametrize(
    ("text", "buildargs", "expected"),
    [
        ("ARG VERSION\nFROM busybox:$VERSION\n", {"VERSION": "latest"}, [2]),
        ("ARG IMAGE\nFROM $IMAGE\n", {"IMAGE": "busybox:latest"}, [2]),
        ('ARG SFX="box:"\nFROM busy${SFX}\n', {"SFX": "box:latest"}, [2]),
        ('ARG VERSION="latest"\nFROM busybox:${VERSION}\n', {"VERSION": "latest"}, []),
        ('ARG BUSYBOX_VARIANT=""\nFROM busybox:stable${BUSYBOX_VARIANT}\n', {"BUSYBOX_VARIANT": "-musl"}, []),
        ("ARG BUSYBOX_VARIANT\nFROM busybox:stable${BUSYBOX_VARIANT}\n", {"BUSYBOX_VARIANT": "-musl"}, []),
        ("ARG IMAGE\nFROM $IMAGE\n", {}, [2]),
    ],
)
def test_from_names_an_image_without_build_arguments_too(
    text: str, buildargs: Mapping[str, str], expected: list[int]
) -> None:
    assert lines("InvalidDefaultArgInFrom", text, buildargs=buildargs) == expected


@pytest.mark.parametrize(
    ("text", "ignore", "expected"),
    [
        ("FROM scratch\nCOPY Dockerfile .\nADD Dockerfile /windy\n", "Dockerfile\n", [2, 3]),
        ("FROM scratch\nCOPY ./Dockerfile /a\n", "Dockerfile\n", [2]),
        ("FROM scratch\nCOPY dir/file /a\n", "dir\n", [2]),
        ("FROM scratch\nARG f=Dockerfile\nCOPY $f /a\n", "Dockerfile\n", [3]),
        ("FROM scratch\nCOPY a Dockerfile b /a\n", "Dockerfile\n", [2]),
        ("FROM scratch\nCOPY . /a\n", "*\n", [2]),
        ("FROM scratch\nCOPY . /a\n", "Dockerfile\n", []),
        ("FROM scratch\nCOPY a /Dockerfile\n", "Dockerfile\n", []),
        ("FROM scratch\nCOPY dir/file /a\n", "dir\n!dir/file\n", []),
        ("FROM scratch\nCOPY <<Dockerfile /a\nx\nDockerfile\n", "<<Dockerfile\n", []),
        ("FROM scratch\nADD https://example.org/file /a\n", "**/file\n", []),
        ("FROM scratch AS base\nFROM base\nCOPY --from=base /foobar /a\n", "**\n", []),
    ],
)
def test_what_dockerignore_leaves_out_is_not_copied(text: str, ignore: str, expected: list[int]) -> None:
    assert [(each.rule, each.line) for each in warnings(text, ignore=ignore)] == [
        ("CopyIgnoredFile", line) for line in expected
    ]
    assert warnings(text) == ()


DESCRIPTIONS = "# check=experimental=InvalidDefinitionDescription\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# foo this is the foo\nARG foo=bar\n\n# base is the image\nFROM scratch AS base\n", []),
        ("ARG foo\nFROM scratch AS base\n# baz this is the baz\nARG foo=baz bar=qux baz=quux\n#\nARG bit=bat\n", []),
        ("# any comment\nFROM scratch\n# for something else\nCOPY Dockerfile .\n", []),
        ("# bar this is the bar\nARG foo=bar\nFROM scratch\n", [3]),
        ("# BasE this is the BasE image\nFROM scratch AS base\n", [3]),
        ("# a bad comment\nARG foo=baz bar=qux baz=quux\nFROM scratch\n", [3]),
        ("# foo begins well\n# then not\nARG foo=1\nFROM scratch\n", [4]),
        ("# a bad comment\n\nFROM scratch AS base\n", []),
        ("# a bad comment\n#\nFROM scratch AS base\n", []),
        ("FROM scratch AS base\n", []),
    ],
)
def test_a_comment_right_above_a_definition_begins_with_its_name(text: str, expected: list[int]) -> None:
    assert lines("InvalidDefinitionDescription", DESCRIPTIONS + text) == expected
    assert warnings(text) == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM scratch\nEXPOSE 80/TcP 81/udp 82\n", [2]),
        ("FROM scratch\nENV p=80/TCP\nEXPOSE $p\n", [3]),
        ("FROM scratch\nEXPOSE 80/tcp\n", []),
    ],
)
def test_protocols_are_written_in_small_letters(text: str, expected: list[int]) -> None:
    assert lines("ExposeProtoCasing", text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM scratch\nEXPOSE 127.0.0.1:80:80\n", [2]),
        ("FROM scratch\nEXPOSE 80:80 5000\n", [2]),
        ("FROM scratch\nEXPOSE [::1]:8080:8080\n", [2]),
        ("FROM scratch\nEXPOSE 80 90-99/udp :81\n", []),
    ],
)
def test_expose_names_no_port_of_the_host(text: str, expected: list[int]) -> None:
    assert lines("ExposeInvalidFormat", text) == expected


@pytest.mark.parametrize(
    ("target", "expected"),
    [(None, [2, 4, 6]), ("", [6]), ("first", [2]), ("SECOND", [4]), ("0", [2])],
)
def test_some_rules_look_only_at_stages_that_the_target_needs(target: str | None, expected: list[int]) -> None:
    text = "FROM scratch AS first\nCOPY $a .\nFROM scratch AS second\nCOPY $b .\nFROM scratch\nCOPY $c .\n"
    assert [each.line for each in warnings(text, target=target)] == expected


@pytest.mark.parametrize(
    "last",
    [
        "FROM first\n",
        "FROM scratch\nCOPY --from=first /a /\n",
        "FROM scratch\nCOPY --from=0 /a /\n",
        "FROM scratch\nRUN --mount=from=first,target=/x true\n",
    ],
)
def test_a_stage_that_the_target_is_made_from_is_needed(last: str) -> None:
    assert [each.line for each in warnings(f"FROM scratch AS first\nCOPY $a .\n{last}", target="")] == [2]


def test_casing_is_looked_at_in_every_stage() -> None:
    text = "FROM scratch AS First\ncopy a b\nFROM scratch\nCOPY a b\n"
    assert [each.line for each in warnings(text, target="")] == [1, 2]


def test_an_unknown_target_is_an_error_with_a_hint() -> None:
    with pytest.raises(InvalidInput) as caught:
        warnings("FROM scratch AS build\n", target="biuld")
    assert "biuld" in caught.value.message
    assert "build" in caught.value.hint


def test_triggers_of_a_base_image_are_looked_at_where_they_run() -> None:
    images = {"base": BaseImage(triggers=("ENV a b", "COPY $x /", "NONSENSE '"))}
    found = warnings("# hello\nFROM base\nRUN true\n", images=images)
    assert [(each.rule, each.line, each.text) for each in found] == [
        ("UndefinedVar", 2, "FROM base"),
        ("LegacyKeyValueFormat", 2, "FROM base"),
    ]


TWO = "FROM scratch as base\ncopy Dockerfile .\n"


@pytest.mark.parametrize(
    ("directive", "rules"),
    [
        ("", ["FromAsCasing", "ConsistentInstructionCasing"]),
        ("#check=skip=all\n", []),
        ("#check=skip=all;error=true\n", []),
        ("#check=skip=ConsistentInstructionCasing,FromAsCasing\n", []),
        ("# check = skip = FromAsCasing , Other \n", ["ConsistentInstructionCasing"]),
        ("#check=skip=fromascasing\n", ["FromAsCasing", "ConsistentInstructionCasing"]),
        ("\n#check=skip=all\n", ["FromAsCasing", "ConsistentInstructionCasing"]),
    ],
)
def test_a_file_silences_rules_in_its_first_lines(directive: str, rules: list[str]) -> None:
    assert [each.rule for each in warnings(directive + TWO)] == rules


def test_the_build_argument_takes_the_directives_place() -> None:
    argument = "BUILDKIT_DOCKERFILE_CHECK"
    some = warnings(f"#check=skip=all\n{TWO}", buildargs={argument: "skip=ConsistentInstructionCasing"})
    assert [each.rule for each in some] == ["FromAsCasing"]
    assert warnings(f"#check=error=true\n{TWO}", buildargs={argument: "skip=all"}) == ()


def test_skip_does_not_reach_experimental_rules() -> None:
    text = "# check=skip=all;experimental=all\n# bad\nFROM scratch AS base\n"
    assert [each.rule for each in warnings(text)] == ["InvalidDefinitionDescription"]


@pytest.mark.parametrize("text", ["error=true", "skip=all; error = 1", "experimental=all;skip=A;error=T"])
def test_a_file_can_ask_for_warnings_to_be_errors(text: str) -> None:
    dockerfile = f"# check={text}\nFROM scratch\n"
    assert check_options(parse(dockerfile), text=dockerfile, source="Dockerfile").error


@pytest.mark.parametrize("text", ["", "error=F", "error=true;error=false", "skip=error"])
def test_without_that_warnings_are_no_errors(text: str) -> None:
    assert not parse_check_options(text).error


@pytest.mark.parametrize("text", ["skip", "all", "error=maybe", "warn=all", "skip=a;", "error=true;skip"])
def test_an_option_that_makes_no_sense_is_an_error(text: str) -> None:
    with pytest.raises(InvalidInput, match="invalid check option"):
        parse_check_options(text)


def test_a_wrong_directive_is_pointed_at() -> None:
    text = "# syntax=docker/dockerfile:1\n#Check=skip\nFROM scratch\n"
    with pytest.raises(DockerfileError) as caught:
        lint(parse(text), text=text, source="web/Dockerfile")
    assert (caught.value.source, caught.value.line, caught.value.text) == ("web/Dockerfile", 2, "#Check=skip")


def test_a_wrong_build_argument_is_an_error_too() -> None:
    with pytest.raises(InvalidInput, match="invalid check option"):
        warnings("FROM scratch\n", buildargs={"BUILDKIT_DOCKERFILE_CHECK": "skip"})


@pytest.mark.parametrize(
    "text",
    [
        "FROM\n",
        "FROM a b\n",
        "FROM a b c d\n",
        "FROM $nothing\n",
        "FROM '\n",
        "ARG A='\nFROM $A\n",
        "RUN true\nFROM scratch\n",
        "RUN true\n",
        "FROM scratch\nCOPY\nADD x\nENV\nARG\nEXPOSE\nWORKDIR\nCMD\nHEALTHCHECK\nONBUILD\nSHELL\nUSER\n",
        "FROM scratch\nWORKDIR '\nENV a='\nARG b='\nCOPY ' /\nEXPOSE '\nLABEL ${ a\n",
        "FROM scratch\nNONSENSE a b\n",
        "FROM scratch\nENV --flag a=b\n",
        "FROM scratch\nRUN --mount true\n",
    ],
)
def test_broken_files_are_looked_at_without_stumbling(text: str) -> None:
    lint(parse_syntax(text), text=text, source="Dockerfile", platform=PLATFORM)


def test_warnings_from_before_a_mistake_are_given() -> None:
    text = "FROM scratch AS Bad\nMAINTAINER me\nBADCMD\n"
    found = lint(parse_syntax(text), text=text, source="Dockerfile")
    assert [each.rule for each in found] == ["StageNameCasing", "MaintainerDeprecated"]


def test_a_blank_base_is_explained_by_the_argument_that_is_missing() -> None:
    found = {each.rule for each in warnings("FROM $bsae\n")}
    assert found == {"UndefinedArgInFrom", "InvalidDefaultArgInFrom"}


def test_warnings_come_in_the_order_of_lines() -> None:
    text = "FROM scratch AS A\nCMD a\nCMD b\nEXPOSE 80/TCP\nENV token x\nWORKDIR y\nMAINTAINER z\n"
    found = [each.line for each in warnings(text)]
    assert found == sorted(found)
    assert set(found) == {1, 2, 3, 4, 5, 6, 7}


def test_a_warning_is_rendered_with_its_lines_marked() -> None:
    warning = one("ARG a=1\n\nFROM scratch\nRUN true\nMAINTAINER \\\n  me\n\nRUN true\nRUN true\n")
    assert render(warning).splitlines() == [
        "WARNING: MaintainerDeprecated - labs/03_dockerfile_httpd.ipynb#1.-The-keywords",
        "MAINTAINER is outdated",
        'Hint: write LABEL org.opencontainers.image.authors="me"',
        "Dockerfile:5",
        "--------------------",
        "   4 |     RUN true",
        "   5 | >>> MAINTAINER \\",
        "   6 | >>>   me",
        "   7 |",
        "--------------------",
    ]


def test_a_single_line_is_shown_with_two_lines_before_and_after() -> None:
    warning = one("FROM scratch\nRUN true\nMAINTAINER me\r\nRUN a\nRUN b\nRUN c\n")
    assert warning.text == "MAINTAINER me"
    assert warning.excerpt.splitlines() == [
        "   1 |     FROM scratch",
        "   2 |     RUN true",
        "   3 | >>> MAINTAINER me",
        "   4 |     RUN a",
        "   5 |     RUN b",
    ]


def test_bytes_are_as_good_as_text() -> None:
    text = "\ufeffFROM scratch AS Bäh\n".encode()
    (warning,) = lint(parse_syntax(text), text=text, source="Dockerfile")
    assert warning.text == "FROM scratch AS Bäh"


def test_every_rule_of_buildkit_is_here() -> None:
    assert {rule.name for rule in RULES} == {
        "ConsistentInstructionCasing",
        "CopyIgnoredFile",
        "DuplicateStageName",
        "ExposeInvalidFormat",
        "ExposeProtoCasing",
        "FromAsCasing",
        "FromPlatformFlagConstDisallowed",
        "InvalidBaseImagePlatform",
        "InvalidDefaultArgInFrom",
        "InvalidDefinitionDescription",
        "JSONArgsRecommended",
        "LegacyKeyValueFormat",
        "MaintainerDeprecated",
        "MultipleInstructionsDisallowed",
        "NoEmptyContinuation",
        "RedundantTargetPlatform",
        "ReservedStageName",
        "SecretsUsedInArgOrEnv",
        "StageNameCasing",
        "UndefinedArgInFrom",
        "UndefinedVar",
        "WorkdirRelativePath",
    }


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_every_rule_says_why_it_matters_and_links_to_a_section_of_a_lab(rule: Rule) -> None:
    assert inspect.getdoc(rule.check)
    notebook, _, anchor = rule.lab.partition("#")
    assert anchor in _anchors(REPOSITORY / notebook)


def _anchors(notebook: Path) -> set[str]:
    """The headings of a notebook as Jupyter links to them: with - for every space."""
    cells = json.loads(notebook.read_text())["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return {line.lstrip("#").strip().replace(" ", "-") for line in text.split("\n") if line.startswith("#")}
