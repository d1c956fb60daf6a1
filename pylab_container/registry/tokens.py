"""Who asks: the header Authorization, for what is asked.

Basic authentication sends the password with each request. With tokens, the registry answers 401 and
names a server; that one is told the password and the scope ("repository:a/b:pull"), and gives a token
that opens this scope for some minutes. Source: the distribution project, "Token Authentication
Specification" and "Token Scope Documentation"; RFC 7617.
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

_CLIENT = "pylab-container"
_SHORTEST = 60.0
"""Seconds that a token lasts where nobody says ("Token Authentication Specification")."""
_LONGEST = 86400.0
"""Seconds after which a new token is requested in any case."""

Ask = Callable[[str, str, Mapping[str, str], str | None], Any]
"""(method, address, headers, form or None) → the JSON document of the answer. Raises RegistryFailed."""


class Authorizer:
    """The credentials for one registry, and the tokens that they gave."""

    def __init__(self, credentials: Credentials, ask: Ask, *, plain: bool) -> None:
        """plain: the registry itself speaks plain http, so a server of tokens may, too."""
        self._credentials = credentials
        self._ask = ask
        self._plain = plain
        self._challenge: Challenge | None = None
        self._tokens: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()

    @property
    def named(self) -> bool:
        """Whether there are credentials to show."""
        return bool(self._credentials)

    @property
    def lacks_credentials(self) -> bool:
        """Whether the registry wants a name and a password, and there are none to send."""
        wants = self._challenge is not None and self._challenge.scheme == "basic"
        return wants and not (self._credentials.username or self._credentials.registry_token)

    def learn(self, challenges: list[Challenge]) -> None:
        """Note how the registry wants to be asked."""
        known = [challenge for challenge in challenges if challenge.scheme in ("bearer", "basic")]
        self._challenge = next(iter(known), self._challenge)

    def header(self, scopes: tuple[str, ...], *, fresh: bool = False) -> str:
        """What to send for some scopes, "" for nothing; fresh: what was sent before did not do.

        Raises Unauthorized, RegistryFailed.
        """
        if self._credentials.registry_token:
            return f"Bearer {self._credentials.registry_token}"
        if self._challenge is None:
            return ""
        if self._challenge.scheme == "basic":
            return self._credentials.basic() if self._credentials.username else ""
        with self._lock:
            return f"Bearer {self._token(self._challenge, scopes, fresh=fresh)}"

    def _token(self, challenge: Challenge, scopes: tuple[str, ...], *, fresh: bool) -> str:
        asked = scopes or tuple(challenge.parameters.get("scope", "").split())
        key = " ".join(asked)
        token, until = self._tokens.get(key, ("", 0.0))
        if fresh or time.monotonic() >= until:
            token, lasts = self._fetch(challenge, asked)
            # A little early: it must not end while it is on its way.
            self._tokens[key] = (token, time.monotonic() + lasts * 0.9)
        return token

    def _fetch(self, challenge: Challenge, scopes: tuple[str, ...]) -> tuple[str, float]:
        realm = self._realm(challenge)
        service, who = challenge.parameters.get("service", ""), self._credentials
        if who.identity_token:
            form = {"grant_type": "refresh_token", "service": service, "client_id": _CLIENT, "scope": " ".join(scopes)}
            document = self._ask("POST", realm, {}, urlencode({**form, "refresh_token": who.identity_token}))
        else:
            fields = [("service", service)] if service else []
            fields += [("scope", scope) for scope in scopes]
            fields += [("account", who.username)] if who.username else []
            mark = "&" if "?" in realm else "?"
            headers = {"Authorization": who.basic()} if who.username else {}
            document = self._ask("GET", f"{realm}{mark}{urlencode(fields)}", headers, None)
        return _read(document, realm)

    def _realm(self, challenge: Challenge) -> str:
        """The server of tokens. It is told a password, so nobody may listen."""
        realm = challenge.parameters.get("realm", "")
        parts = parts_of(realm, "a server of tokens")
        allowed = parts.scheme == "https" or (
            parts.scheme == "http" and (self._plain or is_loopback(bare_host(parts.netloc)))
        )
        if not allowed or not parts.netloc:
            raise RegistryFailed(
                f'the registry sends us for a token to "{realm[:LONGEST_EXCERPT]}", which is not an https address',
                hint="only a registry that is allowed plain http may do that",
            )
        return realm


def _read(document: Any, realm: str) -> tuple[str, float]:
    token = document.get("token") or document.get("access_token") if isinstance(document, dict) else None
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        raise Unauthorized(
            "authorization server did not include a token in the response", hint=f"it is {realm.partition('?')[0]}"
        )
    lasts = document.get("expires_in")
    # Compared as it is: a number of 400 digits does not fit in a float, and NaN is neither longer nor shorter.
    if not isinstance(lasts, int | float) or not lasts > _SHORTEST:
        return token, _SHORTEST
    return token, float(min(lasts, _LONGEST))
