"""The storage driver's directories (store/overlay2.py): link, lower, work and owner."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from msgspec import Struct

from pylab_container.errors import CorruptStore
from pylab_container.maintenance.fsck.report import Report, replace_file, set_aside
from pylab_container.oci.ids import CacheId, ShortName
from pylab_container.store.data_root import DataRoot
from pylab_container.store.driver import Driver
from pylab_container.store.init_layer import fill_init_layer
from pylab_container.store.layer_store import WritableLayer
from pylab_container.store.overlay2 import link_target, new_link
from pylab_container.store.reading import peek


class Snapshot(Struct, frozen=True):
    """The entries of the driver's directory before the records were read."""

    directories: tuple[CacheId, ...]
    links: tuple[str, ...]

    @classmethod
    def take(cls, driver: Driver) -> Snapshot:
        """List the entries.

        Names that this engine does not use are left out: other programs may own them.
        """
        directories = tuple(name for name in driver.cache_ids() if len(name.removesuffix("-init")) == 64)
        links = driver.root / "l"
        return cls(directories, tuple(os.listdir(links)) if links.is_dir() else ())


class _Owned(Struct, frozen=True):
    """A directory with its owner.

    below     the cache id of the layer below it: "" for the lowest, "?" if its record is damaged
    owner     the layer or container, as findings name it
    writable  the writable layer that it belongs to; None for a read-only layer
    """

    cache_id: CacheId
    below: CacheId | Literal["", "?"]
    owner: str
    writable: WritableLayer | None = None

    @property
    def is_init(self) -> bool:
        """Whether it is the init layer of a container."""
        return self.cache_id.endswith("-init")


def check_directories(data: DataRoot, report: Report, snapshot: Snapshot) -> None:
    """Check every layer's directory, then find directories and links without an owner."""
    owned = list(_owned(data))
    driver = data.driver
    if driver.name == "overlay2":
        links = _Links(driver.root)
        for directory in owned:
            _check_is_directory(report, driver.root, directory)
            _check_directory(data, report, directory, links)
        _check_links(report, snapshot, links)
    if driver.name == "overlay":
        _check_lower_ids(data, report, owned)
    recorded = {directory.cache_id for directory in owned} | _recorded_ids(data)
    for cache_id in sorted(set(snapshot.directories) - recorded):
        places = (driver.root / cache_id, driver.root / "dir" / cache_id)
        if (path := next(filter(Path.exists, places), None)) is not None:
            sentence = f"the directory {driver.name}/{cache_id[:12]}… belongs to no layer and no container"
            fix = None if report.hides_owners else partial(driver.remove, cache_id)
            report.add("directory", sentence, path, fix)


# -- owners --------------------------------------------------------------------------------------


def _owned(data: DataRoot) -> Iterator[_Owned]:
    """Yield every directory that the record of a layer or a container names, parents first."""
    waiting = []
    for chain in data.layers.chains():
        with contextlib.suppress(CorruptStore):  # layers.py reports the damaged record
            waiting.append(data.layers.get(chain))
    cache_ids: dict[str, CacheId | Literal[""]] = {"": ""}
    while ready := [layer for layer in waiting if layer.parent in cache_ids]:
        for layer in ready:
            waiting.remove(layer)
            cache_ids[layer.chain_id] = layer.cache_id
            yield _Owned(layer.cache_id, cache_ids[layer.parent], f"the layer {layer.chain_id[7:19]}")
    for layer in waiting:  # the record of the layer below is damaged
        yield _Owned(layer.cache_id, "?", f"the layer {layer.chain_id[7:19]}")
    for writable in data.layers.writable_layers():
        owner = f"the container {writable.container_id[:12]}"
        yield _Owned(writable.init_id, cache_ids.get(writable.parent, "?"), owner, writable)
        yield _Owned(writable.mount_id, writable.init_id, owner, writable)


def _recorded_ids(data: DataRoot) -> set[str]:
    """Return the cache ids in write-sets, and in all records as they are now, damaged and new ones included."""
    write_sets = (data.layers.root / "tmp").glob("write-set-*/cache-id")
    layers = (data.layers.root / "sha256").glob("*/cache-id")
    containers = (data.layers.root / "mounts").glob("*/*-id")
    return {peek(path).strip() for path in [*write_sets, *layers, *containers]}


# -- overlay2: one directory ---------------------------------------------------------------------


class _Links:
    """The symbolic links in l/, whose short names keep mount options short; read from the disk on each call."""

    def __init__(self, root: Path) -> None:
        self.directory = root / "l"
        self.root = root

    def target(self, link: str) -> str:
        """Return the cache id that a link leads to; "" if the link is missing or has another form."""
        if ShortName.match(link) is None:
            return ""
        try:
            text = os.readlink(self.directory / link)
        except OSError:
            return ""
        cache_id = text.removeprefix("../").removesuffix("/diff")
        return cache_id if text == link_target(cache_id) and "/" not in cache_id else ""

    def leading_to(self, cache_id: CacheId) -> list[str]:
        """Return the links that lead to a directory, sorted."""
        return sorted(link for link in os.listdir(self.directory) if self.target(link) == cache_id)

    def repair(self, cache_id: CacheId) -> None:
        """Make a directory's link and its link file agree.

        Uses the name of the link, else the name in the file, else a new name.
        """
        directory = self.root / cache_id
        link = next(iter(self.leading_to(cache_id)), peek(directory / "link"))
        if not ShortName.match(link) or self.target(link) not in ("", cache_id):
            link = new_link()
        if self.target(link) != cache_id:
            (self.directory / link).unlink(missing_ok=True)
            (self.directory / link).symlink_to(link_target(cache_id))
        replace_file(directory / "link", link)


def _check_is_directory(report: Report, root: Path, owned: _Owned) -> None:
    """Check that no symbolic link has replaced a directory: it could lead anywhere, so the driver refuses it."""
    directory = root / owned.cache_id
    for path in (directory, *(directory / name for name in ("diff", "work", "merged"))):
        if path.is_symlink():
            sentence = f"{path.relative_to(root.parent)} of {owned.owner} is a symbolic link; repair moves it aside"
            report.add("directory", sentence, path, partial(set_aside, path))


def _check_directory(data: DataRoot, report: Report, owned: _Owned, links: _Links) -> None:
    directory = data.driver.root / owned.cache_id
    name = f"overlay2/{owned.cache_id[:12]}…{'-init' if owned.is_init else ''} of {owned.owner}"
    if not (directory / "diff").is_dir():
        if owned.writable:  # of a read-only layer, layers.py has reported it
            sentence = f"{name} is lost; repair creates an empty one"
            report.add("container", sentence, directory, partial(_recreate, data, owned))
        return
    if links.target(peek(directory / "link")) != owned.cache_id:
        sentence = f"{name} has no short name in overlay2/l that its link file says"
        report.add("directory", sentence, directory / "link", partial(links.repair, owned.cache_id))
    if owned.below and not (directory / "work").is_dir():
        fix = partial((directory / "work").mkdir, mode=0o700)
        report.add("directory", f"{name} has no work directory", directory / "work", fix)
    if owned.below != "?" and peek(directory / "lower") != (lower := _lower(data, owned.below)):
        sentence = f"{name} is not on top of its parent"
        report.add("directory", sentence, directory / "lower", partial(_write_lower, directory, lower))


def _lower(data: DataRoot, below: str) -> str:
    """Return the content of the lower file of a layer whose parent has the cache id below."""
    if not below:
        return ""
    directory = data.driver.root / below
    return ":".join(filter(None, [f"l/{peek(directory / 'link')}", peek(directory / "lower")]))


def _write_lower(directory: Path, text: str) -> None:
    set_aside(directory / "lower")
    if text:
        (directory / "lower").write_text(text)


def _recreate(data: DataRoot, owned: _Owned) -> None:
    """Create the lost directory of a container's layer, empty or with the files of an init layer."""
    directory = data.driver.root / owned.cache_id
    if directory.exists():
        (directory / "diff").mkdir(mode=0o755)
    else:
        if owned.below == "?":
            raise CorruptStore(f"the layer below {owned.owner} is unknown", hint="restore that layer first")
        data.driver.create(owned.cache_id, owned.below or None)
    if owned.is_init:
        fill_init_layer(data.driver.mount(owned.cache_id))
        data.driver.unmount(owned.cache_id)


def _check_links(report: Report, snapshot: Snapshot, links: _Links) -> None:
    for link in snapshot.links:
        path = links.directory / link
        if path.is_symlink() and peek(links.root / links.target(link) / "link") != link:
            sentence = f"overlay2/l/{link} leads to no directory that has this short name"
            report.add("directory", sentence, path, path.unlink)


# -- overlay -------------------------------------------------------------------------------------


def _check_lower_ids(data: DataRoot, report: Report, owned: Sequence[_Owned]) -> None:
    """Check the lower-id files of containers, which name the tree below each (store/overlay.py)."""
    for directory in owned:
        path = data.driver.root / directory.cache_id / "lower-id"
        if directory.writable is None or directory.writable.parent == "" or not path.parent.is_dir():
            continue
        with contextlib.suppress(CorruptStore):  # the layer's record has its own finding
            below = data.layers.get(directory.writable.parent).cache_id
            if peek(path) != below:
                sentence = f"overlay/{directory.cache_id[:12]}… of {directory.owner} is not on top of its parent"
                report.add("directory", sentence, path, partial(replace_file, path, below))
