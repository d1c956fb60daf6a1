"""One registry: requests, tried again where that may help, and errors that say what went wrong.

Every request is told as an event: method, path, status, bytes, seconds. A redirect to another host,
where registries keep their blobs, is followed without the header Authorization.
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
from urllib.parse import urlsplit

from pylab_container.docker.credentials import Credentials
from pylab_container.errors import LabError, RegistryFailed, Unauthorized, Unreachable
from pylab_container.events import Emit, RegistryRequest, ignore
from pylab_container.host.extras import extra
from pylab_container.registry import challenge
from pylab_container.registry.answers import LONGEST_EXCERPT, document_of, joined, number_of
from pylab_container.registry.connections import REDIRECTS, Session
from pylab_container.registry.settings import Patience, RegistryEndpoint, RegistrySettings, bare_host, is_loopback
from pylab_container.registry.tokens import Authorizer
from pylab_container.text import golang
from pylab_container.text.jsontext import parse_json

with extra("registry"):
    import requests
    from requests.utils import get_environ_proxies
    from urllib3.connection import HTTPException
    from urllib3.exceptions import HTTPError, IncompleteRead

USER_AGENT = "pylab-container"
_LONGEST_ANSWER = 16 << 20
"""Bytes of a document; blobs are streamed. moby reads at most 4 MiB of a manifest."""
_MOST_ERRORS = 10  # of one answer that are shown
_CUT_OFF = (ConnectionError, IncompleteRead)
"""An HTTPException that is also one of these is about a connection that ended, any other one about what came."""
_AGAIN = (408, 429, 500, 502, 503, 504)
_SHORTEST_CONNECT = 0.8  # seconds
_DIRECTLY = {"http": "", "https": "", "all": ""}
"""No proxy is asked for this machine, whatever the environment says; as in Go's programs."""

Body = bytes | Callable[[], Iterable[bytes]] | None
"""What is sent; where it is made piece by piece, it is made anew for each try."""


class Response:
    """An answer whose body is not read yet. Close it."""

    def __init__(self, answer: requests.Response, host: str) -> None:
        self._answer = answer
        self._host = host
        self._body: bytes | None = None
        self.status = answer.status_code
        self.headers: Mapping[str, str] = answer.headers
        self.url = str(answer.url)

    def pieces(self, size: int) -> Iterator[bytes]:
        """The body in pieces of up to size bytes, as they come. Raises Unreachable where it breaks off."""
        try:
            # Not read(): that one gathers whole pieces, and loses what it has where the connection breaks.
            while piece := self._answer.raw.read1(size, decode_content=False):
                yield piece
        except (HTTPError, OSError) as error:
            raise broken(self._host, error) from error

    def body(self) -> bytes:
        """The whole body. Raises RegistryFailed where it is too long, Unreachable where it breaks off."""
        if self._body is not None:
            return self._body
        content = bytearray()
        for piece in self.pieces(1 << 16):
            content += piece
            if len(content) > _LONGEST_ANSWER:
                raise RegistryFailed(f"{self._host} answers without end", hint="is this the address of a registry?")
        self._body = bytes(content)
        return self._body

    def close(self) -> None:
        """Give the connection back."""
        self._answer.close()

    def interrupt(self) -> None:
        """Let another thread's read end at once."""
        with contextlib.suppress(OSError, ValueError, RuntimeError):
            self._answer.raw.shutdown()


class RegistryClient:
    """A registry at one of the addresses of a place. Threads may share it."""

    def __init__(
        self,
        endpoint: RegistryEndpoint,
        settings: RegistrySettings,
        credentials: Credentials | None = None,
        *,
        emit: Emit = ignore,
    ) -> None:
        self.endpoint = endpoint
        self.patience: Patience = settings.patience
        self._emit = emit
        self._session = Session(endpoint.host, settings)
        self._given_up = threading.Event()
        self._credentials = credentials or Credentials()
        self._address = ""
        self._authorizer = Authorizer(self._credentials, self._ask, plain=True)

    @property
    def host(self) -> str:
        """Its name, with the port where there is one."""
        return self.endpoint.host

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def give_up(self) -> None:
        """Let what other threads ask come to an end: nobody waits for another try any more."""
        self._given_up.set()

    def pause(self, failures: int, asked: str = "") -> None:
        """Wait after so many failures, as long as patience says. Raises Unreachable once somebody gave up."""
        if self._given_up.wait(self.patience.before(failures, asked)):
            raise Unreachable(f"{self.host}: given up")

    def ping(self) -> None:
        """Find the address that answers, and how it wants to be asked. Raises Unreachable, RegistryFailed."""
        failures: list[RegistryFailed] = []
        for address in self.endpoint.addresses:
            try:
                connect = self._connect_seconds(address)
                response = self._send("GET", f"{address}/v2/", {}, None, connect=connect)
            except Unreachable as error:
                failures.append(error)
                continue
            with contextlib.closing(response):
                if response.status == 400 and address.startswith("http://") and len(self.endpoint.addresses) > 1:
                    continue  # what a server for https alone says to plain http
                if response.status not in (200, 401) or "text/html" in response.headers.get("Content-Type", ""):
                    failures.append(failure(response, f'Get "{address}/v2/"'))
                    continue
                self._address = address
                self._authorizer = Authorizer(self._credentials, self._ask, plain=address.startswith("http://"))
                self._authorizer.learn(challenge.parse(response.headers.get("WWW-Authenticate", "")))
                return
        # What was said in clear words counts more than that the other way of asking led nowhere.
        raise next((failure for failure in failures if not isinstance(failure, Unreachable)), failures[0])

    def _connect_seconds(self, address: str) -> float:
        """How long to try each of a registry's machines, so that all together take no longer than patience allows.

        Raises Unreachable where the name server does not answer in that time.
        """
        name, most = urlsplit(address).hostname or "", self.patience.connect
        if is_loopback(name) or get_environ_proxies(address):
            return most
        found: list[int] = []
        asking = threading.Thread(target=_look_up, args=(name, found), daemon=True)
        asking.start()
        asking.join(most)
        if asking.is_alive():
            raise Unreachable(f'Get "{address}/v2/": no name server answers', hint="is there a network?")
        return max(most / max(found[0], 1), _SHORTEST_CONNECT)

    def login(self) -> None:
        """Ask for nothing but to be let in. Raises Unauthorized."""
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
        """Send a request, with what the scopes need, as often as it takes.

        path     from the registry's root, or an address that the registry gave
        scopes   what it must be allowed to do: ("repository:library/debian:pull",)

        Returns the answer to the last try, whatever its status. Raises Unreachable, Unauthorized,
        RegistryFailed.
        """
        if not self._address:
            self.ping()
        url = joined(f"{self._address}/", path)
        ours = urlsplit(url).netloc == urlsplit(self._address).netloc
        fresh, failures = False, 0
        while True:
            permission = self._authorizer.header(scopes, fresh=fresh) if ours else ""
            sent = {**(headers or {}), **({"Authorization": permission} if permission else {})}
            asked = ""
            try:
                response = self._send(method, url, sent, body)
            except Unreachable:
                failures += 1
                if failures == self.patience.tries:
                    raise
            else:
                if response.status == 401 and ours and not fresh:  # no failure: now we know what to say
                    self._authorizer.learn(challenge.parse(response.headers.get("WWW-Authenticate", "")))
                    fresh = True
                    response.close()
                    continue
                if response.status == 401 and ours and self._authorizer.lacks_credentials:
                    response.close()
                    raise Unauthorized(f'{method.capitalize()} "{url}": no basic auth credentials', hint=_hint(401))
                failures += 1
                if response.status not in _AGAIN or failures == self.patience.tries:
                    return response
                asked = response.headers.get("Retry-After", "")
                response.close()
            self.pause(failures, asked)

    def fetch(self, path: str, *, scopes: tuple[str, ...], headers: Mapping[str, str] | None = None) -> Response:
        """The answer to a GET with its whole body, which is read again where it breaks off. Raises as request()."""
        for number in range(1, self.patience.tries + 1):
            with contextlib.closing(self.request("GET", path, scopes=scopes, headers=headers)) as response:
                try:
                    response.body()
                except Unreachable:
                    if number == self.patience.tries:
                        raise
                    self.pause(number)
                else:
                    return response
        raise AssertionError("the last try returns or raises")

    def _ask(self, method: str, url: str, headers: Mapping[str, str], form: str | None) -> Any:
        """Ask a server of tokens."""
        body = None if form is None else form.encode()
        kind = {} if form is None else {"Content-Type": "application/x-www-form-urlencoded"}
        for number in range(1, self.patience.tries + 1):
            with contextlib.closing(self._send(method, url, {**headers, **kind}, body)) as response:
                if response.status in _AGAIN and number < self.patience.tries:
                    self.pause(number, response.headers.get("Retry-After", ""))
                    continue
                if response.status != 200:
                    raise failure(response, "")
                return document_of(response.body(), url.partition("?")[0])
        raise AssertionError("the last try returns or raises")

    def _send(
        self, method: str, url: str, headers: Mapping[str, str], body: Body, *, connect: float | None = None
    ) -> Response:
        """One request, redirects followed. Raises Unreachable."""
        started = time.monotonic()
        counted = _Counted(body) if callable(body) else body
        size = len(body) if isinstance(body, bytes) else 0
        told = urlsplit(url)
        status = length = 0
        try:
            answer = self._session.request(
                method,
                url,
                headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **headers},
                data=counted,
                stream=True,
                timeout=(connect or self.patience.connect, self.patience.read),
                allow_redirects=method in ("GET", "HEAD"),
                proxies=_DIRECTLY if is_loopback(bare_host(told.netloc)) else None,
            )
            status, length = answer.status_code, number_of(answer.headers.get("Content-Length", ""))
        except (requests.RequestException, OSError, ValueError) as error:
            asked = f'{method.capitalize()} "{url.partition("?")[0][:LONGEST_EXCERPT]}"'
            raise _nonsense(error, asked) or broken(told.netloc, error, asked=asked) from error
        finally:
            sent = counted.count if isinstance(counted, _Counted) else size
            query = "&".join(part for part in told.query.split("&") if not part.startswith("_state="))
            path = told.path + (f"?{query}" if query else "")
            seconds = time.monotonic() - started
            self._emit(RegistryRequest(method, told.netloc, path, status, sent, length, seconds))
        return Response(answer, told.netloc)


class _Counted:
    """A body in pieces, made when it is sent, and counted."""

    def __init__(self, make: Callable[[], Iterable[bytes]]) -> None:
        self._make = make
        self.count = 0

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._make():
            self.count += len(piece)
            yield piece


def failure(response: Response, what: str) -> RegistryFailed:
    """The error of an answer; what failed is told before the registry's own words."""
    told = codes(response)
    texts = [f"{code.lower().replace('_', ' ')}: {message or code.lower()}" for code, message in told]
    words = ", ".join(texts) or _wordless(response)
    kind = Unauthorized if response.status in (401, 403) else RegistryFailed
    return kind(f"{what}: {words}" if what else words, hint=_hint(response.status), code=told[0][0] if told else "")


def _wordless(response: Response) -> str:
    """What docker says of an answer that does not say it."""
    body = ""
    with contextlib.suppress(RegistryFailed):
        body = response.body()[:LONGEST_EXCERPT].decode(errors="replace")
    if response.status == HTTPStatus.UNAUTHORIZED:
        return f"unauthorized: {_details(body) or 'authentication required'}"
    unread = f": error parsing HTTP {response.status} response body: {golang.quoted(body)}" if body else ""
    return f"unexpected status {response.status}{unread}"


def _details(body: str) -> str:
    """An older form of an error."""
    with contextlib.suppress(ValueError):
        found = parse_json(body)
        return str(found.get("details") or "") if isinstance(found, dict) else ""
    return ""


def _excerpt(value: object) -> str:
    return str(value)[:LONGEST_EXCERPT] if isinstance(value, str | int | float) else ""


def codes(response: Response) -> list[tuple[str, str]]:
    """(code, message) of the errors in an answer's body (distribution-spec, "Error Codes"); [] where it has none."""
    try:
        found = [
            {name.lower(): value for name, value in each.items()} for each in parse_json(response.body())["errors"]
        ]
        return [(_excerpt(each["code"]), _excerpt(each.get("message") or "")) for each in found[:_MOST_ERRORS]]
    except (ValueError, KeyError, TypeError, AttributeError, RegistryFailed):
        return []


def _nonsense(error: Exception, asked: str) -> RegistryFailed | None:
    """The error of an answer that comes again however often it is asked for; None for a connection that failed."""
    causes = list(_causes(error))
    if isinstance(error, requests.TooManyRedirects):
        problem = f"stopped after {REDIRECTS} redirects"
    elif isinstance(error, requests.exceptions.InvalidSchema):
        problem = "it leads to an address that is neither http nor https"
    elif any(isinstance(cause, HTTPException) and not isinstance(cause, _CUT_OFF) for cause in causes):
        problem = "malformed HTTP response"
    elif isinstance(error, ValueError) and not any(isinstance(cause, ssl.SSLError) for cause in causes):
        problem = "an address or a header of the answer makes no sense"
    else:
        return None
    return RegistryFailed(f"{asked}: {problem}", hint="is this the address of a registry?")


def broken(host: str, error: Exception, asked: str = "") -> Unreachable:
    """What went wrong with a connection, in words that help."""
    reason, hint = _reason(error)
    return Unreachable(f"{asked or host}: {reason}", hint=hint or f"is {host} the right address, and is it reachable?")


def _reason(error: BaseException) -> tuple[str, str]:
    """What went wrong, and a hint where there is a better one than usual: both are in the causes of the error."""
    causes = list(_causes(error))
    if any(isinstance(cause, requests.exceptions.SSLError) for cause in causes):
        hint = "put its authority's certificate into /etc/docker/certs.d/HOST:PORT/ca.crt, or --insecure-registry it"
        return f"tls: {_plain(causes[-1])}", hint
    if any(isinstance(cause, requests.exceptions.ProxyError) for cause in causes):
        return f"the proxy: {_plain(causes[-1])}", "look at the variables HTTPS_PROXY, HTTP_PROXY and NO_PROXY"
    if any(isinstance(cause, requests.exceptions.ConnectTimeout) for cause in causes):
        return "timeout: nobody answers", ""
    if any(isinstance(cause, requests.exceptions.ReadTimeout | TimeoutError) for cause in causes):
        return "timeout: nothing comes any more", "try again; is the network overloaded?"
    if any(isinstance(cause, IncompleteRead) for cause in causes):
        return "the answer is cut off", "try again"
    return next((text for text in map(_plain, reversed(causes)) if text), "the connection failed"), ""


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error, and what led to it: libraries tell it as causes, contexts and arguments."""
    cause: BaseException | None = error
    for _ in range(8):
        if cause is None or isinstance(cause, LabError):
            return
        yield cause
        inner = cause.args[-1] if cause.args and isinstance(cause.args[-1], BaseException) else None
        cause = cause.__cause__ or inner or cause.__context__


def _plain(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return str(error.strerror).lower()
    text = str(error)
    return text if len(text) < 200 else text[:200] + "…"


def _phrase(status: int) -> str:
    """The usual words for a status, "" for one that HTTP does not know."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _hint(status: int) -> str:
    if status in (401, 403):
        return "labctr login"
    if status == 429:
        return "the registry has had enough of us: wait, or login"
    return "ask the registry's keeper" if status >= 500 else "is this the address of a registry?"


def _look_up(name: str, found: list[int]) -> None:
    """Tell how many machines have a name; 0 where there is none, which the connection will tell better."""
    try:
        found.append(len({entry[4] for entry in socket.getaddrinfo(name, 443, type=socket.SOCK_STREAM)}))
    except (OSError, UnicodeError):
        found.append(0)
