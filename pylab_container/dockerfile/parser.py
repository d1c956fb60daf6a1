r"""A Dockerfile: from text to instructions.

    # escape=`            directives, only at the top
    # a comment           a line of its own; also between the lines of one instruction
    FROM debian:12
    RUN apt-get update \
        && apt-get install nginx         continued lines are joined
    CMD ["nginx", "-g", "daemon off;"]   exec form: JSON
    COPY <<EOF /etc/motd                 a here-document: the lines up to EOF
    hello
    EOF

The grammar is BuildKit's (package frontend/dockerfile/parser; "Dockerfile reference"
in Docker's documentation), also where it surprises: joining keeps the spaces at the
start of the next line, a # behind an instruction is an argument, and text that starts
with [ but is no JSON quietly becomes the shell form.

Variables and quotes are still in the arguments; expansion.py takes them out when an
instruction is carried out, for only then their values are known.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from pylab_container.dockerfile.expansion import WHITESPACE, literal_words
from pylab_container.dockerfile.instructions import (
    Heredoc,
    Instruction,
    Origin,
    check,
    fault,
    inline_comment,
    parse_heredoc,
)
from pylab_container.errors import DockerfileError, InvalidInput
from pylab_container.text.jsontext import refuse_deep

__all__ = ["Dockerfile", "Heredoc", "Instruction", "inline_comment", "parse", "parse_syntax"]

_BYTE_ORDER_MARK = "\ufeff"
_LONGEST_LINE = 65535  # bytes; BuildKit's limit
_DIRECTIVE = re.compile(r"#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(\S.*)", re.ASCII)
_KNOWN_DIRECTIVES = ("syntax", "escape", "check")
_BLANKS = re.compile(r"[\t\v\f\r ]+")


class Dockerfile(Struct, frozen=True):
    """All instructions of a file.

    escape      the character that continues lines and escapes others: a backslash or a backtick
    directives  the values of `# syntax=`, `# escape=` and `# check=` where given
    """

    instructions: tuple[Instruction, ...]
    escape: str
    directives: Mapping[str, str]


def parse(source: bytes | str, *, name: str = "Dockerfile") -> Dockerfile:
    """The instructions of a file, each one valid by itself.

    name  of the file, for errors

    Whether the file begins with FROM, and whether its stages exist, is left to the builder, as is what a trigger of
    ONBUILD says: it is checked where it is carried out. Raises DockerfileError with line, column and a hint.
    """
    dockerfile = parse_syntax(source, name=name)
    for instruction in dockerfile.instructions:
        check(instruction, source=name)
    return dockerfile


def parse_syntax(source: bytes | str, *, name: str = "Dockerfile") -> Dockerfile:
    """As parse(), but unknown instructions, flags and wrong arguments pass: for tools that look at broken files."""
    reader = _Reader(_lines(source, name), name)
    instructions = tuple(reader.instructions())
    if not instructions:
        raise DockerfileError(
            "file with no instructions", hint="a Dockerfile begins with FROM image", source=name, line=1
        )
    return Dockerfile(instructions, reader.escape, reader.directives)


def _lines(source: bytes | str, name: str) -> list[str]:
    """The lines with their ends: only \\n ends a line."""
    try:
        text = source.decode() if isinstance(source, bytes) else source
    except UnicodeDecodeError as error:
        number = error.object.count(b"\n", 0, error.start) + 1
        raise DockerfileError(
            "this is no UTF-8 text", hint="save the file as UTF-8", source=name, line=number
        ) from None
    lines = re.findall(r"[^\n]*\n|[^\n]+\Z", text.removeprefix(_BYTE_ORDER_MARK))
    for number, line in enumerate(lines, start=1):
        if "\0" in line:  # UTF-16 has one in every other byte, and no name or argument can have any
            raise DockerfileError(
                "this is not text: it has a NUL character", hint="save the file as UTF-8", source=name, line=number
            )
        if len(line) > _LONGEST_LINE // 4 and len(line.removesuffix("\n").encode(errors="replace")) > _LONGEST_LINE:
            message = f"dockerfile line greater than max allowed size of {_LONGEST_LINE}"
            raise DockerfileError(message, hint=r"break it up with \ at the end of lines", source=name, line=number)
    return lines


class _Reader:
    """Reads lines one after the other and knows what they mean for the next ones."""

    def __init__(self, lines: list[str], name: str) -> None:
        self.lines = lines
        self.name = name
        self.position = 0  # of the next line; also the number of the present one
        self.escape = "\\"
        self.directives: dict[str, str] = {}

    def instructions(self) -> list[Instruction]:
        self.read_directives()
        found = []
        while self.position < len(self.lines):
            first = self.position + 1
            joined, origins, continued = self.read_joined()
            if joined or continued:
                found.append(self.read_instruction(joined, first, origins))
        return found

    def read_directives(self) -> None:
        """Only at the very top: the first other line, also an empty one or a comment, ends them."""
        while self.position < len(self.lines):
            line = self.lines[self.position].strip(WHITESPACE)
            match = _DIRECTIVE.fullmatch(line.rstrip())
            if not match or (key := match[1].lower()) not in _KNOWN_DIRECTIVES:
                return
            self.position += 1
            if key in self.directives:
                raise self.directive_error(f"only one {key} parser directive can be used", "leave one of them away")
            self.directives[key] = match[2]
            if key == "escape":
                self.set_escape(match[2])

    def set_escape(self, value: str) -> None:
        if value not in ("\\", "`"):
            message = f"invalid escape token '{value}' does not match ` or \\"
            raise self.directive_error(message, "write # escape=` or # escape=\\")
        self.escape = value

    def directive_error(self, message: str, hint: str) -> DockerfileError:
        text = self.lines[self.position - 1].rstrip("\r\n")
        return DockerfileError(message, hint=hint, source=self.name, line=self.position, text=text)

    def read_joined(self) -> tuple[str, list[Origin], bool]:
        """The next line with those that continue it; "" for a comment or an empty one. And whether it was continued."""
        line = self.lines[self.position].rstrip("\r\n")
        self.position += 1
        text = line.lstrip(WHITESPACE)
        if text.startswith("#"):
            return "", [], False
        joined, goes_on = self.without_continuation(text)
        continued = goes_on
        origins = [Origin(0, self.position, len(line) - len(text) + 1)]
        while goes_on and self.position < len(self.lines):
            line = self.lines[self.position].rstrip("\r\n")
            self.position += 1
            text = line.lstrip(WHITESPACE)
            if not text or text.startswith("#"):
                continue
            piece, goes_on = self.without_continuation(line)
            origins.append(Origin(len(joined), self.position, 1))
            joined += piece
        return joined, origins, continued

    def without_continuation(self, line: str) -> tuple[str, bool]:
        """The line without the escape at its end, and whether it had one. Two escapes are a literal one."""
        escape = re.escape(self.escape)
        shortened = re.sub(rf"(^|[^{escape}]){escape}[ \t]*\Z", r"\1", line)
        return shortened, shortened != line

    def read_instruction(self, joined: str, first: int, origins: list[Origin]) -> Instruction:
        leading = len(joined) - len(joined.lstrip(WHITESPACE))
        draft = Instruction(
            keyword="",
            written_keyword="",
            arguments=(),
            exec_form=False,
            flags=(),
            heredocs=(),
            line=first,
            end_line=self.position,
            original=joined.strip(WHITESPACE),
            source_text=self.source_text(first),
            escape=self.escape,
            origins=_shifted(origins, leading),
        )
        instruction = _instruction(draft, self.name)
        documents = self.read_heredocs(instruction) if _takes_heredocs(instruction) and "<<" in joined else ()
        trigger = instruction.trigger and replace(instruction.trigger, heredocs=documents, end_line=self.position)
        return replace(
            instruction,
            heredocs=documents,
            trigger=trigger,
            end_line=self.position,
            source_text=self.source_text(first),
        )

    def source_text(self, first: int) -> str:
        return "".join(self.lines[first - 1 : self.position]).removesuffix("\n")

    def read_heredocs(self, instruction: Instruction) -> tuple[Heredoc, ...]:
        try:
            words = literal_words(instruction.original)
        except InvalidInput:
            return ()  # an open quote: the shell will complain, Docker does not
        try:
            announced = [heredoc for word in words if (heredoc := parse_heredoc(word))]
        except InvalidInput as error:
            raise fault(instruction, error.message, source=self.name, hint=error.hint, at="<<") from None
        return tuple(self.read_heredoc(heredoc, instruction) for heredoc in announced)

    def read_heredoc(self, heredoc: Heredoc, instruction: Instruction) -> Heredoc:
        start = self.position
        for index in range(start, len(self.lines)):
            line = self.lines[index].rstrip("\r\n")
            if (line.lstrip("\t") if heredoc.chomp else line) == heredoc.name:
                self.position = index + 1
                return replace(heredoc, content="".join(self.lines[start:index]))
        hint = f"end it with a line that holds nothing but {heredoc.name}"
        raise fault(instruction, "unterminated heredoc", source=self.name, hint=hint, at="<<")


def _shifted(origins: Sequence[Origin], characters: int) -> tuple[Origin, ...]:
    """The origins of the same text without so many characters at its start."""
    return tuple(origin._replace(offset=origin.offset - characters) for origin in origins)


def _takes_heredocs(instruction: Instruction) -> bool:
    inner = instruction.trigger or instruction
    return inner.keyword in ("ADD", "COPY", "RUN") and not inner.exec_form


def _instruction(draft: Instruction, name: str) -> Instruction:
    """Cuts `original` into keyword, flags and arguments."""
    written, rest = _first_word(draft.original)
    flags, rest = _split_flags(rest)
    rest = rest.strip(WHITESPACE)
    draft = replace(draft, keyword=written.upper(), written_keyword=written, flags=flags)
    if draft.keyword == "ONBUILD" and draft.trigger is None:
        return _onbuild(draft, rest, name)
    try:
        arguments, exec_form = _ARGUMENTS.get(draft.keyword, _blank_separated)(rest, draft)
    except InvalidInput as error:
        raise fault(draft, error.message, source=name, hint=error.hint, at=rest) from None
    return replace(draft, arguments=tuple(arguments), exec_form=exec_form)


def _onbuild(draft: Instruction, rest: str, name: str) -> Instruction:
    if not rest:
        return draft
    origins = _shifted(draft.origins, len(draft.original) - len(rest))
    # The draft as its own trigger marks the instruction inside: an ONBUILD there is not read further, and refused.
    inner = _instruction(replace(draft, flags=(), original=rest, origins=origins, trigger=draft), name)
    trigger = replace(inner, trigger=None)
    return replace(draft, arguments=(trigger.written_keyword, *trigger.arguments), trigger=trigger)


def _first_word(text: str) -> tuple[str, str]:
    first, *others = _BLANKS.split(text, maxsplit=1)
    return first, others[0] if others else ""


_FLAG = re.compile(
    r"""\s* (?P<flag> --
          (?: \\. | "(?:\\.|[^"\\])*(?:"|\\?\Z) | '(?:\\.|[^'\\])*(?:'|\\?\Z) | [^\s"'\\] | \\\Z )* )
        (?=\s|\Z)""",
    re.VERBOSE | re.DOTALL,
)


def _split_flags(text: str) -> tuple[tuple[tuple[str, str | None], ...], str]:
    """The flags at the start, without their quotes, and what follows. A lone -- ends them."""
    flags: list[tuple[str, str | None]] = []
    position = 0
    while match := _FLAG.match(text, position):
        position = match.end()
        flag = _unquoted(match["flag"])
        if flag == "--":
            break
        key, equals, value = flag[2:].partition("=")
        flags.append((key, value if equals else None))
    return tuple(flags), text[position:]


def _unquoted(flag: str) -> str:
    """Without quotes. In flags the escape is always a backslash, and works in single quotes too."""
    text = ""
    for quoted in re.finditer(r"\"((?:\\.|[^\"\\])*)[\"\\]?|'((?:\\.|[^'\\])*)['\\]?|(\\.|.)", flag, re.DOTALL):
        text += re.sub(r"\\(.?)", r"\1", quoted[1] or quoted[2] or quoted[3] or "", flags=re.DOTALL)
    return text


_Arguments = tuple[list[str], bool]


def _whole(rest: str, draft: Instruction) -> _Arguments:
    return [rest] if rest else [], False


def _blank_separated(rest: str, draft: Instruction) -> _Arguments:
    return _BLANKS.split(rest) if rest else [], False


def _json_or_whole(rest: str, draft: Instruction) -> _Arguments:
    array = _json_array(rest)
    return _whole(rest, draft) if array is None else (array, True)


def _json_or_blank_separated(rest: str, draft: Instruction) -> _Arguments:
    array = _json_array(rest)
    return _blank_separated(rest, draft) if array is None else (array, True)


def _json_array(rest: str) -> list[str] | None:
    """The strings of a JSON array; None where the text is not one. Raises InvalidInput for other values inside."""
    if not rest.startswith("["):
        return None
    try:
        refuse_deep(rest)
        values = json.loads(rest, parse_constant=_refuse_constant)
    except ValueError:
        return None
    if not all(isinstance(value, str) for value in values):
        raise InvalidInput(
            "when using JSON array syntax, arrays must be comprised of strings only",
            hint='put every element in double quotes, as ["sleep", "10"]',
        )
    # Half a surrogate pair, as "\ud800", cannot be written as UTF-8; Go puts U+FFFD.
    return [re.sub("[\ud800-\udfff]", "\ufffd", value) for value in values]


def _refuse_constant(constant: str) -> None:
    """Python's json takes NaN and Infinity, which are not JSON."""
    raise ValueError(constant)


def _healthcheck(rest: str, draft: Instruction) -> _Arguments:
    kind, command = _first_word(rest)
    arguments, exec_form = _json_or_whole(command, draft)
    return [kind, *arguments] if kind else [], exec_form


def _quoted_words(rest: str, draft: Instruction) -> _Arguments:
    return _split_words(rest, draft.escape), False


def _split_words(text: str, escape: str) -> list[str]:
    """Words at white space outside quotes, with quotes and escapes left in. A lone escape at the end goes."""
    e = re.escape(escape)
    unit = rf"{e}.|\"(?:{e}.|[^\"{e}])*(?:\"|{e}?\Z)|'[^']*(?:'|\Z)|[^\s]"
    words = []
    for match in re.finditer(rf"(?:{unit})+", text, re.DOTALL):
        word = match[0]
        units = re.findall(unit, word, re.DOTALL)
        ends_in_escape = units[-1] == escape or (units[-1][0] == '"' and _is_cut_off(units[-1], escape))
        words.append(word.removesuffix(escape) if ends_in_escape else word)
    return [word for word in words if word]


def _is_cut_off(quoted: str, escape: str) -> bool:
    """Whether an open double quote ends in an escape that escapes nothing."""
    body = re.sub(rf"{re.escape(escape)}.", "", quoted[1:], flags=re.DOTALL)
    return body.endswith(escape)


def _key_values(rest: str, draft: Instruction) -> _Arguments:
    words = _split_words(rest, draft.escape)
    if words and "=" not in words[0]:
        return _legacy_pair(rest, draft), False
    arguments: list[str] = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            message = f'Syntax error - can\'t find = in "{word}". Must be of the form: name=value'
            raise InvalidInput(message, hint='a value with spaces needs quotes, as in NAME="two words"')
        arguments += [key, value]
    return arguments, False


def _legacy_pair(rest: str, draft: Instruction) -> list[str]:
    """`ENV name the whole rest`."""
    parts = _BLANKS.split(rest, maxsplit=1)
    if len(parts) < 2:
        raise InvalidInput(f"{draft.keyword} must have two arguments", hint=f"write {draft.keyword} {rest}=value")
    return parts


_ARGUMENTS: dict[str, Callable[[str, Instruction], _Arguments]] = {
    "ADD": _json_or_blank_separated,
    "ARG": _quoted_words,
    "CMD": _json_or_whole,
    "COPY": _json_or_blank_separated,
    "ENTRYPOINT": _json_or_whole,
    "ENV": _key_values,
    "EXPOSE": _blank_separated,
    "FROM": _blank_separated,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _key_values,
    "MAINTAINER": _whole,
    "RUN": _json_or_whole,
    "SHELL": _json_or_whole,
    "STOPSIGNAL": _whole,
    "USER": _whole,
    "VOLUME": _json_or_blank_separated,
    "WORKDIR": _whole,
}
