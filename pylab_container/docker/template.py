"""Go templates for `--format`: the part of text/template that is used with docker.

    {{.State.Status}}  {{json .Config}}  {{index .Config.Labels "a"}}  {{join .Args " "}}
    {{range $port, $bindings := .NetworkSettings.Ports}} … {{else}} … {{end}}
    {{if .State.Running}} … {{else if eq .State.ExitCode 0}} … {{else}} … {{end}}
    {{with .Mounts}} … {{end}}   {{.Name | upper}}   {{- trimmed -}}   {{/* a comment */}}

This module executes a template. template_syntax.py parses it, template_functions.py has the functions, and
template_values.py converts documents to Go's values and formats them.

As in docker's inspect, a template is executed on Go's structs first; if a struct lacks one of its fields, it is
executed again on the JSON document, in which every object is a map.

Source: Go's documentation of text/template; docker/cli, cli/command/inspect.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pylab_container.docker.template_functions import FUNCTIONS, HEADING_FUNCTIONS, EvaluationError
from pylab_container.docker.template_syntax import (
    Action,
    Block,
    Invocation,
    Leave,
    Node,
    Operand,
    Pipeline,
    Place,
    TemplateError,
    Text,
    parse,
)
from pylab_container.docker.template_values import (
    MISSING,
    Fields,
    Headings,
    Map,
    Missing,
    Nil,
    Row,
    is_true,
    text_of,
    type_name,
)
from pylab_container.text.visible import visible_lines

__all__ = ["Template", "TemplateError", "render"]

SHORT_CIRCUIT = ("and", "or")
"""Functions that evaluate an argument only if the ones before it do not decide the result."""


class Template:
    """A template, parsed once and executed for many values. Raises TemplateError."""

    def __init__(self, text: str) -> None:
        self.text = text
        with _depth_limited():
            self._nodes = parse(text, (*FUNCTIONS, *SHORT_CIRCUIT))

    def render(self, value: Any) -> str:
        """Execute the template. value: a document, or a Row. Raises TemplateError."""
        with _depth_limited():
            if not isinstance(value, Mapping) or isinstance(value, Row):
                return self._executed(value)
            try:
                return self._executed(Fields(value))
            except TemplateError:
                return self._executed(value)

    def _executed(self, value: Any) -> str:
        return "".join(_Execution(value).text(self._nodes, value))


def render(text: str, value: Any) -> str:
    """Parse and execute a template: Template(text).render(value)."""
    return Template(text).render(value)


@contextlib.contextmanager
def _depth_limited() -> Iterator[None]:
    """Raise TemplateError for a RecursionError: parsing and execution recurse for each block and parenthesis."""
    try:
        yield
    except RecursionError:
        message = "template parsing error: template: blocks or parentheses are nested too deeply"
        raise TemplateError(message, hint="nest fewer of them") from None


class _Break(Exception):
    """Leave the innermost range."""


class _Continue(Exception):
    """Continue with the next element of the innermost range."""


class _Execution:
    """One execution of a template. In its methods, dot is the current value of {{.}}."""

    def __init__(self, root: Any) -> None:
        self._variables: list[tuple[str, Any]] = [("$", root)]
        self._functions = HEADING_FUNCTIONS if isinstance(root, Headings) else FUNCTIONS
        # A missing value has a type in a struct only.
        self._absent = "<nil>" if isinstance(root, Fields | Row) else "<no value>"

    def text(self, nodes: Sequence[Node], dot: Any) -> Iterator[str]:
        for node in nodes:
            match node:
                case Text(text):
                    yield text
                case Action(pipeline):
                    value = self._pipeline(pipeline, dot)
                    if not pipeline.variables:
                        yield self._absent if value is None else visible_lines(text_of(value))
                case Leave(word):
                    raise _Break if word == "break" else _Continue
                case Block():
                    with self._own_variables():
                        yield from self._block(node, dot)

    # -- blocks and variables --

    def _block(self, block: Block, dot: Any) -> Iterator[str]:
        value = self._pipeline(block.pipeline, dot, assign=block.kind != "range")
        if not is_true(value):
            yield from self.text(block.otherwise, dot)
        elif block.kind != "range":
            yield from self.text(block.body, value if block.kind == "with" else dot)
        else:
            with contextlib.suppress(_Break):
                for key, element in _elements(block.pipeline.place, value):
                    yield from self._iteration(block, key, element)

    def _iteration(self, block: Block, key: Any, element: Any) -> Iterator[str]:
        """Execute the body of a range for one element."""
        with self._own_variables(), contextlib.suppress(_Continue):
            names = block.pipeline.variables
            for name, value in zip(names, (key, element)[-len(names) :], strict=bool(names)):
                self._set(name, value, declare=block.pipeline.declares)
            yield from self.text(block.body, element)

    @contextlib.contextmanager
    def _own_variables(self) -> Iterator[None]:
        """Remove the variables that the block declares at its end."""
        known = len(self._variables)
        try:
            yield
        finally:
            del self._variables[known:]

    def _set(self, name: str, value: Any, *, declare: bool) -> None:
        if declare:
            self._variables.append((name, value))
        else:
            position = max(i for i, (known, _) in enumerate(self._variables) if known == name)
            self._variables[position] = (name, value)

    # -- values --

    def _pipeline(self, pipeline: Pipeline, dot: Any, *, assign: bool = True) -> Any:
        """Return the value of the last command; each gets the value of the previous one as its last argument."""
        piped: list[Any] = []
        for command in pipeline.commands:
            piped = [self._command(command, piped, dot)]
        if assign and pipeline.variables:
            self._set(pipeline.variables[-1], piped[0], declare=pipeline.declares)
        return piped[0]

    def _command(self, command: Invocation, piped: Sequence[Any], dot: Any) -> Any:
        first, *others = command.operands
        if first.kind == "function" and first.start in SHORT_CIRCUIT:
            return self._short_circuit(first.start, others, piped, dot)
        arguments = [*(self._operand(operand, dot) for operand in others), *piped]
        function = self._functions[first.start] if first.kind == "function" else _method(first, dot)
        if function is not None:
            return _call(command.place, function, arguments)
        if first.kind == "constant" and first.start is None:
            raise first.place.error("nil is not a command")
        if arguments:
            raise first.place.error("can't give argument to non-function")
        return self._operand(first, dot)

    def _short_circuit(self, word: str, operands: Sequence[Operand], piped: Sequence[Any], dot: Any) -> Any:
        """Return the first argument that is false (and) or true (or), else the last argument."""
        value: Any = None
        for value in itertools.chain((self._operand(operand, dot) for operand in operands), piped):
            if is_true(value) == (word == "or"):
                break
        return value

    def _operand(self, operand: Operand, dot: Any) -> Any:
        if operand.kind == "constant":
            return operand.start
        if operand.kind == "function":
            return self._command(Invocation(operand.place, (operand,)), (), dot)
        if operand.kind == "variable":
            value = next(value for name, value in reversed(self._variables) if name == operand.start)
        else:
            value = dot if operand.kind == "field" else self._pipeline(operand.start, dot)
        for name in operand.path:
            value = _field(operand.place, value, name)
        return value


def _elements(place: Place, value: Any) -> Iterator[tuple[Any, Any]]:
    """Return (index or key, element) for each element of a list, or of a map in the order of its keys."""
    if isinstance(value, Mapping) and not isinstance(value, Fields):
        return ((key, value[key]) for key in sorted(value))
    if isinstance(value, list | tuple):
        return enumerate(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return ((number, number) for number in range(value))
    raise place.error(f"range can't iterate over {text_of(value)}")


def _method(operand: Operand, dot: Any) -> Callable[[str], str] | None:
    if operand.kind == "field" and len(operand.path) == 1 and isinstance(dot, Row):
        return dot.methods.get(operand.path[0])
    return None


def _call(place: Place, function: Callable[..., Any], arguments: Sequence[Any]) -> Any:
    try:
        return function(*arguments)
    except EvaluationError as error:
        raise place.error(str(error)) from None
    except (TypeError, AttributeError, IndexError):
        types = ", ".join(map(type_name, arguments)) or "nothing"
        raise place.error(f"the function cannot be given {types}") from None


def _field(place: Place, holder: Any, name: str) -> Any:
    if isinstance(holder, Row):
        if name not in holder:
            raise place.error(f"can't evaluate field {name}")
        return holder.column(name)
    if isinstance(holder, Missing | Map):
        return holder.get(name, MISSING) if isinstance(holder, Map) else MISSING
    if isinstance(holder, Nil):
        return MISSING
    if isinstance(holder, Mapping):
        try:
            return holder.field(name) if isinstance(holder, Fields) else holder[name]
        except KeyError:
            raise place.error(f'map has no entry for key "{name}"') from None
    if holder is None:
        raise place.error(f"nil pointer evaluating interface {{}}.{name}")
    raise place.error(f"can't evaluate field {name} in type {type_name(holder)}")
