"""Random damage to the files of a data root, and manifests of a data root before and after it."""

from __future__ import annotations

import hashlib
import io
import os
import random
import re
import stat
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from msgspec import Struct

from pylab_container import Engine

Manifest = Mapping[str, tuple[int, str]]
"""Path below the data root → mode and content: size and digest of a file, target of a symlink, "" for others."""

_EXCLUDED = ("locks/", "tmp/")
_USER_CONTENT = ("/diff/", "/root/", "/upper/", "/_data/", "vfs/dir/")
"""Directories of layers and volumes. The engine does not parse their files, so it cannot find damage in them."""

_ID = re.compile(r"[0-9a-f]{64}")


class Damage(Struct, frozen=True):
    """One act of damage.

    kind   key of KINDS, or "swap"
    paths  of the damaged files, relative to the data root
    """

    kind: str
    paths: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.kind} {' '.join(self.paths)}"


def manifest(root: Path) -> dict[str, tuple[int, str]]:
    """Return the manifest of a data root, without lock files and temporary files."""
    states = {}
    for directory, _, names in os.walk(root):
        for name in [".", *names]:
            path = os.path.normpath(os.path.join(directory, name))
            relative = os.path.relpath(path, root)
            if not relative.startswith(_EXCLUDED):
                states[relative] = _state(path)
    for link in root.glob("overlay2/l/*"):
        states[str(link.relative_to(root))] = _state(str(link))
    return states


def _state(path: str) -> tuple[int, str]:
    status = os.lstat(path)
    if stat.S_ISREG(status.st_mode):
        with open(path, "rb") as file:
            return status.st_mode, f"{status.st_size} {hashlib.sha256(file.read(1 << 20)).hexdigest()}"
    return status.st_mode, os.readlink(path) if stat.S_ISLNK(status.st_mode) else ""


def records(root: Path) -> list[str]:
    """Return the paths of the files that the engine parses, in an order that does not depend on random ids."""
    paths = [path for path, (mode, _) in manifest(root).items() if stat.S_ISREG(mode) and not _is_user_content(path)]
    return sorted(paths, key=lambda path: (_ID.sub("", path), os.stat(root / path).st_mtime_ns))


def _truncated(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content))] if content else b"x"


def _flipped(content: bytes, chance: random.Random) -> bytes:
    if not content:
        return b"\x00"
    place = chance.randrange(len(content))
    return content[:place] + bytes([content[place] ^ (1 << chance.randrange(8))]) + content[place + 1 :]


KINDS: Mapping[str, Callable[[bytes, random.Random], bytes]] = {
    "empty": lambda content, chance: b"",
    "truncate": _truncated,
    "flip": _flipped,
    "non-UTF-8": lambda content, chance: b"\xff\xfe" + content[:20] + b"\x80",
    "list": lambda content, chance: b"[]",
    "object": lambda content, chance: b"{}",
    "null": lambda content, chance: b"null",
    "path": lambda content, chance: b"../../outside",
    "root": lambda content, chance: b".",
    "line": lambda content, chance: content + b"\nmore\n",
}


def damage(root: Path, chance: random.Random) -> Damage:
    """Damage one random file of a data root, or exchange the contents of two."""
    paths = records(root)
    kind = chance.choice([*KINDS, "swap"])
    if kind == "swap":
        first, second = chance.sample(paths, 2)
        contents = (root / first).read_bytes(), (root / second).read_bytes()
        for path, content in ((first, contents[1]), (second, contents[0])):
            (root / path).write_bytes(content)
        return Damage(kind, (first, second))
    path = chance.choice(paths)
    (root / path).write_bytes(KINDS[kind]((root / path).read_bytes(), chance))
    return Damage(kind, (path,))


def changed(before: Manifest, after: Manifest) -> Iterator[str]:
    """Yield the paths of the first manifest whose state differs or which the second does not have."""
    yield from (path for path in before if after.get(path) != before[path])


def _is_user_content(path: str) -> bool:
    return any(part in f"{path}/" for part in _USER_CONTENT)


def fill(engine: Engine, archive: Path, context: Path) -> None:
    """Make images, containers that have never run, volumes and a network in an empty data root."""
    engine.images.import_(archive, "base:1")
    engine.images.build(context, tag=["built:1", "spare:1"])
    engine.volumes.create("data", labels={"a": "b"})
    engine.volumes.create("second")
    engine.volumes.create("c" * 64)
    (engine.volumes.get("data").path / "precious").write_text("x")
    # Without the interface: an engine on a copy of this data root would see it as the bridge of another data root.
    engine.networks.create("lab").bridge.remove()
    for name, image in (("mine", "built:1"), ("other", "base:1"), ("victim", "built:1")):
        network = "lab" if name == "mine" else "bridge"
        volumes = ["data:/d", "/anonymous"]
        container = engine.containers.create(image, ["sh"], name=name, volumes=volumes, network=network)
        (container.upper / "file").write_text(name)


def small_archive() -> bytes:
    """Return the tar of a root file system of two files."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, content in (("etc/passwd", b"root:x:0:0::/:/bin/sh\n"), ("bin/sh", b"x" * 100)):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            archive.addfile(entry, io.BytesIO(content))
    return target.getvalue()
