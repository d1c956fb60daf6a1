"""Image names: parse, normalise, show in the familiar form.

The grammar is that of the distribution project's reference package:

    reference := name [ ":" tag ] [ "@" digest ]
    name      := [ domain "/" ] path

`debian`, `library/debian` and `docker.io/library/debian:latest` are one image; people
write the first, stores compare the last.
"""

from __future__ import annotations

import re

from msgspec import Struct
from msgspec.structs import replace

from pylab_container.errors import InvalidReference

DEFAULT_DOMAIN = "docker.io"
DEFAULT_PREFIX = "library/"
DEFAULT_TAG = "latest"

_SEPARATED = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_SEPARATED}(?:/{_SEPARATED})*\Z")
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?\Z")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")
_DIGEST = re.compile(r"(?:sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128})\Z")
_LONGEST_NAME = 255
_TAG_HINT = "a tag is up to 128 letters, digits, _ . - and starts with no . or -"


class Reference(Struct, frozen=True):
    """An image's name in full: every part that people leave out is filled in.

    domain  "docker.io" or a registry's host[:port]
    path    "library/debian"
    tag     "latest"; None only where a digest says exactly which image is meant
    digest  "sha256:…" or None
    """

    domain: str
    path: str
    tag: str | None
    digest: str | None = None

    @property
    def repository(self) -> str:
        """The name without tag and digest, as people write it: the REPOSITORY column."""
        if self.domain != DEFAULT_DOMAIN:
            return f"{self.domain}/{self.path}"
        official = self.path.removeprefix(DEFAULT_PREFIX)
        return self.path if "/" in official else official  # library/a/b is not a/b

    @property
    def familiar(self) -> str:
        """As people write it, but with its tag: "debian:latest"."""
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.repository}{tag}{digest}"

    def with_tag(self, tag: str) -> Reference:
        """The same repository under another tag. Raises InvalidReference for a tag that cannot be one."""
        if not _TAG.match(tag):
            raise InvalidReference(f"invalid tag format: {tag[:200]!a}", hint=_TAG_HINT)
        return replace(self, tag=tag, digest=None)

    def __str__(self) -> str:
        return self.familiar


def parse(text: str) -> Reference:
    """Read an image name as the docker command does.

    A name without tag and digest means the tag "latest". Raises InvalidReference with
    the part that is wrong.
    """
    rest, digest = _split_digest(text)
    name, tag = _split_tag(rest)
    domain, path = _split_domain(name)
    _check(text, domain, path, tag, digest)
    if tag is None and digest is None:
        tag = DEFAULT_TAG
    return Reference(domain, path, tag, digest)


def _split_digest(text: str) -> tuple[str, str | None]:
    name, at, digest = text.partition("@")
    return name, digest if at else None


def _split_tag(text: str) -> tuple[str, str | None]:
    # A colon before the last slash belongs to a registry's port, not to a tag.
    slash, colon = text.rfind("/"), text.rfind(":")
    return (text[:colon], text[colon + 1 :]) if colon > slash else (text, None)


def _split_domain(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    looks_like_host = slash and ("." in first or ":" in first or first == "localhost" or first != first.lower())
    domain, path = (first, rest) if looks_like_host else (DEFAULT_DOMAIN, name)
    if domain == "index.docker.io":
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in path:
        path = DEFAULT_PREFIX + path
    return domain, path


def _check(text: str, domain: str, path: str, tag: str | None, digest: str | None) -> None:
    if not _PATH.match(path):
        hint = "a repository name is lower-case letters, digits and single . _ - between them"
        if path != path.lower():
            hint = f'repository names are lower-case: try "{text.lower()}"'
            raise InvalidReference(f"invalid reference format: repository name ({text}) must be lowercase", hint=hint)
        raise InvalidReference(f'invalid reference format: "{text}"', hint=hint)
    if not _DOMAIN.match(domain):
        raise InvalidReference(
            f'invalid reference format: registry host "{domain}" in "{text}"', hint="write host or host:port"
        )
    if tag is not None and not _TAG.match(tag):
        raise InvalidReference(
            f'invalid tag format: "{tag}" in "{text}"',
            hint=_TAG_HINT,
        )
    if digest is not None and not _DIGEST.match(digest):
        raise InvalidReference(
            f'invalid reference format: digest "{digest}" in "{text}"',
            hint="a digest is sha256: and 64 hexadecimal digits",
        )
    if len(path) > _LONGEST_NAME:
        raise InvalidReference(
            f"repository name is longer than {_LONGEST_NAME} characters", hint="choose a shorter name"
        )


def parse_tag(text: str) -> Reference:
    """Read a name to *give* to an image: a digest cannot be given, it follows from the content."""
    reference = parse(text)
    if reference.digest:
        raise InvalidReference(
            f'refusing to create a tag with a digest reference: "{text}"', hint="a digest follows: use NAME:TAG"
        )
    if reference.familiar.startswith("sha256:"):
        raise InvalidReference(
            "refusing to create an ambiguous tag using digest algorithm as name", hint="choose another name"
        )
    if re.fullmatch(r"[0-9a-f]{64}", reference.repository):
        raise InvalidReference(f'"{text}" could be mistaken for an image id', hint="choose another name")
    return reference
