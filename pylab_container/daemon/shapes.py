"""Read the JSON documents of clients as dockerd does, with the rules of Go's encoding/json.

A shape describes the type of a document:

    str, bool, int    a value of this type
    [shape]           an array
    {"*": shape}      an object with arbitrary keys
    {"Name": shape}   an object with these fields; the case of their names does not matter, unknown fields are ignored
    WORDS             a command: an array of strings, or one string
    TEXT_OR_NULL      a string, or null, which stays None also in an array or an object
    ANY               any value

The result has the names as the shape spells them. The last one of repeated fields counts, and repeated objects are
merged. null is None, and in an array the empty value of its type. Text after the document is ignored. Errors have Go's
words, which clients know.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, get_args, get_origin

from msgspec import structs

from pylab_container.errors import InvalidInput
from pylab_container.oci.document import Document
from pylab_container.text.jsontext import NotJson, refuse_deep

ANY = object
WORDS = (str,)
TEXT_OR_NULL = (str, None)
NAMES = {"*": str}
"""Labels and similar maps."""

_KINDS: Mapping[type, str] = {
    str: "string",
    bool: "bool",
    int: "number",
    float: "number",
    list: "array",
    dict: "object",
}
_GO_TYPES: Mapping[type, str] = {str: "string", bool: "bool", int: "int64"}
_INT64_LIMIT = 1 << 63
_SURROGATE = re.compile("[\ud800-\udfff]")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_WHERE = {
    "Expecting value": "looking for beginning of value",
    "Expecting property name enclosed in double quotes": "looking for beginning of object key string",
    "Illegal trailing comma before end of object": "looking for beginning of object key string",
    "Illegal trailing comma before end of array": "looking for beginning of value",
    "Expecting ':' delimiter": "after object key",
    "Invalid control character at": "in string literal",
    "Invalid \\escape": "in string escape code",
}
"""Python's message for a syntax error: Go's description of the position."""


def named(names: str, shape: Any) -> dict[str, Any]:
    """Return fields of the same shape; names are separated by blanks."""
    return dict.fromkeys(names.split(), shape)


def of(kind: type[Document]) -> dict[str, Any]:
    """Build the shape of a document from the types of its Struct.

    msgspec.convert() cannot replace read(): Go ignores the case of names and merges repeated fields, takes null in a
    list for an empty value, and clients know the words of its errors.
    """
    return {field.encode_name: _of_type(field.type) for field in structs.fields(kind) if field.name not in _OWN}


_OWN = Document.__struct_fields__


def _of_type(hint: Any) -> Any:
    alternatives = [part for part in get_args(hint) if part is not type(None)]
    if len(alternatives) < len(get_args(hint)):  # T | None
        return _of_type(alternatives[0])
    if get_origin(hint) in (tuple, list):
        return [_of_type(alternatives[0])]
    if alternatives:  # a mapping
        return {"*": _of_type(alternatives[1])}
    if isinstance(hint, type) and issubclass(hint, Document):
        return of(hint)
    return ANY if hint is Any else hint


def read(text: bytes, shape: Any, *, alone: bool = False) -> object:
    """Read a document of this shape; None is null. Raises InvalidInput.

    alone  text after the document is an error, as in a query parameter
    """
    document = text.decode(errors="replace")
    begin = len(document) - len(document.lstrip(" \t\r\n"))
    try:
        refuse_deep(document)
        found, end = _DECODER.raw_decode(document, begin)
    except json.JSONDecodeError as error:
        raise InvalidInput(_what_is_wrong(error, alone=alone), hint="send one JSON document") from None
    except NotJson:
        raise InvalidInput("exceeded max depth", hint="send a document that is nested less deeply") from None
    except ValueError:  # a number of more than 4300 digits
        raise InvalidInput("invalid JSON: a number is too long", hint="send one JSON document") from None
    if alone and (rest := document[end:].strip(" \t\r\n")):
        raise InvalidInput(f"invalid character {_quoted(rest[0])} after top-level value", hint="send one JSON document")
    return _shaped(found, shape, "")


class _Number(float):
    """A number with a fraction or an exponent, which is invalid in every field; text is its source."""

    def __new__(cls, text: str) -> _Number:
        number = super().__new__(cls, text)
        number.text = text
        return number

    text: str


class _Pairs(list[tuple[str, Any]]):
    """The fields of a JSON object in order, with repetitions."""


def _refuse_constant(name: str) -> float:
    raise InvalidInput(f"invalid character '{name[0]}' looking for beginning of value", hint="JSON has no such number")


_DECODER = json.JSONDecoder(object_pairs_hook=_Pairs, parse_constant=_refuse_constant, parse_float=_Number)


def _shaped(value: Any, shape: Any, place: str) -> Any:
    if value is None or shape is ANY:
        return _plain(value)
    if isinstance(shape, dict) and isinstance(value, _Pairs):
        return _object(value, shape, place)
    if isinstance(shape, list) and isinstance(value, list) and not isinstance(value, _Pairs):
        return [_empty(shape[0]) if one is None else _shaped(one, shape[0], place) for one in value]
    if shape == WORDS:
        return [_leaf(value, str, place)] if isinstance(value, str) else _shaped(value, [str], place)
    return _leaf(value, str if shape == TEXT_OR_NULL else shape, place)


def _object(pairs: _Pairs, shape: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Read an object: its known fields, or all fields if the shape has arbitrary keys."""
    if "*" in shape:
        found = _merged([(_go_string(key, place), _shaped(value, shape["*"], place)) for key, value in pairs])
        return {key: _empty(shape["*"]) if value is None else value for key, value in found.items()}
    names = {name.lower(): name for name in shape}
    known = [(names[key.lower()], value) for key, value in pairs if key.lower() in names]
    return _merged([(name, _shaped(value, shape[name], f"{place}.{name}".lstrip("."))) for name, value in known])


def _merged(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        before = found.get(name)
        if value is not None or before is None or isinstance(before, dict | list):
            found[name] = {**before, **value} if isinstance(before, dict) and isinstance(value, dict) else value
    return found


def _leaf(value: Any, shape: Any, place: str) -> Any:
    """Check a string, a number or a boolean. Raises InvalidInput for another type."""
    if shape is int and type(value) is int and -_INT64_LIMIT <= value < _INT64_LIMIT:
        return value
    if shape is bool and isinstance(value, bool):
        return value
    if shape is str and isinstance(value, str):
        return _go_string(value, place)
    kind = "number" if isinstance(value, _Number) else "object" if isinstance(value, _Pairs) else _KINDS[type(value)]
    exact = f" {getattr(value, 'text', value)}" if shape is int and kind == "number" else ""
    where = f"Go struct field {place}" if place else "Go value"
    raise InvalidInput(
        f"json: cannot unmarshal {kind}{exact} into {where} of type {_go_type(shape)}", hint="see the API's document"
    )


def _go_string(value: str, place: str) -> str:
    """Return a string as Go reads it. Raises InvalidInput for a NUL, which no path or argument can contain."""
    if "\0" in value:
        raise InvalidInput(f"invalid value for {place or 'a name'}: it contains a NUL character", hint="leave it out")
    return _SURROGATE.sub("\ufffd", value)


def _go_type(shape: Any) -> str:
    if isinstance(shape, list):
        return f"[]{_go_type(shape[0])}"
    if isinstance(shape, dict):
        return f"map[string]{_go_type(shape['*'])}" if "*" in shape else "struct"
    if shape == TEXT_OR_NULL:
        return "*string"
    return "string" if shape == WORDS else _GO_TYPES.get(shape, "interface")


def _empty(shape: Any) -> Any:
    """Return the value that Go stores for null in an array or a map."""
    if isinstance(shape, dict):
        return {}
    return shape() if shape in (str, int, bool) else None


def _plain(value: Any) -> Any:
    """Return a value with dicts instead of _Pairs."""
    if isinstance(value, _Pairs):
        return {key: _plain(inner) for key, inner in value}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


def _what_is_wrong(error: json.JSONDecodeError, *, alone: bool) -> str:
    rest = error.doc[error.pos + error.msg.startswith("Invalid \\escape") :]
    if not error.msg.startswith("Invalid control character"):
        rest = rest.lstrip(" \t\r\n")
    if not rest or error.msg.startswith("Unterminated string"):
        if alone:
            return "unexpected end of JSON input"
        return "unexpected EOF" if error.doc.strip() else "got EOF while reading request body"
    return f"invalid character {_quoted(rest[0])} {_place(error)}"


def _place(error: json.JSONDecodeError) -> str:
    if error.msg.startswith("Expecting ',' delimiter"):
        opened: list[str] = []
        for bracket in re.findall(r"[][{}]", _STRING.sub("", error.doc[: error.pos])):
            if bracket in "[{":
                opened.append(bracket)
            elif opened:
                opened.pop()
        return "after array element" if opened[-1:] == ["["] else "after object key:value pair"
    return next((place for words, place in _WHERE.items() if error.msg.startswith(words)), _WHERE["Expecting value"])


def _quoted(character: str) -> str:
    return "'\\''" if character == "'" else f"'{character}'".replace("\t", "\\t").replace("\n", "\\n")
