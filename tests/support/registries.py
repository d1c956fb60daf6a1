"""Debian's docker-registry, run by the tests on loopback."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pylab_container.host import programs
from tests.support.waiting import PATIENCE, eventually

USER, PASSWORD = "student", "not:a secret"


@dataclass(frozen=True)
class RunningRegistry:
    """A running docker-registry, and skopeo to inspect it.

    tls  the directory with the certificate of its CA, None without TLS
    """

    host: str
    data: Path
    options: tuple[str, ...] = ()
    tls: Path | None = None

    @property
    def port(self) -> int:
        return int(self.host.rpartition(":")[2])

    def inspect(self, name: str, *options: str) -> Any:
        """Return an image's manifest."""
        return json.loads(self.skopeo("inspect", "--raw", *options, f"docker://{self.host}/{name}"))

    def digest(self, name: str) -> str:
        """Return the digest of an image's manifest."""
        return self.skopeo("inspect", "--format", "{{.Digest}}", f"docker://{self.host}/{name}").strip()

    def copy(self, source: str, name: str, *options: str) -> None:
        """Copy an image into the registry."""
        self.skopeo("copy", *options, source, f"docker://{self.host}/{name}")

    def fetch(self, name: str, target: str, *options: str) -> None:
        """Copy an image from the registry to target."""
        self.skopeo("copy", *options, f"docker://{self.host}/{name}", target)

    def skopeo(self, action: str, *words: str) -> str:
        """Run skopeo and return its output. Raises AssertionError if it fails."""
        *before, last = words
        options = list(self.options)
        if action == "copy":
            prefix = "dest" if last.startswith("docker://") else "src"
            options = [option.replace("--", f"--{prefix}-", 1) for option in options]
        command = ["skopeo", action, *options, *before, last]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout


@contextlib.contextmanager
def running(
    scratch: Path, *, password: bool = False, tls: bool = False, address: str = "127.0.0.1"
) -> Iterator[RunningRegistry]:
    """Run a registry on an address of this machine while the block runs."""
    scratch.mkdir(parents=True, exist_ok=True)
    config: dict[str, Any] = {
        "version": "0.1",
        "log": {"level": "info"},
        "storage": {"filesystem": {"rootdirectory": str(scratch / "data")}, "delete": {"enabled": True}},
        "http": {"addr": f"{address}:0", "secret": "of tests"},
    }
    options: tuple[str, ...] = () if tls else ("--tls-verify=false",)
    if password:
        _write_htpasswd(scratch / "htpasswd")
        config["auth"] = {"htpasswd": {"realm": "staff", "path": str(scratch / "htpasswd")}}
        options += (f"--creds={USER}:{PASSWORD}",)
    if tls:
        _write_certificates(scratch / "tls", address)
        config["http"]["tls"] = {"certificate": f"{scratch}/tls/server.crt", "key": f"{scratch}/tls/server.key"}
        (scratch / "ca").mkdir()
        (scratch / "ca/ca.crt").write_bytes((scratch / "tls/ca.crt").read_bytes())
        options += (f"--cert-dir={scratch}/ca",)
    (scratch / "config.yml").write_text(json.dumps(config))
    with open(scratch / "log", "wb") as log:
        process = programs.spawn(
            ["docker-registry", "serve", str(scratch / "config.yml")], stdout=log.fileno(), stderr=log.fileno()
        )
    try:
        port = _port(process, scratch / "log")
        yield RunningRegistry(f"{address}:{port}", scratch / "data", options, scratch / "ca" if tls else None)
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _port(process: programs.Process[bytes], log: Path) -> int:
    """Return the port that the kernel chose, from the registry's log. A fixed port might be in use."""

    def logged() -> re.Match[str] | None:
        assert process.poll() is None, log.read_text()
        return re.search(r"listening on [0-9.]+:([0-9]+)\b", log.read_text())

    listening = eventually(logged)
    assert listening
    return int(listening[1])


def _write_htpasswd(path: Path) -> None:
    """Write the password file. docker-registry accepts only bcrypt hashes."""
    line = programs.run(["htpasswd", "-nbB", USER, PASSWORD]).output.strip()
    path.write_text(f"{line}\n")


def _write_certificates(directory: Path, address: str) -> None:
    """Create a CA, and a server certificate of that CA for an address."""
    directory.mkdir()
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    authority = ["-x509", "-subj", "/CN=authority", "-keyout", f"{directory}/ca.key", "-out", f"{directory}/ca.crt"]
    programs.run(["openssl", "req", *key, *authority])
    server = ["-x509", "-CA", f"{directory}/ca.crt", "-CAkey", f"{directory}/ca.key", "-subj", f"/CN={address}"]
    server += ["-addext", f"subjectAltName=IP:{address},DNS:localhost", "-addext", "basicConstraints=CA:FALSE"]
    server += ["-keyout", f"{directory}/server.key", "-out", f"{directory}/server.crt"]
    programs.run(["openssl", "req", *key, *server])
