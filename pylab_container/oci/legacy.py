"""What an image was in archives of docker before 1.10: a directory for each layer, none for the whole.

    <id>/json        the layer's document: its config, and as "parent" the id of the layer below
    <id>/layer.tar
    repositories     {repository: {tag: id}}

Sources: moby image/spec/v1.md; image/v1, which makes a config of today out of such documents.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from pylab_container.errors import InvalidArchive
from pylab_container.oci.image import ImageConfig, Json

_TRUSTED_SINCE = (1, 8, 3)
"""Documents of earlier versions may have fields that no config knows."""
_KNOWN = (
    *("architecture", "author", "comment", "config", "container", "container_config", "created"),
    *("docker_version", "os", "variant"),
)
_OF_A_LAYER = ("id", "parent", "Size", "parent_id", "layer_id", "throwaway")
_NONSENSE = (ValueError, TypeError, AttributeError, RecursionError)
_HINT = "was it made by docker save?"


def names(repositories: bytes) -> dict[str, list[str]]:
    """The names that a file `repositories` gives, "repository:tag", by the id of the layer. Raises InvalidArchive."""
    found: dict[str, list[str]] = {}
    try:
        for repository, tags in json.loads(repositories).items():
            for tag, image_id in tags.items():
                found.setdefault(str(image_id), []).append(f"{repository}:{tag}")
    except _NONSENSE as error:
        raise InvalidArchive(f"repositories cannot be understood: {error!r}", hint=_HINT) from error
    return found


def chain(top: str, read: Callable[[str], bytes]) -> dict[str, Json]:
    """The documents of a layer and of those below it, by their ids, the lowest first. Raises InvalidArchive.

    read  gives the text of the document with this id
    """
    found: dict[str, Json] = {}
    layer_id = top
    while layer_id:
        if layer_id in found:
            raise InvalidArchive(f"the layer {layer_id} lies on itself", hint="do not trust this archive")
        try:
            found[layer_id] = dict(json.loads(read(layer_id)))
            layer_id = str(found[layer_id].get("parent") or "")
        except _NONSENSE as error:
            raise InvalidArchive(f"the layer {layer_id} cannot be understood: {error!r}", hint=_HINT) from error
    return dict(reversed(found.items()))


def config(documents: Sequence[Json], diff_ids: Sequence[str]) -> bytes:
    """The config of the image that these layers are, the lowest first. Raises InvalidArchive."""
    top = documents[-1]
    try:
        trusted = tuple(int(part) for part in str(top.get("docker_version") or "0").split(".")) >= _TRUSTED_SINCE
    except ValueError:
        trusted = False
    kept = {key: value for key, value in top.items() if key not in _OF_A_LAYER and (trusted or key in _KNOWN)}
    rootfs = {"type": "layers", "diff_ids": list(diff_ids)}
    return ImageConfig.build({**kept, "rootfs": rootfs, "history": [_step(each) for each in documents]}).raw


def _step(document: Json) -> Json:
    made_by = document.get("container_config")
    words = (made_by.get("Cmd") if isinstance(made_by, dict) else None) or ()
    step = {
        "created": document.get("created"),
        "author": document.get("author"),
        "created_by": " ".join(map(str, words)) if isinstance(words, list) else "",
        "comment": document.get("comment"),
    }
    return {field: value for field, value in step.items() if value}
