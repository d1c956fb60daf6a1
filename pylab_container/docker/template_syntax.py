"""The parser of Go templates: from text to a tree of texts, actions and blocks.

    node                    a text, an action or a block; a template is a sequence of nodes
    {{pipeline}}            an action: commands with | between them, each gets the value of the previous one
    command                 an operand alone, or a function and its arguments
    operand                 a constant, a variable, a field, a function, or a pipeline in parentheses

`define`, `template` and `block` are refused. Source: Go's documentation of text/template, and its package parse for
the error messages.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

from msgspec import Struct

from pylab_container.errors import InvalidInput

PARSE_STATUS = 64
"""docker's exit status for a template that cannot be parsed."""

FIELDS_HINT = "the fields are those that inspect shows; {{json .}} shows all"
_SYNTAX_HINT = "write fields and functions between {{ and }}: {{.Name}} {{json .}}"
_STRING = r'"(?:[^"\\\n]|\\.)*"|`[^`]*`'
_TOKEN = re.compile(
    rf"""
        (?P<space>\s+)
      | (?P<string>{_STRING})
      | (?P<letter>'(?:[^'\\\n]|\\.)')
      | (?P<number>[-+]?(?:0[xX][0-9a-fA-F]+|\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|\.\d+)(?![\w.]))
      | (?P<variable>\$\w*)
      | (?P<field>\.\w+)
      | (?P<word>[A-Za-z_]\w*)
      | (?P<sign>:=|[.()|,=])
    """,
    re.VERBOSE,
)
_QUOTED_OR_END = re.compile(rf"{_STRING}|\}}\}}")
_OPENING = re.compile(r"\{\{(?:-(?=\s))?")
_COMMENT = re.compile(r"\s*/\*.*?\*/\s*", re.DOTALL)
_ESCAPE = re.compile(r"\\(.)")
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r"}
_BLOCKS = ("if", "range", "with")
_KEYWORDS = (*_BLOCKS, "end", "else", "define", "template", "block", "break", "continue")
_WITH_FIELDS = ("field", "variable", "pipeline")
_CONSTANTS = {"true": True, "false": False, "nil": None}


class TemplateError(InvalidInput):
    """A template cannot be parsed, or cannot be executed on its value."""


class Place(Struct, frozen=True):
    """A part of the template's text: its position and its words, for error messages."""

    line: int
    column: int
    words: str

    def error(self, message: str) -> TemplateError:
        """Build the error for a failed execution at this place."""
        where = f'template: :{self.line}:{self.column}: executing "" at <{self.words}>'
        return TemplateError(f"template parsing error: {where}: {message}", hint=FIELDS_HINT)


class Operand(Struct, frozen=True):
    """An operand of a command.

    kind   "constant", "variable", "field", "function" or "pipeline"
    start  a constant's value, a name, or a Pipeline, by kind; None for a field
    path   the names of the fields selected from it: (A, B) of $x.A.B and of .A.B
    """

    place: Place
    kind: str
    start: Any = None
    path: tuple[str, ...] = ()


class Invocation(Struct, frozen=True):
    """A command: a function or method with its arguments, or an operand alone."""

    place: Place
    operands: tuple[Operand, ...]


class Pipeline(Struct, frozen=True):
    """Commands, and the variables that their value is assigned to.

    declares  whether the assignment is := and not =
    """

    place: Place
    commands: tuple[Invocation, ...]
    variables: tuple[str, ...] = ()
    declares: bool = False


class Text(Struct, frozen=True):
    text: str


class Action(Struct, frozen=True):
    pipeline: Pipeline


class Leave(Struct, frozen=True):
    """break or continue."""

    word: str


class Block(Struct, frozen=True):
    """if, range or with (kind): its body, and the nodes after else."""

    kind: str
    pipeline: Pipeline
    body: tuple[Node, ...]
    otherwise: tuple[Node, ...]


Node = Text | Action | Leave | Block


def parse(text: str, functions: Collection[str]) -> tuple[Node, ...]:
    """Parse a template. functions: the names that may be called. Raises TemplateError."""
    return _Parser(text, functions).template()


class _Token(Struct, frozen=True):
    kind: str
    word: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.word)


class _Words(Struct):
    """The tokens of one action, consumed from the left.

    start  position of the action in the template
    end    end position of the token that was consumed last
    """

    start: int
    left: list[_Token]
    end: int = 0

    def next(self) -> _Token:
        return self.left[0] if self.left else _Token("end", "", 0)

    def take(self) -> _Token:
        if not self.left:
            return _Token("end", "", 0)
        token = self.left.pop(0)
        self.end = token.end
        return token

    def is_next(self, *signs: str) -> bool:
        return self.next().kind == "sign" and self.next().word in signs


class _Parser:
    def __init__(self, text: str, functions: Collection[str]) -> None:
        self._text = text
        self._functions = functions
        self._parts = list(self._split())
        self._variables = ["$"]
        self._loops = 0

    def template(self) -> tuple[Node, ...]:
        nodes, end = self._nodes()
        if end is not None:
            raise self._error(end.start, f"unexpected {{{{{end.next().word}}}}}")
        return nodes

    # -- from text to tokens --

    def _split(self) -> Iterator[Text | _Words]:
        """Yield texts and actions in turn. {{- and -}} remove the white space beside them."""
        position, trim = 0, False
        while (start := self._text.find("{{", position)) >= 0:
            text = self._text[position:start]
            opening = _OPENING.match(self._text, start)
            assert opening
            text = text.lstrip() if trim else text
            yield Text(text.rstrip() if opening[0].endswith("-") else text)
            end = self._end_of_action(opening.end())
            inner = self._text[opening.end() : end]
            trim = bool(re.search(r"\s-\Z", inner))
            inner = inner[:-1] if trim else inner
            if not _COMMENT.fullmatch(inner):
                yield self._words(opening.end(), opening.end() + len(inner))
            position = end + 2
        rest = self._text[position:]
        yield Text(rest.lstrip() if trim else rest)

    def _end_of_action(self, start: int) -> int:
        """Return the position of an action's }}; one in quotes is text."""
        for match in _QUOTED_OR_END.finditer(self._text, start):
            if match[0] == "}}":
                return match.start()
        raise self._error(start, "unterminated quoted string" if '"' in self._text[start:] else "unclosed action")

    def _words(self, start: int, end: int) -> _Words:
        words = _Words(start, [])
        position = start
        while position < end:
            match = _TOKEN.match(self._text, position, end)
            if match is None or match.lastgroup is None:
                sign = self._text[position]
                unclosed = "unterminated quoted string" if sign == '"' else f"unexpected {sign!r} in action"
                raise self._error(position, unclosed)
            if match.lastgroup != "space":
                words.left.append(_Token(match.lastgroup, match[0], position))
            position = match.end()
        return words

    # -- from tokens to nodes --

    def _nodes(self) -> tuple[tuple[Node, ...], _Words | None]:
        """Parse up to the {{end}} or {{else}} of the enclosing block, and return its tokens (None without one)."""
        nodes: list[Node] = []
        while self._parts:
            part = self._parts.pop(0)
            if isinstance(part, Text):
                nodes.append(part)
                continue
            word = part.next().word if part.next().kind == "word" else ""
            if word in ("end", "else"):
                return tuple(nodes), part
            nodes.append(self._node(part, word))
        return tuple(nodes), None

    def _node(self, words: _Words, word: str) -> Node:
        if word in _BLOCKS:
            return self._block(words)
        if word in ("break", "continue") and len(words.left) == 1:
            if not self._loops:
                raise self._error(words.start, f"{{{{{word}}}}} outside {{{{range}}}}")
            return Leave(word)
        return Action(self._pipeline(words, "command"))

    def _block(self, words: _Words) -> Block:
        kind, known = words.take().word, len(self._variables)
        pipeline = self._pipeline(words, kind)
        self._loops += kind == "range"
        body, end = self._nodes()
        self._loops -= kind == "range"
        otherwise: tuple[Node, ...] = ()
        if end is not None and end.take().word == "else":
            if end.left:  # {{else if …}} is {{else}}{{if …}} with one {{end}} for both
                if end.next().word not in _BLOCKS:
                    raise self._error(end.start, f"unexpected <{end.next().word}> in else")
                otherwise = (self._block(end),)
            else:
                otherwise, end = self._nodes()
                if end is not None and end.take().word != "end":
                    raise self._error(end.start, "expected end; found {{else}}")
        if end is None:
            raise self._error(len(self._text), "unexpected EOF")
        del self._variables[known:]
        return Block(kind, pipeline, body, otherwise)

    def _pipeline(self, words: _Words, context: str, *, closing: str = "") -> Pipeline:
        start = words.next().start or words.start
        variables, declares = self._assigned(words)
        commands: list[Invocation] = []
        while words.left and not words.is_next(")"):
            commands.append(self._command(words, context, first=not commands))
            if words.is_next("|"):
                words.take()
        if not commands:
            raise self._error(words.start, f"missing value for {context}")
        place = self._place(start, self._text[start : words.end])
        if words.take().word != closing:
            raise self._error(words.start, "unclosed left paren" if closing else "unexpected right paren")
        if declares:
            self._variables += variables
        return Pipeline(place, tuple(commands), variables, declares)

    def _command(self, words: _Words, context: str, *, first: bool) -> Invocation:
        start = words.next().start
        operands: list[Operand] = []
        while words.left and not words.is_next("|", ")"):
            operands.append(self._operand(words))
        if not operands:
            raise self._error(words.start, f"missing value for {context}")
        if not first and operands[0].kind == "constant":
            raise self._error(words.start, "non executable command in pipeline stage 2")
        return Invocation(self._place(start, self._text[start : words.end]), tuple(operands))

    def _assigned(self, words: _Words) -> tuple[tuple[str, ...], bool]:
        """Parse the one or two variables before := or =; return them, and whether it is :=."""
        signs = {token.word for token in words.left[1:4] if token.kind == "sign"}
        if words.next().kind != "variable" or not signs & {":=", "="}:
            return (), False
        names = [words.take().word]
        if words.is_next(","):
            words.take()
            names.append(words.take().word)
        if not words.is_next(":=", "="):
            raise self._error(words.start, "expected :=")
        declares = words.take().word == ":="
        for name in names:
            if not declares and name not in self._variables:
                raise self._error(words.start, f'undefined variable "{name}"')
        return tuple(names), declares

    def _operand(self, words: _Words) -> Operand:
        token = words.take()
        kind, start = self._meaning(token, words)
        path = [token.word[1:]] if token.kind == "field" else []
        column = token.start
        while kind in _WITH_FIELDS and words.next().kind == "field" and words.next().start == words.end:
            if column == token.start:  # text/template reports a chain of fields at its second part
                column = words.next().start
            path.append(words.take().word[1:])
        return Operand(self._place(column, self._text[token.start : words.end]), kind, start, tuple(path))

    def _meaning(self, token: _Token, words: _Words) -> tuple[str, Any]:
        """Return an operand's kind and start from its first token; a pipeline in parentheses is consumed."""
        if token.kind in ("string", "letter", "number"):
            return "constant", _constant(token)
        if token.kind == "variable":
            if token.word not in self._variables:
                raise self._error(token.start, f'undefined variable "{token.word}"')
            return "variable", token.word
        if token.kind == "word" and token.word in _CONSTANTS:
            return "constant", _CONSTANTS[token.word]
        if token.kind == "word" and token.word in self._functions:
            return "function", token.word
        if token.kind == "word":
            if token.word in _KEYWORDS:
                raise self._error(token.start, f"{token.word} is not supported here")
            hint = f"functions are {', '.join(self._functions)}"
            raise self._error(token.start, f'function "{token.word}" not defined', hint=hint)
        if token.kind == "field" or token.word == ".":
            return "field", None
        if token.word == "(":
            return "pipeline", self._pipeline(words, "parenthesized pipeline", closing=")")
        raise self._error(token.start, f'unexpected "{token.word}" in operand')

    def _place(self, start: int, words: str) -> Place:
        line_start = self._text.rfind("\n", 0, start) + 1
        return Place(self._text.count("\n", 0, start) + 1, start - line_start, words)

    def _error(self, start: int, message: str, *, hint: str = _SYNTAX_HINT) -> TemplateError:
        line = self._text.count("\n", 0, start) + 1
        error = TemplateError(f"template parsing error: template: :{line}: {message}", hint=hint)
        error.exit_code = PARSE_STATUS
        return error


def _constant(token: _Token) -> Any:
    if token.kind == "number":
        is_whole = token.word.lstrip("+-").isdigit() or "x" in token.word.lower()
        number = int(token.word, 0) if "x" in token.word.lower() else int(token.word) if is_whole else float(token.word)
        return int(number) if isinstance(number, float) and number.is_integer() and "." not in token.word else number
    if token.word.startswith("`"):
        return token.word[1:-1]
    text = _ESCAPE.sub(lambda match: _ESCAPED.get(match[1], match[1]), token.word[1:-1])
    return text if token.kind == "string" else ord(text)
