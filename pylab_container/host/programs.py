"""Run other programs: the only module that imports subprocess.

Every run is logged as a line that can be pasted into a shell, so that a student can
repeat by hand what the engine did.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence

from msgspec import Struct

from pylab_container.errors import MissingProgram, RuntimeFailed
from pylab_container.events import Emit, ProgramRan, ignore

# Which Debian package brings a program, for the hint of MissingProgram.
PACKAGES = {
    "conmon": "conmon",
    "ip": "iproute2",
    "mmdebstrap": "mmdebstrap",
    "nft": "nftables",
    "ps": "procps",
    "runc": "runc",
    "setpriv": "util-linux",
    "tar": "tar",
    "tree": "tree",
    "unshare": "util-linux",
    "xz": "xz-utils",
}

Process = subprocess.Popen
PIPE = subprocess.PIPE
DEVNULL = subprocess.DEVNULL


class Completed(Struct, frozen=True):
    """How a program ended. `output` and `errors` are its standard streams, decoded."""

    status: int
    output: str
    errors: str


def find(name: str) -> str:
    """The program's absolute path.

    Raises MissingProgram with the Debian package to install. /usr/sbin and /sbin are
    searched too: a student's PATH often lacks them.
    """
    path = shutil.which(name) or shutil.which(name, path="/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin")
    if path is None:
        package = PACKAGES.get(name, name)
        raise MissingProgram(f"the program {name} is not installed", hint=f"apt-get install {package}")
    return path


def run(
    command: Sequence[str],
    *,
    input: bytes | None = None,
    environment: Mapping[str, str] | None = None,
    check: bool = True,
    pass_fds: Sequence[int] = (),
    emit: Emit = ignore,
) -> Completed:
    """Run a program to its end and return what it printed.

    With check (the default) a status other than 0 raises RuntimeFailed with the
    program's own last words. The command line goes to emit as ProgramRan.
    """
    started = time.monotonic()
    done = subprocess.run(
        [find(command[0]), *command[1:]],
        input=input,
        stdin=subprocess.DEVNULL if input is None else None,
        capture_output=True,
        env=environment,
        pass_fds=pass_fds,
    )
    emit(ProgramRan(shlex.join(command), time.monotonic() - started, done.returncode))
    completed = Completed(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))
    if check and completed.status != 0:
        words = (completed.errors or completed.output).strip() or f"exit status {completed.status}"
        raise RuntimeFailed(f"{shlex.join(command)} failed: {words}")
    return completed


def spawn(
    command: Sequence[str],
    *,
    stdin: int | None = DEVNULL,
    stdout: int | None = DEVNULL,
    stderr: int | None = DEVNULL,
    environment: Mapping[str, str] | None = None,
    directory: str | None = None,
    pass_fds: Sequence[int] = (),
    new_session: bool = False,
) -> subprocess.Popen[bytes]:
    """Start a program and return without waiting.

    Streams as in subprocess.Popen; None inherits. directory is where the program starts.
    """
    return subprocess.Popen(
        [find(command[0]), *command[1:]],
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env=environment,
        cwd=directory,
        pass_fds=pass_fds,
        start_new_session=new_session,
    )
