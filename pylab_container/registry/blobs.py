"""What a repository holds: manifests by tag or digest, blobs by digest, and its tags; and how it gets them.

    GET, PUT  /v2/<name>/manifests/<tag or digest>
    GET, HEAD /v2/<name>/blobs/<digest>               with Range, from where a download broke off
    POST      /v2/<name>/blobs/uploads/               begins an upload; ?mount=<digest>&from=<name> spares it
    PATCH     <its Location>                          sends the bytes
    PUT       <its Location>?digest=<digest>          ends it
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

_MOST_PAGES = 1000
_NEXT = re.compile(r'<([^<>]+)>\s*;\s*rel="?next"?')


class FetchedManifest(Struct, frozen=True):
    """A manifest or index, as the bytes that it came as."""

    raw: bytes
    kind: str

    @property
    def digest(self) -> str:
        """Of its bytes: what it is called for ever."""
        return sha256(self.raw)


class Upload(Struct, frozen=True):
    """What was sent: the digest of the bytes, and how many."""

    digest: str
    size: int


class ManifestUnknown(NotFound):
    """The repository has no manifest of this name, or there is no such repository; code as in RegistryFailed."""

    def __init__(self, message: str, *, hint: str = "", code: str = "") -> None:
        super().__init__(message, hint=hint)
        self.code = code


class Repository:
    """One repository of a registry.

    writes  it is to be written, so each request asks for permission to do that too
    """

    def __init__(self, registry: RegistryClient, name: str, *, writes: bool = False) -> None:
        self.registry = registry
        self.name = name
        self._scopes = (f"repository:{name}:{'pull,push' if writes else 'pull'}",)

    # ---- read ----

    def manifest(self, reference: str) -> FetchedManifest:
        """The manifest of a tag or digest; with a digest, it is verified.

        Raises ManifestUnknown, Unauthorized, InvalidArchive.
        """
        accept = {"Accept": ", ".join(manifests.ACCEPTED)}
        response = self.registry.fetch(
            f"/v2/{self.name}/manifests/{quote(reference)}", scopes=self._scopes, headers=accept
        )
        if response.status != 200:
            raise _refused(response, f"manifest {reference}")
        raw, said = response.body(), response.headers.get("Content-Type", "").partition(";")[0].strip()
        if ":" in reference and sha256(raw) != reference:
            raise InvalidArchive(
                f"manifest verification failed for digest {reference}", hint="the registry is damaged, or somebody lies"
            )
        return FetchedManifest(raw, manifests.kind_of(raw, said))

    def document(self, digest: str, size: int) -> bytes:
        """A small blob as a whole, verified: an image's config. Raises InvalidArchive, RegistryFailed."""
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
        """The answer with a blob's bytes from start on: 206, or 200 where the registry sends all of it again.

        Raises RegistryFailed.
        """
        headers = {"Range": f"bytes={start}-"} if start else {}
        response = self.registry.request("GET", f"/v2/{self.name}/blobs/{digest}", scopes=self._scopes, headers=headers)
        if response.status not in (200, 206):
            with contextlib.closing(response):
                raise _refused(response, f"blob {digest}")
        return response

    def has_blob(self, digest: str) -> int | None:
        """How many bytes a blob of the repository has; None where it is not there."""
        with self._request("HEAD", f"blobs/{digest}") as response:
            if response.status == 200:
                return number_of(response.headers.get("Content-Length", ""))
            return None

    def tags(self) -> Iterator[str]:
        """Every tag. Raises ManifestUnknown, RegistryFailed."""
        path = f"/v2/{self.name}/tags/list"
        for _ in range(_MOST_PAGES):
            response = self.registry.fetch(path, scopes=self._scopes)
            if response.status != 200:
                raise _refused(response, "the list of tags")
            try:
                yield from [str(tag) for tag in parse_json(response.body())["tags"] or ()]
            except (ValueError, KeyError, TypeError) as error:
                raise RegistryFailed("the registry's list of tags cannot be understood") from error
            following = _NEXT.search(response.headers.get("Link", ""))
            if following is None:
                return
            path = joined(path, following[1])

    # ---- write ----

    def mount(self, digest: str, origin: str) -> bool:
        """Take a blob over from another repository of the registry; False where that does not work."""
        asked = urlencode({"mount": digest, "from": origin})
        scopes = (*self._scopes, f"repository:{origin}:pull")
        with contextlib.closing(
            self.registry.request("POST", f"/v2/{self.name}/blobs/uploads/?{asked}", scopes=scopes, body=b"")
        ) as response:
            status, place = response.status, response.headers.get("Location", "")
        if status == 202 and place:  # it began an upload instead, which nobody will end
            with contextlib.suppress(RegistryFailed):
                self.registry.request("DELETE", place, scopes=self._scopes).close()
        return status == 201

    def upload(self, make: Callable[[], Iterable[bytes]]) -> Upload:
        """Send a blob while it is made; its digest is known in the end. Raises Unauthorized, RegistryFailed."""
        sent = _Sent(make)
        place = self._begin()
        with contextlib.closing(
            self.registry.request(
                "PATCH",
                place,
                scopes=self._scopes,
                headers={"Content-Type": "application/octet-stream"},
                body=sent.pieces,
            )
        ) as response:
            if response.status not in (202, 204):
                raise failure(response, "the upload was refused")
            place = response.headers.get("Location", place)
        self._end(place, sent.digest)
        return Upload(sent.digest, sent.size)

    def upload_document(self, raw: bytes) -> None:
        """Send a small blob, unless it is there."""
        digest = sha256(raw)
        if self.has_blob(digest) is None:
            self._end(self._begin(), digest, raw)

    def put_manifest(self, tag: str, raw: bytes, kind: str) -> None:
        """Give the repository a manifest under a tag. Raises Unauthorized, RegistryFailed."""
        with self._request("PUT", f"manifests/{quote(tag)}", headers={"Content-Type": kind}, body=raw) as response:
            if response.status not in (200, 201, 202):
                raise failure(response, "")

    def _begin(self) -> str:
        with self._request("POST", "blobs/uploads/", body=b"") as response:
            place = response.headers.get("Location", "")
            if response.status != 202 or not place:
                raise failure(response, "")
        return place

    def _end(self, place: str, digest: str, raw: bytes = b"") -> None:
        mark = "&" if "?" in place else "?"
        headers = {"Content-Type": "application/octet-stream"}
        address = f"{place}{mark}{urlencode({'digest': digest})}"
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


class _Sent:
    """A body that knows its digest once it was sent."""

    def __init__(self, make: Callable[[], Iterable[bytes]]) -> None:
        self._make = make
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"

    def pieces(self) -> Iterator[bytes]:
        self._hash, self.size = hashlib.sha256(), 0  # another try begins anew
        for piece in self._make():
            self._hash.update(piece)
            self.size += len(piece)
            yield piece


def _refused(response: Response, what: str) -> Exception:
    """The error for something that could not be read."""
    if response.status == 404:
        found = codes(response)
        code, message = found[0] if found else ("", "404 page not found")
        words = f"{code.lower().replace('_', ' ')}: {message or what}" if code else f"{what}: {message}"
        return ManifestUnknown(words, hint="check the name and the tag", code=code)
    return failure(response, "")
