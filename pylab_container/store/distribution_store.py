"""Known blobs of layers, and the repositories at registries that have them.

    image/<driver>/distribution/
    ├── diffid-by-digest/sha256/<digest of the blob>     the diff id of the blob's content
    └── v2metadata-by-diffid/sha256/<diff id>            [{"Digest", "SourceRepository", "HMAC"}, …]

A blob's digest is that of its compressed bytes, and one layer can be compressed in many ways. A known blob need not be
uploaded: the registry has it already, or mounts it from another repository. The entries are hints, because a registry
may have deleted the blob; no operation relies on them.

HMAC identifies the credentials with which the blob was accessed, without revealing them: with others it may be
inaccessible. Format: moby distribution/metadata/v2_metadata_service.go (20.10).
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from pylab_container.errors import CorruptStore
from pylab_container.host.files import locked, write_atomic
from pylab_container.oci.ids import Digest
from pylab_container.oci.image import go_json, sha256
from pylab_container.store.reading import read_bytes, read_id

_MOST_BLOBS = 50  # of a layer, as in moby (maxMetadata); the oldest are dropped


class KnownBlob(Struct, frozen=True):
    """A blob of a layer in a repository, such as "sha256:…" in "docker.io/library/debian"."""

    digest: str
    repository: str
    hmac: str = ""

    def signed(self, auth: Mapping[str, Any]) -> KnownBlob:
        """Return the blob with the HMAC of credentials, which are an AuthConfig of Docker's API."""
        named = ("username", "password", "auth", "identitytoken", "registrytoken")
        key = sha256(go_json({name: auth[name] for name in named if auth.get(name)}))
        code = hmac.new(key.encode(), f"{self.digest}{self.repository}".encode(), hashlib.sha256)
        return KnownBlob(self.digest, self.repository, code.hexdigest())


class DistributionStore:
    """Owner of distribution/."""

    def __init__(self, root: Path, locks: Path) -> None:
        self.root = root
        self._lock_file = locks / "distribution"
        self._diff_ids = root / "diffid-by-digest/sha256"
        self._blobs = root / "v2metadata-by-diffid/sha256"

    def diff_id(self, digest: str) -> str:
        """Return the diff id of a blob, "" if it is unknown."""
        try:
            return read_id(self._diff_ids / digest.removeprefix("sha256:"), Digest)
        except CorruptStore:
            return ""  # the hint is missing or damaged; the cost is a download

    def blobs(self, diff_id: str) -> list[KnownBlob]:
        """Return the known blobs of a layer, latest last; unreadable entries count as unknown."""
        with contextlib.suppress(CorruptStore, OSError, ValueError, KeyError, TypeError, AttributeError):
            entries = json.loads(read_bytes(self._blobs / diff_id.removeprefix("sha256:")))
            return [
                KnownBlob(str(entry["Digest"]), str(entry["SourceRepository"]), str(entry.get("HMAC") or ""))
                for entry in entries
            ]
        return []

    def add(self, diff_id: str, blob: KnownBlob) -> None:
        """Record that a repository has a layer as a blob."""
        with locked(self._lock_file):
            self._write(diff_id, [*(known for known in self.blobs(diff_id) if known != blob), blob][-_MOST_BLOBS:])
            self._diff_ids.mkdir(parents=True, exist_ok=True)
            write_atomic(self._diff_ids / blob.digest.removeprefix("sha256:"), diff_id.encode())

    def forget(self, diff_id: str, blob: KnownBlob) -> None:
        """Delete an entry, because the repository does not have the blob any more."""
        with locked(self._lock_file):
            left = [known for known in self.blobs(diff_id) if known != blob]
            if left:
                self._write(diff_id, left)
            else:
                (self._blobs / diff_id.removeprefix("sha256:")).unlink(missing_ok=True)

    def _write(self, diff_id: str, blobs: list[KnownBlob]) -> None:
        entries = [{"Digest": blob.digest, "SourceRepository": blob.repository, "HMAC": blob.hmac} for blob in blobs]
        self._blobs.mkdir(parents=True, exist_ok=True)
        write_atomic(self._blobs / diff_id.removeprefix("sha256:"), go_json(entries))
