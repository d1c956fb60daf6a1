"""Connections to registries, to their servers of tokens and to where they keep their blobs.

A certificate is good if an authority that this machine knows vouches for it, or one in the directory of the
registry (docker docs, "Verify repository client with certificates"). Where a registry is insecure, any one will do.

    /etc/docker/certs.d/<host>:<port>/*.crt              authorities, besides those of the machine
                                      *.cert and *.key   a certificate of ours, for a registry that wants one
"""

from __future__ import annotations

import ssl
import threading
import warnings
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pylab_container.errors import InvalidInput
from pylab_container.host.extras import extra
from pylab_container.registry.settings import RegistrySettings

with extra("registry"):
    import requests
    from requests.adapters import BaseAdapter, HTTPAdapter
    from urllib3.exceptions import InsecureRequestWarning

_CONNECTIONS = 10
REDIRECTS = 5


class Session(requests.Session):
    """Connections that are kept. Who asks is the caller's affair, not ~/.netrc's."""

    def __init__(self, host: str, settings: RegistrySettings) -> None:
        """host: the registry whose directory of certificates is read."""
        super().__init__()
        self.max_redirects = REDIRECTS
        self.auth = _unchanged
        self._settings = settings
        self._directory = settings.certificates / host
        self.cert = _own_certificate(self._directory)
        self.mount("http://", HTTPAdapter(pool_connections=_CONNECTIONS, pool_maxsize=_CONNECTIONS))
        self._https: dict[bool, _HttpsAdapter] = {}
        self._lock = threading.Lock()

    def get_adapter(self, url: str) -> BaseAdapter:
        """requests asks for it with each request, also with one that follows a redirect.

        Raises InvalidInput for a certificate in the directory that is none.
        """
        parts = urlsplit(url)
        if parts.scheme != "https":
            return super().get_adapter(url)
        insecure = self._settings.is_insecure(parts.netloc)
        with self._lock:
            if insecure not in self._https:  # reading the authorities takes 25 ms, which plain http need not wait for
                context = _unverifying() if insecure else _verifying(self._directory)
                self._https[insecure] = _HttpsAdapter(context)
            return self._https[insecure]

    def close(self) -> None:
        """Close the connections."""
        super().close()
        for adapter in self._https.values():
            adapter.close()

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """requests asks for it after each answer; one whose Location is not text is not kept open."""
        try:
            return super().get_redirect_target(resp)
        except ValueError:
            resp.close()
            raise

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        """A redirect to another host takes no password along, and none of ~/.netrc's."""
        if "Authorization" in prepared_request.headers and self.should_strip_auth(
            str(response.request.url), str(prepared_request.url)
        ):
            del prepared_request.headers["Authorization"]


class _HttpsAdapter(HTTPAdapter):
    """Connections for which a context of our own says which certificates are good."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__(pool_connections=_CONNECTIONS, pool_maxsize=_CONNECTIONS)

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options, ssl_context=self._context)

    def proxy_manager_for(self, proxy: Any, **options: Any) -> Any:
        return super().proxy_manager_for(proxy, **options, ssl_context=self._context)

    def send(self, request: requests.PreparedRequest, *arguments: Any, **options: Any) -> requests.Response:
        options["verify"] = self._context.verify_mode is not ssl.CERT_NONE
        return super().send(request, *arguments, **options)

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        super().cert_verify(conn, url, verify, cert)
        conn.ca_certs = None  # requests would add a list of its own, with each connection anew


def _unchanged(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _verifying(directory: Path) -> ssl.SSLContext:
    context = ssl.create_default_context()
    # Python 3.13 refuses authorities without a key usage extension; the self-made ones of registries often lack it, and
    # Docker accepts them.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    for path in sorted(directory.glob("*.crt")):
        try:
            context.load_verify_locations(path)
        except OSError as error:  # ssl.SSLError among them
            raise InvalidInput(f"{path} is no certificate: {error}", hint="write it as PEM") from error
    return context


def _unverifying() -> ssl.SSLContext:
    warnings.simplefilter("ignore", InsecureRequestWarning)  # who named the registry knows
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _own_certificate(directory: Path) -> tuple[str, str] | None:
    for certificate in sorted(directory.glob("*.cert")):
        if (key := certificate.with_suffix(".key")).exists():
            return str(certificate), str(key)
    return None
