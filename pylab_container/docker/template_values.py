"""The values of a Go template: documents as Go's structs, maps and lists.

A document consists of JSON's types: dict, list, str, int, float, bool, None. In Go, a JSON object is a struct or a map,
and the two print in different ways. JSON does not distinguish them, so a value carries the name of the field that it
was taken from, and the tables here have Docker's type for that name (moby api/types). A dict without a name is a map.

Source: Go's documentation of text/template and fmt.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pylab_container.text.golang import duration
from pylab_container.text.visible import visible, visible_json

MAPS = frozenset(
    "Labels Ports PortBindings ExposedPorts Networks Volumes Options DriverOpts Sysctls Tmpfs StorageOpt Annotations "
    "Data Containers Attributes Status AuxiliaryAddresses".split()
)
"""Fields of Docker's documents that are maps: to select a missing key is not an error."""

LISTS = frozenset(
    "Args Binds BlkioDeviceReadBps BlkioDeviceReadIOps BlkioDeviceWriteBps BlkioDeviceWriteIOps BlkioWeightDevice "
    "CapAdd CapDrop Cmd DeviceCgroupRules DeviceRequests Devices Dns DnsOptions DnsSearch Entrypoint Env ExecIDs "
    "ExtraHosts GroupAdd Links MaskedPaths Mounts OnBuild ReadonlyPaths RepoDigests RepoTags SecondaryIPAddresses "
    "SecondaryIPv6Addresses SecurityOpt Shell Test Ulimits VolumesFrom Aliases DNSNames Log Layers".split()
)
"""Fields that are lists: null is an empty list."""

PORT_MAPS = frozenset({"Ports", "PortBindings", "ExposedPorts"})
"""Maps whose key type is nat.Port ("80/tcp"): `index` refuses a string for them."""

_MAPS_OF_LISTS = frozenset({"Ports", "PortBindings"})
_RENAMED = {("LogConfig", "Config"): "Options", ("IPAM", "Config"): "Pools"}
"""(struct, field) whose name stands for another type there → the name of that type in these tables."""

LEFT_OUT: Mapping[str, Any] = {
    **dict.fromkeys(("Health", "Init", "SizeRw", "SizeRootFs", "StopTimeout", "UsageData")),
    **dict.fromkeys(("DNSNames", "Status", "Tmpfs", "Sysctls", "Annotations", "AuxiliaryAddresses")),
    **dict.fromkeys(("Name", "Driver", "MountLabel", "ProcessLabel", "AppArmorProfile", "IPRange"), ""),
    **dict.fromkeys(("Interval", "Timeout", "StartPeriod", "StartInterval", "Retries"), 0),
}
"""Fields that Docker's documents omit if they are empty → their value then."""

ONLY_IN_JSON = frozenset(
    "Id HostIp Dns DnsOptions DnsSearch NanoCpus CpuShares CpuPeriod CpuQuota CpuCount CpuPercent".split()
)
"""JSON names of fields that have another name in Go's structs (ID, HostIP, DNS, …)."""

_STRUCTS = {
    "Mounts": "Type Name Source Destination Driver Mode RW Propagation",
    "State": "Status Running Paused Restarting OOMKilled Dead Pid ExitCode Error StartedAt FinishedAt Health",
    "Healthcheck": "Test Interval Timeout StartPeriod StartInterval Retries",
    "Pools": "Subnet IPRange Gateway AuxiliaryAddresses",
}
"""Structs whose documents may omit fields → all their fields in Go's order."""
_DURATIONS = frozenset({"Interval", "Timeout", "StartPeriod", "StartInterval"})


class Fields(dict[str, Any]):
    """A struct. name: the field that it was taken from, "" for a whole document."""

    def __init__(self, document: Mapping[str, Any], name: str = "") -> None:
        super().__init__(document)
        self.name = name

    def field(self, name: str) -> object:
        """Return the value of a field.

        Raises KeyError if Docker's struct has no field of this name.
        """
        if name in ONLY_IN_JSON:
            raise KeyError(name)
        return _named(self[name] if name in self else LEFT_OUT[name], name, self.name)


class Map(dict[str, Any]):
    """A map with string keys. name: the field that it was taken from."""

    def __init__(self, entries: Mapping[str, Any], name: str) -> None:
        super().__init__({key: _element(value, name) for key, value in entries.items()})
        self.name = name


class Nil(list[Any]):
    """A nil list or map: it prints as an empty one, is false, and is null in JSON."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text


class Duration(int):
    """A number of nanoseconds, which prints as "1m30s"."""


class Missing:
    """The value of a key that a map does not have."""

    def __repr__(self) -> str:
        return "<no value>"


MISSING = Missing()


class Row(dict[str, Any]):
    """One line of a listing: docker's column names → values, or functions that compute them.

    methods  functions with one argument: {{.Label "a"}}
    """

    def __init__(self, columns: Mapping[str, Any], methods: Mapping[str, Callable[[str], str]] | None = None) -> None:
        super().__init__(columns)
        self.methods = {name: _escaping(method) for name, method in (methods or {}).items()}

    def column(self, name: str) -> object:
        """Return the value of a column. Raises KeyError.

        Control characters of a text are escaped, newlines and tabs too, so that a row stays one line with its columns.
        """
        value = self._value(name)
        return visible(value) if isinstance(value, str) else value

    def document(self) -> dict[str, Any]:
        """Return all columns, sorted by name, for {{json .}}."""
        return {name: self._value(name) for name in sorted(self)}

    def _value(self, name: str) -> object:
        value = self[name]
        return value() if callable(value) else value


def _escaping(method: Callable[[str], str]) -> Callable[[str], str]:
    return lambda argument: visible(method(argument))


class Headings(Row):
    """The line of headings; functions that change a text return it unchanged."""


def _named(value: Any, name: str, holder: str) -> Any:
    """Convert the value of a field to Go's type. holder: the name of the field that the struct was taken from."""
    name = _RENAMED.get((holder, name), name)
    if value is None and name in LISTS:
        return Nil("[]")
    if name in MAPS and isinstance(value, Mapping | None):
        return Nil("map[]") if value is None else Map(value, name)
    if name in _DURATIONS and isinstance(value, int):
        return Duration(value)
    return [_element(item, name) for item in value] if isinstance(value, list) else _element(value, name)


def _element(value: Any, name: str) -> Any:
    """Convert an element of a map or list, or a value that is neither, of a field of this name."""
    if isinstance(value, Mapping):
        return Fields(value, name)
    if value is None and name in _MAPS_OF_LISTS:  # an exposed port that is not published
        return Nil("[]")
    return [_element(item, name) for item in value] if isinstance(value, list) else value


# -- printing ------------------------------------------------------------------------------------


def text_of(value: Any) -> str:
    """Format a value as Go does with %v: true, [a b], map[a:1 b:2], {one two} for a struct."""
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Nil):
        return value.text
    if isinstance(value, Duration):
        return duration(value)
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Fields) and value.name == "Ulimits":
        return f"{value['Name']}={value['Soft']}:{value['Hard']}"
    if isinstance(value, Fields):
        names = _STRUCTS[value.name].split() if value.name in _STRUCTS else [*value]
        return (
            "{"
            + " ".join(text_of(_named(value.get(name, LEFT_OUT.get(name)), name, value.name)) for name in names)
            + "}"
        )
    if isinstance(value, Mapping):
        entries = value.document() if isinstance(value, Row) else value
        return "map[" + " ".join(f"{key}:{text_of(entries[key])}" for key in sorted(entries)) + "]"
    if isinstance(value, list | tuple):
        return "[" + " ".join(map(text_of, value)) + "]"
    return str(value)


def json_of(value: Any) -> str:
    """Serialize a value as docker's `json` does, without spaces.

    In a whole row, <, > and & are escaped.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    document = value.document() if isinstance(value, Row) else value
    absent = value is MISSING or isinstance(value, Nil)
    text = visible_json(json.dumps(None if absent else document, ensure_ascii=False, separators=(",", ":")))
    if isinstance(value, Row):
        text = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return text


def is_true(value: Any) -> bool:
    """Return Go's truth of a value: only false, 0, null and empty values are false.

    A struct is always true.
    """
    return value is not MISSING and (bool(value) or isinstance(value, Fields))


def type_name(value: Any) -> str:
    """Return Go's name of a value's type, for messages."""
    if value is None or value is MISSING:
        return "untyped nil"
    names = (
        *((bool, "bool"), (int, "int"), (float, "float64"), (str, "string"), (Nil, "[]string")),
        *((Mapping, "map[string]interface {}"), (Sequence, "[]interface {}")),
    )
    return next(name for kind, name in names if isinstance(value, kind))
