"""Run other programs. The only module that imports subprocess.

run() reports each command line as an event that can be pasted into a shell, so that a student can repeat by hand what
the engine did.
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
"""Program → Debian package, for the hint of MissingProgram."""

Process = subprocess.Popen
PIPE = subprocess.PIPE
DEVNULL = subprocess.DEVNULL


class Completed(Struct, frozen=True):
    """Result of a program: its exit status, and its decoded standard output and standard error."""

    status: int
    output: str
    errors: str


def find(name: str) -> str:
    """Return the absolute path of a program.

    Raises MissingProgram, whose hint names the Debian package to install.
    """
    # su(1) without - keeps the PATH of an ordinary user, which lacks the sbin directories.
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
    """Run a program, wait for it, and return its status and output.

    input        bytes for its standard input; None: /dev/null
    environment  None: that of this process
    check        raise RuntimeFailed with the program's own error message for a status other than 0
    emit         receives ProgramRan

    Raises MissingProgram.
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
        reason = (completed.errors or completed.output).strip() or f"exit status {completed.status}"
        raise RuntimeFailed(f"{shlex.join(command)} failed: {reason}")
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
    """Start a program without waiting for it.

    stdin, stdout, stderr  as in subprocess.Popen; None: inherited
    directory              its current directory; None: that of this process
    new_session            run it in a session of its own (setsid(2)), so that a signal to this one does not reach it

    Raises MissingProgram.
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
