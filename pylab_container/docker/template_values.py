"""What a Go template works on: documents as Go's structs, maps and lists, how they print, and which count as true.

A document is what JSON has: dict, list, str, int, float, bool, None. Behind it stand Go's structs and maps, which
JSON does not tell apart, and which print in different ways; so a value takes along the name of the field that it
was found in, and the tables here say what Docker has under that name (moby api/types). A dict without a name
is a map, as JSON alone would have it.

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
"""Fields of Docker's documents that are maps: a key that is missing there is no mistake."""

LISTS = frozenset(
    "Args Binds BlkioDeviceReadBps BlkioDeviceReadIOps BlkioDeviceWriteBps BlkioDeviceWriteIOps BlkioWeightDevice "
    "CapAdd CapDrop Cmd DeviceCgroupRules DeviceRequests Devices Dns DnsOptions DnsSearch Entrypoint Env ExecIDs "
    "ExtraHosts GroupAdd Links MaskedPaths Mounts OnBuild ReadonlyPaths RepoDigests RepoTags SecondaryIPAddresses "
    "SecondaryIPv6Addresses SecurityOpt Shell Test Ulimits VolumesFrom Aliases DNSNames Log Layers".split()
)
"""Fields that are lists: null there is an empty one."""

PORT_MAPS = frozenset({"Ports", "PortBindings", "ExposedPorts"})
"""Maps whose keys are of a type of their own ("80/tcp"), so that no text is an index for them."""

_MAPS_OF_LISTS = frozenset({"Ports", "PortBindings"})
_RENAMED = {("LogConfig", "Config"): "Options", ("IPAM", "Config"): "Pools"}
"""Fields whose name means something else there: what it is like, or what it is called here."""

LEFT_OUT: Mapping[str, Any] = {
    **dict.fromkeys(("Health", "Init", "SizeRw", "SizeRootFs", "StopTimeout", "UsageData")),
    **dict.fromkeys(("DNSNames", "Status", "Tmpfs", "Sysctls", "Annotations", "AuxiliaryAddresses")),
    **dict.fromkeys(("Name", "Driver", "MountLabel", "ProcessLabel", "AppArmorProfile", "IPRange"), ""),
    **dict.fromkeys(("Interval", "Timeout", "StartPeriod", "StartInterval", "Retries"), 0),
}
"""Fields that Docker leaves out of its documents while there is nothing to tell, and what they are then."""

ONLY_IN_JSON = frozenset(
    "Id HostIp Dns DnsOptions DnsSearch NanoCpus CpuShares CpuPeriod CpuQuota CpuCount CpuPercent".split()
)
"""Fields that Go's structs call otherwise (ID, HostIP, DNS, …)."""

_STRUCTS = {
    "Mounts": "Type Name Source Destination Driver Mode RW Propagation",
    "State": "Status Running Paused Restarting OOMKilled Dead Pid ExitCode Error StartedAt FinishedAt Health",
    "Healthcheck": "Test Interval Timeout StartPeriod StartInterval Retries",
    "Pools": "Subnet IPRange Gateway AuxiliaryAddresses",
}
"""Structs of which parts may be left out, with all their fields in Go's order."""
_DURATIONS = frozenset({"Interval", "Timeout", "StartPeriod", "StartInterval"})


class Fields(dict[str, Any]):
    """A struct; name: the field that it was found in, "" for a whole document."""

    def __init__(self, document: Mapping[str, Any], name: str = "") -> None:
        super().__init__(document)
        self.name = name

    def field(self, name: str) -> object:
        """One of its fields. Raises KeyError for one that Docker's struct has not, by that name."""
        if name in ONLY_IN_JSON:
            raise KeyError(name)
        return _named(self[name] if name in self else LEFT_OUT[name], name, self.name)


class Map(dict[str, Any]):
    """A map from texts, which was found in a field of this name."""

    def __init__(self, entries: Mapping[str, Any], name: str) -> None:
        super().__init__({key: _element(value, name) for key, value in entries.items()})
        self.name = name


class Nil(list[Any]):
    """A list or map that is not there: it prints and counts as an empty one, and is null in JSON."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text


class Duration(int):
    """Nanoseconds, which print as "1m30s"."""


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
        self.methods = {name: _escaping(method) for name, method in (methods or {}).items()}

    def column(self, name: str) -> object:
        """The value of one column. Raises KeyError.

        Control characters of a text are escaped, newlines and tabs too: one row is one line, and has its columns.
        """
        value = self._value(name)
        return visible(value) if isinstance(value, str) else value

    def document(self) -> dict[str, Any]:
        """All columns, sorted, as {{json .}} shows them."""
        return {name: self._value(name) for name in sorted(self)}

    def _value(self, name: str) -> object:
        value = self[name]
        return value() if callable(value) else value


def _escaping(method: Callable[[str], str]) -> Callable[[str], str]:
    return lambda argument: visible(method(argument))


class Headings(Row):
    """The line above the others; functions that change a text leave it as it is."""


def _named(value: Any, name: str, holder: str) -> Any:
    """The value of a field as Go has it; holder: the name of the struct's own field."""
    name = _RENAMED.get((holder, name), name)
    if value is None and name in LISTS:
        return Nil("[]")
    if name in MAPS and isinstance(value, Mapping | None):
        return Nil("map[]") if value is None else Map(value, name)
    if name in _DURATIONS and isinstance(value, int):
        return Duration(value)
    return [_element(item, name) for item in value] if isinstance(value, list) else _element(value, name)


def _element(value: Any, name: str) -> Any:
    """One of a map or list that was found in a field of this name, or what is no map or list."""
    if isinstance(value, Mapping):
        return Fields(value, name)
    if value is None and name in _MAPS_OF_LISTS:  # a port that is exposed and not published
        return Nil("[]")
    return [_element(item, name) for item in value] if isinstance(value, list) else value


# ---- printing --------------------------------------------------------------------------


def text_of(value: Any) -> str:
    """A value as Go prints it with %v: true, [a b], map[a:1 b:2], {one two} for a struct."""
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
    """A value as docker's `json` writes it: no spaces. In a whole row, what HTML would read is escaped."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    document = value.document() if isinstance(value, Row) else value
    absent = value is MISSING or isinstance(value, Nil)
    text = visible_json(json.dumps(None if absent else document, ensure_ascii=False, separators=(",", ":")))
    if isinstance(value, Row):
        text = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return text


def is_true(value: Any) -> bool:
    """False, 0, null, and what is empty count as false; a struct never does."""
    return value is not MISSING and (bool(value) or isinstance(value, Fields))


def type_name(value: Any) -> str:
    """Go's name of a value's type, for messages."""
    if value is None or value is MISSING:
        return "untyped nil"
    names = (
        *((bool, "bool"), (int, "int"), (float, "float64"), (str, "string"), (Nil, "[]string")),
        *((Mapping, "map[string]interface {}"), (Sequence, "[]interface {}")),
    )
    return next(name for kind, name in names if isinstance(value, kind))
