"""%labctr and %docker: the command line inside a notebook.

    %load_ext pylab_container
    %docker images

The commands run in a shell, as in a terminal, on the data root of the notebook's lab ($LABCTR_ROOT): pipes,
redirections and variables work. {name} stands for a variable of the notebook; {{.Names}}, a template for -f, is left as
it is.
"""

from __future__ import annotations

import functools
import re
import shlex
import sys
from collections.abc import Mapping
from typing import Any

from pylab_container.errors import ContainerFailed, InvalidInput, LabError
from pylab_container.host import programs
from pylab_container.host.extras import extra
from pylab_container.notebook import builds, display

with extra("labs"):
    from IPython.core.magic import no_var_expand

_LABCTR = shlex.join([sys.executable, "-m", "pylab_container"])
# With pipefail a failing labctr fails the line, also if head or grep behind it succeeds. The functions are for the
# commands behind a pipe: %docker ps -q | while read id; do docker rm $id; done
_SHELL = """set -o pipefail
labctr() {{ {labctr} "$@"; }}
docker() {{ labctr "$@"; }}
labctr {line}
"""

# The commands that can allocate a terminal, and their flags.
_WITH_TERMINAL = ("run", "create", "exec", "start", "attach")
_FLAGS = ("-d", "--detach", "-i", "--interactive", "-di", "-id", "--rm", "-a", "--attach")


def register(shell: Any) -> None:
    """Register the magics and the displays of display.py and builds.py in an IPython shell."""

    @no_var_expand  # IPython's own expansion would make {.Names} of {{.Names}}
    def labctr(line: str) -> None:
        run(expanded(line, shell.user_ns))

    for name in ("labctr", "docker"):
        shell.register_magic_function(labctr, "line", name)
    display.install(shell)
    builds.install(shell)


def expanded(line: str, variables: Mapping[str, object]) -> str:
    """Replace {name} and {name.attribute} by the notebook's variable, as IPython does for other magics.

    Braces around anything else are left: {{.Names}}, {"a": 1}, {a,b}.
    """

    def value(match: re.Match[str]) -> str:
        name, *attributes = match[1].split(".")
        if name not in variables:
            return match[0]
        return str(functools.reduce(getattr, attributes, variables[name]))

    return re.sub(r"(?<!\{)\{([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)\}(?!\})", value, line)


def words(line: str) -> list[str]:
    """Split a line as a shell does. Raises InvalidInput."""
    try:
        return shlex.split(line)
    except ValueError as error:
        raise InvalidInput(f"{error}: {line}", hint="close the quotation mark") from error


def run(line: str) -> None:
    """Run a line of labctr's arguments in a shell and show its output.

    Raises InvalidInput for a command that needs a terminal, LabError with the command's message if it fails, and
    ContainerFailed if only the program in the container fails.
    """
    arguments = words(line)
    if wants_terminal(arguments):
        raise InvalidInput(
            "a notebook has no terminal for -t",
            hint="leave -it out and give the whole command, or open File > New > Terminal and use labctr there",
        )
    done = programs.run(["bash", "-c", _SHELL.format(labctr=_LABCTR, line=line)], check=False)
    printed, failed, complaint = _last_error(done.errors)
    if not printed.startswith("Usage: "):
        sys.stdout.write(display.portable(done.output + printed))
    if failed:
        message, _, hint = complaint.strip().partition("\nHint: ")
        raise LabError(message, hint=hint)
    if done.status and arguments[0] == "build":
        # --check found mistakes in the Dockerfile, which is not an error of the cell
        sys.stdout.write(f"[status {done.status}]\n")
    elif done.status:
        raise ContainerFailed(f"the command ended with status {done.status}", status=done.status)


def _last_error(errors: str) -> tuple[str, str, str]:
    """Divide the output into the text before labctr's error, the prefix, and the message."""
    before, mark, error = f"\n{errors}".rpartition("\nError: ")
    return (before[1:], mark, error) if mark else (errors, "", "")


def wants_terminal(arguments: list[str]) -> bool:
    """Return whether the options before the image or container include -t, alone or as in -it."""
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
