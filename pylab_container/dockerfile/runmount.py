"""RUN --mount: files that a build step can use, but that do not become part of its layer.

    --mount=type=bind,source=src,target=/src            files of the context, read-only
    --mount=type=bind,from=stage,target=/out,rw         files of a stage or image; writes are discarded
    --mount=type=cache,target=/var/cache/apt            a directory that is kept between builds
    --mount=type=tmpfs,target=/tmp                      memory
    --mount=type=secret,id=token                        a file that is in no layer and not in the build cache

Source: Dockerfile reference, "RUN --mount"; BuildKit's frontend/dockerfile/instructions.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from typing import Literal, cast, get_args

from msgspec import Struct

from pylab_container.errors import InvalidInput
from pylab_container.text import sizes
from pylab_container.text.fieldlist import split_fields

Kind = Literal["bind", "cache", "tmpfs", "secret"]
Sharing = Literal["shared", "private", "locked"]

_ALIASES = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly", "rw": "readwrite"}
_KEYS = {
    "bind": {"source", "target", "from", "readonly", "readwrite"},
    "cache": {"source", "target", "from", "readonly", "readwrite", "id", "sharing", "mode", "uid", "gid"},
    "tmpfs": {"target", "size"},
    "secret": {"source", "target", "id", "required", "mode", "uid", "gid", "env"},
}


class RunMount(Struct, frozen=True):
    """A parsed --mount.

    target   absolute, or relative to the working directory; "" for a secret that is only a variable
    source   path in the context, stage or image (bind, cache); "" is the root
    stage    name of a stage or an image (`from`); "" is the context
    id       name of the cache or secret
    sharing  for a cache in use by another step: "shared" uses the same directory, "private" a new one, "locked" waits
    size     bytes of a tmpfs; None without limit
    env      variable that receives the secret; "" for none
    """

    kind: Kind
    target: str
    source: str = ""
    stage: str = ""
    readonly: bool = False
    id: str = ""
    sharing: Sharing = "shared"
    required: bool = False
    mode: int = 0
    uid: int = 0
    gid: int = 0
    size: int | None = None
    env: str = ""


def parse_mount(text: str, expand: Callable[[str], str] = str) -> RunMount:
    """Parse the value of a --mount. expand: expands variables in the values.

    Raises InvalidInput.
    """
    options = _options(text, expand)
    kind = options.pop("type", "bind")
    if kind == "ssh":
        raise InvalidInput("a mount of type ssh is not supported", hint="mount a key with type=secret")
    if kind not in _KEYS:
        raise InvalidInput(f'unsupported mount type "{kind}"', hint=f"use one of {', '.join(get_args(Kind))}")
    for key in options:
        if key not in _KEYS[kind]:
            raise InvalidInput(
                f'unexpected key "{key}" for a mount of type {kind} in "{text}"',
                hint=f"it takes {', '.join(sorted(_KEYS[kind]))}",
            )
    return _secret(options) if kind == "secret" else _directory(cast(Kind, kind), options, text)


def stage_of(text: str) -> str:
    """Return the stage or image of a --mount (`from`), even if it is not valid; "" for none."""
    try:
        return _options(text, str).get("from", "")
    except InvalidInput:
        return ""  # parse_mount() reports the error when the step is executed


def _options(text: str, expand: Callable[[str], str]) -> dict[str, str]:
    """Split into keys and values; the value of a bare key is "true". Raises InvalidInput."""
    options = {}
    for entry in split_fields(text):
        key, equals, value = entry.strip().partition("=")
        key = _ALIASES.get(key.lower(), key.lower())
        if not equals and key not in ("readonly", "readwrite", "required"):
            raise InvalidInput(f'invalid field "{entry}" in --mount', hint="write key=value, joined by commas")
        # The stages that a build needs are known before any step runs, and so before the values of variables.
        if key == "from" and re.search(r"\$.", value):
            raise InvalidInput(
                f'"{value}" contains a variable: from= takes none',
                hint="use the variable in a FROM … AS name, and write from=name",
            )
        options[key] = (value if key == "from" else expand(value)) if equals else "true"
    return options


def _directory(kind: Kind, options: dict[str, str], text: str) -> RunMount:
    if not options.get("target"):
        raise InvalidInput(f'target is missing in "{text}"', hint="target=/where/in/the/container")
    sharing = options.get("sharing", "shared").lower()
    if sharing not in get_args(Sharing):
        raise InvalidInput(f'unsupported sharing value "{sharing}"', hint=f"use one of {', '.join(get_args(Sharing))}")
    readonly = kind == "bind"
    if "readonly" in options:
        readonly = _boolean("readonly", options["readonly"])
    elif "readwrite" in options:
        readonly = not _boolean("readwrite", options["readwrite"])
    target = options["target"]
    return RunMount(
        kind=kind,
        target=target,
        source=options.get("source", ""),
        stage=options.get("from", ""),
        readonly=readonly,
        id=options.get("id", "") or posixpath.normpath("/" + target.lstrip("/")),
        sharing=cast(Sharing, sharing),
        mode=_number("mode", options.get("mode", "0755"), 8),
        uid=_number("uid", options.get("uid", "0")),
        gid=_number("gid", options.get("gid", "0")),
        size=sizes.parse(options["size"]) if "size" in options else None,
    )


def _secret(options: dict[str, str]) -> RunMount:
    target, env = options.get("target", ""), options.get("env", "")
    name = options.get("id") or posixpath.basename(options.get("source") or target)
    if not name:
        raise InvalidInput("a secret mount without an id", hint="type=secret,id=NAME, and --secret id=NAME,src=FILE")
    if not target and not env:
        target = f"/run/secrets/{posixpath.basename(name)}"
    return RunMount(
        kind="secret",
        target=target,
        readonly=True,
        id=name,
        required=_boolean("required", options.get("required", "false")),
        mode=_number("mode", options.get("mode", "0400"), 8),
        uid=_number("uid", options.get("uid", "0")),
        gid=_number("gid", options.get("gid", "0")),
        env=env,
    )


def _boolean(key: str, value: str) -> bool:
    if value.lower() not in ("true", "false", "1", "0"):
        raise InvalidInput(f'invalid value for {key}: "{value}"', hint="write true or false")
    return value.lower() in ("true", "1")


def _number(key: str, value: str, base: int = 10) -> int:
    if not re.fullmatch(r"[0-7]+" if base == 8 else r"\d+", value, re.ASCII):
        form = "an octal mode such as 0755" if base == 8 else "a number"
        raise InvalidInput(f'invalid value "{value}" for {key}', hint=f"write {form}")
    # A uid or gid of 2^32 - 1 is -1 for chown(2), which then leaves the owner unchanged.
    if len(value) > 11 or int(value, base) >= 2**32 - 1:
        raise InvalidInput(f'the value "{value[:20]}" for {key} is too large', hint="the largest is 4294967294")
    return int(value, base)
