"""One instruction of a Dockerfile as a value, and what makes it valid.

dockerfile.py cuts a file into these; here is what each instruction demands: its
flags, how many arguments, which values. The demands are those of BuildKit (package
frontend/dockerfile/instructions).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from msgspec import Struct

from pylab_container.dockerfile.expansion import literal_words
from pylab_container.errors import DockerfileError, InvalidInput
from pylab_container.text.golang import parse_duration

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
"""Every instruction, and the flags it takes: of some text, of true or false, or several times."""

KEYWORDS = tuple(FLAGS)

COMMENT_HINT = (
    "a # after an instruction starts no comment: Docker takes it and what follows as arguments; "
    "put the comment on a line of its own"
)

_SHELL_TEXT = ("RUN", "CMD", "ENTRYPOINT", "SHELL")  # there a # means what the shell says it means
_STAGE_NAME = re.compile(r"[a-z][a-z0-9_.-]*")
_HEREDOC = re.compile(r"\d*<<(-?)\s*([^<]*)", re.ASCII)
_SHORTEST_INTERVAL = 1_000_000  # ns; the engine's own limit


class Heredoc(Struct, frozen=True):
    """A here-document: `<<EOF` in an instruction, and the lines up to EOF.

    name     the delimiter, without quotes
    content  the lines between, unchanged, with their ends
    expand   no part of the delimiter was quoted: variables count in the content
    chomp    written <<-: leading tabs go
    """

    name: str
    content: str
    expand: bool
    chomp: bool

    @property
    def text(self) -> str:
        """The content as the reader gets it: without leading tabs where that was asked for."""
        return re.sub(r"(?m)^\t+", "", self.content) if self.chomp else self.content


def parse_heredoc(word: str) -> Heredoc | None:
    """The here-document that a word like <<EOF or 3<<-"EOF" announces, still without content; None for other words.

    Raises InvalidInput for quotes that do not close.
    """
    match = _HEREDOC.fullmatch(word)
    if not match or not match[2]:
        return None
    plain = literal_words(match[2], keep_quotes=False, keep_escapes=False)
    quoted = literal_words(match[2], keep_escapes=False)
    if len(plain) != 1:
        return None
    expand = _count_quotes(plain[0]) == _count_quotes(quoted[0])
    return Heredoc(plain[0], "", expand, match[1] == "-")


def _announced(argument: str) -> Heredoc | None:
    """As parse_heredoc(), where an argument cut at a space inside quotes is the path of a file."""
    try:
        return parse_heredoc(argument)
    except InvalidInput:
        return None


def _count_quotes(text: str) -> int:
    return text.count("'") + text.count('"')


class Origin(NamedTuple):
    """Where in the file a stretch of a joined line begins. `line` and `column` count from 1."""

    offset: int
    line: int
    column: int


class Instruction(Struct, frozen=True):
    """One instruction.

    keyword          in capitals: "RUN"
    written_keyword  as the file has it
    arguments        what follows the flags. One text for the shell form of RUN, CMD, ENTRYPOINT and for USER,
                     WORKDIR, STOPSIGNAL, MAINTAINER; key, value, key, value … for ENV and LABEL; the keyword and
                     arguments of the trigger for ONBUILD; words for the others. Quotes and variables are as written
    exec_form        the arguments were a JSON array
    flags            (name, value) as written, without the dashes; value None for a bare --name
    heredocs         the here-documents, in their order
    line, end_line   first and last line in the file, counted from 1
    original         the instruction as one line, continuations joined: what Docker shows after "Step 1/5 : "
    source_text      the lines of the file
    trigger          the instruction inside an ONBUILD
    escape           the file's escape character
    origins          the way back from `original` to the file
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
        """ENV, LABEL and ARG as (key, value), not expanded; value None for an ARG without one."""
        if self.keyword == "ARG":
            split = (argument.partition("=") for argument in self.arguments)
            return tuple((key, value if equals else None) for key, equals, value in split)
        if self.keyword in ("ENV", "LABEL"):
            return tuple(zip(self.arguments[::2], self.arguments[1::2], strict=True))
        return ()

    def flag(self, name: str) -> str | None:
        """The value of a flag: "true" for a bare one, None for one that is not there."""
        values = [("true" if value is None else value) for key, value in self.flags if key == name]
        return values[-1] if values else None

    def heredoc_for(self, argument: str) -> Heredoc | None:
        """The here-document that an argument of COPY or ADD stands for; None for the path of a file."""
        announced = None if self.exec_form else _announced(argument)
        matching = [heredoc for heredoc in self.heredocs if announced and heredoc.name == announced.name]
        return matching[-1] if matching else None

    @property
    def trigger_text(self) -> str:
        """What an ONBUILD stores in the image for later."""
        if self.trigger is None:
            return ""
        return self.trigger.original + "".join(f"\n{doc.content}{doc.name}" for doc in self.trigger.heredocs)

    def place(self, offset: int) -> tuple[int, int]:
        """Line and column in the file of a character of `original`."""
        origin = max((each for each in self.origins if each.offset <= offset), default=Origin(0, self.line, 1))
        return origin.line, origin.column + offset - origin.offset


def inline_comment(instruction: Instruction) -> int | None:
    """The column, counted from 1, of an argument that starts with # and was surely meant as a comment.

    None where there is none, and where a shell reads the text and knows such comments. The column belongs to the
    line that the # stands on, which in an instruction of several lines need not be the first; fault() knows it.
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
    """The error for a mistake in this instruction, pointed at.

    source  the file's name
    at      the argument or the place in `original` where the caret goes. An inline comment takes precedence,
            as it is the likely cause: then the caret goes under its # and the hint says so
    """
    offset = _inline_comment_offset(instruction)
    if offset is not None:
        hint = f"{hint}; {COMMENT_HINT}" if hint else COMMENT_HINT
    elif isinstance(at, str):
        offset = max(instruction.original.find(at, len(instruction.written_keyword)), 0)
    else:
        offset = at or 0
    line, column = instruction.place(offset)
    physical = instruction.source_text.split("\n")
    text = physical[line - instruction.line] if line - instruction.line < len(physical) else ""
    return kind(message, hint=hint, source=source, line=line, column=column, text=text.rstrip("\r"))


def _inline_comment_offset(instruction: Instruction) -> int | None:
    inner = instruction.trigger or instruction
    is_health_command = inner.keyword == "HEALTHCHECK" and inner.arguments[:1] and inner.arguments[0].upper() == "CMD"
    if inner.exec_form or inner.keyword in _SHELL_TEXT or is_health_command:
        return None
    escape = re.escape(instruction.escape)
    quoted = rf"\"(?:{escape}.|[^\"{escape}])*\"|'[^']*'|{escape}."
    for match in re.finditer(rf"{quoted}|\s(#)", instruction.original):
        if match[1]:
            return match.start(1)
    return None


def nearest(word: str, known: Iterable[str], *, otherwise: str) -> str:
    """A hint with the known word most like `word`."""
    import difflib

    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else otherwise


def exposed_ports(*texts: str) -> tuple[str, ...]:
    """The ports that arguments of EXPOSE name, each as "80/tcp": "80-82/udp" gives three. Raises InvalidInput."""
    ranges = dict.fromkeys(map(port_range, texts))
    if sum(last - first + 1 for first, last, _ in ranges) > _MAXIMUM_PORTS:
        raise InvalidInput(f"EXPOSE names more than {_MAXIMUM_PORTS} ports", hint="ranges that overlap count twice")
    return tuple(f"{port}/{protocol}" for first, last, protocol in ranges for port in range(first, last + 1))


def port_range(text: str) -> tuple[int, int, str]:
    """The first and the last port of one argument of EXPOSE, and the protocol.

    An address or a host's port before the last colon is ignored, as Docker does.
    Raises InvalidInput for anything else.
    """
    match = re.fullmatch(
        r"(?:[0-9a-f.:\[\]-]*:)?(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp)?)?", text, re.IGNORECASE | re.ASCII
    )
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
    if not match or first > last or last > 65535:
        raise InvalidInput(
            f'"{text}" is no port', hint="write a number from 1 to 65535, or two as 80-90, and /tcp or /udp if you like"
        )
    return first, last, (match[3] or "tcp").lower()


_MAXIMUM_PORTS = 3 * 65535  # all of tcp, udp and sctp


def duration(text: str) -> int:
    """Parse the value of a HEALTHCHECK flag: "1m30s", "1.5h", "0". Returns nanoseconds. Raises InvalidInput."""
    nanoseconds = 0 if text == "0" else parse_duration(text)
    if nanoseconds is None:
        raise InvalidInput(f'"{text}" is not a duration', hint="write a number with its unit: 30s, 1m30s or 500ms")
    return nanoseconds


def check(instruction: Instruction, *, source: str) -> None:
    """Raises DockerfileError where the instruction is unknown or its flags or arguments make no sense.

    What only the build can know (whether a stage, a file, a user exists) is not looked at.
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
    hint = nearest(
        instruction.keyword,
        KEYWORDS,
        otherwise=f"a line that goes on ends in {instruction.escape}; the instructions are {', '.join(KEYWORDS)}",
    )
    return fault(instruction, f"unknown instruction: {instruction.keyword}", source=source, hint=hint)


def _check_flags(instruction: Instruction, source: str) -> None:
    known = FLAGS[instruction.keyword]
    seen: set[str] = set()
    for name, value in instruction.flags:
        kind = known.get(name)
        problem, hint = "", ""
        if kind is None:
            names = [f"--{each}" for each in known]
            otherwise = f"{instruction.keyword} takes {', '.join(names) or 'no flags'}"
            problem, hint = f"Unknown flag: {name}", nearest(f"--{name}", names, otherwise=otherwise)
        elif name in seen and kind != "many":
            problem, hint = f"duplicate flag specified: --{name}", "leave one of the two away"
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
_EXACTLY_ONE = ("MAINTAINER", "STOPSIGNAL", "USER", "WORKDIR")
_MAY_BE_EMPTY = ("RUN", "CMD", "ENTRYPOINT", "FROM")  # FROM counts for itself


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
    destination = instruction.arguments[-1]
    if not instruction.exec_form and _announced(destination):
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
            continue  # only the build knows its value
        try:
            port_range(argument)
        except InvalidInput as error:
            raise fault(instruction, error.message, source=source, hint=error.hint, at=argument) from None


def _check_from(instruction: Instruction, source: str) -> None:
    words = instruction.arguments
    if len(words) != 1 and not (len(words) == 3 and words[1].lower() == "as"):
        raise InvalidInput("FROM requires either one or three arguments", hint=f"write {_USAGE['FROM']}")
    if len(words) == 3 and not _STAGE_NAME.fullmatch(words[2].lower()):
        message = f'invalid name for build stage: "{words[2]}"'
        hint = "a name starts with a letter and goes on with letters, digits, - _ and ."
        raise fault(instruction, message, source=source, hint=hint, at=words[2])


def _check_healthcheck(instruction: Instruction, source: str) -> None:
    kind, command = instruction.arguments[0].upper(), instruction.arguments[1:]
    if kind not in ("CMD", "NONE"):
        message = f'Unknown type "{kind}" in HEALTHCHECK (try CMD)'
        raise fault(
            instruction, message, source=source, hint=f"write {_USAGE['HEALTHCHECK']}", at=instruction.arguments[0]
        )
    if kind == "NONE" and command:
        raise InvalidInput("HEALTHCHECK NONE takes no arguments", hint="leave away what follows NONE")
    if kind == "CMD" and not command:
        raise InvalidInput("Missing command after HEALTHCHECK CMD", hint="write HEALTHCHECK CMD command")
    for name, value in instruction.flags:
        try:
            _check_health_flag(name, value or "0")
        except InvalidInput as error:
            raise fault(instruction, error.message, source=source, hint=error.hint, at=f"--{name}") from None


def _check_health_flag(name: str, value: str) -> None:
    if name != "retries":
        if 0 < duration(value) < _SHORTEST_INTERVAL:
            raise InvalidInput(f"--{name} cannot be less than 1ms", hint="write 1ms or more, or 0 for the default")
    elif not re.fullmatch(r"\+?0*\d{1,10}", value, re.ASCII) or int(value) >= 2**31:
        raise InvalidInput(f'--retries "{value}" is no number of retries', hint="write a number, as --retries=3")


def _check_onbuild(instruction: Instruction, source: str) -> None:
    keyword = instruction.arguments[0].upper()
    if keyword == "ONBUILD":
        raise fault(
            instruction,
            "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
            source=source,
            hint="write ONBUILD once",
            at=instruction.arguments[0],
        )
    if keyword in ("FROM", "MAINTAINER"):
        message = f"{keyword} isn't allowed as an ONBUILD trigger"
        hint = "a trigger is run in the stage of the image that is built later"
        raise fault(instruction, message, source=source, hint=hint, at=instruction.arguments[0])


def _check_shell(instruction: Instruction, source: str) -> None:
    if not instruction.exec_form:
        raise InvalidInput("SHELL requires the arguments to be in JSON form", hint=f"write {_USAGE['SHELL']}")


def _check_volumes(instruction: Instruction, source: str) -> None:
    if not all(argument.strip() for argument in instruction.arguments):
        raise InvalidInput("VOLUME specified can not be an empty string", hint=f"write {_USAGE['VOLUME']}")
