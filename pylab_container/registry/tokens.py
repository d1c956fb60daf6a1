"""Authentication: the header Authorization for a request.

Basic authentication sends the password with each request. With tokens, the registry answers 401 and names a token
server. The client sends the password and a scope ("repository:a/b:pull") to that server, and gets a token that is valid
for the scope for some minutes.

Sources: the distribution project's "Token Authentication Specification" and "Token Scope Documentation"; RFC 7617.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

from pylab_container.docker.credentials import Credentials
from pylab_container.errors import RegistryFailed, Unauthorized
from pylab_container.registry.answers import LONGEST_EXCERPT, parts_of
from pylab_container.registry.challenge import Challenge
from pylab_container.registry.settings import bare_host, is_loopback

_CLIENT_ID = "pylab-container"
# The specification's default for a token without expires_in, and its minimum ("Token Authentication Specification").
_DEFAULT_LIFETIME = 60.0  # seconds
_LONGEST_LIFETIME = 86400.0  # seconds, after which a new token is requested in any case
_USED_LIFETIME = 0.9  # fraction of the lifetime; a token must not expire on its way to the registry

Ask = Callable[[str, str, Mapping[str, str], str | None], Any]
"""Sends a request: (method, address, headers, form or None) → the answer's JSON document. Raises RegistryFailed."""


class Authorizer:
    """The credentials for one registry, and the tokens that were issued for them. Threads may share it."""

    def __init__(self, credentials: Credentials, ask: Ask, *, plain: bool) -> None:
        """plain: allow a token server with plain http, because the registry itself uses it."""
        self._credentials = credentials
        self._ask = ask
        self._plain = plain
        self._challenge: Challenge | None = None
        self._tokens: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()

    @property
    def lacks_credentials(self) -> bool:
        """Whether the registry requires a password and the client has none."""
        is_required = self._challenge is not None and self._challenge.scheme == "basic"
        return is_required and not (self._credentials.username or self._credentials.registry_token)

    def learn(self, challenges: list[Challenge]) -> None:
        """Take over the first supported scheme of a registry's challenges."""
        known = [challenge for challenge in challenges if challenge.scheme in ("bearer", "basic")]
        self._challenge = next(iter(known), self._challenge)

    def header(self, scopes: tuple[str, ...], *, fresh: bool = False) -> str:
        """Return the header's value for some scopes; "" for no header. Raises Unauthorized, RegistryFailed.

        fresh  request a new token, because the registry has rejected the last one
        """
        if self._credentials.registry_token:
            return f"Bearer {self._credentials.registry_token}"
        if self._challenge is None:
            return ""
        if self._challenge.scheme == "basic":
            return self._credentials.basic() if self._credentials.username else ""
        # The lock makes the request a single flight: threads that need the same token wait for one request.
        with self._lock:
            return f"Bearer {self._token(self._challenge, scopes, fresh=fresh)}"

    def _token(self, challenge: Challenge, scopes: tuple[str, ...], *, fresh: bool) -> str:
        requested = scopes or tuple(challenge.parameters.get("scope", "").split())
        key = " ".join(requested)
        token, expires_at = self._tokens.get(key, ("", 0.0))
        if fresh or time.monotonic() >= expires_at:
            token, lifetime = self._fetch(challenge, requested)
            self._tokens[key] = (token, time.monotonic() + lifetime * _USED_LIFETIME)
        return token

    def _fetch(self, challenge: Challenge, scopes: tuple[str, ...]) -> tuple[str, float]:
        """Request a token; return it and its lifetime in seconds."""
        realm = self._realm(challenge)
        service, credentials = challenge.parameters.get("service", ""), self._credentials
        if credentials.identity_token:
            form = {
                "grant_type": "refresh_token",
                "service": service,
                "client_id": _CLIENT_ID,
                "scope": " ".join(scopes),
                "refresh_token": credentials.identity_token,
            }
            document = self._ask("POST", realm, {}, urlencode(form))
        else:
            fields = [("service", service)] if service else []
            fields += [("scope", scope) for scope in scopes]
            fields += [("account", credentials.username)] if credentials.username else []
            separator = "&" if "?" in realm else "?"
            headers = {"Authorization": credentials.basic()} if credentials.username else {}
            document = self._ask("GET", f"{realm}{separator}{urlencode(fields)}", headers, None)
        return _parse_token(document, realm)

    def _realm(self, challenge: Challenge) -> str:
        """Return the address of the token server. Raises RegistryFailed for one that does not use https."""
        # The password is sent there. An attacker who can change the registry's answer must not choose plain http.
        realm = challenge.parameters.get("realm", "")
        parts = parts_of(realm, "a token server")
        allowed = parts.scheme == "https" or (
            parts.scheme == "http" and (self._plain or is_loopback(bare_host(parts.netloc)))
        )
        if not allowed or not parts.netloc:
            raise RegistryFailed(
                f'the registry names the token server "{realm[:LONGEST_EXCERPT]}", which is not an https address',
                hint="only an insecure registry may do that: see --insecure-registry",
            )
        return realm


def _parse_token(document: Any, realm: str) -> tuple[str, float]:
    """Return the token and its lifetime in seconds. Raises Unauthorized for a document without a token."""
    token = document.get("token") or document.get("access_token") if isinstance(document, dict) else None
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        raise Unauthorized(
            "authorization server did not include a token in the response",
            hint=f"check the token server {realm.partition('?')[0]}",
        )
    lifetime = document.get("expires_in")
    # Compared before it is converted: an integer of 400 digits does not fit in a float. `not >` also catches NaN.
    if not isinstance(lifetime, int | float) or not lifetime > _DEFAULT_LIFETIME:
        return token, _DEFAULT_LIFETIME
    return token, float(min(lifetime, _LONGEST_LIFETIME))
