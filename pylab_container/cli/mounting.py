"""--mount: comma-separated fields, translated to the Engine API's Mount documents."""

from __future__ import annotations

import os
from typing import Any

from pylab_container.errors import InvalidInput
from pylab_container.text import sizes
from pylab_container.text.fieldlist import split_fields

_HINT = "write --mount type=bind,source=/host,target=/there[,readonly]"
_TRUE, _FALSE = ("true", "1", ""), ("false", "0")
# Aliases of field names.
_NAMES = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly"}


def mount_document(text: str) -> dict[str, Any]:
    """Translate one --mount to the document that docker-py's types.Mount creates.

    Raises InvalidInput.
    """
    document: dict[str, Any] = {"Type": "volume"}
    options: dict[str, dict[str, Any]] = {}
    for field in split_fields(text):
        name, equals, value = field.partition("=")
        name = _NAMES.get(name.strip().lower(), name.strip().lower())
        if not equals and name not in ("readonly", "volume-nocopy"):
            raise InvalidInput(f"invalid field '{field}' must be a key=value pair", hint=_HINT)
        _put(document, options, name, value, field)
    if document["Type"] == "bind" and str(document.get("Source", "")).startswith("."):
        document["Source"] = os.path.abspath(document["Source"])
    return {**document, **options}


def _put(document: dict[str, Any], options: dict[str, dict[str, Any]], name: str, value: str, field: str) -> None:
    match name:
        case "type":
            document["Type"] = value.lower()
        case "source" | "target":
            document[name.capitalize()] = value
        case "readonly":
            document["ReadOnly"] = _truth(name, value)
        case "consistency":
            document["Consistency"] = value
        case "bind-propagation":
            options.setdefault("BindOptions", {})["Propagation"] = value
        case "bind-recursive":
            _put_recursion(options.setdefault("BindOptions", {}), value)
        case "volume-nocopy" | "volume-label" | "volume-driver" | "volume-opt" | "volume-subpath":
            _put_volume(options.setdefault("VolumeOptions", {}), name, value)
        case "tmpfs-size":
            options.setdefault("TmpfsOptions", {})["SizeBytes"] = sizes.parse(value)
        case "tmpfs-mode":
            options.setdefault("TmpfsOptions", {})["Mode"] = _octal(value)
        case _:
            raise InvalidInput(f"unexpected key '{name}' in '{field}'", hint=_HINT)


def _put_recursion(options: dict[str, Any], value: str) -> None:
    """Set how mounts below the source are included (docker 25.0)."""
    fields = {"disabled": "NonRecursive", "writable": "ReadOnlyNonRecursive", "readonly": "ReadOnlyForceRecursive"}
    if value in fields:
        options[fields[value]] = True
    elif value != "enabled":
        raise InvalidInput(
            f'invalid value for bind-recursive: {value} (must be "enabled", "disabled", "writable", or "readonly")',
            hint=_HINT,
        )


def _put_volume(options: dict[str, Any], name: str, value: str) -> None:
    key, _, content = value.partition("=")
    match name:
        case "volume-nocopy":
            options["NoCopy"] = _truth(name, value)
        case "volume-subpath":
            options["Subpath"] = value
        case "volume-label":
            options.setdefault("Labels", {})[key] = content
        case "volume-driver":
            options.setdefault("DriverConfig", {})["Name"] = value
        case "volume-opt":
            options.setdefault("DriverConfig", {}).setdefault("Options", {})[key] = content


def _truth(name: str, value: str) -> bool:
    if value.lower() not in (*_TRUE, *_FALSE):
        raise InvalidInput(f"invalid value for {name}: {value}", hint="write true or false")
    return value.lower() in _TRUE


def _octal(value: str) -> int:
    try:
        return int(value, 8)
    except ValueError:
        raise InvalidInput(f"invalid value for tmpfs-mode: {value}", hint="write an octal number: 1777") from None
