"""Credentials for registries: docker's config.json, and the helpers that it names.

The file is the user's: $DOCKER_CONFIG/config.json, else ~/.docker/config.json. The docker command reads and writes the
same file, so one login works for both.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pylab_container.docker.credentials import CredentialFile, Credentials, key, parse_helper
from pylab_container.errors import InvalidInput, MissingProgram, RuntimeFailed
from pylab_container.events import Emit
from pylab_container.host import programs
from pylab_container.host.files import write_atomic
from pylab_container.registry.client import RegistryClient
from pylab_container.registry.settings import RegistrySettings


def file_path(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the path of config.json, whether it exists or not."""
    directory = environment.get("DOCKER_CONFIG") or Path(environment.get("HOME") or "/root") / ".docker"
    return Path(directory) / "config.json"


def find(host: str, auth_config: Mapping[str, Any] | None, *, emit: Emit) -> Credentials:
    """Return the credentials for a registry: auth_config, else those of the user's config.json.

    auth_config  docker-py's: username and password; an empty one means anonymous

    Raises InvalidInput.
    """
    if auth_config is not None:
        return Credentials.parse(auth_config)
    file = _read()
    if helper := file.helper(host):
        return _from_helper(helper, host, emit=emit)
    return file.find(host)


def login(settings: RegistrySettings, credentials: Credentials, host: str, *, save: bool, emit: Emit) -> None:
    """Log in to a registry, and with save record the credentials in config.json.

    Raises Unauthorized, Unreachable.
    """
    registry = RegistryClient(settings.endpoint(host), settings, credentials, emit=emit)
    with contextlib.closing(registry):
        registry.login()
    if save:
        _save(host, credentials, emit=emit)


def logout(host: str, *, emit: Emit) -> bool:
    """Remove a registry's credentials from config.json; False if it has none."""
    file = _read()
    if helper := file.helper(host):
        _run_helper(helper, "erase", key(host), emit=emit)
    if not file.knows(host):
        return bool(helper)
    _write(file.with_entry(host, None))
    return True


def _save(host: str, credentials: Credentials, *, emit: Emit) -> None:
    file = _read()
    if helper := file.helper(host):
        secret = {"ServerURL": key(host), "Username": credentials.username, "Secret": credentials.password}
        _run_helper(helper, "store", json.dumps(secret), emit=emit)
        _write(file.with_entry(host, {}))
    else:
        _write(file.with_entry(host, credentials.document()))


def _from_helper(helper: str, host: str, *, emit: Emit) -> Credentials:
    try:
        output = _run_helper(helper, "get", key(host), emit=emit)
    except (RuntimeFailed, MissingProgram):
        # A helper without credentials for the host fails, too, and a config.json from another machine may name a
        # helper that is not installed here. As with docker, anonymous access is tried then.
        return Credentials()
    return parse_helper(output)


def _run_helper(helper: str, action: str, text: str, *, emit: Emit) -> str:
    """Run docker-credential-<name> get, store or erase. Raises InvalidInput, MissingProgram, RuntimeFailed."""
    if "/" in helper:
        raise InvalidInput(f'"{helper}" is not the name of a credential helper', hint=f"look into {file_path()}")
    return programs.run([f"docker-credential-{helper}", action], input=text.encode(), emit=emit).output


def _read() -> CredentialFile:
    try:
        return CredentialFile.parse(file_path().read_bytes(), name=str(file_path()))
    except FileNotFoundError:
        return CredentialFile()
    except OSError as error:
        raise InvalidInput(f"cannot read {file_path()}: {error.strerror}", hint="check that it is a file") from error


def _write(file: CredentialFile) -> None:
    path = file_path()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomic(path, file.raw(), mode=0o600)
