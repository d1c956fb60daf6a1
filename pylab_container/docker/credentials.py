"""Docker's config.json: the user's credentials for each registry.

    {"auths": {"localhost:5000": {"auth": "<base64 of user:password>"}},
     "credsStore": "pass", "credHelpers": {"registry.example": "secretservice"}}

auths holds the secrets themselves. credsStore names a program docker-credential-<name> that stores them instead, and
credHelpers names such a program for a single registry. Sources: docker's command line reference, "login";
docker-credential-helpers, "Development"; moby registry/auth.go for how a registry's key is found.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

from msgspec import Struct, field

from pylab_container.errors import InvalidInput
from pylab_container.oci.image import Json
from pylab_container.oci.reference import DEFAULT_DOMAIN
from pylab_container.text.jsontext import parse_json

DEFAULT_KEY = f"https://index.{DEFAULT_DOMAIN}/v1/"
"""The key of Docker's own registry in the file, from the first version of the registry protocol."""
TOKEN_USER = "<token>"
"""The user name with which a helper marks its secret as an identity token."""
LOGIN_AGAIN = "labctr logout, then labctr login"


class Credentials(Struct, frozen=True):
    """Credentials for one registry; all fields may be empty.

    identity_token  is sent to the token server in place of a password
    registry_token  is sent to the registry itself
    """

    username: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""

    def __bool__(self) -> bool:
        return bool(self.username or self.identity_token or self.registry_token)

    def __repr__(self) -> str:  # a traceback must not show secrets
        return f"Credentials({self.username!r}, …)"

    @classmethod
    def parse(cls, entry: Mapping[str, Any]) -> Credentials:
        """Parse an entry of auths, or an AuthConfig of Docker's API. Raises InvalidInput."""
        username, password = str(entry.get("username") or ""), str(entry.get("password") or "")
        if entry.get("auth") and not password:
            username, password = _decoded(str(entry["auth"]))
        return cls(
            username,
            password,
            str(entry.get("identitytoken") or ""),
            str(entry.get("registrytoken") or ""),
        )

    def document(self) -> Json:
        """Return the entry for auths."""
        secret = base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
        return {"auth": secret} | ({"identitytoken": self.identity_token} if self.identity_token else {})

    def basic(self) -> str:
        """Return the value of the header Authorization (RFC 7617)."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


class CredentialFile(Struct, frozen=True):
    """The content of a config.json. Fields that are unknown here are kept."""

    document: Json = field(default_factory=dict)

    @classmethod
    def parse(cls, raw: bytes, *, name: str = "config.json") -> CredentialFile:
        """Parse a file's bytes; empty ones are an empty file. Raises InvalidInput."""
        try:
            document = parse_json(raw or b"{}")
            valid = isinstance(document, dict)
            valid = valid and all(isinstance(document.get(part, {}), dict) for part in ("auths", "credHelpers"))
            valid = valid and all(isinstance(entry, dict) for entry in document.get("auths", {}).values())
        except ValueError:
            valid = False
        if not valid:
            raise InvalidInput(
                f"{name} is not a valid credential file", hint="correct it, or move it away and log in again"
            )
        return cls(document)

    def raw(self) -> bytes:
        """Return the file's bytes, indented as docker writes them."""
        return json.dumps(self.document, indent="\t").encode()

    def helper(self, host: str) -> str:
        """Return the name of a registry's helper; "" if the file itself holds the credentials."""
        helpers = self.document.get("credHelpers", {})
        return str(helpers.get(key(host)) or helpers.get(host) or self.document.get("credsStore") or "")

    def find(self, host: str) -> Credentials:
        """Return a registry's credentials from auths; empty ones if it has no entry.

        Raises InvalidInput.
        """
        return Credentials.parse(self.entry(host))

    def entry(self, host: str) -> Json:
        """Return a registry's entry in auths; {} if it has none."""
        auths = self.document.get("auths", {})
        exact: Json | None = auths.get(key(host))
        if exact is not None:
            return exact
        same_host: Json = next((entry for address, entry in auths.items() if _host(address) == host), {})
        return same_host

    def with_entry(self, host: str, entry: Json | None) -> CredentialFile:
        """Return the file with the entry of a registry replaced, or removed if entry is None."""
        auths = {name: value for name, value in self.document.get("auths", {}).items() if not _is_key_of(name, host)}
        return CredentialFile({**self.document, "auths": auths if entry is None else {**auths, key(host): entry}})

    def knows(self, host: str) -> bool:
        """Return whether auths has an entry for a registry."""
        return any(_is_key_of(name, host) for name in self.document.get("auths", {}))


def key(host: str) -> str:
    """Return the key of a registry in the file."""
    return DEFAULT_KEY if host == DEFAULT_DOMAIN else host


def host_of(address: str) -> str:
    """Return the host of a registry's address: localhost:5000 of https://localhost:5000/v2/.

    "" and every other name of Docker's own registry become DEFAULT_DOMAIN.
    """
    host = _host(address)
    return DEFAULT_DOMAIN if host in ("", f"index.{DEFAULT_DOMAIN}", f"registry-1.{DEFAULT_DOMAIN}") else host


def parse_helper(output: str) -> Credentials:
    """Parse the output of `docker-credential-… get`. Raises InvalidInput."""
    try:
        document = json.loads(output)
        username, secret = str(document["Username"]), str(document["Secret"])
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInput("the credential helper's output is not valid", hint=LOGIN_AGAIN) from error
    return Credentials(identity_token=secret) if username == TOKEN_USER else Credentials(username, secret)


def _is_key_of(name: str, host: str) -> bool:
    return name == key(host) or _host(name) == host


def _host(address: str) -> str:
    """Return the host of an address, which may have a scheme and a path."""
    return address.partition("://")[2].partition("/")[0] if "://" in address else address.partition("/")[0]


def _decoded(secret: str) -> tuple[str, str]:
    try:
        text = base64.b64decode(secret, validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise InvalidInput("the credentials in config.json cannot be decoded", hint=LOGIN_AGAIN) from error
    username, _, password = text.partition(":")
    return username, password.strip("\0")
