"""Build contexts that lie elsewhere: behind a URL, or in a git repository.

Source: docker's manual of build, "URL contexts" and "Git repositories"; moby, builder/remotecontext.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from msgspec import Struct

from pylab_container.build.download import fetch
from pylab_container.build.sources import is_url
from pylab_container.errors import InvalidInput, LabError, RuntimeFailed
from pylab_container.events import TransferMessage
from pylab_container.host import linux, programs

if TYPE_CHECKING:
    from pylab_container.engine import Engine

_REPOSITORY = re.compile(r"git://|github\.com/|git@|https?://[^#]*\.git(?:#|$)")
# git reaches for nothing but what is named so: no files of this machine, no helpers of its own (git(1)).
_ENVIRONMENT = {"GIT_ALLOW_PROTOCOL": "http:https:git:ssh", "GIT_TERMINAL_PROMPT": "0"}


def is_remote(source: str | Path | BinaryIO) -> bool:
    """Whether a build's source is not on this machine."""
    return isinstance(source, str) and (is_url(source) or _REPOSITORY.match(source) is not None)


@contextlib.contextmanager
def brought(engine: Engine, source: str | Path | BinaryIO) -> Iterator[str | Path | BinaryIO]:
    """A build's source as context.open_context() takes it, as long as the block runs; what is remote is fetched.

    A URL leads to an archive or to a Dockerfile alone; "REPOSITORY#REF:DIRECTORY" is a directory of a git repository
    as a branch, a tag or a commit has it. Raises NotFound, RuntimeFailed where nobody answers, InvalidInput.
    """
    if not is_remote(source):
        yield source
        return
    with engine.data.scratch() as directory:
        if _REPOSITORY.match(str(source)):
            found = _checked_out(_Repository.parse(str(source)), directory / "repository")
        else:
            found = str(_downloaded(str(source), directory))
        engine.data.emit(TransferMessage(str(source), "Downloading context"))
        if os.path.isdir(found):
            yield found
            return
        with open(found, "rb") as stream:
            yield stream


def _downloaded(url: str, directory: Path) -> Path:
    try:
        return fetch(url, directory).path
    except LabError as error:
        raise type(error)(f"error downloading remote context {url}: {error.message}", hint=error.hint) from error


class _Repository(Struct, frozen=True):
    """What a git source names."""

    url: str
    reference: str
    directory: str

    @classmethod
    def parse(cls, text: str) -> _Repository:
        url, _, fragment = text.partition("#")
        reference, _, directory = fragment.partition(":")
        if reference.startswith("-"):
            raise InvalidInput(f"invalid refspec: {reference}", hint="a branch, tag or commit stands behind #")
        return cls(f"https://{url}" if url.startswith("github.com/") else url, reference or "HEAD", directory)


def _checked_out(repository: _Repository, directory: Path) -> str:
    """The wanted directory of a repository, with its submodules."""
    directory.mkdir()
    _git(directory, "init", "--quiet")
    _git(directory, "remote", "add", "origin", repository.url)
    try:
        _git(directory, "fetch", "--depth", "1", "origin", repository.reference)
    except RuntimeFailed:  # a server of bare files cannot send a part, and none sends a commit by a short name
        wanted = "HEAD" if repository.reference == "HEAD" else "refs/heads/*"
        kept = f"refs/remotes/origin/{wanted.removeprefix('refs/heads/')}"
        _git(directory, "fetch", "--tags", "origin", f"+{wanted}:{kept}")
        _git(directory, "checkout", "--quiet", _known(directory, repository.reference))
    else:
        _git(directory, "checkout", "--quiet", "FETCH_HEAD")
    _git(directory, "submodule", "update", "--init", "--recursive", "--depth", "1")
    return _inside(directory, repository.directory)


def _known(directory: Path, reference: str) -> str:
    """A reference by the name that it has after fetch."""
    for name in (f"origin/{reference}", reference):
        if _ran(directory, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}").status == 0:
            return name
    raise InvalidInput(f"{reference} is no branch, tag or commit of the repository", hint="git ls-remote lists them")


def _inside(root: Path, directory: str) -> str:
    base = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        wanted, flags = directory.strip("/") or ".", os.O_PATH | os.O_DIRECTORY
        found = linux.openat2(base, wanted, flags, resolve=linux.RESOLVE_IN_ROOT)
        try:
            return os.readlink(f"/proc/self/fd/{found}")
        finally:
            os.close(found)
    except OSError as error:
        raise InvalidInput(
            f"the repository has no directory {directory}", hint="REPOSITORY#BRANCH:DIRECTORY"
        ) from error
    finally:
        os.close(base)


def _git(directory: Path, *arguments: str) -> None:
    done = _ran(directory, *arguments)
    if done.status != 0:
        raise RuntimeFailed(f"git {arguments[0]} failed: {done.errors.strip()}", hint="is the address right?")


def _ran(directory: Path, *arguments: str) -> programs.Completed:
    command = ["git", "-C", str(directory), *arguments]
    return programs.run(command, environment={**os.environ, **_ENVIRONMENT}, check=False)
