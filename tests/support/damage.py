"""Damage to a data root, and what it may do: the parts of tests/root/test_damage.py."""

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
"""Path below the data root → mode, and what is there: the digest of a file, the target of a link."""

_LEFT_OUT = ("locks/", "tmp/")
_CONTENT = ("/diff/", "/root/", "/upper/", "/_data/", "vfs/dir/")
"""What belongs to users: it has no form that could be damaged."""


_ID = re.compile(r"[0-9a-f]{64}")


class Damage(Struct, frozen=True):
    """What was done to which files of a data root, relative to it."""

    kind: str
    paths: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.kind} {' '.join(self.paths)}"


def manifest(root: Path) -> dict[str, tuple[int, str]]:
    """Everything in a data root but locks."""
    found = {}
    for directory, _, names in os.walk(root):
        for name in [".", *names]:
            path = os.path.normpath(os.path.join(directory, name))
            relative = os.path.relpath(path, root)
            if not relative.startswith(_LEFT_OUT):
                found[relative] = _state(path)
    for link in root.glob("overlay2/l/*"):
        found[str(link.relative_to(root))] = _state(str(link))
    return found


def _state(path: str) -> tuple[int, str]:
    status = os.lstat(path)
    if stat.S_ISREG(status.st_mode):
        with open(path, "rb") as file:
            return status.st_mode, f"{status.st_size} {hashlib.sha256(file.read(1 << 20)).hexdigest()}"
    return status.st_mode, os.readlink(path) if stat.S_ISLNK(status.st_mode) else ""


def records(root: Path) -> list[str]:
    """The files of a data root that say something about it, in an order that does not depend on random ids."""
    found = [path for path, (mode, _) in manifest(root).items() if stat.S_ISREG(mode) and not _owned_by_users(path)]
    return sorted(found, key=lambda path: (_ID.sub("", path), os.stat(root / path).st_mtime_ns))


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
    """Damage one file of a data root, or exchange the contents of two."""
    paths = records(root)
    kind = chance.choice([*KINDS, "swap"])
    if kind == "swap":
        one, other = chance.sample(paths, 2)
        contents = (root / one).read_bytes(), (root / other).read_bytes()
        for path, content in ((one, contents[1]), (other, contents[0])):
            (root / path).write_bytes(content)
        return Damage(kind, (one, other))
    path = chance.choice(paths)
    (root / path).write_bytes(KINDS[kind]((root / path).read_bytes(), chance))
    return Damage(kind, (path,))


def changed(before: Manifest, after: Manifest) -> Iterator[str]:
    """The paths of a manifest that are not as they were."""
    yield from (path for path in before if after.get(path) != before[path])


def _owned_by_users(path: str) -> bool:
    return any(part in f"{path}/" for part in _CONTENT)


def fill(engine: Engine, archive: Path, context: Path) -> None:
    """Make images, containers that have never run, volumes and a network in an empty data root."""
    engine.images.import_(archive, "base:1")
    engine.images.build(context, tag=["built:1", "spare:1"])
    engine.volumes.create("data", labels={"a": "b"})
    engine.volumes.create("second")
    engine.volumes.create("c" * 64)
    (engine.volumes.get("data").path / "precious").write_text("x")
    engine.networks.create("lab").bridge.remove()  # copies of the data root would find it to be another network's
    for name, image in (("mine", "built:1"), ("other", "base:1"), ("victim", "built:1")):
        network = "lab" if name == "mine" else "bridge"
        made = engine.containers.create(image, ["sh"], name=name, volumes=["data:/d", "/anonymous"], network=network)
        (made.upper / "file").write_text(name)


def small_archive() -> bytes:
    """A root file system of two files, as a tar."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, content in (("etc/passwd", b"root:x:0:0::/:/bin/sh\n"), ("bin/sh", b"x" * 100)):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            archive.addfile(entry, io.BytesIO(content))
    return target.getvalue()
