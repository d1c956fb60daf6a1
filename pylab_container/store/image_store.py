"""The image database: configs by their digest, and the names that point to them.

    image/<driver>/
    ├── imagedb/
    │   ├── content/sha256/<image id>          the config's exact bytes
    │   └── metadata/sha256/<image id>/
    │       ├── parent                         the image this one was built or committed from
    │       └── lastUpdated                    when a name was last given to it
    └── repositories.json                      {"Repositories": {"debian": {"debian:12": "sha256:…"}}}

An image exists once its content file does; a name is given by replacing
repositories.json as a whole under a lock. Format: moby image/ and reference/ (20.10).
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from pylab_container.errors import CorruptStore, InvalidArchive, InvalidReference
from pylab_container.events import Emit, StoreDamaged, ignore
from pylab_container.host.files import locked, write_atomic
from pylab_container.host.removal import discard_below
from pylab_container.oci.ids import Digest, EntryName
from pylab_container.oci.image import LONGEST_CONFIG, ImageConfig, go_json, sha256
from pylab_container.oci.reference import Reference, parse
from pylab_container.store.reading import REMEDY, corrupt, find_id, read_bytes, read_document, read_text
from pylab_container.store.record_shape import RepositoriesShape
from pylab_container.text.timestamps import parse_rfc3339

_Names = dict[str, dict[str, str]]


class Tag(Struct, frozen=True):
    """One name of one image."""

    reference: Reference
    image_id: Digest


class _KnownNames(Struct, frozen=True):
    """The readable names, sorted, all together and by image; damage is the error about the first that is not."""

    tags: tuple[Tag, ...]
    of_image: Mapping[str, Sequence[Tag]]
    damage: CorruptStore | None


_State = tuple[int, int, int, int]
"""Inode, size and times of a file: they differ once it was replaced or changed."""
_KEPT_CONFIGS = 16 << 20  # bytes of configs that are kept as they were read; decoded they take ten times as much


class ImageStore:
    """Owns imagedb/ and repositories.json. What was read is kept in memory until the file is another one."""

    def __init__(self, root: Path, locks: Path, *, emit: Emit = ignore) -> None:
        self.root = root
        self._emit = emit
        self._locks = locks
        self._content = root / "imagedb/content/sha256"
        self._metadata = root / "imagedb/metadata/sha256"
        self._names = root / "repositories.json"
        self._read_names: tuple[_State | None, _KnownNames] | None = None
        self._configs: dict[str, tuple[_State, ImageConfig]] = {}
        self._configs_lock = threading.Lock()
        for directory in (self._content, self._metadata, root / "distribution"):
            directory.mkdir(parents=True, exist_ok=True)
        with self._lock():
            if not self._names.exists():
                write_atomic(self._names, b'{"Repositories":{}}', mode=0o600)

    # ---- images ----

    def add(self, config: ImageConfig, *, parent: str = "") -> str:
        """Store a config; its layers must be registered. Returns the image id. Idempotent.

        Raises InvalidArchive for a config that could not be read again, or that is too long.
        """
        content = self.content_path(config.id)
        if len(config.raw) > LONGEST_CONFIG:
            message = f"the image's config has {len(config.raw)} bytes, more than {LONGEST_CONFIG}"
            raise InvalidArchive(message, hint="use fewer or shorter labels, variables and instructions")
        ImageConfig.parse(config.raw)
        if parent:
            self._set(config.id, "parent", parent)
        if not content.exists():
            write_atomic(content, config.raw, mode=0o600)
        return config.id

    def get(self, image_id: str) -> ImageConfig:
        """The config of an image. Raises KeyError for an unknown id, CorruptStore for a damaged file."""
        if Digest.match(image_id) is None:
            raise KeyError(image_id)
        path = self.content_path(image_id)
        state = _state(path)
        known = self._configs.get(image_id)
        if known and known[0] == state:
            return known[1]
        config = self._read_config(image_id, path)
        if state and len(config.raw) <= _KEPT_CONFIGS:
            self._keep(image_id, state, config)
        return config

    def _keep(self, image_id: str, state: _State, config: ImageConfig) -> None:
        """Keep a config that was read, and drop the ones kept longest if all together are too long."""
        with self._configs_lock:
            self._configs.pop(image_id, None)
            self._configs[image_id] = (state, config)
            length = sum(len(each.raw) for _, each in self._configs.values())
            while length > _KEPT_CONFIGS:
                oldest = next(iter(self._configs))
                length -= len(self._configs.pop(oldest)[1].raw)

    def _read_config(self, image_id: str, path: Path) -> ImageConfig:
        try:
            raw = read_bytes(path)
        except FileNotFoundError:
            raise KeyError(image_id) from None
        hint = f"{REMEDY}; labctr rmi -f {image_id[7:19]} removes the image"
        if sha256(raw) != image_id:
            message = f"the config of image {image_id[7:19]} was changed on disk: {path}"
            raise CorruptStore(message, hint=hint, path=path)
        try:
            return ImageConfig.parse(raw)
        except InvalidArchive as error:
            message = f"the config of image {image_id[7:19]} cannot be read: {path}: {error.message}"
            raise CorruptStore(message, hint=hint, path=path) from error

    def exists(self, image_id: str) -> bool:
        """Whether there is an image with this id."""
        return Digest.match(image_id) is not None and self.content_path(image_id).exists()

    def all(self) -> Iterator[Digest]:
        """Every image's id, in no order."""
        names = (f"sha256:{name}" for name in os.listdir(self._content))
        yield from filter(None, map(Digest.match, names))

    def content_path(self, image_id: str) -> Path:
        """The file with an image's config."""
        return self._content / _hex(image_id)

    def metadata_directories(self) -> list[Path]:
        """The directories with what is known of images beside their configs."""
        return sorted(path for path in self._metadata.iterdir() if Digest.match(f"sha256:{path.name}"))

    def parent(self, image_id: str) -> str:
        """The image that this one was made from here; "" where it came from outside or from nothing.

        Raises CorruptStore for a damaged note.
        """
        return find_id(self.parent_path(image_id), Digest) or ""

    def parent_path(self, image_id: str) -> Path:
        """The file that says so."""
        return self._metadata / _hex(image_id) / "parent"

    def shown_parent(self, image_id: str) -> str:
        """The same for listings: a damaged note is reported (StoreDamaged), and counts as none."""
        try:
            return self.parent(image_id)
        except CorruptStore as error:
            self._emit(StoreDamaged.of(error))
            return ""

    def set_parent(self, image_id: str, parent: str) -> None:
        """Note which image this one was built on; "" takes the note away."""
        if parent:
            self._set(image_id, "parent", parent)
        else:
            (self._metadata / _hex(image_id) / "parent").unlink(missing_ok=True)

    def metadata(self, image_id: str, key: str) -> str:
        """What was noted beside an image under a key, "" where nothing was."""
        try:
            return read_bytes(self._metadata / _hex(image_id) / key).decode(errors="surrogateescape")
        except (FileNotFoundError, NotADirectoryError, CorruptStore):  # a damaged note counts as a missing one
            return ""

    def set_metadata(self, image_id: str, key: str, value: str) -> None:
        """Note something beside an image; it goes with the image."""
        self._set(image_id, key, value)

    def mark(self, image_id: str, key: str) -> None:
        """Note that something holds of an image; it goes with the image. A power failure may undo it."""
        directory = self._metadata / _hex(image_id)
        directory.mkdir(mode=0o700, exist_ok=True)
        (directory / key).touch(mode=0o600)

    def marked(self, image_id: str, key: str) -> bool:
        """Whether that was noted."""
        return (self._metadata / _hex(image_id) / key).exists()

    def remove(self, image_id: str) -> None:
        """Forget an image. Its layers are released by whoever knows who else needs them."""
        self.content_path(image_id).unlink(missing_ok=True)
        discard_below(self._metadata, _hex(image_id))

    def touch(self, image_id: str, when: str) -> None:
        """Note when the image was last given a name (RFC 3339)."""
        self._set(image_id, "lastUpdated", when)

    def last_tagged(self, image_id: str) -> str:
        """When the image was last given a name (RFC 3339), "" if never."""
        path = self._metadata / _hex(image_id) / "lastUpdated"
        try:
            text = read_text(path)
            parse_rfc3339(text)
        except FileNotFoundError:
            return ""
        except (ValueError, CorruptStore):
            self._emit(StoreDamaged(str(path), f"{path} is damaged: it is not a time"))
            return ""
        return text

    def _set(self, image_id: str, name: str, value: str) -> None:
        directory = self._metadata / _hex(image_id)
        directory.mkdir(mode=0o700, exist_ok=True)
        write_atomic(directory / name, value.encode(), mode=0o600)

    # ---- names ----

    def tags(self) -> list[Tag]:
        """Every name that a user gave, with its image, sorted by name, as shown_names()."""
        return [name for name in self.shown_names() if not name.reference.digest]

    def digests(self) -> list[Tag]:
        """Every name that a registry gave ("debian@sha256:…", after pull and push), with its image, sorted."""
        return [name for name in self.shown_names() if name.reference.digest]

    def names(self) -> list[Tag]:
        """Both kinds of names. Raises CorruptStore if the file, or an entry in it, is damaged."""
        known = self._known_names()
        if known.damage:
            raise known.damage.with_traceback(None)
        return list(known.tags)

    def shown_names(self) -> list[Tag]:
        """The same for listings: damaged entries are left out and reported (StoreDamaged)."""
        return list(self._shown_names().tags)

    def names_of(self, image_id: str) -> tuple[Tag, ...]:
        """Those of one image, as shown_names()."""
        return tuple(self._shown_names().of_image.get(image_id, ()))

    def refuse_dangling(self, image_id: str) -> None:
        """Raise CorruptStore if a name points to an image that is not here: a removal takes the names first."""
        for name in self.names_of(image_id):
            raise corrupt(self._names, f"{name.reference.familiar} points to {image_id[:19]}, which is not here")

    def _shown_names(self) -> _KnownNames:
        known = self._known_names()
        if known.damage:
            self._emit(StoreDamaged.of(known.damage))
        return known

    def _known_names(self) -> _KnownNames:
        """What repositories.json says. It is read again once it was replaced: a listing asks for each of its images."""
        state = _state(self._names)
        if self._read_names is None or self._read_names[0] != state:
            self._read_names = (state, self._read_all_names())
        return self._read_names[1]

    def _read_all_names(self) -> _KnownNames:
        damage, tags = None, []
        of_image: dict[str, list[Tag]] = {}
        try:
            entries = [entry for names in self._read().values() for entry in names.items()]
        except CorruptStore as error:
            return _KnownNames((), {}, error)
        for name, image_id in entries:
            try:
                tags.append(Tag(parse(name), Digest(image_id)))
            except (InvalidReference, ValueError) as error:
                damage = damage or corrupt(self._names, f"{name!r} is not the name of an image: {error}")
        tags.sort(key=lambda tag: tag.reference.familiar)
        for tag in tags:
            of_image.setdefault(tag.image_id, []).append(tag)
        return _KnownNames(tuple(tags), of_image, damage)

    def resolve(self, reference: Reference) -> Digest | None:
        """The id that a name points to, None if the name is unknown. Raises CorruptStore."""
        image_id = self._read().get(reference.repository, {}).get(_full(reference))
        if image_id is None:
            return None
        try:
            return Digest(image_id)
        except ValueError as error:
            raise corrupt(self._names, f"{reference.familiar} points to {error}") from error

    def tag(self, reference: Reference, image_id: str) -> str | None:
        """Point a name to an image. Returns the id that had the name before, if it was another.

        Raises InvalidReference for a name that could not be read again.
        """
        parse(_full(reference))
        with self._lock():
            names = self._read()
            repository = names.setdefault(reference.repository, {})
            before = repository.get(_full(reference))
            repository[_full(reference)] = image_id
            self._write(names)
        return before if before != image_id else None

    def untag(self, reference: Reference) -> str | None:
        """Take a name away. Returns the id that had it, None where nobody had."""
        with self._lock():
            names = self._read()
            repository = names.get(reference.repository, {})
            image_id = repository.pop(_full(reference), None)
            if not repository:
                names.pop(reference.repository, None)
            if image_id:
                self._write(names)
        return image_id

    def reset_names(self) -> Path:
        """Start again with the names that can still be read; the old file is kept under the path that is returned."""
        number, kept = 1, self._names.with_name("repositories.json.damaged")
        while kept.exists():
            number += 1
            kept = kept.with_name(f"repositories.json.damaged-{number}")
        with self._lock():
            text = _readable(self._names)
            self._names.rename(kept)
            self._write(_readable_names(text))
        return kept

    def _read(self) -> _Names:
        try:
            document, _ = read_document(self._names, RepositoriesShape)
        except FileNotFoundError:
            return {}
        return dict(document["Repositories"])

    def _write(self, names: _Names) -> None:
        ordered = {repository: dict(sorted(tags.items())) for repository, tags in sorted(names.items())}
        write_atomic(self._names, go_json({"Repositories": ordered}), mode=0o600)

    def _lock(self) -> contextlib.AbstractContextManager[None]:
        return locked(self._locks / "repositories")


def _hex(image_id: str) -> EntryName:
    digest = Digest.match(image_id)
    if digest is None:
        raise CorruptStore(f"{image_id!r} is not the id of an image", hint=REMEDY)
    return digest.hex


def _readable(path: Path) -> str:
    """What can be read of a damaged file."""
    try:
        return read_bytes(path).decode(errors="replace")
    except CorruptStore:
        return ""


def _readable_names(text: str) -> _Names:
    """The entries that a damaged repositories.json still holds as a whole."""
    names: _Names = {}
    for name, image_id in re.findall(rf'"([^"\\]+)"\s*:\s*"({Digest.form.pattern})"', text):
        with contextlib.suppress(InvalidReference):
            reference = parse(name)
            if _full(reference) == name:
                names.setdefault(reference.repository, {})[name] = image_id
    return names


def _state(path: Path) -> _State | None:
    """What changes when a file is replaced or written to; None for one that is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _full(reference: Reference) -> str:
    suffix = f"@{reference.digest}" if reference.digest else f":{reference.tag}"
    return reference.repository + suffix
