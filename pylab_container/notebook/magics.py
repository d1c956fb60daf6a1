"""%labctr and %docker: the command line inside a notebook.

    %load_ext pylab_container
    %docker images

The commands run as a program of their own, exactly as in a terminal, on the data root of
the notebook's lab ($LABCTR_ROOT).
"""

from __future__ import annotations

import re
import shlex
import sys
from typing import Any

from pylab_container.errors import ContainerFailed, InvalidInput, LabError
from pylab_container.host import programs
from pylab_container.notebook import display

# The commands that can ask for a terminal, and their options that take no value.
_WITH_TERMINAL = ("run", "create", "exec", "start", "attach")
_FLAGS = ("-d", "--detach", "-i", "--interactive", "-di", "-id", "--rm", "-a", "--attach")


def register(shell: Any) -> None:
    """Give an IPython shell the magics and the displays of display.py."""

    def labctr(line: str) -> None:
        run(shlex.split(line))

    for name in ("labctr", "docker"):
        shell.register_magic_function(labctr, "line", name)
    display.install(shell)


def run(arguments: list[str]) -> None:
    """Run labctr with these arguments and show what it prints.

    Raises InvalidInput for a command that wants a terminal, LabError with the command's
    own words where it fails, ContainerFailed where only the program in the container does.
    """
    if wants_terminal(arguments):
        raise InvalidInput(
            "a notebook has no terminal for -t",
            hint="leave -it out and give the whole command, or open File > New > Terminal and use labctr there",
        )
    done = programs.run([sys.executable, "-m", "pylab_container", *arguments], check=False)
    sys.stdout.write(display.portable(done.output))
    if done.status == 0:
        sys.stdout.write(display.portable(done.errors))
        return
    message, _, hint = done.errors.strip().partition("\nHint: ")
    if done.status >= 125 and message:
        raise LabError(message.removeprefix("labctr: "), hint=hint)
    raise ContainerFailed(f"the command ended with status {done.status}", hint=done.errors.strip(), status=done.status)


def wants_terminal(arguments: list[str]) -> bool:
    """Whether the options before the image or container include -t, alone or as in -it."""
    words = iter(arguments)
    if next((word for word in words if not word.startswith("-")), "") not in _WITH_TERMINAL:
        return False
    for word in words:
        if not word.startswith("-"):
            return False
        if word == "--tty" or re.fullmatch(r"-[dit]*t[dit]*", word):
            return True
        if word not in _FLAGS and "=" not in word:
            next(words, None)
    return False
