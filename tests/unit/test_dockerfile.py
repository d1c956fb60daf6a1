"""Text of a Dockerfile → instructions, and the mistakes that are found on the way."""

from __future__ import annotations

import pytest

from pylab_container.dockerfile.heredocs import parse_heredoc
from pylab_container.dockerfile.instructions import COMMENT_HINT, duration, fault
from pylab_container.dockerfile.parser import Instruction, inline_comment, parse, parse_syntax
from pylab_container.dockerfile.ports import exposed_ports
from pylab_container.errors import DockerfileError, InvalidInput


def one(text: str) -> Instruction:
    (instruction,) = parse(text).instructions
    return instruction


def mistake(text: str | bytes) -> DockerfileError:
    with pytest.raises(DockerfileError) as caught:
        parse(text, name="web/Dockerfile")
    return caught.value


def test_every_instruction_knows_its_lines_and_how_it_was_written() -> None:
    first, second = parse("# a comment\nFrom debian:12\n\nRUN apt-get update \\\n    && true\n").instructions
    assert (first.keyword, first.written_keyword, first.line, first.end_line) == ("FROM", "From", 2, 2)
    assert (second.line, second.end_line) == (4, 5)
    assert second.original == "RUN apt-get update     && true"
    assert second.source_text == "RUN apt-get update \\\n    && true"


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("RUN a \\\n  b \\\n\\\n c", ("a   b  c",)),
        ("RUN a\\\nb", ("ab",)),
        ("RUN a \\   \n# a comment\n   # one more\n\n b", ("a  b",)),
        ("RUN a \\", ("a",)),
        ("RUN a \\\\\n", ("a \\\\",)),
        ("\\\n  RUN a", ("a",)),
        ("  RUN\ta  b\t", ("a  b",)),
        ("RUN a\\\r\n b\r\n", ("a b",)),
    ],
)
def test_continued_lines_are_joined_with_their_leading_spaces(text: str, arguments: tuple[str, ...]) -> None:
    assert one(text).arguments == arguments


def test_the_escape_directive_changes_the_continuation() -> None:
    dockerfile = parse("# escape=`\nFROM a\nRUN dir C:\\ `\n  /b\n")
    assert dockerfile.escape == "`"
    assert dockerfile.instructions[1].arguments == ("dir C:\\   /b",)


def test_directives_are_read_at_the_top_only_and_in_any_case() -> None:
    dockerfile = parse("\ufeff#Syntax = docker/dockerfile:1 \r\n # check=skip=all\r\n# note\r\n# escape=`\r\nFROM a")
    assert dockerfile.directives == {"syntax": "docker/dockerfile:1", "check": "skip=all"}
    assert dockerfile.escape == "\\"


@pytest.mark.parametrize("text", ["\n# escape=`\nFROM a", "# hello\n# escape=`\nFROM a", "FROM a\n# escape=`\n"])
def test_a_directive_after_anything_else_is_a_comment(text: str) -> None:
    assert parse(text).directives == {}


def test_a_directive_given_twice_is_refused_with_its_line() -> None:
    error = mistake("# escape=`\n# escape=\\\nFROM a")
    assert (error.line, error.text) == (2, "# escape=\\")
    assert "only one escape" in error.message
    assert mistake("# escape=/\nFROM a").line == 1


@pytest.mark.parametrize(
    ("text", "exec_form", "arguments"),
    [
        ('CMD ["nginx", "-g", "daemon off;"]', True, ("nginx", "-g", "daemon off;")),
        ("CMD nginx -g 'daemon off;'", False, ("nginx -g 'daemon off;'",)),
        ("CMD ['nginx']", False, ("['nginx']",)),
        ('CMD ["nginx"', False, ('["nginx"',)),
        ('CMD ["nginx"] # why', False, ('["nginx"] # why',)),
        ("CMD [NaN]", False, ("[NaN]",)),
        ("CMD []", True, ()),
        ("CMD", False, ()),
        ('ENTRYPOINT [ "\\u00e9\\ud800" ]', True, ("é\ufffd",)),
        ('COPY ["a b", "/c d"]', True, ("a b", "/c d")),
        ('COPY "a b" /c', False, ('"a', 'b"', "/c")),
        ("VOLUME /a  /b", False, ("/a", "/b")),
        ('SHELL ["/bin/bash", "-c"]', True, ("/bin/bash", "-c")),
        ("HEALTHCHECK CMD curl -f localhost", False, ("CMD", "curl -f localhost")),
        ('HEALTHCHECK cmd ["curl"]', True, ("cmd", "curl")),
        ("WORKDIR /two words", False, ("/two words",)),
        ("FROM debian AS base", False, ("debian", "AS", "base")),
    ],
)
def test_json_is_the_exec_form_and_all_else_is_not(text: str, *, exec_form: bool, arguments: tuple[str, ...]) -> None:
    instruction = one(text)
    assert (instruction.exec_form, instruction.arguments) == (exec_form, arguments)


@pytest.mark.parametrize("array", ['["a", 1]', '["a", ["b"]]', "[null]", '[{"a": "b"}]', "[true]"])
def test_an_array_of_other_things_than_strings_is_refused(array: str) -> None:
    assert "strings only" in mistake(f"CMD {array}").message


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("ENV a b  c", (("a", "b  c"),)),
        ('ENV a=b c=\'d e\' f="g \\" h"', (("a", "b"), ("c", "'d e'"), ("f", '"g \\" h"'))),
        ("ENV a=b\\ c d=", (("a", "b\\ c"), ("d", ""))),
        ("ENV a=$b c=${d:-e=f}", (("a", "$b"), ("c", "${d:-e=f}"))),
        ("ENV a='b\\' c=d", (("a", "'b\\'"), ("c", "d"))),
        ('ENV a="open b', (("a", '"open b'),)),
        ('LABEL "a b"=c', (('"a b"', "c"),)),
        ("ARG a b=1 c=", (("a", None), ("b", "1"), ("c", ""))),
        ("USER a", ()),
    ],
)
def test_pairs_keep_quotes_and_variables(text: str, pairs: tuple[tuple[str, str | None], ...]) -> None:
    assert one(text).pairs() == pairs


@pytest.mark.parametrize(
    ("text", "flags", "arguments"),
    [
        ("COPY --from=base --link a b", (("from", "base"), ("link", None)), ("a", "b")),
        ("COPY --chown='my user' a b", (("chown", "my user"),), ("a", "b")),
        ('COPY --chown="it\'s" -- a b', (("chown", "it's"),), ("a", "b")),
        ("COPY --chmod= a b", (("chmod", ""),), ("a", "b")),
        ("COPY -- --odd b", (), ("--odd", "b")),
        ("RUN --mount=type=tmpfs,target=/t --mount=type=cache,target=/c make --all", None, ("make --all",)),
        ("FROM --platform=$BUILDPLATFORM debian", (("platform", "$BUILDPLATFORM"),), ("debian",)),
    ],
)
def test_flags_come_before_the_arguments(
    text: str, flags: tuple[tuple[str, str | None], ...] | None, arguments: tuple[str, ...]
) -> None:
    instruction = one(text)
    assert instruction.arguments == arguments
    assert flags is None or instruction.flags == flags


def test_a_flag_is_asked_for_by_name() -> None:
    instruction = one("COPY --link --from=0 a b")
    assert [instruction.flag(name) for name in ("link", "from", "chown")] == ["true", "0", None]


def test_a_heredoc_holds_the_lines_up_to_its_name_unchanged() -> None:
    instruction = one("RUN <<EOF\n# no comment\n  echo \\\n\r\nEOF")
    (heredoc,) = instruction.heredocs
    assert (heredoc.name, heredoc.content) == ("EOF", "# no comment\n  echo \\\n\r\n")
    assert (heredoc.expand, heredoc.chomp) == (True, False)
    assert (instruction.arguments, instruction.end_line) == (("<<EOF",), 5)


def test_a_heredoc_with_a_dash_loses_leading_tabs_and_a_quoted_one_does_not_expand() -> None:
    (heredoc,) = one("COPY <<-'END' /etc/motd\n\t\thello\n\t there\n\tEND\n").heredocs
    assert (heredoc.chomp, heredoc.expand) == (True, False)
    assert heredoc.content == "\t\thello\n\t there\n"
    assert heredoc.text == "hello\n there\n"


def test_several_heredocs_follow_one_another() -> None:
    instruction = one("COPY <<a.txt <<'b.txt' plain /to/\n1\na.txt\n2\nb.txt\n")
    assert [heredoc.content for heredoc in instruction.heredocs] == ["1\n", "2\n"]
    found = [instruction.heredoc_for(argument) for argument in instruction.arguments]
    assert found == [*instruction.heredocs, None, None]


@pytest.mark.parametrize(
    "text",
    ['RUN ["cat", "<<EOF"]', 'RUN echo "<<EOF"', "RUN cat<<EOF", "RUN cat <<<EOF", "USER <<EOF", "RUN 'open <<E"],
)
def test_not_everything_with_two_angles_is_a_heredoc(text: str) -> None:
    assert one(text).heredocs == ()


@pytest.mark.parametrize(
    ("word", "name", "expand"),
    [
        ("<<A", "A", True),
        ("<< A", "A", True),
        ('3<<-"A"', "A", False),
        ("<<A'B'", "AB", False),
        ("<<A\\'B", "A'B", True),
    ],
)
def test_the_word_of_a_heredoc_gives_its_name(word: str, name: str, *, expand: bool) -> None:
    heredoc = parse_heredoc(word)
    assert heredoc is not None
    assert (heredoc.name, heredoc.expand) == (name, expand)


def test_a_heredoc_that_never_ends_is_pointed_at() -> None:
    error = mistake("FROM a\nRUN cat <<EOF\nhello\n")
    assert (error.line, error.column, error.text) == (2, 9, "RUN cat <<EOF")
    assert "EOF" in error.hint


def test_onbuild_holds_an_instruction_of_its_own() -> None:
    instruction = one("ONBUILD COPY --from=x <<E /b\nhi\nE\n")
    assert instruction.trigger is not None
    assert (instruction.trigger.keyword, instruction.trigger.flags) == ("COPY", (("from", "x"),))
    assert instruction.trigger.heredocs[0].content == "hi\n"
    assert instruction.trigger_text == "COPY --from=x <<E /b\nhi\nE"
    assert instruction.arguments == ("COPY", "<<E", "/b")


@pytest.mark.parametrize("trigger", ["ONBUILD RUN a", "FROM a", "maintainer a"])
def test_onbuild_refuses_what_cannot_be_a_trigger(trigger: str) -> None:
    assert mistake(f"ONBUILD {trigger}").column == 9


@pytest.mark.parametrize("trigger", ["COPY a", "EXPOSE x", "NOTHING a"])
def test_what_a_trigger_says_is_checked_where_it_is_carried_out(trigger: str) -> None:
    (instruction,) = parse(f"ONBUILD {trigger}").instructions
    assert instruction.trigger_text == trigger


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no instructions"),
        ("# only a comment\n", "no instructions"),
        ("ENV", "at least one argument"),
        ("ENV a", "must have two arguments"),
        ("ENV a=b c", "can't find ="),
        ("ENV =b", "names can not be blank"),
        ("ARG =b", "names can not be blank"),
        ("ARG", "at least one argument"),
        ("LABEL", "at least one argument"),
        ("COPY a", "at least two arguments"),
        ("ADD", "at least two arguments"),
        ("COPY a <<E\nE", "heredoc as a destination"),
        ("MAINTAINER", "exactly one argument"),
        ("WORKDIR", "exactly one argument"),
        ("USER", "exactly one argument"),
        ("STOPSIGNAL", "exactly one argument"),
        ("EXPOSE", "at least one argument"),
        ("EXPOSE http", "no port"),
        ("EXPOSE 80/icmp", "no port"),
        ("EXPOSE 90-80", "no port"),
        ("EXPOSE 65536", "no port"),
        ("FROM", "one or three"),
        ("FROM a b", "one or three"),
        ("FROM a AS 1st", "invalid name"),
        ("ONBUILD", "at least one argument"),
        ("SHELL bash -c", "JSON form"),
        ("SHELL []", "at least one argument"),
        ("VOLUME", "at least one argument"),
        ('VOLUME [" "]', "empty"),
        ("HEALTHCHECK", "at least one argument"),
        ("HEALTHCHECK CMD", "Missing command"),
        ("HEALTHCHECK NONE a", "takes no arguments"),
        ("HEALTHCHECK TRY a", "Unknown type"),
        ("HEALTHCHECK --interval=5 CMD a", "not a duration"),
        ("HEALTHCHECK --timeout=1us CMD a", "less than 1ms"),
        ("HEALTHCHECK --retries=-1 CMD a", "retries"),
        ("COPY --from a b", "missing a value"),
        ("COPY --link= a b", "missing a value"),
        ("COPY --link=perhaps a b", "boolean"),
        ("COPY --from=a --from=b c d", "duplicate"),
        ("USER --name=a b", "Unknown flag: name"),
        ("\\\n", "unknown instruction"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_hint(text: str, words: str) -> None:
    error = mistake(text)
    assert words in error.message
    assert error.hint
    assert (error.source, error.line) == ("web/Dockerfile", 1)


@pytest.mark.parametrize(
    ("text", "hint", "column"),
    [
        ("RUNN a", "RUN", 1),
        ("  FORM debian", "FROM", 3),
        ("COPY --form=a b c", "--from", 6),
        ("WORKDIRR /", "WORKDIR", 1),
    ],
)
def test_a_misspelt_word_gets_the_nearest_known_one(text: str, hint: str, column: int) -> None:
    error = mistake(text)
    assert error.hint == f"did you mean {hint}?"
    assert error.column == column


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("EXPOSE 80 # web", 1, 11),
        ("ENV A=1 # one", 1, 9),
        ("FROM debian # base", 1, 13),
        ("LABEL a=b \\\n\t# a real comment\n  c=d # none", 3, 7),
        ("HEALTHCHECK NONE # off", 1, 18),
    ],
)
def test_an_inline_comment_is_blamed_for_the_error_it_makes(text: str, line: int, column: int) -> None:
    error = mistake(text)
    assert (error.line, error.column) == (line, column)
    assert error.text[column - 1] == "#"
    assert error.hint.endswith(COMMENT_HINT)


@pytest.mark.parametrize(
    ("text", "last_argument", "column"),
    [
        ("WORKDIR / # x", "/ # x", 11),
        ("ADD a /b # text", "text", 10),
        ("ENV a b # c", "b # c", 9),
        ("ARG a=1 # b", "b", 9),
        ("RUN a # b", "a # b", None),
        ("CMD a # b", "a # b", None),
        ("HEALTHCHECK CMD a # b", "a # b", None),
        ("ONBUILD RUN a # b", "a # b", None),
        ("USER 'a # b'", "'a # b'", None),
        ('COPY ["# a", "b"]', "b", None),
        ("ENV a=b\\ #c", "b\\ #c", None),
        ("COPY a#b c", "c", None),
    ],
)
def test_a_valid_inline_comment_stays_an_argument_and_can_be_found(
    text: str, last_argument: str, column: int | None
) -> None:
    instruction = one(text)
    assert instruction.arguments[-1] == last_argument
    assert inline_comment(instruction) == column


def test_a_builder_points_at_an_argument_in_a_later_line() -> None:
    error = fault(one("COPY a \\\n  missing \\\n  /b"), "there is no missing", source="f", at="missing")
    assert (error.line, error.column, error.text) == (2, 3, "  missing \\")


def test_ports_with_variables_wait_for_the_build() -> None:
    assert one('EXPOSE $PORT "80" 80 80-90/udp 53/UDP').arguments[0] == "$PORT"


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("80", ("80/tcp",)),
        ("53/UDP", ("53/udp",)),
        ("80-82/sctp", ("80/sctp", "81/sctp", "82/sctp")),
        ("127.0.0.1:8080:80", ("80/tcp",)),
    ],
)
def test_exposed_ports_are_written_out(text: str, ports: tuple[str, ...]) -> None:
    assert exposed_ports(text) == ports


def test_durations_are_read_as_go_writes_them() -> None:
    assert [duration(text) for text in ("0", "1m30s", "1.5h", "500ms", "2µs")] == [
        0,
        90_000_000_000,
        5_400_000_000_000,
        500_000_000,
        2_000,
    ]
    for text in ("", "5", "s", "1 s", "-1s", "1d"):
        with pytest.raises(InvalidInput):
            duration(text)


def test_a_file_that_is_not_utf8_is_refused_with_its_line() -> None:
    error = mistake(b"FROM a\nRUN \xff\n")
    assert (error.line, "UTF-8" in error.message) == (2, True)


def test_a_line_longer_than_buildkit_reads_is_refused() -> None:
    assert mistake("FROM a\nRUN " + "x" * 70_000).line == 2


def test_bytes_and_text_give_the_same_instructions() -> None:
    text = "\ufeffFROM a\nLABEL näme=wért\n"
    assert parse(text) == parse(text.encode())


def test_parse_syntax_lets_unknown_words_and_flags_pass() -> None:
    instructions = parse_syntax("FROM a\nDANCE --fast now\nCOPY --x=y a\nHEALTHCHECK\n").instructions
    assert [each.keyword for each in instructions] == ["FROM", "DANCE", "COPY", "HEALTHCHECK"]
    assert instructions[2].flags == (("x", "y"),)
