"""The Engine API's Swagger description as JSON Schema, to validate the answers of each API version.

The source is swagger.yaml of version 1.41, from the Debian package golang-github-docker-docker-dev. CHANGES lists the
differences of other versions. Swagger 2 differs from JSON Schema in two points here: null is valid only with
`x-nullable`, and an object with listed properties has no others.
"""

from __future__ import annotations

import copy
import functools
import re
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import yaml

from pylab_container.daemon.call import parse_version
from tests.support.debian import unpacked

PACKAGE = "golang-github-docker-docker-dev"
INSIDE = "usr/share/gocode/src/github.com/docker/docker/api/swagger.yaml"

Json = dict[str, Any]


class Change(NamedTuple):
    """A property that not all versions have.

    place   "Definition.Property", or "METHOD /path.Property" for an answer; nested properties are separated by dots
    since   the first version that has it
    until   the first version that no longer has it
    schema  of the property, if version 1.41 does not have it
    """

    place: str
    since: str = "1.0"
    until: str = "2.0"
    schema: Json | None = None


_TEXT: Json = {"type": "string"}
_TEXTS: Json = {"type": "array", "items": _TEXT}
_TRUTH: Json = {"type": "boolean"}
_NUMBER: Json = {"type": "integer"}
_BY_NAME: Json = {"type": "object", "additionalProperties": _TEXT}

# Source: the version history (moby's api/docs/CHANGELOG.md); for names and types v1.42.yaml to v1.47.yaml beside it.
CHANGES = (
    Change("SystemInfo.ExecutionDriver", until="1.25", schema=_TEXT),
    Change("SystemInfo.Isolation", since="1.25"),
    Change("SystemVersion.MinAPIVersion", since="1.25"),
    Change("Network.Created", since="1.25"),
    Change("Resources.NanoCpus", since="1.25"),
    Change("Resources.Init", since="1.25"),
    Change("Resources.DeviceCgroupRules", since="1.28"),
    Change("Network.Ingress", since="1.29"),
    Change("HealthConfig.StartPeriod", since="1.29"),
    Change("Image.Metadata", since="1.31"),
    Change("Volume.CreatedAt", since="1.31"),
    Change("GET /system/df.BuildCache", since="1.31"),
    Change("GET /system/df.BuilderSize", since="1.31", until="1.42", schema=_NUMBER),
    Change("POST /containers/{id}/wait.Error", since="1.34"),
    Change("SystemVersion.Platform", since="1.35"),
    Change("SystemVersion.Components", since="1.35"),
    Change("SystemInfo.Warnings", since="1.39"),
    Change("SystemInfo.ProductLicense", since="1.39"),
    Change("SystemInfo.PidsLimit", since="1.40"),
    Change("Resources.DeviceRequests", since="1.40"),
    Change("Resources.KernelMemoryTCP", since="1.40", until="1.42"),
    Change("HostConfig.CgroupnsMode", since="1.41"),
    Change("SystemInfo.CgroupVersion", since="1.41"),
    Change("SystemInfo.DefaultAddressPools", since="1.41"),
    Change("SystemInfo.KernelMemory", until="1.42"),
    Change("SystemInfo.ClusterStore", until="1.42"),
    Change("SystemInfo.ClusterAdvertise", until="1.42"),
    Change("Resources.KernelMemory", until="1.42"),
    Change("BuildCache.Parent", until="1.42"),
    Change("BuildCache.Parents", since="1.42", schema={**_TEXTS, "x-nullable": True}),
    Change("Mount.BindOptions.CreateMountpoint", since="1.42", schema=_TRUTH),
    Change("HostConfig.Annotations", since="1.43", schema=_BY_NAME),
    Change("Image.VirtualSize", until="1.44"),
    Change("ImageSummary.VirtualSize", until="1.44"),
    Change("SystemInfo.CDISpecDirs", since="1.44", schema=_TEXTS),
    Change("HealthConfig.StartInterval", since="1.44", schema=_NUMBER),
    Change("Mount.BindOptions.ReadOnlyNonRecursive", since="1.44", schema=_TRUTH),
    Change("Mount.BindOptions.ReadOnlyForceRecursive", since="1.44", schema=_TRUTH),
    # dockerd sends null if these are empty; the description does not mention it.
    Change("EndpointSettings.Aliases", schema={**_TEXTS, "x-nullable": True}),
    Change("EndpointSettings.DNSNames", since="1.44", schema={**_TEXTS, "x-nullable": True}),
    Change("Mount.VolumeOptions.Subpath", since="1.45", schema=_TEXT),
    Change("Mount.TmpfsOptions.Options", since="1.46", schema={"type": "array", "items": _TEXTS}),
    Change("ContainerSummary.HostConfig.Annotations", since="1.46", schema=_BY_NAME),
)


def fetch() -> Path:
    """Return the path of swagger.yaml from Debian 12's package; those of later releases describe later versions."""
    return unpacked(PACKAGE, "bookworm") / INSIDE


@functools.cache
def _parsed(path: Path) -> Json:
    document: Json = yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return document


class Description:
    """The paths and answers of one API version."""

    def __init__(self, path: Path, version: str = "1.41") -> None:
        self._document = copy.deepcopy(_parsed(path))
        for change in CHANGES:
            self._apply(change, parse_version(version))
        swagger = self._document["definitions"]
        self._definitions = {name: _json_schema(schema, swagger) for name, schema in swagger.items()}

    def _apply(self, change: Change, version: tuple[int, ...]) -> None:
        owner, *steps, name = change.place.split(".")
        schema = _with_properties(self._answer(owner) if "/" in owner else self._document["definitions"][owner])
        for step in steps:
            schema = schema["properties"][step]
        if not parse_version(change.since) <= version < parse_version(change.until):
            schema["properties"].pop(name, None)
            schema["required"] = [required for required in schema.get("required", ()) if required != name]
        elif change.schema is not None:
            schema["properties"][name] = change.schema

    def _answer(self, place: str) -> Json:
        """Return the schema of the 200 answer to "METHOD /path"."""
        method, path = place.split()
        schema: Json = self._document["paths"][path][method.lower()]["responses"][200]["schema"]
        return schema

    @functools.cached_property
    def operations(self) -> list[tuple[str, str]]:
        """All pairs of method and path."""
        return [(method.upper(), path) for path, methods in self._document["paths"].items() for method in methods]

    def schema(self, method: str, path: str, status: int) -> Json | None:
        """Return the schema of an answer, None if the description has no schema for this status."""
        answers = self._document["paths"][path][method.lower()]["responses"]
        answers = {str(key): value for key, value in answers.items()}
        if "schema" not in answers.get(str(status), {}):
            return None
        schema: Json = _json_schema(answers[str(status)]["schema"], self._document["definitions"])
        return schema

    def faults(self, method: str, path: str, status: int, document: object) -> list[str]:
        """Return the violations of an answer's schema, such as "Config.Env: null is not of type 'array'"."""
        schema = self.schema(method, path, status)
        return [] if schema is None else self._faults(schema, document)

    def faults_of(self, definition: str, document: object) -> list[str]:
        """Return the violations of a named definition's schema."""
        return self._faults(self._definitions[definition], document)

    def _faults(self, schema: Json, document: object) -> list[str]:
        validator = jsonschema.Draft7Validator({**schema, "definitions": self._definitions})
        errors = validator.iter_errors(document)
        return [f"{'.'.join(map(str, error.absolute_path))}: {error.message[-150:]}" for error in errors]

    def path_of(self, method: str, request_path: str) -> str | None:
        """Return the template of a request's path: /containers/{id}/json for /containers/x/json; None if unknown."""
        templates = [path for known, path in self.operations if known == method]
        for template in sorted(templates, key=lambda path: path.count("{")):
            if re.fullmatch(re.sub(r"\{[a-z]+\}", ".+", template), request_path):
                return template
        return None


def _with_properties(schema: Json) -> Json:
    """Return the part of a schema that has `properties`: itself, a part of its allOf, or that of a list's items."""
    schema = schema.get("items", schema)
    return next(part for part in schema.get("allOf", [schema]) if "properties" in part)


def _json_schema(schema: Any, definitions: Json) -> Any:
    """Convert a schema of Swagger 2 to JSON Schema, recursively."""
    if isinstance(schema, list):
        return [_json_schema(item, definitions) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return {"$ref": schema["$ref"]}
    if "allOf" in schema:
        return _json_schema(_merge(schema["allOf"], definitions), definitions)
    skipped = ("example", "examples", "x-nullable", "description", "title", "format", "default")
    converted = {
        key: {name: _json_schema(inner, definitions) for name, inner in value.items()}
        if key == "properties"
        else _json_schema(value, definitions)
        for key, value in schema.items()
        if key not in skipped or key == "properties"
    }
    if "properties" in converted:
        converted.setdefault("additionalProperties", False)
    if schema.get("x-nullable") and "type" in converted:
        converted["type"] = [converted["type"], "null"]
        if "enum" in converted:
            converted["enum"] = [*converted["enum"], None]
    return converted


def _merge(parts: list[Json], definitions: Json) -> Json:
    """Merge the parts of an allOf into one object schema, because additionalProperties applies to each part alone."""
    merged: Json = {"type": "object", "properties": {}, "required": []}
    for part in parts:
        resolved = definitions[part["$ref"].rpartition("/")[2]] if "$ref" in part else part
        resolved = _merge(resolved["allOf"], definitions) if "allOf" in resolved else resolved
        merged["properties"] |= resolved.get("properties", {})
        merged["required"] += resolved.get("required", [])
    return merged
