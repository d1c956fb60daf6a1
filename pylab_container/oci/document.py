"""Base class of the Structs that hold Docker's JSON documents, such as hostconfig.json.

A Struct has one attribute for each field that the engine knows, with the zero value of its type as default, as in Go.
What the attributes cannot hold is kept beside them, so that document() returns the document that parse() read:

    unknown  fields that the engine does not know; other versions of Docker write more of them
    nulls    names of the fields that are null: an empty list is written as null or as []
    missing  names of the fields that the document does not have (Go's omitempty)

nulls and missing matter only while the field has its default: a value that is set later is written.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

from msgspec import Struct, ValidationError, convert
from msgspec.structs import force_setattr, replace

from pylab_container.oci.image import Json


def field_names(text: str) -> frozenset[str]:
    """The names of fields in a text, separated by blanks."""
    return frozenset(text.split())


class Document(Struct, frozen=True, kw_only=True, rename="pascal"):
    """One JSON object of Docker's. Immutable; msgspec.structs.replace() makes a changed copy.

    Each class lists in PARTS how the values of its nested documents are parsed: {Docker's name: function}.
    """

    PARTS: ClassVar[Mapping[str, Callable[[Any], Any]]] = {}

    unknown: Mapping[str, Any] = {}
    nulls: frozenset[str] = frozenset()
    missing: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, document: object) -> Self:
        """Read a JSON object. Raises ValueError with the path of a field that has another type than Docker's."""
        if not isinstance(document, dict):
            raise ValueError(f"Expected `object`, got `{_type_name(document)}`")
        fields = _fields(cls)
        values, nulls, unknown = {}, [], {}
        for name, value in document.items():
            if name not in fields:
                unknown[name] = value
            elif value is None:
                nulls.append(name)
            else:
                part = cls.PARTS.get(name)
                values[name] = value if part is None else below(f".{name}", part, value)
        try:
            parsed = convert(values, cls)
        except ValidationError as error:
            raise ValueError(str(error)) from error
        # The new object has no other owner yet, so frozen=True may be bypassed.
        force_setattr(parsed, "unknown", unknown)
        force_setattr(parsed, "nulls", frozenset(nulls))
        force_setattr(parsed, "missing", frozenset(fields.keys() - document.keys()))
        return parsed

    def has(self, name: str) -> bool:
        """Whether the document that was parsed has the field name (Docker's spelling), and not as null."""
        return name not in self.missing and name not in self.nulls

    def document(self) -> Json:
        """Return the JSON object in Docker's order of fields, the unknown ones last."""
        document: Json = {}
        for name, (attribute, default) in _fields(type(self)).items():
            value = getattr(self, attribute)
            if value != default:
                document[name] = _plain(value)
            elif name not in self.missing:
                document[name] = None if name in self.nulls else _plain(value)
        return document | dict(self.unknown)

    def overlaid(self, other: Self) -> Self:
        """Return this document with the fields of other on top.

        An empty field of other, null or [], replaces only an empty one.
        """
        document = self.document()
        fields = other.document().items()
        document |= {name: value for name, value in fields if value or not document.get(name)}
        return type(self).parse(document)

    def completed(self) -> Self:
        """Return this document with the fields that are missing but that Docker always writes."""
        default = type(self)()
        nulls = self.nulls | (self.missing & default.nulls)
        return replace(self, nulls=nulls, missing=self.missing & default.missing)


def below(step: str, parse: Callable[[Any], Any], value: Any) -> Any:
    """Parse a part of a document; the path in an error begins with step, as ".Name" or "[0]"."""
    try:
        return parse(value)
    except ValueError as error:
        problem, _, path = str(error).partition(" - at `$")
        raise ValueError(f"{problem} - at `${step}{path.removesuffix('`')}`") from error


def list_of(parse: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A function that parses each element of a JSON array; other values stay as they are."""

    def parse_elements(value: Any) -> Any:
        if not isinstance(value, list):
            return value
        return [below(f"[{index}]", parse, element) for index, element in enumerate(value)]

    return parse_elements


def map_of(parse: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A function that parses each value of a JSON object but null; other values stay as they are."""

    def parse_values(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {key: None if part is None else below("[...]", parse, part) for key, part in value.items()}

    return parse_values


@functools.cache
def _fields(kind: type[Document]) -> dict[str, tuple[str, Any]]:
    """{Docker's name: (attribute, default)} of a class, in its order."""
    own = Document.__struct_fields__
    empty = kind()
    named = zip(kind.__struct_encode_fields__, kind.__struct_fields__, strict=True)
    return {name: (attribute, getattr(empty, attribute)) for name, attribute in named if attribute not in own}


def _plain(value: Any) -> Any:
    if isinstance(value, Document):
        return value.document()
    if isinstance(value, tuple):
        return [_plain(element) for element in value]
    if isinstance(value, dict):
        return {key: _plain(element) for key, element in value.items()}
    return value


_TYPE_NAMES: Mapping[type, str] = {type(None): "null", list: "array", dict: "object"}


def _type_name(value: object) -> str:
    """The name of a JSON value's type, as msgspec's errors have it."""
    return _TYPE_NAMES.get(type(value), type(value).__name__)
