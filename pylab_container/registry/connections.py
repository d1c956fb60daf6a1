"""Connections to registries, to their token servers and to the hosts of their blobs.

A server's certificate is verified against the certificate authorities (CAs) of this machine and of the registry's
directory (Docker's manual, "Verify repository client with certificates"). For an insecure registry it is not verified.

    /etc/docker/certs.d/<host>:<port>/*.crt              further CAs
                                      *.cert and *.key   client certificate, for a registry that requires one
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

_POOL_SIZE = 10  # connections per host that are kept open
MOST_REDIRECTS = 5


class Session(requests.Session):
    """Persistent connections for one registry. host: selects the directory of certificates."""

    def __init__(self, host: str, settings: RegistrySettings) -> None:
        super().__init__()
        self.max_redirects = MOST_REDIRECTS
        # Without an auth of its own, requests would take a password from ~/.netrc and overwrite our Authorization.
        self.auth = _unchanged
        self._settings = settings
        self._directory = settings.certificates / host
        self.cert = _own_certificate(self._directory)
        self.mount("http://", HTTPAdapter(pool_connections=_POOL_SIZE, pool_maxsize=_POOL_SIZE))
        self._https: dict[bool, _HttpsAdapter] = {}
        self._lock = threading.Lock()

    def get_adapter(self, url: str) -> BaseAdapter:
        """Override of requests: called for each request, also after a redirect.

        Raises InvalidInput for a file in the registry's directory that is not a certificate.
        """
        parts = urlsplit(url)
        if parts.scheme != "https":
            return super().get_adapter(url)
        insecure = self._settings.is_insecure(parts.netloc)
        with self._lock:
            # Created when it is needed: reading the machine's CAs takes 25 ms, and plain http needs none.
            if insecure not in self._https:
                context = _unverifying() if insecure else _verifying(self._directory)
                self._https[insecure] = _HttpsAdapter(context)
            return self._https[insecure]

    def close(self) -> None:
        """Close the connections."""
        super().close()
        for adapter in self._https.values():
            adapter.close()

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Override of requests: called after each answer."""
        # A Location that is not text raises here, after the connection was taken from the pool and before the caller
        # gets the response: no other code could close it.
        try:
            return super().get_redirect_target(resp)
        except ValueError:
            resp.close()
            raise

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        """Override of requests: called for each redirect. Another host must not get the registry's password."""
        # requests' own method would also add a password for the other host from ~/.netrc.
        if "Authorization" in prepared_request.headers and self.should_strip_auth(
            str(response.request.url), str(prepared_request.url)
        ):
            del prepared_request.headers["Authorization"]


class _HttpsAdapter(HTTPAdapter):
    """Https connections with a given SSLContext, which decides about certificates."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__(pool_connections=_POOL_SIZE, pool_maxsize=_POOL_SIZE)

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options, ssl_context=self._context)

    def proxy_manager_for(self, proxy: Any, **options: Any) -> Any:
        return super().proxy_manager_for(proxy, **options, ssl_context=self._context)

    def send(self, request: requests.PreparedRequest, *arguments: Any, **options: Any) -> requests.Response:
        options["verify"] = self._context.verify_mode is not ssl.CERT_NONE
        return super().send(request, *arguments, **options)

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        super().cert_verify(conn, url, verify, cert)
        # requests would load its own bundle of CAs (certifi) for each connection, in addition to the context's.
        conn.ca_certs = None


def _unchanged(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _verifying(directory: Path) -> ssl.SSLContext:
    context = ssl.create_default_context()
    # Python 3.13 rejects CAs without the key usage extension. Self-signed CAs of registries often lack it, and Docker
    # accepts them.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    for path in sorted(directory.glob("*.crt")):
        try:
            context.load_verify_locations(path)
        except OSError as error:  # the base class of ssl.SSLError
            raise InvalidInput(f"{path} is not a certificate: {error}", hint="convert it to PEM") from error
    return context


def _unverifying() -> ssl.SSLContext:
    # The user has configured the registry as insecure; urllib3 would warn about each request.
    warnings.simplefilter("ignore", InsecureRequestWarning)
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _own_certificate(directory: Path) -> tuple[str, str] | None:
    for certificate in sorted(directory.glob("*.cert")):
        if (key := certificate.with_suffix(".key")).exists():
            return str(certificate), str(key)
    return None
