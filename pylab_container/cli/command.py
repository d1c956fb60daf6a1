"""Shared by all commands: the presentation of errors, exit codes, and the engine."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import click

from pylab_container.cli.printing import say
from pylab_container.errors import InvalidInput, LabError

if TYPE_CHECKING:
    from pylab_container.engine import Engine
    from pylab_container.events import Event

_STORAGE_DRIVER = f"{__package__}.storage_driver"
"""Key in the metadata of a context and its children for the value of --storage-driver."""
_REGISTRIES = f"{__package__}.registries"
"""Key for the values of --registry-mirror and --insecure-registry."""


class Command(click.Command):
    """A command that reports a LabError as docker does: one sentence, a hint, and exit status 1."""

    def status(self, error: LabError) -> int:
        """Return the exit status for an error."""
        return 1

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, _plain_flags(self, ctx, args))

    def invoke(self, ctx: click.Context) -> object:
        try:
            with disk_errors():
                return super().invoke(ctx)
        except LabError as error:
            report(error)
            return self.status(error)
        except UnicodeEncodeError as error:  # bytes of arguments that are not UTF-8 are lone surrogates
            invalid = InvalidInput(f"{error.object[:80]!a} is not UTF-8", hint="write names and values in UTF-8")
            report(invalid)
            return self.status(invalid)


@contextlib.contextmanager
def disk_errors() -> Iterator[None]:
    """Raise a LabError for an error of the file system in the block."""
    try:
        yield
    except OSError as error:
        from pylab_container.maintenance import failures  # late: needed only after an error

        if (refused := failures.refusal(error)) is None:
            raise
        raise refused from error


_TRUE, _FALSE = ("1", "t", "true"), ("0", "f", "false")


def _plain_flags(command: click.Command, ctx: click.Context, arguments: list[str]) -> list[str]:
    """Translate Go's form of flags, --sig-proxy=false, to click's: --no-sig-proxy."""
    options = {name: option for option in command.params if isinstance(option, click.Option) for name in option.opts}
    remaining, plain = list(arguments), list[str]()
    while remaining:
        argument = remaining.pop(0)
        name, equals, value = argument.partition("=")
        option = options.get(name)
        if argument == "--" or (not argument.startswith("-") and not ctx.allow_interspersed_args):
            return [*plain, argument, *remaining]  # the rest is the command line of another program
        if option and option.is_flag and equals and value.lower() in (*_TRUE, *_FALSE):
            plain += [name] if value.lower() in _TRUE else [no for no in option.secondary_opts if no.startswith("--")]
            continue
        plain.append(argument)
        if remaining and not equals and _takes_value(argument, options):
            plain.append(remaining.pop(0))
    return plain


def _takes_value(argument: str, options: Mapping[str, click.Option]) -> bool:
    """Return whether the next word is the value of this option: --name NAME, -itp PORT."""
    if argument.startswith("--"):
        option = options.get(argument)
        return option is not None and not option.is_flag
    for position, letter in enumerate(argument[1:], 2):
        option = options.get(f"-{letter}")
        if option is None:
            return False
        if not option.is_flag:
            return position == len(argument)
    return False


def remember_globals(
    root: str | None,
    storage_driver: str | None,
    registry_mirrors: tuple[str, ...],
    insecure_registries: tuple[str, ...],
) -> None:
    """Keep the global options in the current context for open_engine()."""
    context = click.get_current_context()
    if root is not None:
        context.obj = root
    if storage_driver is not None:
        context.meta[_STORAGE_DRIVER] = storage_driver
    if registry_mirrors or insecure_registries:
        context.meta[_REGISTRIES] = (registry_mirrors or None, insecure_registries or None)


def report(error: LabError) -> None:
    """Show an error on standard error."""
    text = f"Error: {error}"  # with its hint; a mistake in a Dockerfile also with the line and a caret
    say(text, err=True)


def open_engine(*, recover: bool = True) -> Engine:
    """Open the engine on the data root that the command line names.

    recover  remove the leftovers of killed commands, and warn about damaged files; false for commands that report both
    """
    from pylab_container.engine import Engine

    context = click.get_current_context()
    mirrors, insecure = context.meta.get(_REGISTRIES, (None, None))
    engine = Engine(
        context.find_object(str),
        storage_driver=context.meta.get(_STORAGE_DRIVER),
        registry_mirrors=mirrors,
        insecure_registries=insecure,
        recover=False,
    )
    if recover:
        context.with_resource(engine.events.subscribed(_Warnings()))
        engine.recover()
    return engine


class _Warnings:
    """Prints one line on standard error for each damaged file that a command skips."""

    def __init__(self) -> None:
        from pylab_container.events import StoreDamaged

        self._reported: set[str] = set()
        self._kind = StoreDamaged

    def __call__(self, event: Event) -> None:
        if isinstance(event, self._kind) and event.message not in self._reported:
            self._reported.add(event.message)
            say(f"Warning: {event.sentence()}", err=True)


def each(names: Iterable[str], act: Callable[[str], str | None], *, forgive: type[LabError] | None = None) -> int:
    """Call act for each name, and continue after an error. Return the exit status.

    act      its result is printed; None stands for the name, and "" prints nothing
    forgive  an error of this class is reported but does not change the exit status
    """
    status = 0
    for name in names:
        try:
            with disk_errors():
                result = act(name)
        except LabError as error:
            report(error)
            status = status if forgive and isinstance(error, forgive) else 1
        else:
            if result != "":
                say(name if result is None else result)
    return status
