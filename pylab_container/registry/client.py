"""One registry: requests with authentication and retries, and errors that describe what failed.

Each request is emitted as a RegistryRequest: method, path, status, bytes, seconds. Redirects are followed, because many
registries store blobs on another host; that host does not get the header Authorization (connections.py).
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import SplitResult, urlsplit

from pylab_container.docker.credentials import Credentials
from pylab_container.errors import LabError, RegistryFailed, Unauthorized, Unreachable
from pylab_container.events import Emit, RegistryRequest, ignore
from pylab_container.host.extras import extra
from pylab_container.registry import challenge
from pylab_container.registry.answers import LONGEST_EXCERPT, document_of, joined, number_of
from pylab_container.registry.connections import MOST_REDIRECTS, Session
from pylab_container.registry.settings import RegistryEndpoint, RegistrySettings, RetryPolicy, bare_host, is_loopback
from pylab_container.registry.tokens import Authorizer
from pylab_container.text import golang
from pylab_container.text.jsontext import parse_json

with extra("registry"):
    import requests
    from requests.utils import get_environ_proxies
    from urllib3.connection import HTTPException
    from urllib3.exceptions import HTTPError, IncompleteRead

USER_AGENT = "pylab-container"
_LARGEST_DOCUMENT = 16 << 20  # bytes; moby reads at most 4 MiB of a manifest, and blobs are streamed
_CHUNK_SIZE = 1 << 16  # bytes of a document that are read at once
_MOST_ERRORS = 10  # errors of one answer that a message shows
_MOST_CAUSES = 8  # causes of an exception that are examined
_LONGEST_REASON = 200  # characters of an exception that are shown
# urllib3's base class for a connection that failed and for an answer that is not HTTP is the same, HTTPException. If an
# exception is one of these as well, the connection has failed, and a retry may help.
_INTERRUPTIONS = (ConnectionError, IncompleteRead)
_RETRIED_STATUSES = (408, 429, 500, 502, 503, 504)
_SHORTEST_CONNECT_TIMEOUT = 0.8  # seconds
# As in Go's net/http, the loopback is reached without a proxy, whatever the environment says.
_NO_PROXY = {"http": "", "https": "", "all": ""}

Body = bytes | Callable[[], Iterable[bytes]] | None
"""The body of a request. A function produces it in pieces, and is called again for each retry."""


class Response:
    """An answer whose body has not been read. Close it."""

    def __init__(self, answer: requests.Response, host: str) -> None:
        self._answer = answer
        self._host = host
        self._body: bytes | None = None
        self.status = answer.status_code
        self.headers: Mapping[str, str] = answer.headers
        self.url = str(answer.url)

    def pieces(self, size: int) -> Iterator[bytes]:
        """Yield the body in pieces of up to size bytes as they arrive. Raises Unreachable if it is interrupted."""
        try:
            # read() collects whole pieces, and discards an incomplete one when the connection breaks. read1() returns
            # what has arrived, so that a download can resume behind it.
            while piece := self._answer.raw.read1(size, decode_content=False):
                yield piece
        except (HTTPError, OSError) as error:
            raise broken(self._host, error) from error

    def body(self) -> bytes:
        """Read and return the whole body. Raises RegistryFailed if it is too long, Unreachable if it is interrupted."""
        if self._body is not None:
            return self._body
        content = bytearray()
        for piece in self.pieces(_CHUNK_SIZE):
            content += piece
            if len(content) > _LARGEST_DOCUMENT:
                raise RegistryFailed(
                    f"{self._host} answers without end", hint="check that this is the address of a registry"
                )
        self._body = bytes(content)
        return self._body

    def close(self) -> None:
        """Return the connection to the pool."""
        self._answer.close()

    def interrupt(self) -> None:
        """End a read() that another thread is blocked in."""
        # The socket is shut down rather than closed: a closed descriptor's number could be reused under that thread.
        with contextlib.suppress(OSError, ValueError, RuntimeError):
            self._answer.raw.shutdown()


class RegistryClient:
    """A registry at one of the addresses of an endpoint. Threads may share it."""

    def __init__(
        self,
        endpoint: RegistryEndpoint,
        settings: RegistrySettings,
        credentials: Credentials | None = None,
        *,
        emit: Emit = ignore,
    ) -> None:
        self.endpoint = endpoint
        self.retry_policy: RetryPolicy = settings.retry_policy
        self._emit = emit
        self._session = Session(endpoint.host, settings)
        self._is_cancelled = threading.Event()
        self._credentials = credentials or Credentials()
        self._address = ""
        self._authorizer = Authorizer(self._credentials, self._ask, plain=True)

    @property
    def host(self) -> str:
        """The registry's host, with its port if that is not the default."""
        return self.endpoint.host

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def cancel_retries(self) -> None:
        """Make requests of other threads fail at their next failure instead of retrying."""
        self._is_cancelled.set()

    def pause(self, failures: int, retry_after: str = "") -> None:
        """Wait after this number of failures, as the retry policy says. Raises Unreachable after cancel_retries()."""
        if self._is_cancelled.wait(self.retry_policy.delay_after(failures, retry_after)):
            raise Unreachable(f"{self.host}: cancelled")

    def ping(self) -> None:
        """Find the address that answers, and its authentication scheme. Raises Unreachable, RegistryFailed."""
        failures: list[RegistryFailed] = []
        for address in self.endpoint.addresses:
            try:
                connect_timeout = self._connect_timeout(address)
                response = self._send("GET", f"{address}/v2/", {}, None, connect_timeout=connect_timeout)
            except Unreachable as error:
                failures.append(error)
                continue
            with contextlib.closing(response):
                if response.status == 400 and address.startswith("http://") and len(self.endpoint.addresses) > 1:
                    # The answer of an https server to plain http; the https address comes next.
                    continue
                if response.status not in (200, 401) or "text/html" in response.headers.get("Content-Type", ""):
                    failures.append(failure(response, f'Get "{address}/v2/"'))
                    continue
                self._address = address
                self._authorizer = Authorizer(self._credentials, self._ask, plain=address.startswith("http://"))
                self._learn_challenge(response)
                return
        # An error in an answer is more precise than a failed connection to the other address.
        raise next((failure for failure in failures if not isinstance(failure, Unreachable)), failures[0])

    def _connect_timeout(self, address: str) -> float:
        """Return the timeout in seconds for each address of a registry. Raises Unreachable if DNS does not answer."""
        # socket.create_connection() tries all addresses of a name in turn, each with the whole timeout. The sum must
        # not exceed the policy's timeout.
        name, limit = urlsplit(address).hostname or "", self.retry_policy.connect_timeout
        if is_loopback(name) or get_environ_proxies(address):
            return limit
        # getaddrinfo(3) has no timeout and cannot be interrupted, so it runs in a thread that is left behind.
        counts: list[int] = []
        lookup = threading.Thread(target=_count_addresses, args=(name, counts), daemon=True)
        lookup.start()
        lookup.join(limit)
        if lookup.is_alive():
            raise Unreachable(f'Get "{address}/v2/": no name server answers', hint="check the network")
        return max(limit / max(counts[0], 1), _SHORTEST_CONNECT_TIMEOUT)

    def login(self) -> None:
        """Check the credentials. Raises Unauthorized."""
        self.ping()
        with contextlib.closing(self.request("GET", "/v2/", scopes=())) as response:
            if response.status != 200:
                status = f"{response.status} {_phrase(response.status)}".rstrip()
                error = failure(response, "")
                raise type(error)(f"login attempt to {self._address}/v2/ failed with status: {status}", hint=error.hint)

    def request(
        self,
        method: str,
        path: str,
        *,
        scopes: tuple[str, ...],
        headers: Mapping[str, str] | None = None,
        body: Body = None,
    ) -> Response:
        """Send a request with the authorization for the scopes, and retry it as the retry policy says.

        path     from the registry's root, or an address that the registry gave
        scopes   the permissions that the request needs: ("repository:library/debian:pull",)

        Returns the answer to the last try, whatever its status. Raises Unreachable, Unauthorized, RegistryFailed.
        """
        if not self._address:
            self.ping()
        url = joined(f"{self._address}/", path)
        # A registry may name another host for an upload; that host must not get the credentials.
        is_own = urlsplit(url).netloc == urlsplit(self._address).netloc
        has_fresh_token, failures = False, 0
        while True:
            retry_after = ""
            authorization = self._authorization(scopes, fresh=has_fresh_token) if is_own else {}
            try:
                response = self._send(method, url, {**(headers or {}), **authorization}, body)
            except Unreachable:
                failures += 1
                if failures == self.retry_policy.tries:
                    raise
            else:
                if response.status == 401 and is_own and not has_fresh_token:
                    # Not a failure: the answer requests authentication, or reports that the token has expired.
                    has_fresh_token = True
                    self._learn_challenge(response)
                    response.close()
                    continue
                if response.status == 401 and is_own:
                    self._refuse_without_credentials(method, url, response)
                failures += 1
                if response.status not in _RETRIED_STATUSES or failures == self.retry_policy.tries:
                    return response
                retry_after = response.headers.get("Retry-After", "")
                response.close()
            self.pause(failures, retry_after)

    def _authorization(self, scopes: tuple[str, ...], *, fresh: bool) -> dict[str, str]:
        value = self._authorizer.header(scopes, fresh=fresh)
        return {"Authorization": value} if value else {}

    def _learn_challenge(self, response: Response) -> None:
        self._authorizer.learn(challenge.parse(response.headers.get("WWW-Authenticate", "")))

    def _refuse_without_credentials(self, method: str, url: str, response: Response) -> None:
        """Raise Unauthorized in Docker's words if the registry requires a password and the client has none."""
        if self._authorizer.lacks_credentials:
            response.close()
            raise Unauthorized(f'{method.capitalize()} "{url}": no basic auth credentials', hint=_hint(401))

    def fetch(self, path: str, *, scopes: tuple[str, ...], headers: Mapping[str, str] | None = None) -> Response:
        """GET a document; the response has its whole body. An interrupted body is read again. Raises as request()."""
        for number in range(1, self.retry_policy.tries + 1):
            with contextlib.closing(self.request("GET", path, scopes=scopes, headers=headers)) as response:
                try:
                    response.body()
                except Unreachable:
                    if number == self.retry_policy.tries:
                        raise
                    self.pause(number)
                else:
                    return response
        raise AssertionError("the last try returns or raises")

    def _ask(self, method: str, url: str, headers: Mapping[str, str], form: str | None) -> Any:
        """Send a request to a token server, for Authorizer; return the answer's document."""
        body = None if form is None else form.encode()
        form_type = {} if form is None else {"Content-Type": "application/x-www-form-urlencoded"}
        for number in range(1, self.retry_policy.tries + 1):
            with contextlib.closing(self._send(method, url, {**headers, **form_type}, body)) as response:
                if response.status in _RETRIED_STATUSES and number < self.retry_policy.tries:
                    self.pause(number, response.headers.get("Retry-After", ""))
                    continue
                if response.status != 200:
                    raise failure(response, "")
                return document_of(response.body(), url.partition("?")[0])
        raise AssertionError("the last try returns or raises")

    def _send(
        self, method: str, url: str, headers: Mapping[str, str], body: Body, *, connect_timeout: float | None = None
    ) -> Response:
        """Send one request and follow redirects. Raises Unreachable, and RegistryFailed if a retry cannot help."""
        started = time.monotonic()
        counted = _CountedBody(body) if callable(body) else body
        target = urlsplit(url)
        status = length = 0
        try:
            answer = self._session.request(
                method,
                url,
                # "identity": a compressed answer would not have the bytes whose digest is verified.
                headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **headers},
                data=counted,
                stream=True,
                timeout=(connect_timeout or self.retry_policy.connect_timeout, self.retry_policy.read_timeout),
                # A redirected POST, PUT or PATCH would have lost its body, which is produced once.
                allow_redirects=method in ("GET", "HEAD"),
                proxies=_NO_PROXY if is_loopback(bare_host(target.netloc)) else None,
            )
            status, length = answer.status_code, number_of(answer.headers.get("Content-Length", ""))
        except (requests.RequestException, OSError, ValueError) as error:
            request = f'{method.capitalize()} "{url.partition("?")[0][:LONGEST_EXCERPT]}"'
            raise _final_failure(error, request) or broken(target.netloc, error, request=request) from error
        finally:
            sent = counted.count if isinstance(counted, _CountedBody) else len(body) if isinstance(body, bytes) else 0
            seconds = time.monotonic() - started
            self._emit(RegistryRequest(method, target.netloc, _shown_path(target), status, sent, length, seconds))
        return Response(answer, target.netloc)


def _shown_path(target: SplitResult) -> str:
    """Return the path and query of a request for its event."""
    # The distribution project's registry sends the state of an upload as a query of several hundred characters.
    query = "&".join(part for part in target.query.split("&") if not part.startswith("_state="))
    return target.path + (f"?{query}" if query else "")


class _CountedBody:
    """A body in pieces that counts the bytes sent."""

    def __init__(self, make: Callable[[], Iterable[bytes]]) -> None:
        self._make = make
        self.count = 0

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._make():
            self.count += len(piece)
            yield piece


def failure(response: Response, what: str) -> RegistryFailed:
    """Build the error for an answer. what: the operation that failed, put before the registry's message."""
    errors = codes(response)
    texts = [f"{code.lower().replace('_', ' ')}: {message or code.lower()}" for code, message in errors]
    message = ", ".join(texts) or _default_message(response)
    kind = Unauthorized if response.status in (401, 403) else RegistryFailed
    code = errors[0][0] if errors else ""
    return kind(f"{what}: {message}" if what else message, hint=_hint(response.status), code=code)


def _default_message(response: Response) -> str:
    """Docker's message for an answer without the error document of the specification."""
    body = ""
    with contextlib.suppress(RegistryFailed):
        body = response.body()[:LONGEST_EXCERPT].decode(errors="replace")
    if response.status == HTTPStatus.UNAUTHORIZED:
        return f"unauthorized: {_details(body) or 'authentication required'}"
    unread = f": error parsing HTTP {response.status} response body: {golang.quoted(body)}" if body else ""
    return f"unexpected status {response.status}{unread}"


def _details(body: str) -> str:
    """Return the message of an error document in the form of older registries: {"details": …}."""
    with contextlib.suppress(ValueError):
        document = parse_json(body)
        return str(document.get("details") or "") if isinstance(document, dict) else ""
    return ""


def _excerpt(value: object) -> str:
    return str(value)[:LONGEST_EXCERPT] if isinstance(value, str | int | float) else ""


def codes(response: Response) -> list[tuple[str, str]]:
    """Return (code, message) for each error in an answer's body (distribution-spec, "Error Codes")."""
    try:
        # Go's JSON decoder, for which registries are written, ignores the case of keys.
        errors = [
            {name.lower(): value for name, value in error.items()} for error in parse_json(response.body())["errors"]
        ]
        return [(_excerpt(error["code"]), _excerpt(error.get("message") or "")) for error in errors[:_MOST_ERRORS]]
    except (ValueError, KeyError, TypeError, AttributeError, RegistryFailed):
        return []


def _final_failure(error: Exception, request: str) -> RegistryFailed | None:
    """Build the error for an invalid answer, which a retry would get again; None for a connection that failed."""
    causes = list(_causes(error))
    if isinstance(error, requests.TooManyRedirects):
        problem = f"stopped after {MOST_REDIRECTS} redirects"
    elif isinstance(error, requests.exceptions.InvalidSchema):
        problem = "it leads to an address that is neither http nor https"
    elif any(isinstance(cause, HTTPException) and not isinstance(cause, _INTERRUPTIONS) for cause in causes):
        problem = "malformed HTTP response"
    elif isinstance(error, ValueError) and not any(isinstance(cause, ssl.SSLError) for cause in causes):
        problem = "the answer has an invalid address or header"
    else:
        return None
    return RegistryFailed(f"{request}: {problem}", hint="check that this is the address of a registry")


def broken(host: str, error: Exception, request: str = "") -> Unreachable:
    """Build the error for a connection that failed."""
    reason, hint = _reason(error)
    usual_hint = f"check that {host} is the right address and reachable"
    return Unreachable(f"{request or host}: {reason}", hint=hint or usual_hint)


def _reason(error: BaseException) -> tuple[str, str]:
    """Return the reason for a failed connection, and a hint; "" stands for the usual hint."""
    causes = list(_causes(error))
    if any(isinstance(cause, requests.exceptions.SSLError) for cause in causes):
        hint = "put its CA's certificate into /etc/docker/certs.d/HOST:PORT/ca.crt, or use --insecure-registry"
        return f"tls: {_plain(causes[-1])}", hint
    if any(isinstance(cause, requests.exceptions.ProxyError) for cause in causes):
        return f"the proxy: {_plain(causes[-1])}", "look at the variables HTTPS_PROXY, HTTP_PROXY and NO_PROXY"
    if any(isinstance(cause, requests.exceptions.ConnectTimeout) for cause in causes):
        return "timeout: no answer", ""
    if any(isinstance(cause, requests.exceptions.ReadTimeout | TimeoutError) for cause in causes):
        return "timeout: no more data", "try again; is the network overloaded?"
    if any(isinstance(cause, IncompleteRead) for cause in causes):
        return "the answer is cut off", "try again"
    return next((text for text in map(_plain, reversed(causes)) if text), "the connection failed"), ""


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and its causes, the outermost first."""
    # requests and urllib3 pass a cause as __cause__, as __context__ or as the last argument. The limit ends a cycle.
    cause: BaseException | None = error
    for _ in range(_MOST_CAUSES):
        if cause is None or isinstance(cause, LabError):
            return
        yield cause
        inner = cause.args[-1] if cause.args and isinstance(cause.args[-1], BaseException) else None
        cause = cause.__cause__ or inner or cause.__context__


def _plain(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return str(error.strerror).lower()
    text = str(error)
    return text if len(text) < _LONGEST_REASON else text[:_LONGEST_REASON] + "…"


def _phrase(status: int) -> str:
    """Return the reason phrase of a status; "" for an unknown one (RFC 9110, 15)."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _hint(status: int) -> str:
    if status in (401, 403):
        return "log in with labctr login [REGISTRY]"
    if status == 429:
        return "the registry limits the number of requests: wait, or log in"
    return "ask the registry's administrator" if status >= 500 else "check that this is the address of a registry"


def _count_addresses(name: str, counts: list[int]) -> None:
    """Append the number of a name's addresses to counts; 0 for an unknown name, which the connection will report."""
    try:
        counts.append(len({entry[4] for entry in socket.getaddrinfo(name, 443, type=socket.SOCK_STREAM)}))
    except (OSError, UnicodeError):
        counts.append(0)
