"""Image configs, digests and chain ids.

An image *is* its config: a JSON document that lists the layers' diff ids and says how to
run them. The SHA-256 of the document's bytes is the image's id, so a config that came
from outside is kept as the bytes it was. Source: OCI image specification, config.md;
field order and escapes as moby's image package writes them.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from msgspec import Struct

from pylab_container.errors import CorruptStore, InvalidArchive
from pylab_container.oci import config_shape
from pylab_container.oci.ids import Digest
from pylab_container.text.jsontext import NotJson, refuse_deep
from pylab_container.text.timestamps import NEVER, parse_rfc3339

Json = dict[str, Any]

# Docker's Config struct in its own order: an empty container configuration.
EMPTY_CONFIG: Mapping[str, Any] = {
    "Hostname": "",
    "Domainname": "",
    "User": "",
    "AttachStdin": False,
    "AttachStdout": False,
    "AttachStderr": False,
    "Tty": False,
    "OpenStdin": False,
    "StdinOnce": False,
    "Env": None,
    "Cmd": None,
    "Image": "",
    "Volumes": None,
    "WorkingDir": "",
    "Entrypoint": None,
    "OnBuild": None,
    "Labels": None,
}

_CONFIG_ORDER = (
    "Hostname Domainname User AttachStdin AttachStdout AttachStderr ExposedPorts Tty OpenStdin StdinOnce Env Cmd "
    "Healthcheck ArgsEscaped Image Volumes WorkingDir Entrypoint NetworkDisabled MacAddress OnBuild Labels "
    "StopSignal StopTimeout Shell"
).split()

LONGEST_CONFIG = 4 << 20
"""Bytes of the longest config that is stored: what podman, buildah and skopeo read (containers/image, iolimits)."""

# What Go escapes and Python does not, or differently. Surrogates are bytes that are no UTF-8. The
# first alternative takes escaped backslashes whole, so that no letter after one looks like an escape.
_GO_ESCAPES = {c: f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"} | {r"\b": r"\u0008", r"\f": r"\u000c", r"\\": r"\\"}
_GO_ESCAPED = re.compile(r"\\\\|\\[bf]|[<>&\u2028\u2029\ud800-\udfff]")

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def sha256(data: bytes) -> str:
    """The digest of data in the form "sha256:<64 hexadecimal digits>"."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def chain_id(diff_ids: Sequence[str]) -> str:
    """The id of a stack of layers, the topmost last; "" for an empty stack.

    A layer's diff id names its own content; its chain id names the content *and*
    everything below. ChainID(L0) = DiffID(L0); ChainID(L0|…|Ln) =
    SHA256(ChainID(L0|…|Ln-1) + " " + DiffID(Ln)). Source: OCI image-spec config.md,
    "Layer ChainID".
    """
    chain = ""
    for diff_id in diff_ids:
        chain = sha256(f"{chain} {diff_id}".encode()) if chain else diff_id
    return chain


def go_json(value: object) -> bytes:
    """JSON exactly as Go's encoding/json writes it: no spaces, < > & and two separators escaped.

    Docker's ids are digests of such bytes; equal content must give equal bytes.
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return _GO_ESCAPED.sub(lambda found: _GO_ESCAPES.get(found[0], r"\ufffd"), text).encode()


def ordered_config(config: Mapping[str, Any]) -> Json:
    """A container configuration in Docker's field order, sets sorted; fields Docker does not know come last."""
    known = {name: config[name] for name in _CONFIG_ORDER if name in config}
    for name in ("ExposedPorts", "Volumes", "Labels"):
        if known.get(name):
            known[name] = dict(sorted(known[name].items()))
    return known | {name: value for name, value in config.items() if name not in known}


def _decoded(raw: bytes) -> Any:
    """JSON as Go reads it: in UTF-8, with finite numbers; a surrogate without its other half is U+FFFD.

    Python's json takes more, and would write it into the configs of child images. Raises ValueError.
    """
    text = raw.decode()
    refuse_deep(text)
    document = json.loads(text, parse_constant=_finite, parse_float=_finite)
    if b"\\u" not in raw:
        return document
    return json.loads(_LONE_SURROGATE.sub("\ufffd", json.dumps(document, ensure_ascii=False)))


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"json: cannot unmarshal number {text} into Go value of type float64")
    return number


class ImageConfig(Struct, frozen=True, dict=True):
    """One image config: its exact bytes, and a reading of them."""

    raw: bytes

    @classmethod
    def parse(cls, raw: bytes) -> ImageConfig:
        """Raises InvalidArchive where raw is not an image config, in dockerd's words."""
        hint = "is this a docker or OCI image?"
        config = cls(raw)
        try:
            document = _decoded(raw)
            config_shape.check(document)
            diff_ids = document["rootfs"].get("diff_ids") or ()
        except NotJson as error:
            raise InvalidArchive(f"not an image config: {error}", hint=hint) from None
        except (KeyError, AttributeError):
            raise InvalidArchive("not an image config: it lacks rootfs.diff_ids", hint=hint) from None
        except ValueError as error:
            raise InvalidArchive(str(error), hint=hint) from None
        for number, diff_id in enumerate(diff_ids):
            if Digest.match(diff_id or "") is None:
                raise InvalidArchive(f"invalid diffID for layer {number}: {diff_id!r}", hint=hint)
        vars(config)["document"] = document  # what the cached property would read again
        return config

    @classmethod
    def build(cls, document: Mapping[str, Any]) -> ImageConfig:
        """The config that says what document says, with its top-level keys sorted as moby sorts them."""
        return cls(go_json(dict(sorted(document.items()))))

    @cached_property
    def id(self) -> str:
        """The image's id: "sha256:…" of the bytes."""
        return sha256(self.raw)

    @cached_property
    def document(self) -> Json:
        """The whole document. Unknown fields are in it and survive."""
        document = _decoded(self.raw)
        if not isinstance(document, dict):
            raise CorruptStore("an image config is not a JSON object")
        return document

    @property
    def diff_ids(self) -> tuple[str, ...]:
        """The layers, the lowest first."""
        return tuple(self.document["rootfs"].get("diff_ids") or ())

    @property
    def chain_id(self) -> str:
        """The chain id of the whole stack; "" for an image without layers."""
        return chain_id(self.diff_ids)

    @property
    def chain_ids(self) -> tuple[str, ...]:
        """The chain id of each layer, the lowest first."""
        diff_ids = self.diff_ids
        return tuple(chain_id(diff_ids[: count + 1]) for count in range(len(diff_ids)))

    def may_be_made_from(self, parent: ImageConfig) -> bool:
        """Whether one more step on top of parent can give this image: its layers and its history go on."""
        longer = len(self.history) > len(parent.history) or not parent.history
        same = self.history[: len(parent.history)] == parent.history
        return longer and same and self.diff_ids[: len(parent.diff_ids)] == parent.diff_ids

    @property
    def history(self) -> tuple[Json, ...]:
        """One entry an instruction, oldest first; those with empty_layer added no layer."""
        return tuple(step or {} for step in self.document.get("history") or ())

    @property
    def config(self) -> Json:
        """The defaults for a container: Env, Cmd, Entrypoint, ExposedPorts, …"""
        return dict(self._config)

    @cached_property
    def _config(self) -> Json:
        return config_shape.without_nulls(self.document.get("config") or {})

    @property
    def created(self) -> str:
        """RFC 3339 with nanoseconds, or "" where the config does not say."""
        return str(self.document.get("created") or "")

    @property
    def created_at(self) -> int:
        """created as nanoseconds since 1970, Go's zero time where it is "".

        To compare: texts in other zones, or with fewer digits, do not sort as the moments do.
        """
        return parse_rfc3339(self.created or NEVER)

    @property
    def architecture(self) -> str:
        """As Go names it: amd64, arm64."""
        return str(self.document.get("architecture") or "")

    @property
    def author(self) -> str:
        """Who made it, "" where nobody says."""
        return str(self.document.get("author") or "")


def first_config(
    *,
    diff_id: str,
    created: str,
    comment: str,
    architecture: str,
    version: str,
    config: Mapping[str, Any] | None = None,
) -> ImageConfig:
    """The config of a base image: one layer, no parent. The shape is that of `docker import`."""
    container = ordered_config({**EMPTY_CONFIG, **(config or {})})
    return ImageConfig.build(
        {
            "architecture": architecture,
            "comment": comment,
            "config": container,
            "container_config": EMPTY_CONFIG,
            "created": created,
            "docker_version": version,
            "history": [{"created": created, "comment": comment}],
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        }
    )


def child_config(
    parent: ImageConfig | None,
    *,
    config: Mapping[str, Any],
    created: str,
    created_by: str,
    architecture: str,
    version: str,
    diff_id: str | None = None,
    author: str = "",
    comment: str = "",
    container: str = "",
    container_config: Mapping[str, Any] | None = None,
) -> ImageConfig:
    """The config of an image made on top of parent (None: on top of nothing, FROM scratch).

    diff_id is the new layer's, None for an instruction that only changes the config.
    The shape is that of `docker commit`; what the parent's document holds beyond
    Docker's own fields is passed on.
    """
    history: Json = {"created": created}
    if author:
        history["author"] = author
    if created_by:
        history["created_by"] = created_by
    if comment:
        history["comment"] = comment
    if diff_id is None:
        history["empty_layer"] = True
    document: Json = dict(parent.document) if parent else {"os": "linux", "architecture": architecture}
    for name in ("author", "comment", "container"):
        document.pop(name, None)
    named = {"author": author, "container": container}  # the comment is the history's alone, as in moby
    document.update({name: value for name, value in named.items() if value})
    document.update(
        config=ordered_config(config),
        container_config=ordered_config(container_config if container_config is not None else config),
        created=created,
        docker_version=version,
        history=[*(parent.history if parent else ()), history],
        rootfs={
            "type": "layers",
            "diff_ids": [*(parent.diff_ids if parent else ()), *([diff_id] if diff_id else [])],
        },
    )
    return ImageConfig.build(document)
