"""Go templates as `--format` takes them: the part of text/template that people use with docker.

    {{.State.Status}}  {{json .Config}}  {{index .Config.Labels "a"}}  {{join .Args " "}}
    {{range $port, $bindings := .NetworkSettings.Ports}} … {{else}} … {{end}}
    {{if .State.Running}} … {{else if eq .State.ExitCode 0}} … {{else}} … {{end}}
    {{with .Mounts}} … {{end}}   {{.Name | upper}}   {{- trimmed -}}   {{/* a comment */}}

The functions are in template_values.py. What is not there, `define`, `template` and `block`
among it, is refused with its place.

Source: Go's documentation of text/template.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pylab_container.errors import InvalidInput
from pylab_container.formats.template_values import (
    FUNCTIONS,
    MAPS,
    MISSING,
    OPTIONAL,
    EvaluationError,
    Row,
    is_true,
    text_of,
    type_name,
)

PARSE_STATUS = 64
"""docker's exit status after a template that cannot be read."""

_HINT = "the fields are those that inspect shows; {{json .}} shows all"
_TOKEN = re.compile(
    r"""\s*(?:
        (?P<string>"(?:[^"\\\n]|\\.)*"|`[^`]*`)
      | (?P<number>[-+]?\d+(?![\w.]))
      | (?P<variable>\$\w*(?:\.\w+)*)
      | (?P<field>\.\w+(?:\.\w+)*)
      | (?P<word>[A-Za-z_]\w*)
      | (?P<sign>:=|[.()|,=])
    )""",
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(.)")
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r"}
_BLOCKS = ("if", "range", "with")
_CONSTANTS = {"true": True, "false": False, "nil": None}


class TemplateError(InvalidInput):
    """A template that cannot be read, or does not fit what it is filled with."""


class Template:
    """A template, read once and filled in for many values. Raises TemplateError."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._nodes = _Parser(text).parse()

    def render(self, value: Any) -> str:
        """The text with value's fields filled in: a document, or a Row. Raises TemplateError."""
        scope = _Scope(value, {"$": _Value(value)})
        return "".join(_render(self._nodes, _Value(value), scope))


def render(text: str, value: Any) -> str:
    """Template(text).render(value)."""
    return Template(text).render(value)


# ---- what a template consists of -------------------------------------------------------


@dataclass(frozen=True)
class _Place:
    """Where in the template something stands, and its words."""

    line: int
    column: int
    words: str

    def error(self, message: str) -> TemplateError:
        where = f'template: :{self.line}:{self.column}: executing "" at <{self.words}>'
        return TemplateError(f"template parsing error: {where}: {message}", hint=_HINT)


@dataclass(frozen=True)
class _Value:
    """A value, and the name of the field that it came from."""

    value: Any
    name: str = ""


@dataclass
class _Scope:
    """What names mean while a template is filled in."""

    root: Any
    variables: dict[str, _Value]


@dataclass(frozen=True)
class _Operand:
    """start is a constant, a variable, ".", a pipeline in parentheses or a function; path the fields after it."""

    place: _Place
    kind: str
    start: Any
    path: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Pipeline:
    """Commands, each the words between two |; variables are what it is assigned to."""

    place: _Place
    commands: tuple[tuple[_Operand, ...], ...]
    variables: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Text:
    text: str


@dataclass(frozen=True)
class _Action:
    pipeline: _Pipeline


@dataclass(frozen=True)
class _Block:
    """if, range or with: the body, and what stands after else."""

    kind: str
    pipeline: _Pipeline
    body: tuple[_Node, ...]
    otherwise: tuple[_Node, ...]


_Node = _Text | _Action | _Block


# ---- reading -----------------------------------------------------------------------------


@dataclass
class _Tokens:
    """The words of one action, taken from the left."""

    place: _Place
    left: list[tuple[str, str]] = field(default_factory=list)

    def peek(self) -> tuple[str, str]:
        return self.left[0] if self.left else ("end", "")

    def take(self) -> tuple[str, str]:
        return self.left.pop(0) if self.left else ("end", "")


class _Parser:
    """Text with actions → nodes."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._parts = list(self._split())

    def parse(self) -> tuple[_Node, ...]:
        nodes, end = self._nodes(outermost=True)
        assert end is None
        return nodes

    def _split(self) -> Iterator[_Text | _Tokens]:
        """Text and actions in turn. {{- and -}} take the white space beside them away."""
        position, trim = 0, False
        while (start := self._text.find("{{", position)) >= 0:
            text = self._text[position:start]
            opening = re.compile(r"\{\{(?:-(?=\s))?").match(self._text, start)
            assert opening
            text = text.lstrip() if trim else text
            yield _Text(text.rstrip() if opening[0].endswith("-") else text)
            end = self._end_of_action(opening.end())
            inner = self._text[opening.end() : end]
            trim = bool(re.search(r"\s-\Z", inner))
            inner = inner[:-1] if trim else inner
            if not re.fullmatch(r"\s*/\*.*?\*/\s*", inner, re.DOTALL):
                yield self._tokens(inner, opening.end())
            position = end + 2
        rest = self._text[position:]
        yield _Text(rest.lstrip() if trim else rest)

    def _end_of_action(self, start: int) -> int:
        """Where the }} of an action stands; one in quotes is text."""
        for match in re.compile(r'"(?:[^"\\\n]|\\.)*"|`[^`]*`|\}\}').finditer(self._text, start):
            if match[0] == "}}":
                return match.start()
        raise self._error(start, "unclosed action")

    def _tokens(self, inner: str, offset: int) -> _Tokens:
        lead = len(inner) - len(inner.lstrip())
        before = self._text[: offset + lead]
        column = len(before) - (before.rfind("\n") + 1)
        tokens = _Tokens(_Place(before.count("\n") + 1, column, inner.strip()))
        position = 0
        inner = inner.rstrip()
        while position < len(inner):
            match = _TOKEN.match(inner, position)
            if match is None or match.lastgroup is None:
                raise self._error(offset, f"unexpected {inner[position:].strip()[:1]!r} in {{{{{inner.strip()}}}}}")
            tokens.left.append((match.lastgroup, match[match.lastgroup]))
            position = match.end()
        return tokens

    def _nodes(self, *, outermost: bool = False) -> tuple[tuple[_Node, ...], _Tokens | None]:
        """Nodes up to an {{end}} or {{else}} that is nobody's inside, and the words after that one."""
        nodes: list[_Node] = []
        while self._parts:
            part = self._parts.pop(0)
            if isinstance(part, _Text):
                nodes.append(part)
                continue
            kind, word = part.peek()
            if kind == "word" and word in ("end", "else"):
                if outermost:
                    raise _parse_error(part.place.line, f"unexpected {{{{{word}}}}}")
                return tuple(nodes), part
            nodes.append(self._block(part) if kind == "word" and word in _BLOCKS else _Action(_pipeline(part)))
        if not outermost:
            raise self._error(len(self._text), "unexpected EOF")
        return tuple(nodes), None

    def _block(self, tokens: _Tokens) -> _Block:
        _, kind = tokens.take()
        pipeline = _pipeline(tokens)
        body, end = self._nodes()
        assert end
        otherwise: tuple[_Node, ...] = ()
        if end.take()[1] == "else":
            if end.left:  # {{else if …}} is {{else}}{{if …}} with one {{end}} for both
                if end.peek()[1] not in _BLOCKS:
                    raise _parse_error(end.place.line, f"unexpected <{end.peek()[1]}> in else")
                return _Block(kind, pipeline, body, (self._block(end),))
            otherwise, end = self._nodes()
            if end is None or end.take()[1] != "end":
                raise self._error(len(self._text), "expected end; found {{else}}")
        return _Block(kind, pipeline, body, otherwise)

    def _error(self, offset: int, message: str) -> TemplateError:
        return _parse_error(self._text.count("\n", 0, offset) + 1, message)


def _parse_error(line: int, message: str) -> TemplateError:
    known = f"functions are {', '.join(FUNCTIONS)}"
    error = TemplateError(f"template parsing error: template: :{line}: {message}", hint=known)
    error.exit_code = PARSE_STATUS
    return error


def _pipeline(tokens: _Tokens, *, closing: str = "") -> _Pipeline:
    variables = _assigned(tokens)
    commands: list[tuple[_Operand, ...]] = []
    while True:
        operands: list[_Operand] = []
        while tokens.left and tokens.peek() not in (("sign", "|"), ("sign", ")")):
            operands.append(_operand(tokens))
        if not operands:
            raise _parse_error(tokens.place.line, f"missing value for {'parentheses' if closing else 'command'}")
        commands.append(tuple(operands))
        _, sign = tokens.take()
        if sign == closing:
            return _Pipeline(tokens.place, tuple(commands), variables)
        if sign != "|":
            raise _parse_error(tokens.place.line, "unclosed left paren" if closing else "unexpected right paren")


def _assigned(tokens: _Tokens) -> tuple[str, ...]:
    """The variables before := or =, two of them with a comma."""
    signs = [word for kind, word in tokens.left[:4] if kind == "sign"]
    if not tokens.left or tokens.peek()[0] != "variable" or not {":=", "="} & set(signs):
        return ()
    names = [tokens.take()[1]]
    if tokens.peek() == ("sign", ","):
        tokens.take()
        names.append(tokens.take()[1])
    if tokens.take()[1] not in (":=", "="):
        raise _parse_error(tokens.place.line, "expected :=")
    return tuple(names)


def _operand(tokens: _Tokens) -> _Operand:
    kind, word = tokens.take()
    place = tokens.place
    if kind == "string":
        return _Operand(place, "constant", _unquoted(word))
    if kind == "number":
        return _Operand(place, "constant", int(word))
    if kind == "field":
        return _Operand(place, "field", None, tuple(word.split(".")[1:]))
    if kind == "variable":
        name, *path = word.split(".")
        return _Operand(place, "variable", name, tuple(path))
    if kind == "word" and word in _CONSTANTS:
        return _Operand(place, "constant", _CONSTANTS[word])
    if kind == "word" and word in FUNCTIONS:
        return _Operand(place, "function", word)
    if kind == "word":
        known = word in (*_BLOCKS, "end", "else", "define", "template", "block", "break", "continue")
        message = f"{word} is not supported here" if known else f'function "{word}" not defined'
        raise _parse_error(place.line, message)
    if word == ".":
        return _Operand(place, "field", None)
    if word == "(":
        inner = _pipeline(tokens, closing=")")
        after = tokens.take()[1].split(".")[1:] if tokens.peek()[0] == "field" else ()
        return _Operand(place, "pipeline", inner, tuple(after))
    raise _parse_error(place.line, f'unexpected "{word}" in operand')


def _unquoted(word: str) -> str:
    if word.startswith("`"):
        return word[1:-1]
    return _ESCAPE.sub(lambda match: _ESCAPED.get(match[1], match[1]), word[1:-1])


# ---- filling in ------------------------------------------------------------------------


def _render(nodes: Sequence[_Node], dot: _Value, scope: _Scope) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, _Text):
            yield node.text
        elif isinstance(node, _Action):
            result = _evaluate(node.pipeline, dot, scope)
            if not node.pipeline.variables:
                yield text_of(result.value, name=result.name)
        else:
            yield from _render_block(node, dot, scope)


def _render_block(block: _Block, dot: _Value, scope: _Scope) -> Iterator[str]:
    result = _evaluate(block.pipeline, dot, scope, assign=block.kind != "range")
    if not is_true(result.value):
        yield from _render(block.otherwise, dot, scope)
    elif block.kind == "if":
        yield from _render(block.body, dot, scope)
    elif block.kind == "with":
        yield from _render(block.body, result, scope)
    else:
        for key, value in _elements(block.pipeline.place, result):
            inner = _Scope(scope.root, dict(scope.variables))
            names = block.pipeline.variables
            inner.variables.update(zip(names, [_Value(key), value][-len(names) :] if names else [], strict=True))
            yield from _render(block.body, value, inner)


def _elements(place: _Place, result: _Value) -> Iterator[tuple[Any, _Value]]:
    """(index or key, element) of a list, or of a map in the order of its keys."""
    value = result.value
    if isinstance(value, Mapping):
        yield from ((key, _Value(value[key])) for key in sorted(value))
    elif isinstance(value, list | tuple):
        yield from ((position, _Value(element)) for position, element in enumerate(value))
    elif isinstance(value, int) and not isinstance(value, bool):
        yield from ((number, _Value(number)) for number in range(value))
    else:
        raise place.error(f"range can't iterate over {text_of(value)}")


def _evaluate(pipeline: _Pipeline, dot: _Value, scope: _Scope, *, assign: bool = True) -> _Value:
    """The value of the last command; each gets the value of the one before as its last argument."""
    piped: list[_Value] = []
    for operands in pipeline.commands:
        piped = [_command(operands, piped, dot, scope)]
    if assign and pipeline.variables:
        scope.variables[pipeline.variables[-1]] = piped[0]
    return piped[0]


def _command(operands: Sequence[_Operand], piped: Sequence[_Value], dot: _Value, scope: _Scope) -> _Value:
    first, *others = operands
    arguments = [*(_value(operand, dot, scope) for operand in others), *piped]
    if first.kind == "function":
        return _Value(_call(first.place, FUNCTIONS[first.start], [argument.value for argument in arguments]))
    if first.kind == "constant" and first.start is None:
        raise first.place.error("nil is not a command")
    method = _method(first, dot)
    if method is not None:
        return _Value(_call(first.place, method, [argument.value for argument in arguments]))
    if arguments:
        raise first.place.error("can't give argument to non-function")
    return _value(first, dot, scope)


def _method(operand: _Operand, dot: _Value) -> Callable[[str], str] | None:
    if operand.kind == "field" and len(operand.path) == 1 and isinstance(dot.value, Row):
        return dot.value.methods.get(operand.path[0])
    return None


def _call(place: _Place, function: Callable[..., Any], arguments: Sequence[Any]) -> Any:
    try:
        return function(*arguments)
    except EvaluationError as error:
        raise place.error(str(error)) from None
    except (TypeError, AttributeError, IndexError):
        given = ", ".join(map(type_name, arguments)) or "nothing"
        raise place.error(f"the function cannot be given {given}") from None


def _value(operand: _Operand, dot: _Value, scope: _Scope) -> _Value:
    if operand.kind == "function":
        return _Value(_call(operand.place, FUNCTIONS[operand.start], ()))
    if operand.kind == "constant":
        return _Value(operand.start)
    if operand.kind == "variable":
        if operand.start not in scope.variables:
            raise operand.place.error(f'undefined variable "{operand.start}"')
        found = scope.variables[operand.start]
    else:
        found = dot if operand.kind == "field" else _evaluate(operand.start, dot, scope)
    for name in operand.path:
        found = _field(operand.place, found, name)
    return found


def _field(place: _Place, holder: _Value, name: str) -> _Value:
    value = holder.value
    if isinstance(value, Row):
        if name not in value:
            raise place.error(f"can't evaluate field {name}")
        return _Value(value.column(name), name)
    if isinstance(value, Mapping):
        if name in value:
            return _Value(value[name], name)
        if holder.name in MAPS:
            return _Value(MISSING)
        if name in OPTIONAL:
            return _Value(None)
        raise place.error(f'map has no entry for key "{name}"')
    if value is None:
        raise place.error(f"nil pointer evaluating interface {{}}.{name}")
    raise place.error(f"can't evaluate field {name} in type {type_name(value)}")
