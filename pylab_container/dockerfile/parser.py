r"""Parser of Dockerfiles: text to instructions.

    # escape=`            parser directives, only at the top of the file
    # a comment           a line of its own; also between continuation lines
    FROM debian:12
    RUN apt-get update \
        && apt-get install nginx         continuation lines are joined
    CMD ["nginx", "-g", "daemon off;"]   exec form: a JSON array
    COPY <<EOF /etc/motd                 a here-document: the lines up to EOF
    hello
    EOF

The grammar is BuildKit's (frontend/dockerfile/parser; "Dockerfile reference" in Docker's documentation), including
its surprises: joining keeps the white space at the start of the next line, a # after an instruction is an argument,
and a text that starts with [ but is not JSON silently becomes the shell form.

Arguments keep their variables and quotes. expansion.py replaces them when the build executes the instruction, because
the values are known only then.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from pylab_container.dockerfile.expansion import WHITESPACE, literal_words
from pylab_container.dockerfile.heredocs import Heredoc, parse_heredoc
from pylab_container.dockerfile.instructions import (
    Instruction,
    Origin,
    check,
    fault,
    inline_comment,
)
from pylab_container.errors import DockerfileError, InvalidInput
from pylab_container.text.jsontext import refuse_deep

__all__ = ["Dockerfile", "Heredoc", "Instruction", "inline_comment", "parse", "parse_syntax"]

_BYTE_ORDER_MARK = "\ufeff"  # editors on Windows write it at the start of UTF-8 files
_LONGEST_LINE = 65535  # bytes; BuildKit reads lines with Go's bufio.Scanner, whose buffer is 64 KiB
_DIRECTIVE = re.compile(r"#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(\S.*)", re.ASCII)
_KNOWN_DIRECTIVES = ("syntax", "escape", "check")
# Narrower than WHITESPACE: BuildKit splits some instructions with its own pattern, others with Go's unicode.IsSpace().
_BLANKS = re.compile(r"[\t\v\f\r ]+")


class Dockerfile(Struct, frozen=True):
    """A parsed file.

    escape      the escape character, which also continues lines: a backslash or a backtick
    directives  the parser directives of the file: "syntax", "escape", "check"
    """

    instructions: tuple[Instruction, ...]
    escape: str
    directives: Mapping[str, str]


def parse(source: bytes | str, *, name: str = "Dockerfile") -> Dockerfile:
    """Parse a file and check each instruction by itself.

    name  of the file, for errors

    Rules about several instructions are checked later: the order of instructions and the stages by stages.py, the
    trigger of an ONBUILD when a build executes it.

    Raises DockerfileError with line, column and hint.
    """
    dockerfile = parse_syntax(source, name=name)
    for instruction in dockerfile.instructions:
        check(instruction, source=name)
    return dockerfile


def parse_syntax(source: bytes | str, *, name: str = "Dockerfile") -> Dockerfile:
    """As parse(), but without the checks of single instructions: for the linter."""
    reader = _Reader(_lines(source, name), name)
    instructions = tuple(reader.instructions())
    if not instructions:
        raise DockerfileError(
            "file with no instructions", hint="a Dockerfile begins with FROM image", source=name, line=1
        )
    return Dockerfile(instructions, reader.escape, reader.directives)


def _lines(source: bytes | str, name: str) -> list[str]:
    """Split into lines, with their ends. Raises DockerfileError."""
    try:
        text = source.decode() if isinstance(source, bytes) else source
    except UnicodeDecodeError as error:
        number = error.object.count(b"\n", 0, error.start) + 1
        raise DockerfileError(
            "this is not UTF-8 text", hint="save the file as UTF-8", source=name, line=number
        ) from None
    # Not str.splitlines(), which also splits at form feeds and at Unicode's line separators.
    lines = re.findall(r"[^\n]*\n|[^\n]+\Z", text.removeprefix(_BYTE_ORDER_MARK))
    for number, line in enumerate(lines, start=1):
        # ASCII text in UTF-16 has a NUL in every other byte, and would otherwise give a confusing error. No path and no
        # argument of a program can contain a NUL.
        if "\0" in line:
            raise DockerfileError(
                "this is not text: it has a NUL character", hint="save the file as UTF-8", source=name, line=number
            )
        # Encoding is slow, so only lines are measured that can be too long: a character has at most four bytes.
        if len(line) > _LONGEST_LINE // 4 and len(line.removesuffix("\n").encode(errors="replace")) > _LONGEST_LINE:
            message = f"dockerfile line greater than max allowed size of {_LONGEST_LINE}"
            raise DockerfileError(message, hint=r"break it up with \ at the end of lines", source=name, line=number)
    return lines


class _Reader:
    """Reads a file's lines in order and keeps the state that following lines depend on."""

    def __init__(self, lines: list[str], name: str) -> None:
        self.lines = lines
        self.name = name
        self.position = 0  # index of the next line, and so the number of the present one, counted from 1
        self.escape = "\\"
        self.directives: dict[str, str] = {}

    def instructions(self) -> list[Instruction]:
        self.read_directives()
        instructions = []
        while self.position < len(self.lines):
            first = self.position + 1
            joined, origins, continued = self.read_joined()
            if joined or continued:
                instructions.append(self.read_instruction(joined, first, origins))
        return instructions

    def read_directives(self) -> None:
        """Read the parser directives. The first other line ends them, even a comment or an empty line."""
        while self.position < len(self.lines):
            line = self.lines[self.position].strip(WHITESPACE)
            match = _DIRECTIVE.fullmatch(line.rstrip())
            if not match or (key := match[1].lower()) not in _KNOWN_DIRECTIVES:
                return
            self.position += 1
            if key in self.directives:
                raise self.directive_error(f"only one {key} parser directive can be used", "remove one of them")
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
        """Return (the next line joined with its continuation lines, their origins, whether it had any).

        The text is "" for a comment or an empty line.
        """
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
            # A comment does not end the instruction, so that each line of a long RUN can have one. Docker also skips
            # empty lines, although they look like the end; the linter warns of them.
            if not text or text.startswith("#"):
                continue
            piece, goes_on = self.without_continuation(line)
            origins.append(Origin(len(joined), self.position, 1))
            joined += piece
        return joined, origins, continued

    def without_continuation(self, line: str) -> tuple[str, bool]:
        """Return (the line without a final escape, whether it had one). Two escapes are a literal one."""
        # Spaces and tabs after the escape are ignored. They are invisible, and in sh they would break the command.
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
        # Here-documents follow the joined line, so end_line and source_text are known only after reading them.
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
        # The words keep their quotes: a quoted "<<EOF" is an argument, while <<"EOF" is a here-document.
        try:
            words = literal_words(instruction.original)
        except InvalidInput:
            return ()  # an unbalanced quote: Docker leaves the error to the shell
        try:
            heredocs = [heredoc for word in words if (heredoc := parse_heredoc(word))]
        except InvalidInput as error:
            raise fault(instruction, error.message, source=self.name, hint=error.hint, at="<<") from None
        return tuple(self.read_heredoc(heredoc, instruction) for heredoc in heredocs)

    def read_heredoc(self, heredoc: Heredoc, instruction: Instruction) -> Heredoc:
        start = self.position
        for index in range(start, len(self.lines)):
            line = self.lines[index].rstrip("\r\n")
            # As in sh, only the exact delimiter ends it: a space before or after makes the line content.
            if (line.lstrip("\t") if heredoc.chomp else line) == heredoc.name:
                self.position = index + 1
                return replace(heredoc, content="".join(self.lines[start:index]))
        hint = f"end it with a line that contains only {heredoc.name}"
        raise fault(instruction, "unterminated heredoc", source=self.name, hint=hint, at="<<")


def _shifted(origins: Sequence[Origin], characters: int) -> tuple[Origin, ...]:
    """Return the origins after the removal of characters at the start of the text."""
    return tuple(origin._replace(offset=origin.offset - characters) for origin in origins)


def _takes_heredocs(instruction: Instruction) -> bool:
    # In other instructions << is plain text, as in BuildKit (parser.go, heredocDirectives).
    inner = instruction.trigger or instruction
    return inner.keyword in ("ADD", "COPY", "RUN") and not inner.exec_form


def _instruction(draft: Instruction, name: str) -> Instruction:
    """Split the `original` of a draft into keyword, flags and arguments. Raises DockerfileError."""
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
    # The trigger of the draft marks the inner instruction. A second ONBUILD is then not parsed further, so that a long
    # chain of them cannot exhaust the stack; check() refuses it.
    inner = _instruction(replace(draft, flags=(), original=rest, origins=origins, trigger=draft), name)
    trigger = replace(inner, trigger=None)
    return replace(draft, arguments=(trigger.written_keyword, *trigger.arguments), trigger=trigger)


def _first_word(text: str) -> tuple[str, str]:
    first, *others = _BLANKS.split(text, maxsplit=1)
    return first, others[0] if others else ""


# The alternatives begin with different characters, so that a text matches in one way and in linear time.
_FLAG = re.compile(
    r"""\s* (?P<flag> --
          (?: \\. | "(?:\\.|[^"\\])*(?:"|\\?\Z) | '(?:\\.|[^'\\])*(?:'|\\?\Z) | [^\s"'\\] | \\\Z )* )
        (?=\s|\Z)""",
    re.VERBOSE | re.DOTALL,
)


def _split_flags(text: str) -> tuple[tuple[tuple[str, str | None], ...], str]:
    """Return ((name, value), …) of the flags at the start, without quotes, and the rest. A lone -- ends the flags."""
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
    """Return a flag without its quotes."""
    # BuildKit has a second lexer for flags (split_command.go): its escape is always a backslash, and it works in single
    # quotes too.
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
    """Return the strings of a JSON array; None for other texts. Raises InvalidInput for other values in the array."""
    # A malformed array is not an error: `RUN [ -f /etc/motd ]` is a command of the shell. `["a" , 1]` can only be meant
    # as the exec form.
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
    # A lone surrogate, such as "\ud800", cannot be encoded as UTF-8; Go replaces it with U+FFFD.
    return [re.sub("[\ud800-\udfff]", "\ufffd", value) for value in values]


def _refuse_constant(constant: str) -> None:
    # Python's json accepts NaN and Infinity, which are not JSON.
    raise ValueError(constant)


def _healthcheck(rest: str, draft: Instruction) -> _Arguments:
    kind, command = _first_word(rest)
    arguments, exec_form = _json_or_whole(command, draft)
    return [kind, *arguments] if kind else [], exec_form


def _quoted_words(rest: str, draft: Instruction) -> _Arguments:
    return _split_words(rest, draft.escape), False


def _split_words(text: str, escape: str) -> list[str]:
    """Split at white space outside quotes. Quotes and escapes are kept, except a lone escape at the end of a word."""
    # An unbalanced quote extends to the end of the text. Its error is reported at the expansion, with the variables.
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
    """Report whether an unbalanced double quote ends in an escape without a character to escape."""
    body = re.sub(rf"{re.escape(escape)}.", "", quoted[1:], flags=re.DOTALL)
    return body.endswith(escape)


def _key_values(rest: str, draft: Instruction) -> _Arguments:
    words = _split_words(rest, draft.escape)
    # The first word decides about the form, as in BuildKit (line_parsers.go, parseNameVal).
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
    """Parse the legacy form `ENV name the whole rest`, in which the value needs no quotes."""
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
