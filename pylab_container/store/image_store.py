"""The image database: configs by their digest, and the names that refer to them.

    image/<driver>/
    ├── imagedb/
    │   ├── content/sha256/<image id>          the config's exact bytes
    │   └── metadata/sha256/<image id>/
    │       ├── parent                         the image that this one was built or committed from
    │       └── lastUpdated                    when it was last tagged
    └── repositories.json                      {"Repositories": {"debian": {"debian:12": "sha256:…"}}}

An image exists as soon as its content file does, so that file is written last and deleted first. All names are in one
file, which is replaced atomically under a lock: a reader sees the names before a change or after it, and needs no lock.
Format: moby image/fs.go and reference/store.go (20.10).
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
"""Repository → {name with its tag or digest: image id}, as in repositories.json."""

_FileState = tuple[int, int, int, int]
"""Inode, size, modification and change time of a file. Another state means that the file was replaced or changed."""

_CONFIG_CACHE_SIZE = 16 << 20  # bytes of encoded configs; decoded they take ten times as much memory


class Tag(Struct, frozen=True):
    """One name of one image."""

    reference: Reference
    image_id: Digest


class _KnownNames(Struct, frozen=True):
    """The readable names, sorted: all of them, and those of each image.

    damage  the error about the first entry, or about the file, that cannot be read
    """

    tags: tuple[Tag, ...]
    of_image: Mapping[str, Sequence[Tag]]
    damage: CorruptStore | None


class ImageStore:
    """Owner of imagedb/ and repositories.json.

    What was read is cached until the file's state changes; several processes and threads may use one store.
    """

    def __init__(self, root: Path, locks: Path, *, emit: Emit = ignore) -> None:
        self.root = root
        self._emit = emit
        self._locks = locks
        self._content = root / "imagedb/content/sha256"
        self._metadata = root / "imagedb/metadata/sha256"
        self._names = root / "repositories.json"
        self._read_names: tuple[_FileState | None, _KnownNames] | None = None
        self._configs: dict[str, tuple[_FileState, ImageConfig]] = {}
        self._configs_lock = threading.Lock()
        for directory in (self._content, self._metadata, root / "distribution"):
            directory.mkdir(parents=True, exist_ok=True)
        with self._lock():  # else two new engines may both see no file, and one overwrites the first name of the other
            if not self._names.exists():
                write_atomic(self._names, b'{"Repositories":{}}', mode=0o600)

    # ---- images ----

    def add(self, config: ImageConfig, *, parent: str = "") -> str:
        """Store a config, whose layers must be registered, and return the image id. Idempotent.

        parent  the image that it was built from, if it was built here

        Raises InvalidArchive for a config that get() would reject, or that is too long.
        """
        content = self.content_path(config.id)
        if len(config.raw) > LONGEST_CONFIG:
            message = f"the image's config has {len(config.raw)} bytes, more than {LONGEST_CONFIG}"
            raise InvalidArchive(message, hint="use fewer or shorter labels, variables and instructions")
        ImageConfig.parse(config.raw)
        # The content last: it makes the image visible, and a listing must not show one whose parent is not recorded.
        if parent:
            self._set(config.id, "parent", parent)
        # The id is the digest of the content, so an existing file is equal. It is not rewritten, because that would
        # end the cache entries of all other processes.
        # Mode 0600, as in moby: the environment variables in a config may be secrets.
        if not content.exists():
            write_atomic(content, config.raw, mode=0o600)
        return config.id

    def get(self, image_id: str) -> ImageConfig:
        """Return the config of an image.

        Raises KeyError for an unknown id, CorruptStore for a damaged file.
        """
        if Digest.match(image_id) is None:  # it may be a part of an id, or a name: no path is built from it
            raise KeyError(image_id)
        path = self.content_path(image_id)
        state = _file_state(path)  # before reading: a change in between makes the next call read again
        known = self._configs.get(image_id)
        if known and known[0] == state:
            return known[1]
        config = self._read_config(image_id, path)
        if state and len(config.raw) <= _CONFIG_CACHE_SIZE:
            self._keep(image_id, state, config)
        return config

    def _keep(self, image_id: str, state: _FileState, config: ImageConfig) -> None:
        """Cache a config, and drop the oldest entries while the cache is too large."""
        with self._configs_lock:  # the daemon's threads read images concurrently
            self._configs.pop(image_id, None)  # a dict keeps the order of insertion: move the entry to the end
            self._configs[image_id] = (state, config)
            length = sum(len(each.raw) for _, each in self._configs.values())
            while length > _CONFIG_CACHE_SIZE:
                oldest = next(iter(self._configs))
                length -= len(self._configs.pop(oldest)[1].raw)

    def _read_config(self, image_id: str, path: Path) -> ImageConfig:
        try:
            raw = read_bytes(path)
        except FileNotFoundError:
            raise KeyError(image_id) from None
        hint = f"{REMEDY}; labctr rmi -f {image_id[7:19]} removes the image"
        # The digest is checked at every read, as in moby (image/fs.go, Get): a config decides what runs as root.
        if sha256(raw) != image_id:
            message = f"the config of image {image_id[7:19]} was changed on disk: {path}"
            raise CorruptStore(message, hint=hint, path=path)
        try:
            return ImageConfig.parse(raw)
        except InvalidArchive as error:
            message = f"the config of image {image_id[7:19]} cannot be read: {path}: {error.message}"
            raise CorruptStore(message, hint=hint, path=path) from error

    def exists(self, image_id: str) -> bool:
        """Report whether an image with this id exists."""
        return Digest.match(image_id) is not None and self.content_path(image_id).exists()

    def all(self) -> Iterator[Digest]:
        """Yield the ids of all images, unordered."""
        names = (f"sha256:{name}" for name in os.listdir(self._content))
        yield from filter(None, map(Digest.match, names))

    def content_path(self, image_id: str) -> Path:
        """Return the path of an image's config."""
        return self._content / _hex(image_id)

    def metadata_directories(self) -> list[Path]:
        """Return the directories of metadata, also those whose image was deleted."""
        return sorted(path for path in self._metadata.iterdir() if Digest.match(f"sha256:{path.name}"))

    def parent(self, image_id: str) -> str:
        """Return the image that this one was built or committed from; "" for any other.

        An image that was pulled, loaded or imported has no parent, whatever its layers are.

        Raises CorruptStore for a damaged file.
        """
        return find_id(self.parent_path(image_id), Digest) or ""

    def parent_path(self, image_id: str) -> Path:
        """Return the path of the file that parent() reads."""
        return self._metadata / _hex(image_id) / "parent"

    def shown_parent(self, image_id: str) -> str:
        """As parent(), for listings: a damaged file counts as missing and is reported."""
        try:
            return self.parent(image_id)
        except CorruptStore as error:
            self._emit(StoreDamaged.of(error))
            return ""

    def set_parent(self, image_id: str, parent: str) -> None:
        """Record which image this one was built from; "" removes the record."""
        if parent:
            self._set(image_id, "parent", parent)
        else:
            (self._metadata / _hex(image_id) / "parent").unlink(missing_ok=True)

    def metadata(self, image_id: str, key: str) -> str:
        """Return a value of an image's metadata, "" if it is not set or cannot be read."""
        try:
            return read_bytes(self._metadata / _hex(image_id) / key).decode(errors="surrogateescape")
        except (FileNotFoundError, NotADirectoryError, CorruptStore):
            return ""

    def set_metadata(self, image_id: str, key: str, value: str) -> None:
        """Set a value of an image's metadata, which is deleted with the image."""
        self._set(image_id, key, value)

    def mark(self, image_id: str, key: str) -> None:
        """Set a flag of an image, which is deleted with the image.

        It is not flushed: a power failure may undo it.
        """
        # touch() and not write_atomic(): the flag is set for each step of a build, and fsync(2) takes milliseconds.
        directory = self._metadata / _hex(image_id)
        directory.mkdir(mode=0o700, exist_ok=True)
        (directory / key).touch(mode=0o600)

    def marked(self, image_id: str, key: str) -> bool:
        """Report whether mark() has set a flag."""
        return (self._metadata / _hex(image_id) / key).exists()

    def remove(self, image_id: str) -> None:
        """Delete an image's config and metadata.

        The caller releases its layers (LayerStore.release). Idempotent.
        """
        # The content first: a crash in between leaves metadata without an image, which is harmless.
        self.content_path(image_id).unlink(missing_ok=True)
        discard_below(self._metadata, _hex(image_id))

    def set_last_tagged(self, image_id: str, when: str) -> None:
        """Record when the image was tagged (RFC 3339)."""
        self._set(image_id, "lastUpdated", when)

    def last_tagged(self, image_id: str) -> str:
        """Return when the image was last tagged (RFC 3339), "" if never.

        A damaged time is reported as StoreDamaged.
        """
        path = self._metadata / _hex(image_id) / "lastUpdated"
        try:
            text = read_text(path)
            parse_rfc3339(text)
        except FileNotFoundError:
            return ""
        except (ValueError, CorruptStore):  # the time is only shown, so the damage must not hide the image
            self._emit(StoreDamaged(str(path), f"{path} is damaged: it is not a time"))
            return ""
        return text

    def _set(self, image_id: str, name: str, value: str) -> None:
        directory = self._metadata / _hex(image_id)
        directory.mkdir(mode=0o700, exist_ok=True)
        write_atomic(directory / name, value.encode(), mode=0o600)

    # ---- names ----

    def tags(self) -> list[Tag]:
        """Return the readable names with a tag, sorted; damage is reported as in shown_names()."""
        return [name for name in self.shown_names() if not name.reference.digest]

    def digests(self) -> list[Tag]:
        """Return the readable names with a digest, sorted.

        Pull and push set them: "debian@sha256:…".
        """
        return [name for name in self.shown_names() if name.reference.digest]

    def names(self) -> list[Tag]:
        """Return all names, sorted. Raises CorruptStore if the file, or an entry in it, is damaged."""
        known = self._known_names()
        if known.damage:
            raise known.damage.with_traceback(None)  # it is cached, and would collect a traceback with every raise
        return list(known.tags)

    def shown_names(self) -> list[Tag]:
        """As names(), for listings: damaged entries are left out and reported as StoreDamaged."""
        return list(self._shown_names().tags)

    def names_of(self, image_id: str) -> tuple[Tag, ...]:
        """Return the readable names of one image, as shown_names()."""
        return tuple(self._shown_names().of_image.get(image_id, ()))

    def refuse_dangling(self, image_id: str) -> None:
        """Raise CorruptStore if a name refers to this image, which does not exist.

        A removal deletes names before the image, so a crash cannot leave such a name.
        """
        for name in self.names_of(image_id):
            raise corrupt(self._names, f"{name.reference.familiar} points to {image_id[:19]}, which is not here")

    def _shown_names(self) -> _KnownNames:
        known = self._known_names()
        if known.damage:
            self._emit(StoreDamaged.of(known.damage))
        return known

    def _known_names(self) -> _KnownNames:
        """Return the names in repositories.json, cached until the file is replaced."""
        # A listing asks for the names of each image, and would parse the file each time. The state is taken before
        # reading, so a replacement in between is noticed at the next call.
        state = _file_state(self._names)
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
        # One damaged entry must not hide the other images; the first error stands for all of them.
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
        """Return the id that a name refers to, None if the name is unknown. Raises CorruptStore."""
        # Not from the cache: ext4 reuses inodes, so after two replacements within one clock tick the state can be
        # equal, and `docker run` must not start the image that the name referred to before.
        image_id = self._read().get(reference.repository, {}).get(_stored_name(reference))
        if image_id is None:
            return None
        try:
            return Digest(image_id)
        except ValueError as error:
            raise corrupt(self._names, f"{reference.familiar} points to {error}") from error

    def tag(self, reference: Reference, image_id: str) -> str | None:
        """Make a name refer to an image.

        Return the id that it referred to before, None if it did not change.

        Raises InvalidReference for a name that resolve() would reject.
        """
        parse(_stored_name(reference))
        with self._lock():  # read, change and replace are one step, or a concurrent tag is lost
            names = self._read()
            repository = names.setdefault(reference.repository, {})
            before = repository.get(_stored_name(reference))
            repository[_stored_name(reference)] = image_id
            self._write(names)
        return before if before != image_id else None

    def untag(self, reference: Reference) -> str | None:
        """Delete a name. Return the id that it referred to, None if the name is unknown."""
        with self._lock():
            names = self._read()
            repository = names.get(reference.repository, {})
            image_id = repository.pop(_stored_name(reference), None)
            if not repository:
                names.pop(reference.repository, None)
            if image_id:
                self._write(names)
        return image_id

    def reset_names(self) -> Path:
        """Replace a damaged repositories.json by its readable entries; return the old file's path."""
        # Earlier copies are kept, too: each may hold names that a user wants to restore by hand.
        number, backup = 1, self._names.with_name("repositories.json.damaged")
        while backup.exists():
            number += 1
            backup = backup.with_name(f"repositories.json.damaged-{number}")
        # A crash after the rename leaves a store without names: the images and the copy are still there.
        with self._lock():
            text = _readable(self._names)
            self._names.rename(backup)
            self._write(_readable_names(text))
        return backup

    def _read(self) -> _Names:
        try:
            document, _ = read_document(self._names, RepositoriesShape)
        except FileNotFoundError:
            return {}
        return dict(document["Repositories"])

    def _write(self, names: _Names) -> None:
        # Sorted, as Go's encoding/json writes maps: dockerd and this engine produce the same file.
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
    """Return the readable part of a damaged file, "" if it cannot be opened."""
    try:
        return read_bytes(path).decode(errors="replace")
    except CorruptStore:
        return ""


def _readable_names(text: str) -> _Names:
    """Return the complete entries in the text of a damaged repositories.json."""
    names: _Names = {}
    # A regular expression instead of a JSON parser: the file may be cut off anywhere, and each entry stands alone.
    for name, image_id in re.findall(rf'"([^"\\]+)"\s*:\s*"({Digest.form.pattern})"', text):
        with contextlib.suppress(InvalidReference):
            reference = parse(name)
            if _stored_name(reference) == name:
                names.setdefault(reference.repository, {})[name] = image_id
    return names


def _file_state(path: Path) -> _FileState | None:
    """Return the state of a file, None if it does not exist."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _stored_name(reference: Reference) -> str:
    suffix = f"@{reference.digest}" if reference.digest else f":{reference.tag}"
    return reference.repository + suffix
