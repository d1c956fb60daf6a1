"""Types of the fields of image configs and of manifest.json, checked with dockerd's error messages.

dockerd unmarshals a config into Go structs and refuses a wrong type: "json: cannot unmarshal array into Go struct
field Config.config.Labels of type map[string]string". As in Go, null is valid for every type and leaves the zero
value, and unknown fields are ignored. Sources: moby 20.10, image.Image, image.V1Image, container.Config,
container.HealthConfig; Go, encoding/json.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from pylab_container.text.timestamps import parse_rfc3339

_INTEGERS = ("int", "int64", "time.Duration")


class _List(Struct, frozen=True):
    go: str
    of: _Type


class _Map(Struct, frozen=True):
    go: str
    of: _Type


class _Record(Struct, frozen=True):
    """A struct. go, name: its name with and without the package."""

    go: str
    name: str
    fields: Mapping[str, _Type]


_Type = str | _List | _Map | _Record
"""A string names a simple type. "words" is strslice.StrSlice: a list of strings or one string. "time" is time.Time."""

_TEXTS = _List("[]string", "string")
_EMPTY = _Record("struct {}", "", {})
_HEALTH = _Record(
    "container.HealthConfig",
    "HealthConfig",
    {
        "Test": _TEXTS,
        **dict.fromkeys(("Interval", "Timeout", "StartPeriod", "StartInterval"), "time.Duration"),
        "Retries": "int",
    },
)
_CONFIG = _Record(
    "container.Config",
    "Config",
    {
        **dict.fromkeys("Hostname Domainname User Image WorkingDir MacAddress StopSignal".split(), "string"),
        **dict.fromkeys("AttachStdin AttachStdout AttachStderr Tty OpenStdin StdinOnce".split(), "bool"),
        **dict.fromkeys(("ArgsEscaped", "NetworkDisabled"), "bool"),
        **dict.fromkeys(("Cmd", "Entrypoint", "Shell"), "words"),
        **dict.fromkeys(("Env", "OnBuild"), _TEXTS),
        "ExposedPorts": _Map("nat.PortSet", _EMPTY),
        "Volumes": _Map("map[string]struct {}", _EMPTY),
        "Labels": _Map("map[string]string", "string"),
        "Healthcheck": _HEALTH,
        "StopTimeout": "int",
    },
)
_STEP = _Record(
    "image.History",
    "History",
    {
        "created": "time",
        **dict.fromkeys(("author", "created_by", "comment"), "string"),
        "empty_layer": "bool",
    },
)
_IMAGE = _Record(
    "image.Image",
    "Image",
    {
        **dict.fromkeys("id parent comment container docker_version author architecture variant os".split(), "string"),
        "os.version": "string",
        "os.features": _TEXTS,
        "created": "time",
        "Size": "int64",
        "config": _CONFIG,
        "container_config": _CONFIG,
        "rootfs": _Record("image.RootFS", "RootFS", {"type": "string", "diff_ids": _List("[]layer.DiffID", "string")}),
        "history": _List("[]image.History", _STEP),
    },
)


_MANIFEST = _List(
    "[]tarexport.manifestItem",
    _Record(
        "tarexport.manifestItem",
        "manifestItem",
        {"Config": "string", "RepoTags": _TEXTS, "Layers": _TEXTS, "Parent": "string"},
    ),
)


def check(document: object) -> None:
    """Raise ValueError for the first field of an image config that has a wrong type.

    The message is the one of Go's encoding/json.
    """
    if not isinstance(document, dict):
        raise ValueError(f"json: cannot unmarshal {_kind(document)} into Go value of type image.Image")
    _check(document, _IMAGE, "", "")


def check_manifest(document: object) -> None:
    """Raise ValueError for the first field of a manifest.json that has a wrong type."""
    if not isinstance(document, list):
        raise ValueError(f"json: cannot unmarshal {_kind(document)} into Go value of type []tarexport.manifestItem")
    _check(document, _MANIFEST, "", "")


def _check(value: Any, kind: _Type, owner: str, path: str) -> None:
    if value is None:
        return
    if isinstance(kind, str):
        _check_simple(value, kind, owner, path)
    elif isinstance(kind, _List) and isinstance(value, list):
        for inner in value:
            _check(inner, kind.of, owner, path)
    elif isinstance(kind, _Map) and isinstance(value, dict):
        for inner in value.values():
            _check(inner, kind.of, owner, path)
    elif isinstance(kind, _Record) and isinstance(value, dict):
        for name, inner in value.items():
            if name in kind.fields:
                _check(inner, kind.fields[name], kind.name, f"{path}.{name}")
    else:
        raise _error(value, kind.go, owner, path)


def _check_simple(value: Any, kind: str, owner: str, path: str) -> None:
    if kind == "time":
        _check_time(value)
    elif kind == "words":
        if not isinstance(value, str) and not (isinstance(value, list) and all(map(_is_text, value))):
            raise _error(value, "string", owner, path)
    elif kind in _INTEGERS:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or isinstance(value, float) or not -(2**63) <= value < 2**63:
            raise _error(value, kind, owner, path, shown=f" {value}" if is_number else "")
    elif not isinstance(value, bool if kind == "bool" else str):
        # layer.DiffID is a named string type of Go; the message has its name.
        raise _error(value, "layer.DiffID" if path == ".rootfs.diff_ids" else kind, owner, path)


def _check_time(value: Any) -> None:
    layout = r'"\"2006-01-02T15:04:05Z07:00\""'
    if not isinstance(value, str):
        raise ValueError(f'parsing time "{value}" as {layout}: cannot parse "{value}" as "\\""')
    try:
        parse_rfc3339(value)
    except ValueError:
        raise ValueError(f'parsing time "\\"{value}\\"" as {layout}: cannot parse "{value}\\"" as "2006"') from None


def _is_text(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _error(value: Any, kind: str, owner: str, path: str, *, shown: str = "") -> ValueError:
    return ValueError(f"json: cannot unmarshal {_kind(value)}{shown} into Go struct field {owner}{path} of type {kind}")


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    if value is None:
        return "null"
    return "string" if isinstance(value, str) else "array" if isinstance(value, list) else "object"


def without_nulls(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a container configuration with the values that Go reads.

    A null in a list or map is the zero value of its type, and a Cmd that is a string is a list of one.
    """
    values: dict[str, Any] = {}
    for name, value in config.items():
        kind = _CONFIG.fields.get(name)
        if kind == "words" and isinstance(value, str):
            values[name] = [value]
        elif isinstance(value, list) and (kind == "words" or isinstance(kind, _List)):
            values[name] = ["" if word is None else word for word in value]
        elif isinstance(value, dict) and isinstance(kind, _Map):
            empty: Any = "" if kind.of == "string" else {}
            values[name] = {key: empty if item is None else item for key, item in value.items()}
        elif value is not None or not isinstance(kind, str) or kind == "words":
            values[name] = value
    return values
