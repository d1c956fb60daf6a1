"""The functions of a Go template: {{index .Labels "a"}}, {{.Name | printf "%-10s"}}.

`and` and `or` are in template.py: they decide which of their arguments are evaluated.

Source: Go's documentation of text/template ("Functions") and fmt ("Printing"); docker/cli's own functions
(templates/templates.go).
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote_plus

from pylab_container.docker.template_values import (
    MISSING,
    PORT_MAPS,
    Fields,
    Map,
    Nil,
    is_true,
    json_of,
    text_of,
    type_name,
)
from pylab_container.text.golang import quoted, quoted_rune


class EvaluationError(Exception):
    """A function cannot be applied to its arguments.

    The template adds the place to the message.
    """


# -- lists, maps and texts -----------------------------------------------------------------------


def index(value: Any, *keys: Any) -> object:
    """Return an element of a map or list: {{index .Labels "a"}}.

    Each further key indexes the previous result.
    """
    for key in keys:
        if value is None or value is MISSING:
            raise EvaluationError("error calling index: index of untyped nil")
        if isinstance(value, Fields) or (isinstance(value, Map) and value.name in PORT_MAPS):
            raise EvaluationError(f"error calling index: can't index item of type {type_name(value)}")
        if isinstance(value, Mapping):
            value = _entry(value, key)
        elif isinstance(value, list | tuple | str):
            value = _item(value, key)
        else:
            raise EvaluationError(f"error calling index: can't index item of type {type_name(value)}")
    return value


def _entry(value: Mapping[str, Any], key: Any) -> Any:
    if not isinstance(key, str):
        raise EvaluationError(f"error calling index: value has type {type_name(key)}; should be string")
    if not isinstance(value, Map):
        return value.get(key, MISSING)
    return value.get(key, None if any(isinstance(other, Fields) for other in value.values()) else "")


def _item(value: Sequence[Any], key: Any) -> Any:
    if not isinstance(key, int) or isinstance(key, bool):
        raise EvaluationError(f"error calling index: cannot index slice/array with type {type_name(key)}")
    if not 0 <= key < len(value):
        raise EvaluationError(f"error calling index: index out of range: {key}")
    return value[key]


def _slice(value: Any, start: Any = 0, end: Any = None) -> Any:
    length = _length(value)
    end = length if end is None else end
    if not (isinstance(start, int) and isinstance(end, int) and 0 <= start <= end <= length):
        raise EvaluationError("error calling slice: index out of range")
    return value[start:end]


def _length(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, list | tuple | Mapping) and not isinstance(value, Fields):
        return len(value)
    raise EvaluationError(f"error calling len: len of type {type_name(value)}")


def _join(items: Any, separator: str) -> str:
    if items is not None and not isinstance(items, list | tuple):
        raise EvaluationError(f"wrong type for value; expected []string; got {type_name(items)}")
    return separator.join(text_of(item) for item in items or ())


def _pad(text: str, before: int, after: int) -> str:
    """Add spaces around a text. As in docker, an empty text stays empty."""
    return " " * before + text + " " * after if text else text


def _title(text: str) -> str:
    """Return the text with the first letter of each word in upper case; other letters are unchanged."""
    return re.sub(r"(?<!\S)\S", lambda match: match[0].upper(), text)


# -- comparisons ---------------------------------------------------------------------------------


def _comparison(name: str, test: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def apply(left: Any, right: Any) -> bool:
        for value in (left, right):
            if isinstance(value, list | tuple | Mapping) and not isinstance(value, Nil):
                kind = f"{text_of(value)}: {type_name(value)}"
                raise EvaluationError(f"error calling {name}: non-comparable type {kind}")
        if _basic(left) is not _basic(right):
            raise EvaluationError(f"error calling {name}: incompatible types for comparison")
        return test(left, right)

    return apply


def _basic(value: Any) -> type:
    return next((kind for kind in (bool, int, float, str) if isinstance(value, kind)), type(value))


def _equal(left: Any, *others: Any) -> bool:
    """Return whether the first argument equals any of the others: {{eq .A 1 2}}."""
    if not others:
        raise EvaluationError("error calling eq: missing argument for comparison")
    same = _comparison("eq", lambda a, b: bool(a == b))
    return any(same(left, other) for other in others)


# -- printing ------------------------------------------------------------------------------------


def _print(*values: Any) -> str:
    """Go's fmt.Sprint: join values, with a space between two of which neither is a string."""
    pieces: list[str] = []
    for position, value in enumerate(values):
        if position and not isinstance(value, str) and not isinstance(values[position - 1], str):
            pieces.append(" ")
        pieces.append(text_of(value))
    return "".join(pieces)


def _println(*values: Any) -> str:
    return " ".join(map(text_of, values)) + "\n"


_DIRECTIVE = re.compile(r"%(?P<flags>[-+# 0]*)(?P<width>\d*)(?P<precision>\.\d*)?(?P<verb>.?)", re.DOTALL)


def printf(form: str, *values: Any) -> str:
    """Go's fmt.Sprintf. A value of the wrong type is shown in the result: %!d(string=hi)."""
    left = list(values)

    def fill(match: re.Match[str]) -> str:
        if match["verb"] == "%":
            return "%"
        if not match["verb"]:
            return "%!(NOVERB)"
        return _directive(match, left.pop(0)) if left else f"%!{match['verb']}(MISSING)"

    text = _DIRECTIVE.sub(fill, form)
    extra = ", ".join(f"{_go_type(value)}={text_of(value)}" for value in left)
    return f"{text}%!(EXTRA {extra})" if left else text


def _directive(match: re.Match[str], value: Any) -> str:
    text = _formatted(match["verb"], match["precision"] or "", value)
    if text is None:
        return f"%!{match['verb']}({_go_type(value)}={text_of(value)})"
    flags, width = match["flags"], int(match["width"] or 0)
    if "+" in flags and isinstance(value, int | float) and not text.startswith("-"):
        text = f"+{text}"
    if "-" in flags:
        return text.ljust(width)
    if "0" not in flags:
        return text.rjust(width)
    sign = text[:1] if text[:1] in ("+", "-") else ""
    return sign + text[len(sign) :].rjust(width - len(sign), "0")


def _formatted(verb: str, precision: str, value: Any) -> str | None:
    """Format one value by one verb; None if the verb does not apply to its type."""
    if verb == "v":
        return text_of(value)
    if verb == "T":
        return _go_type(value)
    if verb == "t":
        return text_of(value) if isinstance(value, bool) else None
    if isinstance(value, list | tuple) and not isinstance(value, Nil):
        parts = [_formatted(verb, precision, item) for item in value]
        return f"[{' '.join(map(str, parts))}]" if None not in parts else None
    if isinstance(value, str):
        return _formatted_text(verb, precision, value)
    if isinstance(value, int) and not isinstance(value, bool):
        forms = {"d": "d", "x": "x", "X": "X", "o": "o", "b": "b", "c": "c"}
        return quoted_rune(value) if verb == "q" else format(int(value), forms[verb]) if verb in forms else None
    if isinstance(value, float) and verb in "feEgG":
        return format(value, f"{precision or ('.6' if verb in 'feE' else '')}{verb}")
    return text_of(value) if verb == "s" and isinstance(value, Mapping | Nil) else None


def _formatted_text(verb: str, precision: str, text: str) -> str | None:
    if precision:
        text = text[: int(precision[1:] or 0)]
    if verb in ("x", "X"):
        digits = text.encode().hex()
        return digits.upper() if verb == "X" else digits
    return text if verb == "s" else quoted(text) if verb == "q" else None


def _go_type(value: Any) -> str:
    return "<nil>" if value is None or value is MISSING else type_name(value)


_SCRIPT = {"\\": r"\\", "'": r"\'", '"': r"\"", "<": r"\u003C", ">": r"\u003E", "&": r"\u0026", "=": r"\u003D"}


def _html(*values: Any) -> str:
    return html.escape(_print(*values)).replace("&#x27;", "&#39;").replace("&quot;", "&#34;")


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "eq": _equal,
    "ge": _comparison("ge", lambda a, b: bool(a >= b)),
    "gt": _comparison("gt", lambda a, b: bool(a > b)),
    "html": _html,
    "index": index,
    "join": _join,
    "js": lambda *values: "".join(_SCRIPT.get(letter, letter) for letter in _print(*values)),
    "json": json_of,
    "le": _comparison("le", lambda a, b: bool(a <= b)),
    "len": _length,
    "lower": str.lower,
    "lt": _comparison("lt", lambda a, b: bool(a < b)),
    "ne": _comparison("ne", lambda a, b: bool(a != b)),
    "not": lambda value: not is_true(value),
    "pad": _pad,
    "print": _print,
    "printf": printf,
    "println": _println,
    "slice": _slice,
    "split": lambda text, separator: text.split(separator),
    "title": _title,
    "truncate": lambda text, length: text[:length],
    "upper": str.upper,
    "urlquery": lambda *values: quote_plus(_print(*values)),
}

HEADING_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    **FUNCTIONS,
    **dict.fromkeys(("json", "join", "lower", "pad", "split", "title", "truncate", "upper"), lambda text, *_: text),
}
"""FUNCTIONS for the line of headings, which they do not change: above {{upper .Name}} stands the heading of Name."""
