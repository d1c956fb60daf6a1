"""Image archives in Docker's format before 1.10 (v1): one config per layer, linked by parent ids.

    <id>/json        the layer's config; "parent" is the id of the layer below
    <id>/layer.tar
    repositories     {repository: {tag: id}}

Sources: moby image/spec/v1.md for the format; moby image/v1/imagev1.go for the conversion to today's image config.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from pylab_container.errors import InvalidArchive
from pylab_container.oci.image import ImageConfig, Json

# dockerd takes the config of this or a later version with all its fields, and reduces an older one to the fields of
# its Image struct (image/v1/imagev1.go, noFallbackMinVersion).
_KEEPS_UNKNOWN_FIELDS_SINCE = (1, 8, 3)
_KNOWN_FIELDS = (
    *("architecture", "author", "comment", "config", "container", "container_config", "created"),
    *("docker_version", "os", "variant"),
)
_LAYER_FIELDS = ("id", "parent", "Size", "parent_id", "layer_id", "throwaway")
_MALFORMED = (ValueError, TypeError, AttributeError, RecursionError)  # errors of reading JSON of an unexpected shape
_HINT = "was it made by docker save?"


def names(repositories: bytes) -> dict[str, list[str]]:
    """Parse a file `repositories`. Returns {id of the top layer: ["repository:tag", …]}.

    Raises InvalidArchive.
    """
    names_by_id: dict[str, list[str]] = {}
    try:
        for repository, tags in json.loads(repositories).items():
            for tag, image_id in tags.items():
                names_by_id.setdefault(str(image_id), []).append(f"{repository}:{tag}")
    except _MALFORMED as error:
        raise InvalidArchive(f"repositories cannot be understood: {error!r}", hint=_HINT) from error
    return names_by_id


def chain(top: str, read: Callable[[str], bytes]) -> dict[str, Json]:
    """Return {layer id: config} of a layer and all layers below it, the lowest first.

    top   id of the topmost layer
    read  returns the text of <id>/json

    Raises InvalidArchive.
    """
    documents: dict[str, Json] = {}
    layer_id = top
    while layer_id:
        if layer_id in documents:  # a cycle of parents would loop for ever
            raise InvalidArchive(f"the layer {layer_id} is its own parent", hint="do not trust this archive")
        try:
            documents[layer_id] = dict(json.loads(read(layer_id)))
            layer_id = str(documents[layer_id].get("parent") or "")
        except _MALFORMED as error:
            raise InvalidArchive(f"the layer {layer_id} cannot be understood: {error!r}", hint=_HINT) from error
    return dict(reversed(documents.items()))


def config(documents: Sequence[Json], diff_ids: Sequence[str]) -> bytes:
    """Convert the configs of an image's layers, the lowest first, into one image config.

    Returns its bytes.
    """
    top = documents[-1]
    try:
        version = tuple(int(part) for part in str(top.get("docker_version") or "0").split("."))
        keeps_unknown = version >= _KEEPS_UNKNOWN_FIELDS_SINCE
    except ValueError:
        keeps_unknown = False
    kept = {
        key: value for key, value in top.items() if key not in _LAYER_FIELDS and (keeps_unknown or key in _KNOWN_FIELDS)
    }
    rootfs = {"type": "layers", "diff_ids": list(diff_ids)}
    return ImageConfig.build({**kept, "rootfs": rootfs, "history": [_step(document) for document in documents]}).raw


def _step(document: Json) -> Json:
    """Return the entry of the history for one layer. Its command is that of the container it was committed from."""
    container = document.get("container_config")
    words = (container.get("Cmd") if isinstance(container, dict) else None) or ()
    step = {
        "created": document.get("created"),
        "author": document.get("author"),
        "created_by": " ".join(map(str, words)) if isinstance(words, list) else "",
        "comment": document.get("comment"),
    }
    return {field: value for field, value in step.items() if value}
