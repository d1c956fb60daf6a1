"""Image names: parse, normalize, and format in the familiar form.

    reference := name [ ":" tag ] [ "@" digest ]
    name      := [ domain "/" ] path
    path      := component [ "/" component ]*

`debian`, `library/debian` and `docker.io/library/debian:latest` are the same image. Users write the first form; the
stores compare the last. Sources: distribution/reference, reference.go for the grammar and normalize.go for defaults.
"""

from __future__ import annotations

import re

from msgspec import Struct
from msgspec.structs import replace

from pylab_container.errors import InvalidReference

DEFAULT_DOMAIN = "docker.io"
DEFAULT_PREFIX = "library/"  # namespace of Docker Hub's official images
DEFAULT_TAG = "latest"

# Each pattern can match a text in one way only, so that matching takes linear time: names come from users, Dockerfiles
# and registries. A component has separators only between other characters. So it can be neither "." nor "..", which
# matters because registries use it in paths of URLs and files.
_SEPARATED = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_SEPARATED}(?:/{_SEPARATED})*\Z")
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?\Z")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")
_DIGEST = re.compile(r"(?:sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128})\Z")
_LONGEST_PATH = 255  # characters: reference.go, RepositoryNameTotalLengthMax
_TAG_HINT = "a tag has up to 128 letters, digits, _ . and -, and does not start with . or -"


class Reference(Struct, frozen=True):
    """A normalized image name.

    domain  "docker.io" or a registry's host[:port]
    path    "library/debian"
    tag     "latest"; None only with a digest, which identifies the image by itself
    digest  "sha256:…" or None
    """

    domain: str
    path: str
    tag: str | None
    digest: str | None = None

    @property
    def repository(self) -> str:
        """The familiar name without tag and digest, as in the REPOSITORY column of `docker images`."""
        if self.domain != DEFAULT_DOMAIN:
            return f"{self.domain}/{self.path}"
        official = self.path.removeprefix(DEFAULT_PREFIX)
        # docker.io/library/a/b stays library/a/b: a/b would be parsed as docker.io/a/b.
        return self.path if "/" in official else official

    @property
    def familiar(self) -> str:
        """The familiar form, with its tag: "debian:latest"."""
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.repository}{tag}{digest}"

    def with_tag(self, tag: str) -> Reference:
        """Return the reference to another tag of the repository.

        Raises InvalidReference for a malformed tag.
        """
        if not _TAG.match(tag):
            raise InvalidReference(f"invalid tag format: {tag[:200]!a}", hint=_TAG_HINT)
        return replace(self, tag=tag, digest=None)

    def __str__(self) -> str:
        return self.familiar


def parse(text: str) -> Reference:
    """Parse an image name as the docker command does.

    A name without tag and digest has the tag "latest". Raises InvalidReference, which names the malformed part.
    """
    name_and_tag, digest = _split_digest(text)
    name, tag = _split_tag(name_and_tag)
    domain, path = _split_domain(name)
    _check(text, domain, path, tag, digest)
    if tag is None and digest is None:
        tag = DEFAULT_TAG
    return Reference(domain, path, tag, digest)


def _split_digest(text: str) -> tuple[str, str | None]:
    name, at, digest = text.partition("@")
    return name, digest if at else None


def _split_tag(text: str) -> tuple[str, str | None]:
    # A colon before the last slash belongs to a registry's port: localhost:5000/debian has no tag.
    slash, colon = text.rfind("/"), text.rfind(":")
    return (text[:colon], text[colon + 1 :]) if colon > slash else (text, None)


def _split_domain(name: str) -> tuple[str, str]:
    # "a/b" is ambiguous: a registry a, or a user a of Docker Hub. It is a registry if it cannot be a user's name, which
    # has no dot, no colon and no capitals (normalize.go, splitDockerDomain). "localhost" is the one exception.
    first, slash, rest = name.partition("/")
    looks_like_host = slash and ("." in first or ":" in first or first == "localhost" or first != first.lower())
    domain, path = (first, rest) if looks_like_host else (DEFAULT_DOMAIN, name)
    if domain == "index.docker.io":  # the host of Docker Hub's first protocol, still in old scripts
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in path:
        path = DEFAULT_PREFIX + path
    return domain, path


def _check(text: str, domain: str, path: str, tag: str | None, digest: str | None) -> None:
    # The messages are those of distribution/reference, because clients match on "invalid reference format".
    if not _PATH.match(path):
        hint = "a repository name is lower-case letters, digits and single . _ - between them"
        if ":" in path:
            hint = "write NAME:TAG: only a registry's port and the tag follow a colon"
        if path != path.lower():
            if _PATH.match(path.lower()):
                hint = f'repository names are lower-case: try "{text.lower()}"'
            raise InvalidReference(f"invalid reference format: repository name ({text}) must be lowercase", hint=hint)
        raise InvalidReference(f'invalid reference format: "{text}"', hint=hint)
    if not _DOMAIN.match(domain):
        raise InvalidReference(
            f'invalid reference format: registry host "{domain}" in "{text}"', hint="write host or host:port"
        )
    if tag is not None and not _TAG.match(tag):
        raise InvalidReference(f'invalid tag format: "{tag}" in "{text}"', hint=_TAG_HINT)
    if digest is not None and not _DIGEST.match(digest):
        raise InvalidReference(
            f'invalid reference format: digest "{digest}" in "{text}"',
            hint="a digest is sha256: and 64 hexadecimal digits",
        )
    if len(path) > _LONGEST_PATH:
        message = f"repository name is longer than {_LONGEST_PATH} characters"
        raise InvalidReference(message, hint="choose a shorter name")


def parse_tag(text: str) -> Reference:
    """Parse a name to give to an image.

    Raises InvalidReference for one with a digest, or an ambiguous one.
    """
    reference = parse(text)
    if reference.digest:
        raise InvalidReference(
            f'refusing to create a tag with a digest reference: "{text}"',
            hint="the content determines the digest: write NAME:TAG",
        )
    # "sha256:12ab…" would be read as an image id, or a prefix of one, and the name could never be used.
    if reference.familiar.startswith("sha256:"):
        raise InvalidReference(
            "refusing to create an ambiguous tag using digest algorithm as name", hint="choose another name"
        )
    if re.fullmatch(r"[0-9a-f]{64}", reference.repository):
        raise InvalidReference(f'"{text}" could be mistaken for an image id', hint="choose another name")
    return reference
