"""Docker's config.json: who somebody is at which registry.

    {"auths": {"localhost:5000": {"auth": "<base64 of user:password>"}},
     "credsStore": "pass", "credHelpers": {"registry.example": "secretservice"}}

auths holds the secrets themselves; credsStore names a program docker-credential-<name> that keeps
them, and credHelpers one for a single registry. Source: docker's command line reference, "login";
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
from pylab_container.oci.reference import DEFAULT_DOMAIN
from pylab_container.text.jsontext import parse_json

Json = dict[str, Any]

DEFAULT_KEY = f"https://index.{DEFAULT_DOMAIN}/v1/"
"""What Docker's own registry is called in the file, since the days of its first protocol."""
TOKEN_USER = "<token>"
"""What a helper says as user where the secret is an identity token."""
_HINT = "labctr logout, then labctr login"


class Credentials(Struct, frozen=True):
    """Who asks. identity_token stands for a password at a server of tokens; registry_token is the token itself."""

    username: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""

    def __bool__(self) -> bool:
        return bool(self.username or self.identity_token or self.registry_token)

    def __repr__(self) -> str:  # secrets do not belong in tracebacks
        return f"Credentials({self.username!r}, …)"

    @classmethod
    def parse(cls, entry: Mapping[str, Any]) -> Credentials:
        """One of auths, or the AuthConfig of Docker's API. Raises InvalidInput."""
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
        """As auths has it."""
        secret = base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
        return {"auth": secret} | ({"identitytoken": self.identity_token} if self.identity_token else {})

    def basic(self) -> str:
        """As the header Authorization has it (RFC 7617)."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


class CredentialFile(Struct, frozen=True):
    """What a config.json says; what we do not know in it survives."""

    document: Json = field(default_factory=dict)

    @classmethod
    def parse(cls, raw: bytes, *, name: str = "config.json") -> CredentialFile:
        """Raises InvalidInput."""
        try:
            document = parse_json(raw or b"{}")
            valid = isinstance(document, dict)
            valid = valid and all(isinstance(document.get(part, {}), dict) for part in ("auths", "credHelpers"))
            valid = valid and all(isinstance(entry, dict) for entry in document.get("auths", {}).values())
        except ValueError:
            valid = False
        if not valid:
            raise InvalidInput(f"{name} is no file of credentials", hint="mend it, or move it away and login again")
        return cls(document)

    def raw(self) -> bytes:
        """The file's bytes, laid out as docker does it."""
        return json.dumps(self.document, indent="\t").encode()

    def helper(self, host: str) -> str:
        """The name of the helper that keeps a registry's credentials, "" where the file itself does."""
        helpers = self.document.get("credHelpers", {})
        return str(helpers.get(key(host)) or helpers.get(host) or self.document.get("credsStore") or "")

    def find(self, host: str) -> Credentials:
        """The registry's credentials in the file itself; empty ones where there are none. Raises InvalidInput."""
        return Credentials.parse(self.entry(host))

    def entry(self, host: str) -> Json:
        """The same as it stands there."""
        auths = self.document.get("auths", {})
        exact = auths.get(key(host))
        found: Json = exact if exact is not None else next((auths[one] for one in auths if _host(one) == host), {})
        return found

    def with_entry(self, host: str, entry: Json | None) -> CredentialFile:
        """The file with another entry for a registry; None: without one."""
        auths = {name: value for name, value in self.document.get("auths", {}).items() if not _is(name, host)}
        return CredentialFile({**self.document, "auths": auths if entry is None else {**auths, key(host): entry}})

    def knows(self, host: str) -> bool:
        """Whether there is an entry for a registry."""
        return any(_is(name, host) for name in self.document.get("auths", {}))


def key(host: str) -> str:
    """What a registry is called in the file."""
    return DEFAULT_KEY if host == DEFAULT_DOMAIN else host


def host_of(address: str) -> str:
    """The registry that somebody means by an address: "https://localhost:5000/v2/" is "localhost:5000"; "" is Docker's.

    Docker's own has several names.
    """
    host = _host(address)
    return DEFAULT_DOMAIN if host in ("", f"index.{DEFAULT_DOMAIN}", f"registry-1.{DEFAULT_DOMAIN}") else host


def parse_helper(output: str) -> Credentials:
    """What `docker-credential-… get` printed. Raises InvalidInput."""
    try:
        document = json.loads(output)
        username, secret = str(document["Username"]), str(document["Secret"])
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInput("the credential helper's answer cannot be understood", hint=_HINT) from error
    return Credentials(identity_token=secret) if username == TOKEN_USER else Credentials(username, secret)


def _is(name: str, host: str) -> bool:
    return name == key(host) or _host(name) == host


def _host(address: str) -> str:
    """The host of an address, which may have a scheme and a path."""
    return address.partition("://")[2].partition("/")[0] if "://" in address else address.partition("/")[0]


def _decoded(secret: str) -> tuple[str, str]:
    try:
        text = base64.b64decode(secret, validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise InvalidInput("the credentials in config.json cannot be decoded", hint=_HINT) from error
    username, _, password = text.partition(":")
    return username, password.strip("\0")
