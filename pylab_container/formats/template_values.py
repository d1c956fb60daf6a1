"""Values inside a Go template: how they print, which count as true, and the functions on them.

A document is what JSON has: dict, list, str, int, float, bool, None. Docker's own values are Go
structs and maps. JSON does not tell the two apart; the names of the fields that are maps and lists
do (moby api/types). That matters for a missing key, and for how an empty one prints.

Source: Go's documentation of text/template ("Functions") and fmt, and docker/cli's templates.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pylab_container.formats.golang import quoted

MAPS = frozenset(
    "Labels Ports PortBindings ExposedPorts Networks Volumes Options DriverOpts Sysctls Tmpfs StorageOpt Annotations "
    "Data Containers Attributes Status UsageData".split()
)
"""Fields of Docker's documents that are maps: a key that is missing there is no mistake."""

LISTS = frozenset(
    "Args Binds BlkioDeviceReadBps BlkioDeviceReadIOps BlkioDeviceWriteBps BlkioDeviceWriteIOps BlkioWeightDevice "
    "CapAdd CapDrop Cmd DeviceCgroupRules DeviceRequests Devices Dns DnsOptions DnsSearch Entrypoint Env ExecIDs "
    "ExtraHosts GroupAdd Links MaskedPaths Mounts OnBuild ReadonlyPaths RepoDigests RepoTags SecondaryIPAddresses "
    "SecondaryIPv6Addresses SecurityOpt Shell Test Ulimits VolumesFrom Aliases DNSNames Log Layers".split()
)
"""Fields that are lists: null there is an empty one."""

OPTIONAL = frozenset({"Health", "SizeRw", "SizeRootFs"})
"""Fields that Docker leaves out while there is nothing to tell; asked for, they are null."""


class Missing:
    """What a map gives for a key that it has not."""

    def __repr__(self) -> str:
        return "<no value>"


MISSING = Missing()


class Row(dict[str, Any]):
    """One line of a listing: columns by docker's names. A value may be a function without arguments, called late.

    methods  names that take an argument: {{.Label "a"}}
    """

    def __init__(self, columns: Mapping[str, Any], methods: Mapping[str, Callable[[str], str]] | None = None) -> None:
        super().__init__(columns)
        self.methods = dict(methods or {})

    def column(self, name: str) -> Any:
        """The value of one column. Raises KeyError."""
        value = self[name]
        return value() if callable(value) else value

    def document(self) -> dict[str, Any]:
        """All columns, sorted, as {{json .}} shows them."""
        return {name: self.column(name) for name in sorted(self)}


class EvaluationError(Exception):
    """A function or operator cannot be applied to its values. The template adds the place."""


# ---- printing --------------------------------------------------------------------------


def text_of(value: Any, *, name: str = "") -> str:
    """A value as Go prints it with %v: true, [a b], map[a:1 b:2], {one two} for a struct. name: the field's."""
    if value is None:
        return "[]" if name in LISTS else "map[]" if name in MAPS else "<nil>"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Row):
        value = value.document()
    if isinstance(value, Mapping):
        if name in MAPS:
            inner = " ".join(f"{key}:{text_of(value[key], name=_element(name))}" for key in sorted(value))
            return f"map[{inner}]"
        return "{" + " ".join(_inside(value[key], key) for key in value) + "}"
    if isinstance(value, list | tuple):
        return "[" + " ".join(text_of(item) for item in value) + "]"
    return str(value)


def _element(map_name: str) -> str:
    """What a null in a map of lists stands for: of a port that is exposed and not published."""
    return "Binds" if map_name in ("Ports", "PortBindings") else ""


def _inside(value: Any, name: str) -> str:
    return text_of(value, name=name)


def json_of(value: Any) -> str:
    """A value as encoding/json writes it: no spaces; <, > and & escaped, as for HTML."""
    if isinstance(value, Row):
        value = value.document()
    text = json.dumps(None if value is MISSING else value, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def is_true(value: Any) -> bool:
    """False, 0, null, and what is empty count as false."""
    return value is not MISSING and bool(value)


# ---- functions -------------------------------------------------------------------------


def index(value: Any, *keys: Any) -> Any:
    """{{index .Labels "a"}}, {{index .Args 0}}; several keys go deeper and deeper."""
    for key in keys:
        if value is None or value is MISSING:
            raise EvaluationError("error calling index: index of untyped nil")
        if isinstance(value, Mapping):
            value = value.get(key, "")
        elif isinstance(value, list | tuple | str):
            if not isinstance(key, int) or isinstance(key, bool):
                raise EvaluationError(f"error calling index: cannot index slice/array with {text_of(key)}")
            if not 0 <= key < len(value):
                raise EvaluationError(f"error calling index: index out of range: {key}")
            value = value[key]
        else:
            raise EvaluationError(f"error calling index: can't index item of type {type_name(value)}")
    return value


def _slice(value: Any, start: Any = 0, end: Any = None) -> Any:
    length = _length(value)
    end = length if end is None else end
    if not (isinstance(start, int) and isinstance(end, int) and 0 <= start <= end <= length):
        raise EvaluationError("error calling slice: index out of range")
    return value[start:end]


def _length(value: Any) -> int:
    if isinstance(value, str | list | tuple | Mapping):
        return len(value)
    if value is None:
        return 0
    raise EvaluationError(f"error calling len: len of type {type_name(value)}")


def _join(items: Any, separator: str) -> str:
    if items is not None and not isinstance(items, list | tuple):
        raise EvaluationError(f"error calling join: expected a list; found {type_name(items)}")
    return separator.join(text_of(item) for item in items or ())


def _pad(text: str, before: int, after: int) -> str:
    """Docker leaves an empty text empty."""
    return " " * before + text + " " * after if text else text


def _print(*values: Any) -> str:
    """fmt.Sprint: a space only between two values that are no strings."""
    pieces: list[str] = []
    for position, value in enumerate(values):
        if position and not isinstance(value, str) and not isinstance(values[position - 1], str):
            pieces.append(" ")
        pieces.append(text_of(value))
    return "".join(pieces)


def _println(*values: Any) -> str:
    return " ".join(map(text_of, values)) + "\n"


def _compare(test: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def apply(left: Any, right: Any) -> bool:
        if type(left) is not type(right):
            raise EvaluationError("error calling comparison: incompatible types for comparison")
        return test(left, right)

    return apply


def _equal(left: Any, *others: Any) -> bool:
    """{{eq .A 1 2}}: whether the first is one of the others."""
    if not others:
        raise EvaluationError("error calling eq: missing argument for comparison")
    return any(_compare(lambda a, b: bool(a == b))(left, other) for other in others)


def _and(*values: Any) -> Any:
    return next((value for value in values if not is_true(value)), values[-1])


def _or(*values: Any) -> Any:
    return next((value for value in values if is_true(value)), values[-1])


def _title(text: str) -> str:
    """The first letter of each word in upper case, the others as they are."""
    return "".join(
        letter.upper() if position == 0 or text[position - 1].isspace() else letter
        for position, letter in enumerate(text)
    )


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "and": _and,
    "eq": _equal,
    "ge": _compare(lambda a, b: bool(a >= b)),
    "gt": _compare(lambda a, b: bool(a > b)),
    "index": index,
    "join": _join,
    "json": json_of,
    "le": _compare(lambda a, b: bool(a <= b)),
    "len": _length,
    "lower": str.lower,
    "lt": _compare(lambda a, b: bool(a < b)),
    "ne": _compare(lambda a, b: bool(a != b)),
    "not": lambda value: not is_true(value),
    "or": _or,
    "pad": _pad,
    "print": _print,
    "printf": lambda form, *values: printf(form, values),
    "println": _println,
    "slice": _slice,
    "split": lambda text, separator: text.split(separator),
    "title": _title,
    "truncate": lambda text, length: text[:length],
    "upper": str.upper,
}


def printf(form: str, values: Sequence[Any]) -> str:
    """fmt.Sprintf with %s %v %d %q %t and %%, and a width: %-10s."""
    left = list(values)
    pieces: list[str] = []
    for literal, specifier, verb in _directives(form):
        pieces.append(literal)
        if verb == "%":
            pieces.append("%")
        elif verb:
            pieces.append(_directive(specifier, verb, left))
    if left:
        raise EvaluationError(f'error calling printf: "{form}" has fewer directives than values')
    return "".join(pieces)


def _directives(form: str) -> Iterable[tuple[str, str, str]]:
    """(text before, flags, verb) of each directive; the rest with an empty verb."""
    while True:
        before, percent, rest = form.partition("%")
        if not percent:
            yield before, "", ""
            return
        flags = rest[: len(rest) - len(rest.lstrip("-+ 0123456789."))]
        yield before, flags, rest[len(flags) : len(flags) + 1] or "?"
        form = rest[len(flags) + 1 :]


def _directive(flags: str, verb: str, left: list[Any]) -> str:
    if not left:
        raise EvaluationError(f"error calling printf: no value for %{flags}{verb}")
    value = left.pop(0)
    if verb in ("s", "v", "t"):
        return f"%{flags}s" % text_of(value)
    if verb == "q":
        return f"%{flags}s" % quoted(text_of(value))
    if verb == "d" and isinstance(value, int):
        return f"%{flags}d" % value
    raise EvaluationError(f"error calling printf: %{flags}{verb} does not fit {type_name(value)}")


def type_name(value: Any) -> str:
    """Go's name of a value's type, for messages."""
    if value is None or value is MISSING:
        return "untyped nil"
    names = ((bool, "bool"), (int, "int"), (float, "float64"), (str, "string"), (Mapping, "map[string]interface {}"))
    return next((name for kind, name in names if isinstance(value, kind)), "[]interface {}")
