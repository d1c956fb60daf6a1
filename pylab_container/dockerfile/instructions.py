"""One instruction of a Dockerfile as a value, and the checks that need only this instruction.

parser.py splits a file into instructions. check() validates their flags, numbers of arguments and values, with
BuildKit's rules and messages: frontend/dockerfile/instructions, parse.go.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import NamedTuple

from msgspec import Struct

from pylab_container.dockerfile.heredocs import Heredoc, heredoc_reference
from pylab_container.dockerfile.ports import port_range
from pylab_container.errors import DockerfileError, InvalidInput
from pylab_container.text.golang import parse_duration

# A flag that is missing here is an error. It would otherwise be taken for the first argument: a path of COPY, or a
# program of RUN.
FLAGS: dict[str, dict[str, str]] = {
    "ADD": {
        "chown": "text",
        "chmod": "text",
        "checksum": "text",
        "link": "boolean",
        "keep-git-dir": "boolean",
        "unpack": "boolean",
        "exclude": "many",
    },
    "ARG": {},
    "CMD": {},
    "COPY": {
        "from": "text",
        "chown": "text",
        "chmod": "text",
        "link": "boolean",
        "parents": "boolean",
        "exclude": "many",
    },
    "ENTRYPOINT": {},
    "ENV": {},
    "EXPOSE": {},
    "FROM": {"platform": "text"},
    "HEALTHCHECK": {
        "interval": "text",
        "timeout": "text",
        "start-period": "text",
        "start-interval": "text",
        "retries": "text",
    },
    "LABEL": {},
    "MAINTAINER": {},
    "ONBUILD": {},
    "RUN": {"mount": "many", "network": "text", "security": "text", "device": "many"},
    "SHELL": {},
    "STOPSIGNAL": {},
    "USER": {},
    "VOLUME": {},
    "WORKDIR": {},
}
"""Instruction -> {flag: kind}. A "many" flag has a value and may be repeated; a "boolean" one needs no value."""

KEYWORDS = tuple(FLAGS)

COMMENT_HINT = (
    "a # after an instruction starts no comment: Docker takes it and what follows as arguments; "
    "put the comment on a line of its own"
)

_SHELL_TEXT = ("RUN", "CMD", "ENTRYPOINT", "SHELL")  # their text is for a shell, which has comments of its own
_STAGE_NAME = re.compile(r"[a-z][a-z0-9_.-]*")
_SHORTEST_INTERVAL = 1_000_000  # nanoseconds: moby, api/types/container, MinimumDuration


class Origin(NamedTuple):
    """Start of a line of the file in the joined text of an instruction.

    `line` and `column` count from 1.
    """

    offset: int
    line: int
    column: int


class Instruction(Struct, frozen=True):
    """An instruction.

    keyword          in capitals: "RUN"
    written_keyword  as in the file
    arguments        text after the flags, with quotes and variables as written:
                     one text for the shell form of RUN, CMD, ENTRYPOINT, and for USER, WORKDIR, STOPSIGNAL, MAINTAINER;
                     key, value, key, value … for ENV and LABEL;
                     keyword and arguments of the trigger for ONBUILD;
                     words for the others
    exec_form        the arguments were a JSON array
    flags            (name, value) as written, without the dashes; value None for a bare --name
    heredocs         the here-documents, in the file's order
    line, end_line   first and last line in the file, counted from 1
    original         the instruction as one line, with continuation lines joined: Docker prints it after "Step 1/5 : "
    source_text      the lines of the file
    trigger          the instruction inside an ONBUILD
    escape           the file's escape character
    origins          maps offsets in `original` to lines and columns, in ascending order
    """

    keyword: str
    written_keyword: str
    arguments: tuple[str, ...]
    exec_form: bool
    flags: tuple[tuple[str, str | None], ...]
    heredocs: tuple[Heredoc, ...]
    line: int
    end_line: int
    original: str
    source_text: str
    trigger: Instruction | None = None
    escape: str = "\\"
    origins: tuple[Origin, ...] = ()

    def pairs(self) -> tuple[tuple[str, str | None], ...]:
        """Return the (key, value) pairs of ENV, LABEL and ARG, not expanded.

        The value is None for an ARG without a default.
        """
        if self.keyword == "ARG":  # its words are not split yet, because a name without = is valid here
            split = (argument.partition("=") for argument in self.arguments)
            return tuple((key, value if equals else None) for key, equals, value in split)
        if self.keyword in ("ENV", "LABEL"):
            return tuple(zip(self.arguments[::2], self.arguments[1::2], strict=True))
        return ()

    def flag(self, name: str) -> str | None:
        """Return the value of a flag: "true" for a bare one, None if it is absent."""
        # check() refuses repeated flags, except --exclude and --mount, which are read from `flags`.
        values = [("true" if value is None else value) for key, value in self.flags if key == name]
        return values[-1] if values else None

    def heredoc_for(self, argument: str) -> Heredoc | None:
        """Return the here-document that an argument of COPY or ADD refers to; None for a path."""
        # Of two with the same delimiter the last counts, as in BuildKit, where they are a map by name.
        reference = None if self.exec_form else heredoc_reference(argument)
        matching = [heredoc for heredoc in self.heredocs if reference and heredoc.name == reference.name]
        return matching[-1] if matching else None

    @property
    def trigger_text(self) -> str:
        """The text that an ONBUILD stores in the image config, with the here-documents."""
        if self.trigger is None:
            return ""
        # Each delimiter line was consumed by the parser, so it is written again.
        return self.trigger.original + "".join(f"\n{doc.content}{doc.name}" for doc in self.trigger.heredocs)

    def place(self, offset: int) -> tuple[int, int]:
        """Return line and column in the file of an offset in `original`."""
        # Tuples compare by their first field: the last line that starts at or before the offset.
        origin = max((start for start in self.origins if start.offset <= offset), default=Origin(0, self.line, 1))
        return origin.line, origin.column + offset - origin.offset


def inline_comment(instruction: Instruction) -> int | None:
    """Return the column of an argument that starts with # and was probably meant as a comment.

    None if no argument does, or if a shell reads the text. The column counts from 1, in the line of the #, which need
    not be the first line of the instruction.
    """
    offset = _inline_comment_offset(instruction)
    return None if offset is None else instruction.place(offset)[1]


def fault(
    instruction: Instruction,
    message: str,
    *,
    source: str,
    hint: str = "",
    at: str | int | None = None,
    kind: type[DockerfileError] = DockerfileError,
) -> DockerfileError:
    """Return the error for this instruction, with the position of the caret.

    source  name of the file
    at      the argument, or the offset in `original`, under which the caret is printed

    An inline comment takes precedence as the likely cause: the caret is then under its #, and the hint explains it.
    """
    offset = _inline_comment_offset(instruction)
    if offset is not None:
        hint = f"{hint}; {COMMENT_HINT}" if hint else COMMENT_HINT
    elif isinstance(at, str):  # behind the keyword, which may contain the argument: the USER in "USER USER x"
        offset = max(instruction.original.find(at, len(instruction.written_keyword)), 0)
    else:
        offset = at or 0
    line, column = instruction.place(offset)
    source_lines = instruction.source_text.split("\n")
    text = source_lines[line - instruction.line] if line - instruction.line < len(source_lines) else ""
    return kind(message, hint=hint, source=source, line=line, column=column, text=text.rstrip("\r"))


def _inline_comment_offset(instruction: Instruction) -> int | None:
    inner = instruction.trigger or instruction
    # A shell knows comments itself, and in the exec form a # is part of a JSON string.
    is_health_command = inner.keyword == "HEALTHCHECK" and inner.arguments[:1] and inner.arguments[0].upper() == "CMD"
    if inner.exec_form or inner.keyword in _SHELL_TEXT or is_health_command:
        return None
    # Quoted and escaped text is consumed by the first alternatives, so that the group matches only a bare #.
    escape = re.escape(instruction.escape)
    quoted = rf"\"(?:{escape}.|[^\"{escape}])*\"|'[^']*'|{escape}."
    for match in re.finditer(rf"{quoted}|\s(#)", instruction.original):
        if match[1]:
            return match.start(1)
    return None


def nearest(word: str, known: Iterable[str], *, otherwise: str) -> str:
    """Return a hint with the known word most similar to `word`; `otherwise` if none is similar."""
    # difflib's default cutoff: it accepts FORM for FROM, and rejects words that only share a few letters.
    similar = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean {similar[0]}?" if similar else otherwise


def duration(text: str) -> int:
    """Parse the value of a HEALTHCHECK flag: "1m30s", "1.5h", "0". Returns nanoseconds.

    Raises InvalidInput.
    """
    nanoseconds = 0 if text == "0" else parse_duration(text)
    if nanoseconds is None:
        raise InvalidInput(f'"{text}" is not a duration', hint="write a number with its unit: 30s, 1m30s or 500ms")
    return nanoseconds


def check(instruction: Instruction, *, source: str) -> None:
    """Raise DockerfileError if the keyword, a flag or an argument is not valid.

    The build checks what is known only then: whether a stage, a file or a user exists.
    """
    if instruction.keyword not in FLAGS:
        raise _unknown_instruction(instruction, source)
    try:
        _check_flags(instruction, source)
        _check_count(instruction)
        _check_values(instruction, source)
    except DockerfileError:
        raise
    except InvalidInput as error:
        raise fault(instruction, error.message, source=source, hint=error.hint) from None


def _unknown_instruction(instruction: Instruction, source: str) -> DockerfileError:
    # An unknown keyword is often the second line of an instruction whose first line lacks the escape at its end.
    hint = nearest(
        instruction.keyword,
        KEYWORDS,
        otherwise=f"a line that goes on ends in {instruction.escape}; the instructions are {', '.join(KEYWORDS)}",
    )
    return fault(instruction, f"unknown instruction: {instruction.keyword}", source=source, hint=hint)


def _check_flags(instruction: Instruction, source: str) -> None:
    # "Unknown flag: x" and the other messages are BuildKit's (bflag.go); clients show them as they are.
    known = FLAGS[instruction.keyword]
    seen: set[str] = set()
    for name, value in instruction.flags:
        kind = known.get(name)
        problem, hint = "", ""
        if kind is None:
            names = [f"--{flag}" for flag in known]
            otherwise = f"{instruction.keyword} takes {', '.join(names) or 'no flags'}"
            problem, hint = f"Unknown flag: {name}", nearest(f"--{name}", names, otherwise=otherwise)
        elif name in seen and kind != "many":
            problem, hint = f"duplicate flag specified: --{name}", "remove one of the two"
        elif value == ("" if kind == "boolean" else None):
            problem, hint = f"missing a value on flag: --{name}", f"write --{name}=value, without spaces"
        elif kind == "boolean" and value is not None and value.lower() not in ("true", "false"):
            problem, hint = f"expecting boolean value for flag --{name}, not: {value}", "write true or false"
        if problem:
            raise fault(instruction, problem, source=source, hint=hint, at=f"--{name}")
        seen.add(name)


_USAGE = {
    "ADD": "ADD source … destination",
    "ARG": "ARG name or ARG name=value",
    "COPY": "COPY source … destination",
    "ENV": "ENV name=value",
    "EXPOSE": "EXPOSE 80 or EXPOSE 80/tcp",
    "FROM": "FROM image or FROM image AS name",
    "HEALTHCHECK": "HEALTHCHECK CMD command, or HEALTHCHECK NONE",
    "LABEL": "LABEL name=value",
    "MAINTAINER": "MAINTAINER name",
    "ONBUILD": "ONBUILD instruction",
    "SHELL": 'SHELL ["program", "argument"]',
    "STOPSIGNAL": "STOPSIGNAL SIGTERM",
    "USER": "USER name or USER name:group",
    "VOLUME": "VOLUME /folder",
    "WORKDIR": "WORKDIR /folder",
}
# The parser does not split the text of these: the argument is missing or there is exactly one.
_EXACTLY_ONE = ("MAINTAINER", "STOPSIGNAL", "USER", "WORKDIR")
# BuildKit accepts these without arguments: an empty CMD or ENTRYPOINT resets the parent's. FROM has a check of its own.
_MAY_BE_EMPTY = ("RUN", "CMD", "ENTRYPOINT", "FROM")


def _check_count(instruction: Instruction) -> None:
    keyword, count = instruction.keyword, len(instruction.arguments)
    problem = ""
    if keyword in ("ADD", "COPY"):
        if count < 2:
            problem = "requires at least two arguments, but only one was provided. Destination could not be determined"
    elif keyword in _EXACTLY_ONE:
        if count != 1:
            problem = "requires exactly one argument"
    elif count == 0 and keyword not in _MAY_BE_EMPTY:
        problem = "requires at least one argument"
    if problem:
        raise InvalidInput(f"{keyword} {problem}", hint=f"write {_USAGE[keyword]}")


def _check_values(instruction: Instruction, source: str) -> None:
    checks = {
        "ADD": _check_destination,
        "ARG": _check_names,
        "COPY": _check_destination,
        "ENV": _check_names,
        "EXPOSE": _check_ports,
        "FROM": _check_from,
        "HEALTHCHECK": _check_healthcheck,
        "LABEL": _check_names,
        "ONBUILD": _check_onbuild,
        "SHELL": _check_shell,
        "VOLUME": _check_volumes,
    }
    if instruction.keyword in checks:
        checks[instruction.keyword](instruction, source)


def _check_destination(instruction: Instruction, source: str) -> None:
    # COPY a <<EOF would name a file after the delimiter. BuildKit refuses it, because the order was surely confused.
    destination = instruction.arguments[-1]
    if not instruction.exec_form and heredoc_reference(destination):
        message = f"{instruction.keyword} cannot accept a heredoc as a destination"
        raise fault(
            instruction, message, source=source, hint="the file to write comes after the heredoc", at=destination
        )


def _check_names(instruction: Instruction, source: str) -> None:
    if any(key == "" for key, _ in instruction.pairs()):
        message = f"{instruction.keyword} names can not be blank"
        raise fault(instruction, message, source=source, hint=f"write {_USAGE[instruction.keyword]}", at="=")


def _check_ports(instruction: Instruction, source: str) -> None:
    for argument in instruction.arguments:
        if any(character in argument for character in "$'\"" + instruction.escape):
            continue  # the build checks the value after its expansion
        try:
            port_range(argument)
        except InvalidInput as error:
            raise fault(instruction, error.message, source=source, hint=error.hint, at=argument) from None


def _check_from(instruction: Instruction, source: str) -> None:
    # Names of stages are compared in lower case (parse.go, parseBuildStageName), so they are checked in lower case.
    words = instruction.arguments
    if len(words) != 1 and not (len(words) == 3 and words[1].lower() == "as"):
        raise InvalidInput("FROM requires either one or three arguments", hint=f"write {_USAGE['FROM']}")
    if len(words) == 3 and not _STAGE_NAME.fullmatch(words[2].lower()):
        message = f'invalid name for build stage: "{words[2]}"'
        hint = "a name is a letter, followed by letters, digits, - _ and ."
        raise fault(instruction, message, source=source, hint=hint, at=words[2])


def _check_healthcheck(instruction: Instruction, source: str) -> None:
    kind, command = instruction.arguments[0].upper(), instruction.arguments[1:]
    if kind not in ("CMD", "NONE"):
        message = f'Unknown type "{kind}" in HEALTHCHECK (try CMD)'
        raise fault(
            instruction, message, source=source, hint=f"write {_USAGE['HEALTHCHECK']}", at=instruction.arguments[0]
        )
    if kind == "NONE" and command:
        raise InvalidInput("HEALTHCHECK NONE takes no arguments", hint="remove the words after NONE")
    if kind == "CMD" and not command:
        raise InvalidInput("Missing command after HEALTHCHECK CMD", hint="write HEALTHCHECK CMD command")
    for name, value in instruction.flags:
        try:
            _check_health_flag(name, value or "0")
        except InvalidInput as error:
            raise fault(instruction, error.message, source=source, hint=error.hint, at=f"--{name}") from None


def _check_health_flag(name: str, value: str) -> None:
    # 0 stands for the default (moby, api/types/container, HealthConfig).
    if name != "retries":
        if 0 < duration(value) < _SHORTEST_INTERVAL:
            raise InvalidInput(f"--{name} cannot be less than 1ms", hint="write 1ms or more, or 0 for the default")
    # Go's strconv.ParseInt(value, 10, 32), without negative numbers.
    elif not re.fullmatch(r"\+?0*\d{1,10}", value, re.ASCII) or int(value) >= 2**31:
        raise InvalidInput(f'--retries "{value}" is not a number of retries', hint="write --retries=3")


def _check_onbuild(instruction: Instruction, source: str) -> None:
    # An image's triggers run once, in the build of its child, and are not inherited (Dockerfile reference, "ONBUILD").
    # A trigger that sets a trigger would circumvent that.
    keyword = instruction.arguments[0].upper()
    if keyword == "ONBUILD":
        raise fault(
            instruction,
            "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
            source=source,
            hint="write ONBUILD once",
            at=instruction.arguments[0],
        )
    # FROM would begin a new stage in the middle of the child's stage; MAINTAINER would name the child's author.
    if keyword in ("FROM", "MAINTAINER"):
        message = f"{keyword} isn't allowed as an ONBUILD trigger"
        hint = "a trigger runs in the stage that is based on this image"
        raise fault(instruction, message, source=source, hint=hint, at=instruction.arguments[0])


def _check_shell(instruction: Instruction, source: str) -> None:
    # The instruction defines the shell, so no shell can split a text into words for it.
    if not instruction.exec_form:
        raise InvalidInput("SHELL requires the arguments to be in JSON form", hint=f"write {_USAGE['SHELL']}")


def _check_volumes(instruction: Instruction, source: str) -> None:
    if not all(argument.strip() for argument in instruction.arguments):
        raise InvalidInput("VOLUME specified can not be an empty string", hint=f"write {_USAGE['VOLUME']}")
