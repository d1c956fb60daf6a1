"""The deep check: rebuild each layer's tar, and compare its digest, size and files."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

from msgspec import Struct

from pylab_container.errors import LabError
from pylab_container.maintenance.fsck.images import title
from pylab_container.maintenance.fsck.report import Report, replace_file
from pylab_container.oci import tar
from pylab_container.oci.ids import CacheId
from pylab_container.store import layer_content, tarsplit
from pylab_container.store.data_root import DataRoot
from pylab_container.store.layertar import TarReader
from pylab_container.store.reading import read_id
from pylab_container.store.streams import HashedStream, PieceStream

OBTAIN_AGAIN = "remove the image and import, load or build it again"
"""The advice for a layer that cannot be repaired."""


def record_directory(data: DataRoot, chain: str) -> Path:
    """Return the directory of a layer's record, in layerdb/sha256/."""
    return data.layers.root / "sha256" / chain.removeprefix("sha256:")


def check_content(data: DataRoot, report: Report) -> None:
    """Rebuild every layer's tar.

    The caller holds no lock, because this takes long. A layer that is removed concurrently is skipped.
    """
    damaged = {finding.path for finding in report.findings if not finding.repaired}
    for chain in sorted(data.layers.chains()):
        directory = record_directory(data, chain)
        # A layer that has a finding already cannot be rebuilt.
        if not any(path == directory or directory in path.parents for path in damaged):
            _check_layer(data, report, chain, directory)


def _check_layer(data: DataRoot, report: Report, chain: str, directory: Path) -> None:
    name = _title(data, chain)
    try:
        layer = data.layers.get(chain)
        content = _Content.read(layer_content.tar_stream(data.layers, chain))
        files = data.driver.diff_path(layer.cache_id)
        # A driver that stores whole trees has the files of the layers below there, too.
        extra = "" if data.driver.keeps_trees else content.find_extra(files)
    except (LabError, OSError) as error:
        if directory.exists():
            message = error.message if isinstance(error, LabError) else str(error)
            report.add("layer", f"{name} is damaged: {message}; {OBTAIN_AGAIN}", directory)
        return
    if content.digest != layer.diff_id:
        sentence = f"the tar of {name} has the digest {content.digest}, not its diff id; {OBTAIN_AGAIN}"
        report.add("layer", sentence, files)
        return
    if extra:
        sentence = f'{name} has the file "{extra}", which came from elsewhere; {OBTAIN_AGAIN}'
        report.add("layer", sentence, files / extra)
    if content.size != layer.size:
        sentence = f"{name} has {content.size} bytes of content, but says {layer.size}"
        report.add("layer", sentence, directory / "size", partial(write_size, data, directory))


def _title(data: DataRoot, chain: str) -> str:
    """Return a layer's name in findings, with an image that has the layer."""
    for image_id in data.images.all():
        try:
            if chain in data.images.get(image_id).chain_ids:
                return f"the layer {chain[7:19]} of {title(data, image_id)}"
        except (LabError, KeyError):
            continue
    return f"the layer {chain[7:19]}"


def write_size(data: DataRoot, directory: Path) -> None:
    """Compute a layer's size from its rebuilt tar, and write it to the record in directory."""
    files = data.driver.diff_path(read_id(directory / "cache-id", CacheId))
    size = _Content.read(tarsplit.assemble(directory / "tar-split.json.gz", files)).size
    replace_file(directory / "size", str(size))


class _Content(Struct, frozen=True):
    """The content of a layer's rebuilt tar.

    size   as layertar.StoredLayer.size
    names  paths of the files in the layer's directory, without the prefix of whiteouts
    """

    digest: str
    size: int
    names: frozenset[str]

    @classmethod
    def read(cls, stream: Iterator[bytes]) -> _Content:
        hashed = HashedStream(cast(BinaryIO, PieceStream(stream)))
        members = TarReader(cast(BinaryIO, hashed))
        size, names = 0, set()
        for header in members:
            size += len(os.fsencode(header.link)) if header.kind == tar.SYMLINK else header.size
            directory, name = posixpath.split(posixpath.normpath(header.name).lstrip("/"))
            names.add(posixpath.join(directory, name.removeprefix(".wh.")))
            for _ in members.content():
                pass
        for _ in members.trailer():
            pass
        return cls(hashed.digest(), size, frozenset(names))

    def find_extra(self, directory: Path) -> str:
        """Return a file of the directory that is not in the tar; "" if the tar has all.

        Directories are not compared: a tar need not list the parent directories of its files.
        """
        for top, _, files in os.walk(directory):
            relative = os.path.relpath(top, directory)
            for file in files:
                if (path := posixpath.normpath(posixpath.join(relative, file))) not in self.names:
                    return path
        return ""
