"""Extract a whole archive, for `docker cp` and for a build context that is a tar."""

from __future__ import annotations

import posixpath
from collections.abc import Callable

from pylab_container.oci import tar
from pylab_container.store.extractor import Extractor, clamped, inside
from pylab_container.store.layertar import MemberSource


def extract(
    members: MemberSource, extractor: Extractor, directory: str = "", change: Callable[[tar.Header], None] | None = None
) -> int:
    """Extract members below a directory of the extractor's root; returns the bytes of tar.

    A name may contain "..": at the root it stays there, as in a path, and it cannot lead out of another directory.

    change  may alter each header before its file is created

    Raises InvalidArchive.
    """
    relative, total = inside if directory else clamped, 0
    for header in members:
        total += len(members.raw) + header.size
        name = relative(header.name)
        if not name:
            continue
        header.name = posixpath.join(directory, name)
        if header.kind == tar.LINK:
            header.link = posixpath.join(directory, relative(header.link))
        if change:
            change(header)
        extractor.create(header)
        for chunk in members.content():
            extractor.write(chunk)
        extractor.complete(header)
    extractor.finish()
    return total + len(members.raw) + len(tar.END)
