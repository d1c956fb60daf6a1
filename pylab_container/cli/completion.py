"""Shell completion: the scripts for bash and zsh, and the answers to their requests.

A script runs labctr with $_LABCTR_COMPLETE set, and main() passes that on to answer(). click completes the names of
commands and options; arguments.py completes the values. Source: click/shell_completion.py.
"""

from __future__ import annotations

import contextlib
import os

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    ZshComplete,
    add_completion_class,
    shell_complete,
    split_arg_string,
)

from pylab_container.cli.command import Command
from pylab_container.cli.commands import COMPLETION
from pylab_container.cli.printing import pass_on

_BASH_SCRIPT = """\
# bash completion for %(prog_name)s, bash 4.4 or newer
%(complete_func)s() {
    local type value
    COMPREPLY=()
    while IFS=, read -r type value; do
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain)
                COMPREPLY+=("$value")
                [[ $value != *: ]] || compopt -o nospace 2>/dev/null  # cp CONTAINER:PATH
                ;;
        esac
    done < <(COMP_LINE=${COMP_LINE:0:COMP_POINT} COMP_WORD=$2 %(complete_var)s=bash_complete "$1" 2>/dev/null)
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""


class Bash(BashComplete):
    """Completion in bash, which splits words at $COMP_WORDBREAKS, among them ":" and "=".

    click reads the split words and takes "busybox:1" for three. So the script passes the line, and the part of the last
    word that bash will replace: $2 of the function, "1" after "busybox:".
    """

    source_template = _BASH_SCRIPT

    def source(self) -> str:
        return self.source_template % self.source_vars()  # click would start bash to ask for its version

    def get_completion_args(self) -> tuple[list[str], str]:
        line = os.environ["COMP_LINE"]
        words = split_arg_string(line)[1:]
        self.typed = words.pop() if words and not line[-1].isspace() else ""
        return words, self.typed

    def format_completion(self, item: CompletionItem[str]) -> str:
        value = _whole_word(self.typed, item)
        kept = self.typed.removesuffix(os.environ["COMP_WORD"])
        return f"{item.type},{value.removeprefix(kept)}"


class Zsh(ZshComplete):
    """Completion in zsh, which replaces the whole word."""

    source_template = ZshComplete.source_template.replace("%(prog_name)s)}", "%(prog_name)s 2>/dev/null)}")

    def get_completion_args(self) -> tuple[list[str], str]:
        words, self.typed = super().get_completion_args()
        return words, self.typed

    def format_completion(self, item: CompletionItem[str]) -> str:
        item.value = _whole_word(self.typed, item)
        return super().format_completion(item)


def _whole_word(typed: str, item: CompletionItem[str]) -> str:
    """Return the word for a completion item.

    click completes only the value in a word such as --network=bri.
    """
    option, equals, _ = typed.partition("=")
    return f"{option}={item.value}" if equals and typed.startswith("-") else item.value


def answer(group: click.Group, instruction: str) -> int:
    """Print the answer to a script.

    Errors are not shown: they would be printed into the line that the user is typing.
    """
    add_completion_class(Bash)
    add_completion_class(Zsh)
    with contextlib.suppress(Exception):
        return shell_complete(group, {}, "labctr", COMPLETION, instruction)
    return 1


@click.command(cls=Command)
def bash() -> None:
    """Generate the autocompletion script for bash.

    Load it in the current shell: source <(labctr completion bash). For every new shell, with the package
    bash-completion: labctr completion bash > /usr/share/bash-completion/completions/labctr
    """
    pass_on(Bash(click.Group(), {}, "labctr", COMPLETION).source(), nl=False)


@click.command(cls=Command)
def zsh() -> None:
    """Generate the autocompletion script for zsh.

    Load it in the current shell, after compinit: source <(labctr completion zsh). For every new shell:
    labctr completion zsh > /usr/share/zsh/vendor-completions/_labctr
    """
    pass_on(Zsh(click.Group(), {}, "labctr", COMPLETION).source(), nl=False)
