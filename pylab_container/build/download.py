"""ADD of a URL: the only place of the kit that opens one."""

from __future__ import annotations

import contextlib
import email.utils
import hashlib
import http.client
import os
import posixpath
import secrets
import socket
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from email.message import Message
from http import HTTPStatus
from pathlib import Path

from msgspec import Struct

from pylab_container.build.sources import is_url
from pylab_container.errors import InvalidInput, NotFound, RuntimeFailed

_CHUNK = 1 << 20
_TIMEOUT = 60  # seconds without a byte


class _NotUrl(ValueError):
    """An address of no host on the web."""


class Download(Struct, frozen=True):
    """What was fetched.

    path   where it lies
    name   what it is called, by the URL or the server; "" where neither says it
    mtime  when the server says that it changed, nanoseconds since the epoch; 0 where it does not say
    """

    path: Path
    name: str
    mtime: int


def fetch(url: str, directory: Path, *, checksum: str = "") -> Download:
    """Fetch a URL into a new file of directory, mode 0600. Redirects are followed.

    checksum  a digest that the content must have, as "sha256:…"

    Raises RuntimeFailed where the server does not answer or refuses, NotFound where it has no such file,
    InvalidInput for a URL that makes no sense or content with another digest; then no file is left.
    """
    path = directory / secrets.token_hex(16)
    try:
        with _opened(url) as response:
            digest = _save(response, path, url, checksum.partition(":")[0] or "sha256")
            headers = response.headers
        if checksum and checksum.partition(":")[2] != digest:
            algorithm = checksum.partition(":")[0]
            raise InvalidInput(
                f"digest mismatch {algorithm}:{digest}: {checksum}", hint=f"{url} is not the file that --checksum means"
            )
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return Download(path, _name(url, headers), _modified(headers))


@contextlib.contextmanager
def _opened(url: str) -> Iterator[http.client.HTTPResponse]:
    try:
        # Through a proxy where the environment names one, as for curl: http_proxy, https_proxy, no_proxy.
        request = urllib.request.Request(_quoted(url), headers={"User-Agent": "labctr", "Accept-Encoding": "identity"})
        with urllib.request.build_opener(_Redirects).open(request, timeout=_TIMEOUT) as response:
            yield response
    except urllib.error.HTTPError as error:
        error.close()
        kind = NotFound if error.code == HTTPStatus.NOT_FOUND else RuntimeFailed
        raise kind(
            f"failed to GET {url} with status {error.code} {error.reason}",
            hint="open it in a browser, or check the path",
        ) from error
    except (ValueError, http.client.InvalidURL) as error:
        reason = f": {error}" if isinstance(error, _NotUrl) else ""  # others are about Python's codecs
        raise InvalidInput(f"{url} is not a URL{reason}", hint="write http://host/path or https://host/path") from error
    except (OSError, http.client.HTTPException) as error:
        raise RuntimeFailed(
            f'Get "{url}": {_reason(error, url)}', hint="is the network up, and the name right?"
        ) from error


def _reason(error: Exception, url: str) -> str:
    """Why nobody answers; in docker's words for the two commonest reasons, which clients know."""
    reason, parts = getattr(error, "reason", None) or error, urllib.parse.urlsplit(url)
    if isinstance(reason, socket.gaierror):
        return f"dial tcp: lookup {parts.hostname}: {reason.strerror}"
    if isinstance(reason, ConnectionRefusedError):
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return f"dial tcp {parts.hostname}:{port}: connect: connection refused"
    return str(reason)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to the web only: a server must not name a file of this machine."""

    def redirect_request(  # type: ignore[no-untyped-def]
        self, req, fp, code, msg, headers, newurl
    ) -> urllib.request.Request | None:
        if not is_url(newurl):
            fp.close()
            raise _NotUrl(f"it leads to {newurl}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _save(response: http.client.HTTPResponse, path: Path, url: str, algorithm: str) -> str:
    """Write what comes to path, piece by piece; returns its digest."""
    digest = hashlib.new(algorithm)
    size = 0
    with open(path, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        while chunk := response.read(_CHUNK):
            digest.update(chunk)
            file.write(chunk)
            size += len(chunk)
    announced = response.headers.get("Content-Length")
    if announced is not None and announced.isdecimal() and len(announced) < 19 and size < int(announced):
        raise RuntimeFailed(f"{url} was cut off after {size} of {announced} bytes", hint="try again")
    return digest.hexdigest()


def _quoted(url: str) -> str:
    """The URL with what a request line cannot hold written as %xx; what is so already stays."""
    parts = urllib.parse.urlsplit(url)
    if not parts.hostname:
        raise _NotUrl("it names no host")
    path = urllib.parse.quote(os.fsencode(parts.path), safe="/%!$&'()*+,;=:@~")
    query = urllib.parse.quote(os.fsencode(parts.query), safe="/%!$&'()*+,;=:@~?")
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc, path, query, ""))


def _name(url: str, headers: Message | Mapping[str, str]) -> str:
    """The file's name, as Docker finds it: the URL's last part, else what Content-Disposition says."""
    path = urllib.parse.unquote(urllib.parse.urlsplit(url).path, errors="surrogateescape")
    if path and not path.endswith("/"):
        return _base(path)
    message = Message()
    message["Content-Disposition"] = headers.get("Content-Disposition") or ""
    named = message.get_filename() or ""
    return "" if named.endswith("/") else _base(named)


def _base(path: str) -> str:
    name = posixpath.basename(path)
    return "" if name in (".", "..") or "\0" in name else name


def _modified(headers: Message | Mapping[str, str]) -> int:
    text = headers.get("Last-Modified")
    if not text:
        return 0
    try:
        return int(email.utils.parsedate_to_datetime(text).timestamp()) * 10**9
    except (TypeError, ValueError, OverflowError):
        return 0
