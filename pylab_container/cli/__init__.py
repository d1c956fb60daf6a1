"""`labctr`: the commands, options, columns and exit codes of docker, on this package's engine.

    __init__.py     entry() and main()
    commands.py     the table of all commands: place, group and summary
    group.py        groups of commands and their help
    command.py      shared by all commands: errors, exit codes, the engine
    completion.py   completion bash, completion zsh, and arguments.py the words that complete an argument
    images.py       import, images, tag, rmi, history
    archives.py     save, load, export
    registries.py   pull, push, login, logout, search, registry serve, and transfer_output.py their progress
    building.py     build, and build_output.py its output
    containers.py   create, start, stop, restart, kill, pause, wait, rename, rm, commit
    run.py          run, attach, exec: the commands that connect a terminal
    ps.py           ps
    running.py      port, top, update
    stats.py        stats
    events.py       events
    output.py       logs
    files.py        cp, diff
    volumes.py      volume create, ls, rm, prune
    networks.py     network create, ls, connect, disconnect, rm, prune
    inspection.py   inspect for all kinds of objects
    pruning.py      disk usage and its cleanup: system df, the prune commands
    daemon.py       daemon
    system.py       info, version, system check, system down, system fsck

    options.py      the options of run and create; creation.py, mounting.py and entries.py
                    translate them for the engine
    listing.py      listings: --format, --filter, -q
    tables.py       columns and cells
    confirming.py   the confirmation before a prune
    terminal.py     the caller's terminal, connected to a container's streams

The package only translates: options into arguments of the engine, results into text. A command's module is imported
when the command runs, and the engine when the command needs it, because its import takes longer than most commands.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from pylab_container.host.extras import extra

with extra("cli"):
    import click

    from pylab_container.cli.commands import COMPLETION, labctr
    from pylab_container.cli.printing import say

INTERRUPTED = 130
"""128 + SIGINT, as shells report it."""

BAD_OPTION = 125
"""docker's exit status for an unknown option or an invalid value."""


def entry() -> NoReturn:
    """Run the command that the arguments name, and exit with its status.

    It skips the finalization of the interpreter, which would take a tenth of the time of `labctr run`.
    """
    status = main()
    with contextlib.suppress(OSError, ValueError):  # main() has already reported a closed pipe
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status. arguments: those of the process by default."""
    if arguments is None and (instruction := os.environ.get(COMPLETION)):
        from pylab_container.cli.completion import answer

        return answer(labctr, instruction)
    try:
        status = labctr.main(arguments, prog_name="labctr", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return BAD_OPTION if _is_about_an_option(error) else 1
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.ENOSPC):
            raise
        if error.errno == errno.ENOSPC:  # not for EPIPE: the reader has closed the pipe itself
            say(f"Error: {error.strerror}\nHint: free some space where the output goes, or the data root is", err=True)
        return 1
    return status if isinstance(status, int) else 0


def _is_about_an_option(error: click.ClickException) -> bool:
    """Return whether an error is about an option, and not about arguments or an unknown command."""
    if isinstance(error, click.NoSuchOption | click.BadOptionUsage):
        return True
    return isinstance(error, click.BadParameter) and isinstance(error.param, click.Option)
