"""The build cache: which images were made from which, by which words.

It is no extra file: every image remembers its parent and the words that made it (the
`container_config.Cmd` of its config), as with docker's classic builder. A step is found again
where the same words were carried out on the same image before. The words of COPY and ADD hold a
digest of what is copied, those of RUN the arguments that it sees.

Beside each image lies what it was made of, file by file; that is only read to explain a miss. And
each has a mark that it is a step of a build: without a name it is cache, and may go.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from pylab_container.errors import ImageNotFound
from pylab_container.host.files import write_atomic
from pylab_container.oci.ids import Digest
from pylab_container.oci.image import ImageConfig
from pylab_container.store.reading import peek

if TYPE_CHECKING:
    from pylab_container.engine import Engine

Words = tuple[str, ...]
Fingerprints = Mapping[str, str]
"""What identifies each file that a step copies, by its path."""

# In the image's metadata directory, where dockerd reads only the names that it knows.
STEP_MARK = "labctr-step"
_FILES = "labctr-files"
_MOST_NAMES = 3


class Cache:
    """The cache as one build sees it; its threads share one."""

    def __init__(self, engine: Engine, *, asked: bool = True, sources: Sequence[str] | None = None) -> None:
        """asked: False for --no-cache. sources: the only images that steps may come from, by id; None for all."""
        self._engine = engine
        self._asked = asked
        self._from_all = sources is None
        self._sources = [(image_id, engine.images.config(image_id)) for image_id in sources or ()]
        self._turns: dict[tuple[str, Words], threading.Lock] = {}
        self._new_bases: dict[str, str] = {}
        self._by_parent: dict[str, list[str]] = {}
        for image_id in engine.data.images.all():
            self._by_parent.setdefault(engine.data.images.shown_parent(image_id), []).append(image_id)

    @contextlib.contextmanager
    def turn(self, parent: str, words: Words) -> Iterator[None]:
        """Held while a step is looked for and made, so that two stages with the same step make it once."""
        with self._turns.setdefault((parent, words), threading.Lock()):
            yield

    def find(self, parent: str, words: Words) -> str | None:
        """The newest image that was made from parent by these words, None if there is none."""
        if not self._asked:
            return None
        found = [
            (config.created_at, image_id) for image_id, config in self._children(parent) if made_by(config) == words
        ]
        allowed = [image_id for _, image_id in sorted(found) if self._from_all or self._is_source(image_id)]
        return allowed[-1] if allowed else self._restore(parent, words)

    def remember(self, image_id: str, parent: str, fingerprints: Fingerprints) -> None:
        """Note a new image, and what the files were that it was made of."""
        self._by_parent.setdefault(parent, []).append(image_id)
        self._engine.data.images.mark(image_id, STEP_MARK)
        if fingerprints:
            self._engine.data.images.set_metadata(image_id, _FILES, json.dumps(fingerprints, separators=(",", ":")))

    def began(self, base: str, image_id: str) -> None:
        """Note which image FROM base means in this build; it may be another one than in the last."""
        note = self._engine.data.path / "builder" / "bases" / hashlib.sha256(base.encode()).hexdigest()
        before = Digest.match(peek(note)) or image_id
        if before != image_id:
            self._new_bases[image_id] = f"{base} is another image now, it was {before[7:19]}"
        if before != image_id or not note.exists():
            note.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomic(note, image_id.encode())

    # ---- images that came from elsewhere: --cache-from ----

    def _is_source(self, image_id: str) -> bool:
        """Whether one of the sources was built on this image."""
        ancestors = (ancestor for source, _ in self._sources for ancestor in self._engine.images.ancestors(source))
        return image_id in ancestors

    def _restore(self, parent: str, words: Words) -> str | None:
        """The step out of a source's history: an image that was loaded has no parents, only layers and a history."""
        below = self._engine.images.config(parent) if parent else None
        for image_id, source in self._sources:
            number = len(below.history) if below else 0
            if not _continues(source, below) or source.history[number].get("created_by") != " ".join(words):
                continue
            if number == len(source.history) - 1:
                self._engine.data.images.set_parent(image_id, parent)
                return image_id
            restored = _step_of(source, number, below, words)
            restored_id = self._engine.images.add(restored, parent=parent, action="restored").id
            self._engine.data.images.mark(restored_id, STEP_MARK)
            return restored_id
        return None

    # ---- why not ----

    def explain(self, parent: str, words: Words, fingerprints: Fingerprints) -> str:
        """Why find() has nothing."""
        if not self._asked:
            return "the cache was not asked (--no-cache)"
        made = sorted(((config.created_at, image_id, made_by(config)) for image_id, config in self._children(parent)))
        alike = [(image_id, other) for _, image_id, other in made if keyword(other) == keyword(words)]
        if any(other == words for _, other in alike):
            return "the image that has it is none of --cache-from"
        if not alike and parent in self._new_bases:
            return self._new_bases[parent]
        if not alike:
            return "nothing of the kind was done on the image above before"
        if fingerprints:
            return self._changed_files(alike, words, fingerprints)
        return _difference(max((other for _, other in alike), key=lambda other: _likeness(other, words)), words)

    def _changed_files(self, alike: Sequence[tuple[str, Words]], words: Words, fingerprints: Fingerprints) -> str:
        """What is different from the last time the same was copied to the same place."""
        place = destination(words)
        earlier = [image_id for image_id, other in alike if destination(other) == place]
        if not earlier:
            return f"nothing was copied to {place} on the image above before"
        try:
            before: dict[str, str] = json.loads(self._engine.data.images.metadata(earlier[-1], _FILES) or "{}")
        except ValueError:
            before = {}  # the note is damaged; it only explains
        if not before or not isinstance(before, dict):
            return "other files were copied then"
        told = [
            ("changed", [name for name in fingerprints if name in before and before[name] != fingerprints[name]]),
            ("new", [name for name in fingerprints if name not in before]),
            ("gone", [name for name in before if name not in fingerprints]),
        ]
        sentences = [f"{what}: {_some(names)}" for what, names in told if names]
        return "; ".join(sentences) or "the words around it changed"

    def _children(self, parent: str) -> Iterator[tuple[str, ImageConfig]]:
        for image_id in self._by_parent.get(parent, ()):
            with contextlib.suppress(ImageNotFound):  # removed meanwhile
                yield image_id, self._engine.images.config(image_id)


def made_by(config: ImageConfig) -> Words:
    """The words that made an image, as its config records them."""
    return tuple((config.document.get("container_config") or {}).get("Cmd") or ())


def keyword(words: Words) -> str:
    """The instruction that words stand for."""
    last = words[-1] if words else ""
    return last.removeprefix("#(nop) ").split()[0] if last.startswith("#(nop) ") else "RUN"


def destination(words: Words) -> str:
    """Where the words of a COPY or ADD copy to."""
    return words[-1].rpartition(" in ")[2].strip()


def _continues(source: ImageConfig, below: ImageConfig | None) -> bool:
    """Whether source was made on top of below: its layers and history begin with the other's."""
    if below is None:
        return bool(source.history)
    ours, theirs = len(below.history), len(below.diff_ids)
    same_history = [step.get("created_by") for step in source.history[:ours]] == [
        step.get("created_by") for step in below.history
    ]
    return len(source.history) > ours and source.diff_ids[:theirs] == below.diff_ids and same_history


def _step_of(source: ImageConfig, number: int, below: ImageConfig | None, words: Words) -> ImageConfig:
    """The image as it was after a step in source's history: its layers up to there; its config the final one's."""
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
    """In which words two steps of the same kind differ."""
    old, new = _arguments(before), _arguments(now)
    for name in dict.fromkeys((*new, *old)):
        if old.get(name) != new.get(name) and (name in old or name in new):
            was = f"was {old[name]!r}" if name in old else "was not there"
            return f"ARG {name} is {new[name]!r}, it {was}" if name in new else f"ARG {name} is gone, it {was}"
    return f"the instruction changed, it was: {_shown(before)}"


def _arguments(words: Words) -> dict[str, str]:
    """The ARGs that the words of a RUN begin with: "|2 A=1 B=2 …"."""
    if not words or not words[0].startswith("|"):
        return {}
    count = int(words[0][1:]) if words[0][1:].isdigit() else 0
    return dict(word.partition("=")[::2] for word in words[1 : count + 1])


def _shown(words: Words) -> str:
    text = words[-1].removeprefix("#(nop) ").strip() if words else ""
    return text if len(text) <= 60 else f"{text[:59]}…"


def _likeness(one: Words, other: Words) -> int:
    return sum(a == b for a, b in zip(reversed(one), reversed(other), strict=False))


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(sorted(names)[:_MOST_NAMES])
    return f"{shown} and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else shown
