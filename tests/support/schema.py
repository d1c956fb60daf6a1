"""Docker's own description of its API, as schemas that answers of each version can be held against.

It is swagger.yaml of version 1.41, of the Debian package golang-github-docker-docker-dev; what other versions have
otherwise is in CHANGES. What Swagger 2 says is JSON Schema but for two words: null is allowed only where it says
`x-nullable`, and an object whose properties are told has no others.
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

    place  NAME of a definition, or an answer's METHOD /path, and the property with dots before it
    since  the first version that has it; until: the first that has it no longer
    what   its schema, where 1.41 does not have it
    """

    place: str
    since: str = "1.0"
    until: str = "2.0"
    what: Json | None = None


_TEXT: Json = {"type": "string"}
_TEXTS: Json = {"type": "array", "items": _TEXT}
_TRUTH: Json = {"type": "boolean"}
_NUMBER: Json = {"type": "integer"}
_BY_NAME: Json = {"type": "object", "additionalProperties": _TEXT}

# Source: the version history (moby's api/docs/CHANGELOG.md); for names and types v1.42.yaml to v1.47.yaml beside it.
CHANGES = (
    Change("SystemInfo.ExecutionDriver", until="1.25", what=_TEXT),
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
    Change("GET /system/df.BuilderSize", since="1.31", until="1.42", what=_NUMBER),
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
    Change("BuildCache.Parents", since="1.42", what={**_TEXTS, "x-nullable": True}),
    Change("Mount.BindOptions.CreateMountpoint", since="1.42", what=_TRUTH),
    Change("HostConfig.Annotations", since="1.43", what=_BY_NAME),
    Change("Image.VirtualSize", until="1.44"),
    Change("ImageSummary.VirtualSize", until="1.44"),
    Change("SystemInfo.CDISpecDirs", since="1.44", what=_TEXTS),
    Change("HealthConfig.StartInterval", since="1.44", what=_NUMBER),
    Change("Mount.BindOptions.ReadOnlyNonRecursive", since="1.44", what=_TRUTH),
    Change("Mount.BindOptions.ReadOnlyForceRecursive", since="1.44", what=_TRUTH),
    # dockerd answers null for both where they are empty, which the description leaves out.
    Change("EndpointSettings.Aliases", what={**_TEXTS, "x-nullable": True}),
    Change("EndpointSettings.DNSNames", since="1.44", what={**_TEXTS, "x-nullable": True}),
    Change("Mount.VolumeOptions.Subpath", since="1.45", what=_TEXT),
    Change("Mount.TmpfsOptions.Options", since="1.46", what={"type": "array", "items": _TEXTS}),
    Change("ContainerSummary.HostConfig.Annotations", since="1.46", what=_BY_NAME),
)


def fetch() -> Path:
    """Return the file, from Debian 12's package: later ones describe later versions."""
    return unpacked(PACKAGE, "bookworm") / INSIDE


@functools.cache
def _parsed(path: Path) -> Json:
    document: Json = yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return document


class Description:
    """All paths with their answers, as one version has them."""

    def __init__(self, path: Path, version: str = "1.41") -> None:
        self._document = copy.deepcopy(_parsed(path))
        for change in CHANGES:
            self._apply(change, parse_version(version))
        written = self._document["definitions"]
        self._definitions = {name: _converted(one, written) for name, one in written.items()}

    def _apply(self, change: Change, version: tuple[int, ...]) -> None:
        owner, *steps, name = change.place.split(".")
        schema = _holder(self._answer(owner) if "/" in owner else self._document["definitions"][owner])
        for step in steps:
            schema = schema["properties"][step]
        if not parse_version(change.since) <= version < parse_version(change.until):
            schema["properties"].pop(name, None)
            schema["required"] = [one for one in schema.get("required", ()) if one != name]
        elif change.what is not None:
            schema["properties"][name] = change.what

    def _answer(self, place: str) -> Json:
        """The schema of the answer to METHOD /path that tells of success."""
        method, path = place.split()
        schema: Json = self._document["paths"][path][method.lower()]["responses"][200]["schema"]
        return schema

    @functools.cached_property
    def operations(self) -> list[tuple[str, str]]:
        """Every (method, path)."""
        return [(method.upper(), path) for path, one in self._document["paths"].items() for method in one]

    def schema(self, method: str, path: str, status: int) -> Json | None:
        """What an answer looks like, None where it has no document or is not described."""
        answers = self._document["paths"][path][method.lower()]["responses"]
        answers = {str(key): value for key, value in answers.items()}
        if "schema" not in answers.get(str(status), {}):
            return None
        converted: Json = _converted(answers[str(status)]["schema"], self._document["definitions"])
        return converted

    def faults(self, method: str, path: str, status: int, document: object) -> list[str]:
        """What is wrong with an answer: "Config.Env: null is not of type 'array'"."""
        schema = self.schema(method, path, status)
        return [] if schema is None else self._faults(schema, document)

    def faults_of(self, definition: str, document: object) -> list[str]:
        """What is wrong with something that has a definition of its own."""
        return self._faults(self._definitions[definition], document)

    def _faults(self, schema: Json, document: object) -> list[str]:
        validator = jsonschema.Draft7Validator({**schema, "definitions": self._definitions})
        found = validator.iter_errors(document)
        return [f"{'.'.join(map(str, error.absolute_path))}: {error.message[-150:]}" for error in found]

    def path_of(self, method: str, asked: str) -> str | None:
        """Which path of the description is meant: /containers/x/json is /containers/{id}/json."""
        paths = [path for known, path in self.operations if known == method]
        for path in sorted(paths, key=lambda path: path.count("{")):
            if re.fullmatch(re.sub(r"\{[a-z]+\}", ".+", path), asked):
                return path
        return None


def _holder(schema: Json) -> Json:
    """The schema, or the part of it, that has properties of its own; of a list, that of its items."""
    schema = schema.get("items", schema)
    return next(part for part in schema.get("allOf", [schema]) if "properties" in part)


def _converted(schema: Any, definitions: Json) -> Any:
    """Swagger 2 → JSON Schema, all the way down."""
    if isinstance(schema, list):
        return [_converted(one, definitions) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return {"$ref": schema["$ref"]}
    if "allOf" in schema:
        return _converted(_joined(schema["allOf"], definitions), definitions)
    skipped = ("example", "examples", "x-nullable", "description", "title", "format", "default")
    converted = {
        key: {name: _converted(one, definitions) for name, one in value.items()}
        if key == "properties"
        else _converted(value, definitions)
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


def _joined(parts: list[Json], definitions: Json) -> Json:
    """Several schemas of one object as one, whose properties are those of all."""
    whole: Json = {"type": "object", "properties": {}, "required": []}
    for part in parts:
        known = definitions[part["$ref"].rpartition("/")[2]] if "$ref" in part else part
        known = _joined(known["allOf"], definitions) if "allOf" in known else known
        whole["properties"] |= known.get("properties", {})
        whole["required"] += known.get("required", [])
    return whole
