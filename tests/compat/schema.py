"""Docker's own description of its API, as schemas that answers can be held against.

It is swagger.yaml of version 1.41, of the Debian package golang-github-docker-docker-dev. What Swagger 2 says is
JSON Schema but for one word: null is allowed only where it says `x-nullable`.
"""

from __future__ import annotations

import functools
import re
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import yaml

PACKAGE = "golang-github-docker-docker-dev"
INSIDE = "usr/share/gocode/src/github.com/docker/docker/api/swagger.yaml"

Json = dict[str, Any]


def fetch(directory: Path) -> Path:
    """The file; it is fetched from Debian where it is not in the directory yet."""
    path = directory / INSIDE
    if not path.exists():
        directory.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", PACKAGE], cwd=directory, check=True, capture_output=True)
        archive = next(directory.glob(f"{PACKAGE}_*.deb"))
        subprocess.run(["dpkg-deb", "-x", archive, directory], check=True)
    return path


class Description:
    """All paths with their answers."""

    def __init__(self, path: Path) -> None:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        self._document: Json = yaml.load(path.read_text(), Loader=loader)
        self._definitions = {name: _converted(one) for name, one in self._document["definitions"].items()}

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
        return {**_converted(answers[str(status)]["schema"]), "definitions": self._definitions}

    def faults(self, method: str, path: str, status: int, document: object) -> list[str]:
        """What is wrong with an answer: "Config.Env: null is not of type 'array'"."""
        schema = self.schema(method, path, status)
        if schema is None:
            return []
        found = jsonschema.Draft7Validator(schema).iter_errors(document)
        return [f"{'.'.join(map(str, error.absolute_path))}: {error.message[-150:]}" for error in found]

    def path_of(self, method: str, asked: str) -> str | None:
        """Which path of the description is meant: /containers/x/json is /containers/{id}/json."""
        paths = [path for known, path in self.operations if known == method]
        for path in sorted(paths, key=lambda path: path.count("{")):
            if re.fullmatch(re.sub(r"\{[a-z]+\}", ".+", path), asked):
                return path
        return None


def _converted(schema: Any) -> Any:
    """Swagger 2 → JSON Schema, all the way down."""
    if isinstance(schema, list):
        return [_converted(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return {"$ref": schema["$ref"]}
    skipped = ("example", "examples", "x-nullable", "description", "title", "format", "default")
    converted = {
        key: {name: _converted(one) for name, one in value.items()} if key == "properties" else _converted(value)
        for key, value in schema.items()
        if key not in skipped or key == "properties"
    }
    if schema.get("x-nullable") and "type" in converted:
        converted["type"] = [converted["type"], "null"]
        if "enum" in converted:
            converted["enum"] = [*converted["enum"], None]
    return converted
