"""`labctr`: the docker command's words, options, columns and exit codes, on this package's engine.

    __init__.py     entry() and main(), and where each command is
    command.py      what all commands share: errors, exit codes, the engine
    images.py       import, images, tag, rmi, history
    archives.py     save, load, export
    registries.py   pull, push, login, logout, search, registry serve, and transfer_output.py how they look
    building.py     build, and build_output.py what it prints
    containers.py   create, start, stop, restart, kill, pause, wait, rename, rm, commit
    run.py          run, attach, exec: the commands that connect the terminal
    ps.py           ps
    running.py      port, top, update
    stats.py        stats
    events.py       events
    output.py       logs
    files.py        cp, diff
    volumes.py      volume create, ls, rm, prune
    networks.py     network create, ls, connect, disconnect, rm, prune
    inspection.py   inspect of all of them
    pruning.py      what takes space, and freeing it: system df, the prunes, builder prune
    daemon.py       daemon
    system.py       info, version, system check, system down, system fsck

    options.py      the options that run and create share; creation.py, mounting.py and
                    entries.py put them into the engine's words
    listing.py      listings: --format, --filter, -q
    tables.py       columns and cells
    confirming.py   the question before a prune, and its answer
    terminal.py     a person's terminal connected to a container's streams

A face translates and decides nothing: options into arguments of the engine, its answers
into text. Each command's module is imported when the command is given, and the engine
when a command asks for it: importing it takes longer than most commands.
"""

from __future__ import annotations

import contextlib
import errno
import gc
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
"""docker's exit status after an option that there is not, or whose value makes no sense."""


def entry() -> NoReturn:
    """`labctr` as a process: run the command that its arguments name, and end with its status.

    A short life: what is thrown away is not worth collecting while modules load, and taking the
    interpreter apart in the end would cost a tenth of `labctr run`.
    """
    gc.set_threshold(100_000)
    status = main()
    with contextlib.suppress(OSError, ValueError):  # who does not listen any more has been told by main()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; arguments as in sys.argv[1:]. Returns its exit status."""
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
        if error.errno == errno.ENOSPC:  # the reader of a pipe that went away knows it
            say(f"Error: {error.strerror}\nHint: free some space where the output goes, or the data root is", err=True)
        return 1
    return status if isinstance(status, int) else 0


def _is_about_an_option(error: click.ClickException) -> bool:
    """Rather than about arguments that are missing, or too many, or a command that there is not."""
    if isinstance(error, click.NoSuchOption | click.BadOptionUsage):
        return True
    return isinstance(error, click.BadParameter) and isinstance(error.param, click.Option)
