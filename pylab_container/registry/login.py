"""Who we are at registries: docker's config.json, and the helpers that keep secrets for it.

The file is the user's: $DOCKER_CONFIG/config.json, else ~/.docker/config.json, the very file that the docker
command reads and writes, so one login does for both.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pylab_container.docker.credentials import CredentialFile, Credentials, key, parse_helper
from pylab_container.errors import InvalidInput, MissingProgram, RuntimeFailed
from pylab_container.host import programs
from pylab_container.host.files import write_atomic
from pylab_container.registry.client import RegistryClient

if TYPE_CHECKING:
    from pylab_container.engine import Engine


def file_path(environment: Mapping[str, str] = os.environ) -> Path:
    """Where the file is, or would be."""
    directory = environment.get("DOCKER_CONFIG") or Path(environment.get("HOME") or "/root") / ".docker"
    return Path(directory) / "config.json"


def find(engine: Engine, host: str, given: Mapping[str, Any] | None) -> Credentials:
    """The credentials for a registry: those that were given; where none were, those of the user's file.

    given  docker-py's auth_config: username and password; an empty one stands for nobody

    Raises InvalidInput.
    """
    if given is not None:
        return Credentials.parse(given)
    known = _read()
    if helper := known.helper(host):
        return _from_helper(engine, helper, host)
    return known.find(host)


def login(engine: Engine, username: str, password: str, host: str, *, save: bool) -> None:
    """Ask a registry to let us in, and note down that it did. Raises Unauthorized, Unreachable."""
    registry = RegistryClient(
        engine.registries.endpoint(host), engine.registries, Credentials(username, password), emit=engine.data.emit
    )
    with contextlib.closing(registry):
        registry.login()
    if save:
        _save(engine, host, Credentials(username, password))


def logout(engine: Engine, host: str) -> bool:
    """Forget who we are at a registry; False where that was never known."""
    known = _read()
    if helper := known.helper(host):
        _helped(engine, helper, "erase", key(host))
    if not known.knows(host):
        return bool(helper)
    _write(known.with_entry(host, None))
    return True


def _save(engine: Engine, host: str, credentials: Credentials) -> None:
    known = _read()
    if helper := known.helper(host):
        secret = {"ServerURL": key(host), "Username": credentials.username, "Secret": credentials.password}
        _helped(engine, helper, "store", json.dumps(secret))
        _write(known.with_entry(host, {}))
    else:
        _write(known.with_entry(host, credentials.document()))


def _from_helper(engine: Engine, helper: str, host: str) -> Credentials:
    try:
        output = _helped(engine, helper, "get", key(host))
    except (RuntimeFailed, MissingProgram):
        # It knows nobody there, and has no other way to say so; or config.json comes from a machine that has it.
        # Without a password much can be pulled, as with docker, and a login will tell what is missing.
        return Credentials()
    return parse_helper(output)


def _helped(engine: Engine, helper: str, action: str, text: str) -> str:
    """Run docker-credential-<name> get, store or erase. Raises InvalidInput, MissingProgram, RuntimeFailed."""
    if "/" in helper:
        raise InvalidInput(f'"{helper}" is no name of a credential helper', hint=f"look into {file_path()}")
    return programs.run([f"docker-credential-{helper}", action], input=text.encode(), emit=engine.data.emit).output


def _read() -> CredentialFile:
    try:
        return CredentialFile.parse(file_path().read_bytes(), name=str(file_path()))
    except FileNotFoundError:
        return CredentialFile()
    except OSError as error:
        raise InvalidInput(f"cannot read {file_path()}: {error.strerror}", hint="is it a file?") from error


def _write(known: CredentialFile) -> None:
    path = file_path()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomic(path, known.raw(), mode=0o600)
