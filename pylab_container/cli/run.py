"""Commands that connect a terminal to a container: run, attach and exec."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click
from msgspec import Struct
from msgspec.structs import replace

from pylab_container.cli import arguments, terminal
from pylab_container.cli.command import Command, open_engine
from pylab_container.cli.creation import Creation
from pylab_container.cli.entries import environment_of
from pylab_container.cli.options import creation_options
from pylab_container.cli.printing import say
from pylab_container.errors import (
    CommandNotExecutable,
    CommandNotFound,
    Conflict,
    ContainerNotFound,
    InvalidInput,
    LabError,
)
from pylab_container.text.keys import DEFAULT_KEYS, parse_keys

if TYPE_CHECKING:
    from pylab_container.containers.execution import Exec
    from pylab_container.engine.container import Container


class RunCommand(Command):
    """A command with docker run's exit statuses.

    125 if the engine failed, 126 and 127 as in a shell, otherwise that of the program in the container.
    """

    def status(self, error: LabError) -> int:
        return error.exit_code


_DETACH_KEYS = click.option(
    "--detach-keys", metavar="KEYS", help="The key sequence that detaches.  [default: ctrl-p,ctrl-q]"
)
_SIGNALS = click.option(
    "--sig-proxy/--no-sig-proxy", "proxy", default=True, help="Forward signals to it.  [default: --sig-proxy]"
)


class AttachOptions(Struct, frozen=True):
    """How the caller's streams are connected to a container.

    stdin  forward standard input
    tty    the container has a terminal
    keys   the key sequence that detaches
    proxy  forward signals
    shown  the output streams to copy
    size   (rows, columns) of the container's terminal at its start; (0, 0): unknown
    """

    stdin: bool
    tty: bool
    keys: bytes = DEFAULT_KEYS
    proxy: bool = True
    shown: frozenset[str] = frozenset(("stdout", "stderr"))
    size: tuple[int, int] = (0, 0)


def attach_options(*, stdin: bool, tty: bool, keys: str | None, proxy: bool) -> AttachOptions:
    """Build the AttachOptions of a command line. Raises InvalidInput for an unknown key."""
    parsed = parse_keys(keys) if keys else DEFAULT_KEYS
    return AttachOptions(stdin=stdin, tty=tty, keys=parsed, proxy=proxy)


@click.command(cls=RunCommand, context_settings={"allow_interspersed_args": False})
@creation_options
@click.option("-d", "--detach", is_flag=True, help="Run the container in the background and print its id.")
@click.option("--rm", "remove", is_flag=True, help="Remove the container when it exits.")
@_DETACH_KEYS
@_SIGNALS
def run(*, creation: Creation, detach: bool, remove: bool, detach_keys: str | None, proxy: bool) -> int:
    """Create and run a new container from an image."""
    if detach and creation.options["attach"]:
        raise InvalidInput("conflicting options: cannot specify both --attach and --detach", hint="leave one out")
    stdin = "stdin" in creation.streams
    plan = attach_options(stdin=stdin, tty=creation.tty, keys=detach_keys, proxy=proxy)
    if not detach:
        require_terminal(stdin=stdin, tty=creation.tty)
    engine = open_engine()
    container = creation.create(engine, attached=not detach, remove=remove)
    if detach:
        say(engine.containers.started(container, remove=remove).id)
        return 0
    return start_in_foreground(container, replace(plan, shown=creation.streams), remove=remove)


def start_in_foreground(container: Container, plan: AttachOptions, *, remove: bool = False) -> int:
    """Start a container, connect the caller's streams and wait.

    Return its exit status, 0 after a detach.

    remove  remove the container when it exits or fails to start; after a detach its exit command removes it
    """
    try:
        rows, columns = container.record.host_config.console_size
        with container.start_attached() as streams:
            ended = _connect(container, streams, replace(plan, size=(rows, columns)))
        status = _last_status(container) if ended else 0
    except BaseException:
        if remove:
            _remove(container)
        raise
    if remove and ended:
        _remove(container)
    return status


@click.command(cls=Command)
@click.argument("container", shell_complete=arguments.containers)
@click.option("--no-stdin", is_flag=True, help="Do not forward standard input.")
@_DETACH_KEYS
@_SIGNALS
def attach(*, container: str, no_stdin: bool, detach_keys: str | None, proxy: bool) -> int:
    """Attach local standard input, output, and error streams to a running container."""
    target = open_engine().containers.get(container)
    record = target.record
    if record.state_document()["Status"] == "paused":
        raise Conflict("You cannot attach to a paused container, unpause it first", hint=f"labctr unpause {container}")
    stdin, tty = record.config.open_stdin and not no_stdin, record.config.tty
    plan = attach_options(stdin=stdin, tty=tty, keys=detach_keys, proxy=proxy)
    require_terminal(stdin=stdin, tty=tty)
    try:
        streams = target.attach()
    except Conflict as error:
        raise Conflict("You cannot attach to a stopped container, start it first", hint=error.hint) from None
    with streams:
        ended = _connect(target, streams, plan)
    return _last_status(target) if ended else 0


class ExecCommand(Command):
    """Exit status 126 or 127 if the program could not be started, as in a shell."""

    def status(self, error: LabError) -> int:
        return error.exit_code if isinstance(error, CommandNotFound | CommandNotExecutable) else 1


@click.command(cls=ExecCommand, context_settings={"allow_interspersed_args": False})
@click.argument("container", shell_complete=arguments.containers)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("-i", "--interactive", "stdin", is_flag=True, help="Keep standard input open.")
@click.option("-t", "--tty", is_flag=True, help="Allocate a terminal.")
@click.option("-d", "--detach", is_flag=True, help="Run the command in the background.")
@click.option(
    "-e", "--env", "environment", multiple=True, metavar="NAME[=VALUE]", help="Set an environment variable. Repeatable."
)
@click.option(
    "--env-file",
    "environment_files",
    multiple=True,
    metavar="FILE",
    shell_complete=arguments.files,
    help="Read environment variables from FILE, one per line.",
)
@click.option("-w", "--workdir", default="", metavar="DIR", help="Working directory in the container.")
@click.option("-u", "--user", default="", metavar="NAME|UID[:GROUP|GID]", help="User of the command.")
@click.option("--privileged", is_flag=True, help="Give all capabilities to the command.")
@_DETACH_KEYS
def execute(
    *,
    container: str,
    command: tuple[str, ...],
    stdin: bool,
    tty: bool,
    detach: bool,
    environment: tuple[str, ...],
    environment_files: tuple[str, ...],
    workdir: str,
    user: str,
    privileged: bool,
    detach_keys: str | None,
) -> int:
    """Execute a command in a running container."""
    if not detach:
        require_terminal(stdin=stdin, tty=tty)
    target = open_engine().containers.get(container)
    variables = environment_of(environment, environment_files)
    execution = target.exec_create(
        command,
        tty=tty,
        stdin=stdin,
        user=user,
        environment=variables,
        workdir=workdir,
        privileged=privileged,
        detach_keys=detach_keys or "",
    )
    if detach:
        execution.start_detached()
        return 0
    return _in_foreground(execution)


def _in_foreground(execution: Exec) -> int:
    """Start a command with the caller's streams and wait.

    Return its exit status, 0 after a detach.
    """
    options = execution.options
    size = terminal.size(terminal.STDIN) if options.tty else (0, 0)

    def resize(size: tuple[int, int]) -> None:
        if any(size):
            with contextlib.suppress(LabError):
                execution.resize(rows=size[0], columns=size[1])

    with execution.start(console_size=size if any(size) else None) as streams:
        ended = terminal.connect(
            streams,
            stdin=options.stdin,
            terminal=options.tty,
            resize=resize,
            forward=None,
            keys=parse_keys(options.detach_keys) if options.detach_keys else DEFAULT_KEYS,
            initial_size=size,
        )
        if not ended:
            execution.detached()
            say("\nread escape sequence", err=True)
            return 0
        return execution.wait()


def require_terminal(*, stdin: bool, tty: bool) -> None:
    """Raise InvalidInput for -it if the caller's standard input is not a terminal."""
    if stdin and tty and not terminal.is_terminal(terminal.STDIN):
        error = InvalidInput("the input device is not a TTY", hint="leave -t out, or run it in a terminal")
        error.exit_code = 1  # docker's status: the engine has not been called yet
        raise error


def _connect(container: Container, streams: terminal.Streams, plan: AttachOptions) -> bool:
    """Call terminal.connect() for this container, and report a detach.

    Return False after a detach.
    """

    def forward(number: int) -> None:
        with contextlib.suppress(LabError):
            container.kill(number)

    def resize(size: tuple[int, int]) -> None:
        if any(size):
            with contextlib.suppress(LabError):  # the container has exited
                container.resize(rows=size[0], columns=size[1])

    ended = terminal.connect(
        streams,
        stdin=plan.stdin,
        terminal=plan.tty,
        resize=resize,
        forward=forward if plan.proxy else None,
        keys=plan.keys,
        shown=plan.shown,
        initial_size=plan.size,
    )
    if not ended:
        container.detached()
        say("\nread escape sequence", err=True)
    return ended


def _remove(container: Container) -> None:
    with contextlib.suppress(ContainerNotFound):
        container.remove(force=True, v=True)


def _last_status(container: Container) -> int:
    try:
        with _without_interrupts():
            return container.wait()
    except ContainerNotFound:
        return 128 + signal.SIGKILL  # it was removed with --force


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Ignore SIGINT while the block runs.

    The handler does nothing instead of being SIG_IGN, which programs started in the block would inherit.
    """
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
