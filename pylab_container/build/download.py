"""Download a URL for ADD or for a build context: the only module that opens URLs."""

from __future__ import annotations

import contextlib
import hashlib
import os
import posixpath
import socket
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from msgspec import Struct

from pylab_container.errors import InvalidInput, NotFound, RuntimeFailed
from pylab_container.host.random_ids import random_hex

if TYPE_CHECKING:
    import http.client
    import urllib.request
    from email.message import Message

# The functions below import http.client, urllib and email late: that takes a tenth of the time in which a build starts,
# and few builds download something.

READ_SIZE = 1 << 20  # bytes
TIMEOUT = 60  # seconds without a byte


class _NotUrl(ValueError):
    """An address that is not one of a host on the web."""


class DownloadedFile(Struct, frozen=True):
    """A downloaded file.

    path   the file on this machine
    name   the file's name, from the URL or the server; "" if neither has one
    mtime  the modification time that the server reports, nanoseconds since the epoch; 0 if it reports none
    """

    path: Path
    name: str
    mtime: int


def is_url(word: str) -> bool:
    """Report whether a source argument of ADD is a URL."""
    return word.startswith(("http://", "https://"))


def fetch(url: str, directory: Path, *, checksum: str = "") -> DownloadedFile:
    """Download a URL into a new file of directory, mode 0600. Redirects are followed.

    checksum  the digest that the content must have, "sha256:…"

    Raises RuntimeFailed if the server is unreachable or refuses, NotFound if it has no such file, InvalidInput for an
    invalid URL or content with another digest; then the file is removed.
    """
    path = directory / random_hex(16)
    algorithm, _, expected = checksum.partition(":")
    try:
        with _opened(url) as response:
            digest = _save(response, path, url, algorithm or "sha256")
            headers = response.headers
        if checksum and expected != digest:
            raise InvalidInput(
                f"digest mismatch {algorithm}:{digest}: {checksum}",
                hint=f"{url} has other content: check the address and the digest",
            )
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return DownloadedFile(path, _name(url, headers), _modified(headers))


@contextlib.contextmanager
def _opened(url: str) -> Iterator[http.client.HTTPResponse]:
    import http.client
    import urllib.error
    import urllib.request

    try:
        # build_opener() uses the proxies of http_proxy, https_proxy and no_proxy, as curl does.
        request = urllib.request.Request(_quoted(url), headers={"User-Agent": "labctr", "Accept-Encoding": "identity"})
        with urllib.request.build_opener(_redirect_handler()).open(request, timeout=TIMEOUT) as response:
            yield response
    except urllib.error.HTTPError as error:
        error.close()
        kind = NotFound if error.code == HTTPStatus.NOT_FOUND else RuntimeFailed
        raise kind(
            f"failed to GET {url} with status {error.code} {error.reason}",
            hint="open it in a browser, or check the path",
        ) from error
    except (ValueError, http.client.InvalidURL) as error:
        reason = f": {error}" if isinstance(error, _NotUrl) else ""  # other messages are about Python's codecs
        raise InvalidInput(f"{url} is not a URL{reason}", hint="write http://host/path or https://host/path") from error
    except (OSError, http.client.HTTPException) as error:
        raise RuntimeFailed(
            f'Get "{url}": {_reason(error, url)}', hint="check the network and the name of the host"
        ) from error


def _reason(error: Exception, url: str) -> str:
    """Why a server is unreachable; in docker's words for the two most frequent reasons, which clients parse."""
    import urllib.parse

    reason, parts = getattr(error, "reason", None) or error, urllib.parse.urlsplit(url)
    if isinstance(reason, socket.gaierror):
        return f"dial tcp: lookup {parts.hostname}: {reason.strerror}"
    if isinstance(reason, ConnectionRefusedError):
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return f"dial tcp {parts.hostname}:{port}: connect: connection refused"
    return str(reason)


def _redirect_handler() -> urllib.request.HTTPRedirectHandler:
    """Return a handler that follows redirects to http and https only: a server must not name a file of this machine."""
    import urllib.request

    class Redirects(urllib.request.HTTPRedirectHandler):
        def redirect_request(  # type: ignore[no-untyped-def]
            self, req, fp, code, msg, headers, newurl
        ) -> urllib.request.Request | None:
            if not is_url(newurl):
                fp.close()
                raise _NotUrl(f"it leads to {newurl}")
            return super().redirect_request(req, fp, code, msg, headers, newurl)

    return Redirects()


def _save(response: http.client.HTTPResponse, path: Path, url: str, algorithm: str) -> str:
    """Write the response to path; returns its digest. Raises RuntimeFailed for an incomplete response."""
    digest = hashlib.new(algorithm)
    size = 0
    with _create(path) as file:
        while chunk := response.read(READ_SIZE):
            digest.update(chunk)
            file.write(chunk)
            size += len(chunk)
    announced = response.headers.get("Content-Length")
    if announced is not None and announced.isdecimal() and len(announced) < 19 and size < int(announced):
        raise RuntimeFailed(f"{url} was cut off after {size} of {announced} bytes", hint="try again")
    return digest.hexdigest()


def _create(path: Path) -> BinaryIO:
    return open(path, "xb", opener=lambda name, flags: os.open(name, flags, 0o600))


def _quoted(url: str) -> str:
    """Escape the characters that a request line cannot contain as %xx; existing escapes are kept."""
    import urllib.parse

    parts = urllib.parse.urlsplit(url)
    if not parts.hostname:
        raise _NotUrl("it names no host")
    path = urllib.parse.quote(os.fsencode(parts.path), safe="/%!$&'()*+,;=:@~")
    query = urllib.parse.quote(os.fsencode(parts.query), safe="/%!$&'()*+,;=:@~?")
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc, path, query, ""))


def _name(url: str, headers: Message | Mapping[str, str]) -> str:
    """The file's name, found as Docker does: the last part of the URL's path, else from Content-Disposition."""
    import urllib.parse
    from email.message import Message

    path = urllib.parse.unquote(urllib.parse.urlsplit(url).path, errors="surrogateescape")
    if path and not path.endswith("/"):
        return _base(path)
    message = Message()
    message["Content-Disposition"] = headers.get("Content-Disposition") or ""
    filename = message.get_filename() or ""
    return "" if filename.endswith("/") else _base(filename)


def _base(path: str) -> str:
    name = posixpath.basename(path)
    return "" if name in (".", "..") or "\0" in name else name


def _modified(headers: Message | Mapping[str, str]) -> int:
    """The time of Last-Modified, nanoseconds since the epoch; 0 if the header is missing or invalid."""
    import email.utils

    text = headers.get("Last-Modified")
    if not text:
        return 0
    try:
        return int(email.utils.parsedate_to_datetime(text).timestamp()) * 10**9
    except (TypeError, ValueError, OverflowError):
        return 0
