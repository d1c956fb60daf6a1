"""Build contexts from elsewhere: a URL, or a git repository.

Source: docker's manual of build, "URL contexts" and "Git repositories"; moby, builder/remotecontext.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct

from pylab_container.build.download import fetch, is_url
from pylab_container.errors import InvalidInput, LabError, RuntimeFailed
from pylab_container.events import TransferMessage
from pylab_container.host import linux, programs
from pylab_container.store.data_root import DataRoot

_REPOSITORY = re.compile(r"git://|github\.com/|git@|https?://[^#]*\.git(?:#|$)")
# git may use these protocols only: "file" and "ext" would read files and run commands of this machine (git(1)).
_ENVIRONMENT = {"GIT_ALLOW_PROTOCOL": "http:https:git:ssh", "GIT_TERMINAL_PROMPT": "0"}


def is_remote(source: str | Path | BinaryIO) -> bool:
    """Whether a build's source is a URL or a git repository."""
    return isinstance(source, str) and (is_url(source) or _REPOSITORY.match(source) is not None)


@contextlib.contextmanager
def fetched(data: DataRoot, source: str | Path | BinaryIO) -> Iterator[str | Path | BinaryIO]:
    """Fetch a remote source while the block runs; yields a source for open_context().

    A URL leads to an archive or to a single Dockerfile. "REPOSITORY#REF:DIRECTORY" is a directory of a git repository
    at a branch, a tag or a commit. A local source is yielded as it is. Raises NotFound, RuntimeFailed, InvalidInput.
    """
    if not is_remote(source):
        yield source
        return
    with data.scratch() as scratch:
        if _REPOSITORY.match(str(source)):
            path = _check_out(_Repository.parse(str(source)), scratch / "repository")
        else:
            path = str(_download(str(source), scratch))
        data.emit(TransferMessage(str(source), "Downloading context"))
        if os.path.isdir(path):
            yield path
            return
        with open(path, "rb") as stream:
            yield stream


def _download(url: str, directory: Path) -> Path:
    try:
        return fetch(url, directory).path
    except LabError as error:
        raise type(error)(f"error downloading remote context {url}: {error.message}", hint=error.hint) from error


class _Repository(Struct, frozen=True):
    """A git source: the repository's URL, a branch, tag or commit, and a directory in it."""

    url: str
    reference: str
    directory: str

    @classmethod
    def parse(cls, text: str) -> _Repository:
        url, _, fragment = text.partition("#")
        reference, _, directory = fragment.partition(":")
        if reference.startswith("-"):
            raise InvalidInput(f"invalid refspec: {reference}", hint="write a branch, tag or commit after #")
        return cls(f"https://{url}" if url.startswith("github.com/") else url, reference or "HEAD", directory)


def _check_out(repository: _Repository, directory: Path) -> str:
    """Fetch a repository with its submodules; returns the path of the source's directory in it."""
    directory.mkdir()
    _git(directory, "init", "--quiet")
    _git(directory, "remote", "add", "origin", repository.url)
    try:
        _git(directory, "fetch", "--depth", "1", "origin", repository.reference)
    except RuntimeFailed:  # the "dumb" HTTP protocol has no shallow fetch, and no server resolves a short commit id
        remote = "HEAD" if repository.reference == "HEAD" else "refs/heads/*"
        local = f"refs/remotes/origin/{remote.removeprefix('refs/heads/')}"
        _git(directory, "fetch", "--tags", "origin", f"+{remote}:{local}")
        _git(directory, "checkout", "--quiet", _fetched_name(directory, repository.reference))
    else:
        _git(directory, "checkout", "--quiet", "FETCH_HEAD")
    _git(directory, "submodule", "update", "--init", "--recursive", "--depth", "1")
    return _inside(directory, repository.directory)


def _fetched_name(directory: Path, reference: str) -> str:
    """The name of a reference after the fetch. Raises InvalidInput."""
    for name in (f"origin/{reference}", reference):
        if _run_git(directory, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}").status == 0:
            return name
    raise InvalidInput(f"{reference} is not a branch, tag or commit of the repository", hint="git ls-remote lists them")


def _inside(root: Path, directory: str) -> str:
    """A directory of the repository as a path on the host; links do not lead out of the repository."""
    base = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        path, flags = directory.strip("/") or ".", os.O_PATH | os.O_DIRECTORY
        fd = linux.openat2(base, path, flags, resolve=linux.RESOLVE_IN_ROOT)
        try:
            return os.readlink(f"/proc/self/fd/{fd}")
        finally:
            os.close(fd)
    except OSError as error:
        raise InvalidInput(
            f"the repository has no directory {directory}", hint="write REPOSITORY#BRANCH:DIRECTORY"
        ) from error
    finally:
        os.close(base)


def _git(directory: Path, *arguments: str) -> None:
    done = _run_git(directory, *arguments)
    if done.status != 0:
        raise RuntimeFailed(f"git {arguments[0]} failed: {done.errors.strip()}", hint="check the address")


def _run_git(directory: Path, *arguments: str) -> programs.Completed:
    command = ["git", "-C", str(directory), *arguments]
    return programs.run(command, environment={**os.environ, **_ENVIRONMENT}, check=False)
