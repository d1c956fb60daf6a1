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
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from pylab_container.errors import CorruptStore, InvalidArchive
from pylab_container.formats.image import ImageConfig, go_json, sha256
from pylab_container.formats.reference import Reference, parse
from pylab_container.host.files import locked, write_atomic

_Names = dict[str, dict[str, str]]


class Tag(Struct, frozen=True):
    """One name of one image."""

    reference: Reference
    image_id: str


class ImageStore:
    """Owns imagedb/ and repositories.json."""

    def __init__(self, root: Path, locks: Path) -> None:
        self.root = root
        self._locks = locks
        self._content = root / "imagedb/content/sha256"
        self._metadata = root / "imagedb/metadata/sha256"
        self._names = root / "repositories.json"
        for directory in (self._content, self._metadata, root / "distribution"):
            directory.mkdir(parents=True, exist_ok=True)
        with self._lock():
            if not self._names.exists():
                write_atomic(self._names, b'{"Repositories":{}}', mode=0o600)

    # ---- images ----

    def add(self, config: ImageConfig, *, parent: str = "") -> str:
        """Store a config; its layers must be registered. Returns the image id. Idempotent."""
        content = self.content_path(config.id)
        if parent:
            self._set(config.id, "parent", parent)
        if not content.exists():
            write_atomic(content, config.raw, mode=0o600)
        return config.id

    def get(self, image_id: str) -> ImageConfig:
        """The config of an image. Raises KeyError for an unknown id, CorruptStore for a damaged file."""
        try:
            raw = self.content_path(image_id).read_bytes()
        except FileNotFoundError:
            raise KeyError(image_id) from None
        if sha256(raw) != image_id:
            raise CorruptStore(
                f"the config of image {image_id[7:19]} was changed on disk", hint=f"labctr rmi -f {image_id[7:19]}"
            )
        try:
            return ImageConfig.parse(raw)
        except InvalidArchive as error:
            raise CorruptStore(f"the config of image {image_id[7:19]} cannot be read", hint=error.hint) from error

    def exists(self, image_id: str) -> bool:
        """Whether there is an image with this id."""
        return self.content_path(image_id).exists()

    def all(self) -> Iterator[str]:
        """Every image's id, in no order."""
        for entry in self._content.iterdir():
            if not entry.name.startswith("."):
                yield f"sha256:{entry.name}"

    def content_path(self, image_id: str) -> Path:
        """The file with an image's config."""
        return self._content / _hex(image_id)

    def metadata_directories(self) -> list[Path]:
        """The directories with what is known of images beside their configs."""
        return sorted(self._metadata.iterdir())

    def parent(self, image_id: str) -> str:
        """The image that this one was made from here; "" where it came from outside or from nothing."""
        with contextlib.suppress(FileNotFoundError):
            return (self._metadata / _hex(image_id) / "parent").read_text()
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
            return (self._metadata / _hex(image_id) / key).read_text(errors="surrogateescape")
        except FileNotFoundError:
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
        shutil.rmtree(self._metadata / _hex(image_id), ignore_errors=True)

    def touch(self, image_id: str, when: str) -> None:
        """Note when the image was last given a name (RFC 3339)."""
        self._set(image_id, "lastUpdated", when)

    def last_tagged(self, image_id: str) -> str:
        """When the image was last given a name (RFC 3339), "" if never."""
        with contextlib.suppress(FileNotFoundError):
            return (self._metadata / _hex(image_id) / "lastUpdated").read_text()
        return ""

    def _set(self, image_id: str, name: str, value: str) -> None:
        directory = self._metadata / _hex(image_id)
        directory.mkdir(mode=0o700, exist_ok=True)
        write_atomic(directory / name, value.encode(), mode=0o600)

    # ---- names ----

    def tags(self) -> list[Tag]:
        """Every name that somebody gave, with its image, sorted by name."""
        return [name for name in self.names() if not name.reference.digest]

    def digests(self) -> list[Tag]:
        """Every name that a registry gave ("debian@sha256:…", after pull and push), with its image, sorted."""
        return [name for name in self.names() if name.reference.digest]

    def names(self) -> list[Tag]:
        """Both kinds of names."""
        return sorted(
            (Tag(parse(name), image_id) for names in self._read().values() for name, image_id in names.items()),
            key=lambda tag: tag.reference.familiar,
        )

    def resolve(self, reference: Reference) -> str | None:
        """The id that a name points to, None where nobody gave it."""
        return self._read().get(reference.repository, {}).get(_full(reference))

    def tag(self, reference: Reference, image_id: str) -> str | None:
        """Point a name to an image. Returns the id that had the name before, if it was another."""
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
        """Start anew without names; the old file is kept under the path that is returned."""
        kept = self._names.with_name("repositories.json.damaged")
        with self._lock():
            self._names.replace(kept)
            self._write({})
        return kept

    def _read(self) -> _Names:
        try:
            names = json.loads(self._names.read_bytes())["Repositories"]
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptStore(f"{self._names} is damaged: {error}", hint="labctr system fsck --repair") from error
        return dict(names)

    def _write(self, names: _Names) -> None:
        ordered = {repository: dict(sorted(tags.items())) for repository, tags in sorted(names.items())}
        write_atomic(self._names, go_json({"Repositories": ordered}), mode=0o600)

    def _lock(self) -> contextlib.AbstractContextManager[None]:
        return locked(self._locks / "repositories")


def _hex(image_id: str) -> str:
    return image_id.removeprefix("sha256:")


def _full(reference: Reference) -> str:
    suffix = f"@{reference.digest}" if reference.digest else f":{reference.tag}"
    return reference.repository + suffix
