"""The directories of overlay2/: link, lower and work of each, and whose it is (store/overlay2.py)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from pylab_container.errors import CorruptStore
from pylab_container.maintenance.fsck.report import Report, replace_file, set_aside
from pylab_container.oci.ids import CacheId, ShortName
from pylab_container.store.driver import Driver
from pylab_container.store.init_layer import fill_init_layer
from pylab_container.store.layer_store import WritableLayer
from pylab_container.store.overlay2 import link_target, new_link
from pylab_container.store.reading import peek

if TYPE_CHECKING:
    from pylab_container.engine import Engine


class Snapshot(Struct, frozen=True):
    """What was in the driver's directory before the records were read."""

    directories: tuple[CacheId, ...]
    links: tuple[str, ...]

    @classmethod
    def take(cls, driver: Driver) -> Snapshot:
        """Only what a layer database names is listed: other programs' directories are theirs."""
        directories = tuple(name for name in driver.cache_ids() if len(name.removesuffix("-init")) == 64)
        links = driver.root / "l"
        return cls(directories, tuple(os.listdir(links)) if links.is_dir() else ())


class _Owned(Struct, frozen=True):
    """A directory with its owner. below: the cache id of the layer under it, "" for the lowest, "?" if that is lost."""

    cache_id: CacheId
    below: CacheId | Literal["", "?"]
    owner: str
    writable: WritableLayer | None = None


def check_directories(engine: Engine, report: Report, seen: Snapshot) -> None:
    """Check every layer's directory, parents first; then say which directories and links are nobody's."""
    owned = list(_owned(engine))
    driver = engine.data.driver
    if driver.name == "overlay2":
        links = _Links(driver.root)
        for directory in owned:
            _check_no_link(report, driver.root, directory)
            _check_directory(engine, report, directory, links)
        _check_links(report, seen, links)
    if driver.name == "overlay":
        _check_lower_ids(engine, report, owned)
    named = {directory.cache_id for directory in owned} | _in_the_making(engine)
    for cache_id in sorted(set(seen.directories) - named):
        places = (driver.root / cache_id, driver.root / "dir" / cache_id)
        if (path := next(filter(Path.exists, places), None)) is not None:
            sentence = f"the directory {driver.name}/{cache_id[:12]}… belongs to no layer and no container"
            fix = None if report.hides_owners else partial(driver.remove, cache_id)
            report.add("directory", sentence, path, fix)


def _owned(engine: Engine) -> Iterator[_Owned]:
    """Every directory that a layer or a container names, parents first."""
    waiting = []
    for chain in engine.data.layers.chains():
        try:
            waiting.append(engine.data.layers.get(chain))
        except CorruptStore:
            continue  # layers.py says what is wrong with its record
    cache_ids: dict[str, CacheId | Literal[""]] = {"": ""}
    while ready := [layer for layer in waiting if layer.parent in cache_ids]:
        for layer in ready:
            waiting.remove(layer)
            cache_ids[layer.chain_id] = layer.cache_id
            yield _Owned(layer.cache_id, cache_ids[layer.parent], f"the layer {layer.chain_id[7:19]}")
    for layer in waiting:  # what they lie on is lost, but the directories are still theirs
        yield _Owned(layer.cache_id, "?", f"the layer {layer.chain_id[7:19]}")
    for writable in engine.data.layers.writable_layers():
        owner = f"the container {writable.container_id[:12]}"
        yield _Owned(writable.init_id, cache_ids.get(writable.parent, "?"), owner, writable)
        yield _Owned(writable.mount_id, writable.init_id, owner, writable)


def _in_the_making(engine: Engine) -> set[str]:
    paths = (engine.data.layers.root / "tmp").glob("write-set-*/cache-id")
    records = (engine.data.layers.root / "sha256").glob("*/cache-id")  # again: of damaged ones, and of new ones
    own = (engine.data.layers.root / "mounts").glob("*/*-id")
    return {peek(path).strip() for path in [*paths, *records, *own]}


class _Links:
    """The short names in l/: which directory each leads to, now."""

    def __init__(self, root: Path) -> None:
        self.directory = root / "l"
        self.root = root

    def target(self, link: str) -> str:
        """The cache id that a short name leads to; "" for one that is missing or of another form."""
        if ShortName.match(link) is None:
            return ""
        try:
            text = os.readlink(self.directory / link)
        except OSError:
            return ""
        cache_id = text.removeprefix("../").removesuffix("/diff")
        return cache_id if text == link_target(cache_id) and "/" not in cache_id else ""

    def of(self, cache_id: CacheId) -> list[str]:
        """The short names that lead to a directory."""
        return sorted(link for link in os.listdir(self.directory) if self.target(link) == cache_id)

    def give(self, cache_id: CacheId) -> None:
        """Make file and link agree: by the link, else by the file, else by a new name."""
        directory = self.root / cache_id
        link = next(iter(self.of(cache_id)), peek(directory / "link"))
        if not ShortName.match(link) or self.target(link) not in ("", cache_id):
            link = new_link()
        if self.target(link) != cache_id:
            (self.directory / link).unlink(missing_ok=True)
            (self.directory / link).symlink_to(link_target(cache_id))
        replace_file(directory / "link", link)


def _check_no_link(report: Report, root: Path, owned: _Owned) -> None:
    """The driver refuses a link in a directory's place: it could lead anywhere."""
    directory = root / owned.cache_id
    for path in (directory, *(directory / name for name in ("diff", "work", "merged"))):
        if path.is_symlink():
            sentence = f"{path.relative_to(root.parent)} of {owned.owner} is a symbolic link; repair moves it aside"
            report.add("directory", sentence, path, partial(set_aside, path))


def _check_directory(engine: Engine, report: Report, owned: _Owned, links: _Links) -> None:
    directory = engine.data.driver.root / owned.cache_id
    name = f"overlay2/{owned.cache_id[:12]}…{'-init' if owned.cache_id.endswith('-init') else ''} of {owned.owner}"
    if not (directory / "diff").is_dir():
        if owned.writable:
            report.add(
                "container",
                f"{name} is lost; repair makes it anew, empty",
                directory,
                partial(_make_anew, engine, owned),
            )
        return  # of a read-only layer, layers.py has told it
    if links.target(peek(directory / "link")) != owned.cache_id:
        report.add(
            "directory",
            f"{name} has no short name in overlay2/l that its link file says",
            directory / "link",
            partial(links.give, owned.cache_id),
        )
    if owned.below and not (directory / "work").is_dir():
        report.add(
            "directory",
            f"{name} has no work directory",
            directory / "work",
            partial((directory / "work").mkdir, mode=0o700),
        )
    if owned.below != "?" and peek(directory / "lower") != (wanted := _lower(engine, owned.below)):
        report.add(
            "directory",
            f"{name} is not on top of its parent",
            directory / "lower",
            partial(_write_lower, directory, wanted),
        )


def _check_lower_ids(engine: Engine, report: Report, owned: Sequence[_Owned]) -> None:
    """The trees below containers of the overlay driver (store/overlay.py)."""
    for one in owned:
        path = engine.data.driver.root / one.cache_id / "lower-id"
        if one.writable is None or one.writable.parent == "" or not path.parent.is_dir():
            continue
        with contextlib.suppress(CorruptStore):  # the layer has its own finding
            below = engine.data.layers.get(one.writable.parent).cache_id
            if peek(path) != below:
                sentence = f"overlay/{one.cache_id[:12]}… of {one.owner} is not on top of its parent"
                report.add("directory", sentence, path, partial(replace_file, path, below))


def _lower(engine: Engine, below: str) -> str:
    """What the lower file of a layer on top of below says."""
    if not below:
        return ""
    directory = engine.data.driver.root / below
    return ":".join(filter(None, [f"l/{peek(directory / 'link')}", peek(directory / "lower")]))


def _write_lower(directory: Path, text: str) -> None:
    set_aside(directory / "lower")
    if text:
        (directory / "lower").write_text(text)


def _make_anew(engine: Engine, owned: _Owned) -> None:
    directory = engine.data.driver.root / owned.cache_id
    if directory.exists():
        (directory / "diff").mkdir(mode=0o755)
    else:
        if owned.below == "?":
            raise CorruptStore(f"the layer below {owned.owner} is unknown", hint="restore that layer first")
        engine.data.driver.create(owned.cache_id, owned.below or None)
    if owned.cache_id.endswith("-init"):
        fill_init_layer(engine.data.driver.mount(owned.cache_id))
        engine.data.driver.unmount(owned.cache_id)


def _check_links(report: Report, seen: Snapshot, links: _Links) -> None:
    for link in seen.links:
        path = links.directory / link
        if path.is_symlink() and peek(links.root / links.target(link) / "link") != link:
            sentence = f"overlay2/l/{link} leads to no directory that has this short name"
            report.add("directory", sentence, path, path.unlink)
