"""What is known of layers at registries: which blob is which layer, and where it has been.

    image/<driver>/distribution/
    ├── diffid-by-digest/sha256/<digest of the blob>     the diff id of what the blob unpacks to
    └── v2metadata-by-diffid/sha256/<diff id>            [{"Digest", "SourceRepository", "HMAC"}, …]

A blob's digest is that of its compressed bytes, and the same layer may be compressed in many ways.
Knowing a blob spares a push: the registry has it already, or mounts it from another repository. The
entries are hints: a registry may have lost the blob, so nothing relies on them.

HMAC says with whose credentials the blob was there, without telling them. Format: moby
distribution/metadata (20.10).
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

_MOST = 50  # entries for each layer, as in moby: the oldest go


class KnownBlob(Struct, frozen=True):
    """One blob that a layer was in a repository as: "sha256:…" and "docker.io/library/debian"."""

    digest: str
    repository: str
    hmac: str = ""

    def signed(self, auth: Mapping[str, Any]) -> KnownBlob:
        """The same, and that it was there with these credentials, an AuthConfig of Docker's API."""
        named = ("username", "password", "auth", "identitytoken", "registrytoken")
        key = sha256(go_json({name: auth[name] for name in named if auth.get(name)}))
        code = hmac.new(key.encode(), f"{self.digest}{self.repository}".encode(), hashlib.sha256)
        return KnownBlob(self.digest, self.repository, code.hexdigest())


class DistributionStore:
    """Owns distribution/."""

    def __init__(self, root: Path, locks: Path) -> None:
        self.root = root
        self._lock_file = locks / "distribution"
        self._diff_ids = root / "diffid-by-digest/sha256"
        self._blobs = root / "v2metadata-by-diffid/sha256"

    def diff_id(self, digest: str) -> str:
        """The diff id of a blob, "" for one that was never here."""
        try:
            return read_id(self._diff_ids / digest.removeprefix("sha256:"), Digest)
        except CorruptStore:
            return ""  # a hint that is missing or damaged: the blob is downloaded

    def blobs(self, diff_id: str) -> list[KnownBlob]:
        """The blobs that a layer is known as, the latest last; what cannot be read is as good as unknown."""
        with contextlib.suppress(CorruptStore, OSError, ValueError, KeyError, TypeError, AttributeError):
            entries = json.loads(read_bytes(self._blobs / diff_id.removeprefix("sha256:")))
            return [
                KnownBlob(str(entry["Digest"]), str(entry["SourceRepository"]), str(entry.get("HMAC") or ""))
                for entry in entries
            ]
        return []

    def add(self, diff_id: str, blob: KnownBlob) -> None:
        """Note that a layer is, or was, a blob in a repository."""
        with locked(self._lock_file):
            self._write(diff_id, [*(known for known in self.blobs(diff_id) if known != blob), blob][-_MOST:])
            self._diff_ids.mkdir(parents=True, exist_ok=True)
            write_atomic(self._diff_ids / blob.digest.removeprefix("sha256:"), diff_id.encode())

    def forget(self, diff_id: str, blob: KnownBlob) -> None:
        """Take an entry back: the registry does not have the blob there any more."""
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
