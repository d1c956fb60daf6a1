"""One repository of a registry: manifests by tag or digest, blobs by digest, tags, and uploads.

    GET, PUT  /v2/<name>/manifests/<tag or digest>
    GET, HEAD /v2/<name>/blobs/<digest>               with Range, to resume a download
    POST      /v2/<name>/blobs/uploads/               begins an upload; ?mount=<digest>&from=<name> replaces it
    PATCH     <its Location>                          sends the bytes
    PUT       <its Location>?digest=<digest>          completes it
    GET       /v2/<name>/tags/list

Source: OCI distribution-spec 1.1, "Endpoints".
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from urllib.parse import quote, urlencode

from msgspec import Struct

from pylab_container.errors import InvalidArchive, NotFound, RegistryFailed
from pylab_container.oci import manifest as manifests
from pylab_container.oci.image import sha256
from pylab_container.registry.answers import joined, number_of
from pylab_container.registry.client import RegistryClient, Response, codes, failure
from pylab_container.text.jsontext import parse_json

_MOST_PAGES = 1000  # pages of a list of tags; a faulty registry's links to the next page may form a cycle
_NEXT_LINK = re.compile(r'<([^<>]+)>\s*;\s*rel="?next"?')


class FetchedManifest(Struct, frozen=True):
    """A manifest or index with its media type. The bytes are kept as received, because their digest names them."""

    raw: bytes
    kind: str

    @property
    def digest(self) -> str:
        """The digest of the bytes."""
        return sha256(self.raw)


class Upload(Struct, frozen=True):
    """An uploaded blob: its digest, and its size in bytes."""

    digest: str
    size: int


class ManifestUnknown(NotFound):
    """The manifest or the repository does not exist. code: as of RegistryFailed."""

    def __init__(self, message: str, *, hint: str = "", code: str = "") -> None:
        super().__init__(message, hint=hint)
        self.code = code


class Repository:
    """One repository of a registry.

    writes  whether requests ask for the permission to write
    """

    def __init__(self, registry: RegistryClient, name: str, *, writes: bool = False) -> None:
        self.registry = registry
        self.name = name
        self._scopes = (f"repository:{name}:{'pull,push' if writes else 'pull'}",)

    # Reading

    def manifest(self, reference: str) -> FetchedManifest:
        """Fetch the manifest of a tag or digest, and verify the digest.

        Raises ManifestUnknown, Unauthorized, and InvalidArchive for a manifest with another digest.
        """
        accept = {"Accept": ", ".join(manifests.ACCEPTED)}
        response = self.registry.fetch(
            f"/v2/{self.name}/manifests/{quote(reference)}", scopes=self._scopes, headers=accept
        )
        if response.status != 200:
            raise _refused(response, f"manifest {reference}")
        raw, content_type = response.body(), response.headers.get("Content-Type", "").partition(";")[0].strip()
        if ":" in reference and sha256(raw) != reference:
            raise InvalidArchive(
                f"manifest verification failed for digest {reference}", hint="the registry is damaged or manipulated"
            )
        return FetchedManifest(raw, manifests.kind_of(raw, content_type))

    def document(self, digest: str, size: int) -> bytes:
        """Fetch an image's config, a small blob, and verify it. Raises InvalidArchive, RegistryFailed."""
        response = self.registry.fetch(f"/v2/{self.name}/blobs/{digest}", scopes=self._scopes)
        if response.status != 200:
            raise _refused(response, f"blob {digest}")
        raw = response.body()
        if len(raw) != size or sha256(raw) != digest:
            raise InvalidArchive(
                f"image config verification failed for digest {digest}", hint="the registry is damaged"
            )
        return raw

    def open_blob(self, digest: str, start: int) -> Response:
        """Request a blob from the byte at start on. The status is 206, or 200 if the registry sends the whole blob.

        Raises RegistryFailed.
        """
        headers = {"Range": f"bytes={start}-"} if start else {}
        response = self.registry.request("GET", f"/v2/{self.name}/blobs/{digest}", scopes=self._scopes, headers=headers)
        if response.status not in (200, 206):
            with contextlib.closing(response):
                raise _refused(response, f"blob {digest}")
        return response

    def has_blob(self, digest: str) -> int | None:
        """Return the size of a blob in bytes; None if the repository does not have it."""
        with self._request("HEAD", f"blobs/{digest}") as response:
            if response.status == 200:
                return number_of(response.headers.get("Content-Length", ""))
            return None

    def tags(self) -> Iterator[str]:
        """Yield all tags. Raises ManifestUnknown, RegistryFailed."""
        path = f"/v2/{self.name}/tags/list"
        for _ in range(_MOST_PAGES):
            response = self.registry.fetch(path, scopes=self._scopes)
            if response.status != 200:
                raise _refused(response, "the list of tags")
            try:
                yield from [str(tag) for tag in parse_json(response.body())["tags"] or ()]
            except (ValueError, KeyError, TypeError) as error:
                raise RegistryFailed("the registry's list of tags cannot be parsed") from error
            following = _NEXT_LINK.search(response.headers.get("Link", ""))
            if following is None:
                return
            path = joined(path, following[1])

    # Writing

    def mount(self, digest: str, origin: str) -> bool:
        """Mount a blob of another repository of the registry into this one; False if the registry does not do it."""
        query = urlencode({"mount": digest, "from": origin})
        scopes = (*self._scopes, f"repository:{origin}:pull")
        with contextlib.closing(
            self.registry.request("POST", f"/v2/{self.name}/blobs/uploads/?{query}", scopes=scopes, body=b"")
        ) as response:
            status, location = response.status, response.headers.get("Location", "")
        if status == 202 and location:
            # The registry has begun an upload instead. Without a DELETE it would be kept until it expires.
            with contextlib.suppress(RegistryFailed):
                self.registry.request("DELETE", location, scopes=self._scopes).close()
        return status == 201

    def upload(self, make: Callable[[], Iterable[bytes]]) -> Upload:
        """Upload a blob while it is produced. make is called again for a retry. Raises Unauthorized, RegistryFailed."""
        # The digest is known only at the end, so the bytes go by PATCH, and PUT completes the upload with the digest.
        blob = _HashedBody(make)
        location = self._begin()
        with contextlib.closing(
            self.registry.request(
                "PATCH",
                location,
                scopes=self._scopes,
                headers={"Content-Type": "application/octet-stream"},
                body=blob.pieces,
            )
        ) as response:
            if response.status not in (202, 204):
                raise failure(response, "the upload was refused")
            # Each answer may name another address for the next request.
            location = response.headers.get("Location", location)
        self._complete(location, blob.digest)
        return Upload(blob.digest, blob.size)

    def upload_document(self, raw: bytes) -> None:
        """Upload a small blob, unless the repository has it."""
        digest = sha256(raw)
        if self.has_blob(digest) is None:
            self._complete(self._begin(), digest, raw)

    def put_manifest(self, tag: str, raw: bytes, kind: str) -> None:
        """Upload a manifest under a tag; kind is its media type. Raises Unauthorized, RegistryFailed."""
        with self._request("PUT", f"manifests/{quote(tag)}", headers={"Content-Type": kind}, body=raw) as response:
            if response.status not in (200, 201, 202):
                raise failure(response, "")

    def _begin(self) -> str:
        """Begin an upload; return the address for its next request."""
        with self._request("POST", "blobs/uploads/", body=b"") as response:
            location = response.headers.get("Location", "")
            if response.status != 202 or not location:
                raise failure(response, "")
        return location

    def _complete(self, location: str, digest: str, raw: bytes = b"") -> None:
        separator = "&" if "?" in location else "?"
        headers = {"Content-Type": "application/octet-stream"}
        address = f"{location}{separator}{urlencode({'digest': digest})}"
        with contextlib.closing(
            self.registry.request("PUT", address, scopes=self._scopes, headers=headers, body=raw)
        ) as response:
            if response.status not in (201, 204):
                raise failure(response, "the upload was refused")

    def _request(
        self, method: str, path: str, *, headers: dict[str, str] | None = None, body: bytes | None = None
    ) -> contextlib.closing[Response]:
        address = f"/v2/{self.name}/{path}"
        return contextlib.closing(
            self.registry.request(method, address, scopes=self._scopes, headers=headers, body=body)
        )


class _HashedBody:
    """A body in pieces that computes its digest and size while it is sent."""

    def __init__(self, make: Callable[[], Iterable[bytes]]) -> None:
        self._make = make
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"

    def pieces(self) -> Iterator[bytes]:
        # A retry sends the body from its beginning.
        self._hash, self.size = hashlib.sha256(), 0
        for piece in self._make():
            self._hash.update(piece)
            self.size += len(piece)
            yield piece


def _refused(response: Response, what: str) -> Exception:
    """Build the error for a manifest, blob or list that could not be read."""
    if response.status == 404:
        errors = codes(response)
        code, message = errors[0] if errors else ("", "404 page not found")
        words = f"{code.lower().replace('_', ' ')}: {message or what}" if code else f"{what}: {message}"
        return ManifestUnknown(words, hint="check the name and the tag", code=code)
    return failure(response, "")
