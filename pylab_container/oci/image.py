"""Image configs, image ids and chain ids.

An image is identified by its config: a JSON document with the diff ids of the layers and the defaults for containers.
The image id is the SHA-256 of the document's bytes. So a config from a registry or an archive is stored byte for byte,
and a new config is serialized exactly as dockerd does. Sources: OCI image-spec config.md; moby 20.10, image/image.go.
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
"""A JSON object: a document of Docker's or of the OCI."""

# Go serializes a struct's fields in the order of their declaration: moby, api/types/container/config.go. Fields with
# "omitempty" are missing here.
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

# podman, buildah and skopeo refuse a longer one: containers/image, internal/iolimits.
LONGEST_CONFIG = 4 << 20
"""Maximum number of bytes of a config."""

# Characters that Go escapes and Python's json does not, or differently: < > & for HTML, the two separators for
# JavaScript, and \b and \f as numbers (before Go 1.22, which dockerd 20.10 precedes). The first alternative of the
# pattern consumes an escaped backslash, so that the letter behind it is not taken for an escape.
_GO_ESCAPES = {c: f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"} | {r"\b": r"\u0008", r"\f": r"\u000c", r"\\": r"\\"}
_GO_ESCAPED = re.compile(r"\\\\|\\[bf]|[<>&\u2028\u2029\ud800-\udfff]")

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def sha256(data: bytes) -> str:
    """Return the digest of data: "sha256:" and 64 hexadecimal digits."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def chain_id(diff_ids: Sequence[str]) -> str:
    """Return the chain id of a stack of layers, the topmost last; "" for an empty stack.

        ChainID(L0)        = DiffID(L0)
        ChainID(L0|…|Ln)   = SHA256(ChainID(L0|…|Ln-1) + " " + DiffID(Ln))

    A diff id identifies the content of one layer, a chain id the content and all layers below. An unpacked layer is
    the difference to the layers below, so it can be shared only by images that agree in its chain id.
    Source: OCI image-spec config.md, "Layer ChainID".
    """
    chain = ""
    for diff_id in diff_ids:
        chain = sha256(f"{chain} {diff_id}".encode()) if chain else diff_id
    return chain


def go_json(value: object) -> bytes:
    """Serialize a value as Go's encoding/json does, byte for byte.

    Ids are digests of these bytes.
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    # A lone surrogate, which stands for a byte that is not UTF-8, has no entry: Go writes U+FFFD for such bytes.
    return _GO_ESCAPED.sub(lambda match: _GO_ESCAPES.get(match[0], r"\ufffd"), text).encode()


def ordered_config(config: Mapping[str, Any]) -> Json:
    """Return a container configuration in Docker's field order.

    Fields that Docker does not know come last.
    """
    known = {name: config[name] for name in _CONFIG_ORDER if name in config}
    # Go sorts the keys of maps, so that serializing is deterministic.
    for name in ("ExposedPorts", "Volumes", "Labels"):
        if known.get(name):
            known[name] = dict(sorted(known[name].items()))
    return known | {name: value for name, value in config.items() if name not in known}


def _decoded(raw: bytes) -> Any:
    """Parse JSON as Go does: UTF-8 only, finite numbers, a lone surrogate becomes U+FFFD.

    Python's json is more lenient. What it accepts would be written into the configs of child images, which other
    programs then could not read.

    Raises ValueError.
    """
    text = raw.decode()
    refuse_deep(text)
    document = json.loads(text, parse_constant=_finite, parse_float=_finite)
    if b"\\u" not in raw:  # only an escape can give a surrogate: raw bytes have been decoded as UTF-8
        return document
    return json.loads(_LONE_SURROGATE.sub("\ufffd", json.dumps(document, ensure_ascii=False)))


def _finite(text: str) -> float:
    # JSON has neither NaN nor infinity (RFC 8259, section 6). Python's parser passes both here, and numbers like 1e999
    # that overflow to infinity.
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"json: cannot unmarshal number {text} into Go value of type float64")
    return number


class ImageConfig(Struct, frozen=True, dict=True):
    """An image config: its exact bytes, and views of the parsed document."""

    raw: bytes

    @classmethod
    def parse(cls, raw: bytes) -> ImageConfig:
        """Return the config of these bytes.

        Raises InvalidArchive, with dockerd's message, if they are not one.
        """
        hint = "is this a docker or OCI image?"
        config = cls(raw)
        try:
            document = _decoded(raw)
            config_shape.check(document)
            diff_ids = document["rootfs"].get("diff_ids") or ()  # omitempty in Go: an image without layers has none
        except NotJson as error:
            raise InvalidArchive(f"not an image config: {error}", hint=hint) from None
        except (KeyError, AttributeError):
            raise InvalidArchive("not an image config: it lacks rootfs.diff_ids", hint=hint) from None
        except ValueError as error:
            raise InvalidArchive(str(error), hint=hint) from None
        for number, diff_id in enumerate(diff_ids):
            if Digest.match(diff_id or "") is None:
                raise InvalidArchive(f"invalid diffID for layer {number}: {diff_id!r}", hint=hint)
        vars(config)["document"] = document  # fills the cached property, which would parse the bytes again
        return config

    @classmethod
    def build(cls, document: Mapping[str, Any]) -> ImageConfig:
        """Serialize a document as an image config."""
        # moby sorts the top-level keys too, so that a config has the same bytes after a round trip through a registry
        # of the old protocol (image/image.go, Image.MarshalJSON).
        return cls(go_json(dict(sorted(document.items()))))

    @cached_property
    def id(self) -> str:
        """The image id: digest of the bytes."""
        return sha256(self.raw)

    @cached_property
    def document(self) -> Json:
        """The whole document, including unknown fields."""
        document = _decoded(self.raw)
        if not isinstance(document, dict):
            raise CorruptStore("an image config is not a JSON object")
        return document

    @property
    def diff_ids(self) -> tuple[str, ...]:
        """The diff ids of the layers, the lowest first."""
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
        """Report whether this image can be a child of parent.

        It can if parent's layers and history are a prefix of its own.
        """
        # An image from another builder may have no history at all.
        is_longer = len(self.history) > len(parent.history) or not parent.history
        starts_with_history = self.history[: len(parent.history)] == parent.history
        starts_with_layers = self.diff_ids[: len(parent.diff_ids)] == parent.diff_ids
        return is_longer and starts_with_history and starts_with_layers

    @property
    def history(self) -> tuple[Json, ...]:
        """The build history, oldest first. An entry with empty_layer added no layer."""
        return tuple(step or {} for step in self.document.get("history") or ())  # a null entry is a zero value in Go

    @property
    def config(self) -> Json:
        """The defaults for a container: Env, Cmd, Entrypoint, ExposedPorts, …"""
        return dict(self._config)

    @cached_property
    def _config(self) -> Json:
        return config_shape.without_nulls(self.document.get("config") or {})

    @property
    def created(self) -> str:
        """Time of creation in RFC 3339 with nanoseconds; "" if unset."""
        return str(self.document.get("created") or "")

    @property
    def created_at(self) -> int:
        """Time of creation in nanoseconds since the epoch; Go's zero time if unset.

        Compare these numbers, not the texts: their zones and numbers of digits differ.
        """
        return parse_rfc3339(self.created or NEVER)

    @property
    def architecture(self) -> str:
        """GOARCH of Go: amd64, arm64."""
        return str(self.document.get("architecture") or "")

    @property
    def author(self) -> str:
        """Name of the author; "" if unset."""
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
    """Return the config of a base image: one layer, no parent.

    The fields are those of `docker import`.
    """
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
    """Return the config of an image on top of parent. The fields are those of `docker commit`.

    parent   None for FROM scratch
    diff_id  the new layer's; None for an instruction that changes only the config

    Fields of the parent that Docker does not know are inherited.
    """
    history = _history_entry(
        created=created, created_by=created_by, author=author, comment=comment, empty_layer=diff_id is None
    )
    document: Json = dict(parent.document) if parent else {"os": "linux", "architecture": architecture}
    # These describe one image, not its children. As in moby, the new comment is recorded only in the history
    # (image/image.go, NewChildImage).
    for name in ("author", "comment", "container"):
        document.pop(name, None)
    own = {"author": author, "container": container}
    document.update({name: value for name, value in own.items() if value})
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


def _history_entry(*, created: str, created_by: str, author: str, comment: str, empty_layer: bool) -> Json:
    # Empty fields are left out, as by Go's omitempty: they would change the image id.
    entry: Json = {"created": created}
    optional = {"author": author, "created_by": created_by, "comment": comment, "empty_layer": empty_layer}
    return entry | {name: value for name, value in optional.items() if value}
