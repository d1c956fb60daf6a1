"""The build cache: images of earlier builds, found by their parent and by the words of the step that made them.

The cache has no file of its own, as in Docker's classic builder (moby image/cache). Every image records its parent, and
the words of its step (`container_config.Cmd` in its config). A step is a hit if an image has the same parent and the
same words. The words of COPY and ADD contain a digest of the copied files, those of RUN the arguments that it sees.

Two notes are stored beside an image, in files that dockerd does not read. FILES_NOTE has a digest of each copied file,
which only serves to explain a miss. STEP_MARK marks the image as a step of a build: without a name it may be pruned.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator, Mapping, Sequence

from pylab_container.errors import ImageNotFound
from pylab_container.host.files import write_atomic
from pylab_container.images import creation, lookup
from pylab_container.oci.ids import Digest
from pylab_container.oci.image import ImageConfig
from pylab_container.store.data_root import DataRoot
from pylab_container.store.reading import peek

Words = tuple[str, ...]
Fingerprints = Mapping[str, str]
"""A short digest of each file that a step copies, by its path."""

STEP_MARK = "labctr-step"  # in the image's metadata directory
FILES_NOTE = "labctr-files"
MAX_SHOWN_NAMES = 3  # in an explanation


class Cache:
    """The cache as one build sees it; its threads share the object."""

    def __init__(self, data: DataRoot, *, is_used: bool = True, sources: Sequence[str] | None = None) -> None:
        """is_used is False for --no-cache. sources are the ids of the only images to take steps from; None: all."""
        self._data = data
        self._is_used = is_used
        self._has_all_sources = sources is None
        self._sources = [(image_id, lookup.config(data, image_id)) for image_id in sources or ()]
        self._locks: dict[tuple[str, Words], threading.Lock] = {}
        self._new_bases: dict[str, str] = {}
        # Read once for all steps of the build. An image that another process adds later is not found, which costs a
        # miss; one that is removed later is skipped by _children().
        self._by_parent: dict[str, list[str]] = {}
        for image_id in data.images.all():
            self._by_parent.setdefault(data.images.shown_parent(image_id), []).append(image_id)

    @contextlib.contextmanager
    def single_flight(self, parent: str, words: Words) -> Iterator[None]:
        """Serialize the lookup and the execution of a step: of concurrent stages one executes it, the others hit."""
        # The lock is one for each step, so that stages with different steps do not wait. setdefault() is atomic: all
        # threads get the same lock.
        with self._locks.setdefault((parent, words), threading.Lock()):
            yield

    def find(self, parent: str, words: Words) -> str | None:
        """Return the newest image that was made from parent by these words; None without a match."""
        if not self._is_used:
            return None
        # Words suffice as the key. moby also compares Env, Labels and other fields (image/cache/compare.go), but in the
        # images of a builder these follow from the parent's config and the words.
        matches = [
            (config.created_at, image_id) for image_id, config in self._children(parent) if words_of(config) == words
        ]
        # The newest match counts, as in moby (getLocalCachedImage); the id decides between equal times.
        allowed = [image_id for _, image_id in sorted(matches) if self._has_all_sources or self._is_source(image_id)]
        return allowed[-1] if allowed else self._restore(parent, words)

    def remember(self, image_id: str, parent: str, fingerprints: Fingerprints) -> None:
        """Add a new image, with the digests of the files that were copied into it."""
        self._by_parent.setdefault(parent, []).append(image_id)  # for the other stages of this build
        self._data.images.mark(image_id, STEP_MARK)
        if fingerprints:
            self._data.images.set_metadata(image_id, FILES_NOTE, json.dumps(fingerprints, separators=(",", ":")))

    def record_base(self, base: str, image_id: str) -> None:
        """Record the image that FROM base means in this build; a later change explains a miss."""
        # A name has slashes, so the file is named by a digest. A damaged note counts as missing: it only explains.
        note = self._data.path / "builder" / "bases" / hashlib.sha256(base.encode()).hexdigest()
        before = Digest.match(peek(note)) or image_id
        if before != image_id:
            self._new_bases[image_id] = f"{base} is another image now, it was {before[7:19]}"
        if before != image_id or not note.exists():
            note.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomic(note, image_id.encode())

    # -- images of other builds: --cache-from ------------------------------------------------------

    def _is_source(self, image_id: str) -> bool:
        """Report whether one of the sources was built on this image."""
        return any(image_id in lookup.ancestors(self._data, source) for source, _ in self._sources)

    def _restore(self, parent: str, words: Words) -> str | None:
        """Make the step's image from the history of a source; None if no source continues with this step."""
        # A loaded or pulled image has layers and a history, but no parents. Its steps are recognized by `created_by`,
        # and each gets an image again (moby image/cache/cache.go, restoreCachedImage).
        below = lookup.config(self._data, parent) if parent else None
        for image_id, source in self._sources:
            number = len(below.history) if below else 0
            if not _is_built_on(source, below) or source.history[number].get("created_by") != " ".join(words):
                continue
            if number == len(source.history) - 1:  # the last step: its image is the source itself
                self._data.images.set_parent(image_id, parent)
                return image_id
            restored = _image_after_step(source, number, below, words)
            restored_id = creation.add(self._data, restored, parent=parent, action="restored")
            self._data.images.mark(restored_id, STEP_MARK)
            return restored_id
        return None

    # -- explanations of a miss --------------------------------------------------------------------

    def explain(self, parent: str, words: Words, fingerprints: Fingerprints) -> str:
        """Explain why find() returned None.

        The explanation compares the step with the most similar one that was executed on the same image before.
        """
        if not self._is_used:
            return "the cache was not asked (--no-cache)"
        children = sorted(
            (config.created_at, image_id, words_of(config)) for image_id, config in self._children(parent)
        )
        alike = [(image_id, other) for _, image_id, other in children if keyword(other) == keyword(words)]
        if any(other == words for _, other in alike):
            return "the image that has it is not one of --cache-from"
        if not alike and parent in self._new_bases:
            return self._new_bases[parent]
        if not alike:
            return "nothing of the kind was done on the image above before"
        if fingerprints:
            return self._changed_files(alike, words, fingerprints)
        return _difference(
            max((other for _, other in alike), key=lambda other: _count_equal_words(other, words)), words
        )

    def _changed_files(self, alike: Sequence[tuple[str, Words]], words: Words, fingerprints: Fingerprints) -> str:
        """Return which files differ from those of the last copy to the same destination."""
        place = destination(words)
        earlier = [image_id for image_id, other in alike if destination(other) == place]
        if not earlier:
            return f"nothing was copied to {place} on the image above before"
        try:
            before: dict[str, str] = json.loads(self._data.images.metadata(earlier[-1], FILES_NOTE) or "{}")
        except ValueError:
            before = {}  # the note is damaged; it is only needed to explain
        if not before or not isinstance(before, dict):
            return "other files were copied then"
        groups = [
            ("changed", [name for name in fingerprints if name in before and before[name] != fingerprints[name]]),
            ("new", [name for name in fingerprints if name not in before]),
            ("gone", [name for name in before if name not in fingerprints]),
        ]
        sentences = [f"{change}: {_first_names(names)}" for change, names in groups if names]
        return "; ".join(sentences) or "the words around it changed"

    def _children(self, parent: str) -> Iterator[tuple[str, ImageConfig]]:
        for image_id in self._by_parent.get(parent, ()):
            with contextlib.suppress(ImageNotFound):  # removed concurrently
                yield image_id, lookup.config(self._data, image_id)


def words_of(config: ImageConfig) -> Words:
    """Return the words that made an image, as its config records them."""
    return tuple((config.document.get("container_config") or {}).get("Cmd") or ())


def keyword(words: Words) -> str:
    """Return the keyword of the instruction that has these words."""
    last = words[-1] if words else ""
    return last.removeprefix("#(nop) ").split()[0] if last.startswith("#(nop) ") else "RUN"


def destination(words: Words) -> str:
    """Return the destination in the words of a COPY or ADD."""
    return words[-1].rpartition(" in ")[2].strip()


def _is_built_on(source: ImageConfig, below: ImageConfig | None) -> bool:
    """Report whether source continues below: its layers and history begin with those of below."""
    if below is None:
        return bool(source.history)
    steps, layers = len(below.history), len(below.diff_ids)
    # moby compares whole history entries, including their times (isValidParent). The words suffice here, because the
    # digests of the layers are compared as well.
    same_history = [step.get("created_by") for step in source.history[:steps]] == [
        step.get("created_by") for step in below.history
    ]
    return len(source.history) > steps and source.diff_ids[:layers] == below.diff_ids and same_history


def _image_after_step(source: ImageConfig, number: int, below: ImageConfig | None, words: Words) -> ImageConfig:
    """Return the image after a step of source's history.

    It has the layers up to the step, and the config of the image below: the stage applies the instruction to a config
    of its own (stage.py). The config of the source would include its later steps.
    """
    history = source.history[: number + 1]
    layers = sum(1 for step in history if not step.get("empty_layer"))
    document = dict(source.document)
    document.update(
        history=list(history),
        created=history[-1].get("created", source.created),
        container_config={**(document.get("container_config") or {}), "Cmd": list(words)},
        config=dict(below.config) if below else source.config,
        rootfs={"type": "layers", "diff_ids": list(source.diff_ids[:layers])},
    )
    return ImageConfig.build(document)


def _difference(before: Words, now: Words) -> str:
    """Return in which words two steps with the same keyword differ."""
    old, new = _arguments(before), _arguments(now)
    for name in dict.fromkeys((*new, *old)):
        if old.get(name) != new.get(name) and (name in old or name in new):
            was = f"was {old[name]!r}" if name in old else "was not there"
            return f"ARG {name} is {new[name]!r}, it {was}" if name in new else f"ARG {name} was removed, it {was}"
    return f"the instruction changed, it was: {_shortened(before)}"


def _arguments(words: Words) -> dict[str, str]:
    """Return the arguments at the start of the words of a RUN, "|2 A=1 B=2 …", by name."""
    if not words or not words[0].startswith("|"):
        return {}
    count = int(words[0][1:]) if words[0][1:].isdigit() else 0
    return dict(word.partition("=")[::2] for word in words[1 : count + 1])


def _shortened(words: Words) -> str:
    text = words[-1].removeprefix("#(nop) ").strip() if words else ""
    return text if len(text) <= 60 else f"{text[:59]}…"


def _count_equal_words(first: Words, second: Words) -> int:
    """Count the positions, from the end, at which both have the same word."""
    return sum(a == b for a, b in zip(reversed(first), reversed(second), strict=False))


def _first_names(names: Sequence[str]) -> str:
    shown = ", ".join(sorted(names)[:MAX_SHOWN_NAMES])
    return f"{shown} and {len(names) - MAX_SHOWN_NAMES} more" if len(names) > MAX_SHOWN_NAMES else shown
