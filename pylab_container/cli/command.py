"""What all commands share: how errors are shown, which exit codes they give, and the engine."""

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
"""Where a context, and those below it, keep the name that --storage-driver gave."""
_REGISTRIES = f"{__package__}.registries"
"""The same for what --registry-mirror and --insecure-registry gave."""


class Command(click.Command):
    """A command whose failures are those of the docker command: one sentence, a hint, and status 1."""

    def status(self, error: LabError) -> int:
        """The exit status after error."""
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
        except UnicodeEncodeError as error:  # Python keeps a byte of an argument that is not UTF-8 as half a character
            shown = InvalidInput(f"{error.object[:80]!a} is not UTF-8", hint="write names and values in UTF-8")
            report(shown)
            return self.status(shown)


@contextlib.contextmanager
def disk_errors() -> Iterator[None]:
    """Raise the LabError for what a file system refused in the block."""
    try:
        yield
    except OSError as error:
        from pylab_container.maintenance import failures  # only after an error: a command need not have an engine

        if (refused := failures.refusal(error)) is None:
            raise
        raise refused from error


_TRUE, _FALSE = ("1", "t", "true"), ("0", "f", "false")


def _plain_flags(command: click.Command, ctx: click.Context, arguments: list[str]) -> list[str]:
    """Flags as Go's programs take them, --sig-proxy=false, in click's words: --no-sig-proxy."""
    options = {name: option for option in command.params if isinstance(option, click.Option) for name in option.opts}
    left, plain = list(arguments), list[str]()
    while left:
        argument = left.pop(0)
        name, equals, value = argument.partition("=")
        option = options.get(name)
        if argument == "--" or (not argument.startswith("-") and not ctx.allow_interspersed_args):
            return [*plain, argument, *left]  # from here on it is somebody else's command line
        if option and option.is_flag and equals and value.lower() in (*_TRUE, *_FALSE):
            plain += [name] if value.lower() in _TRUE else [no for no in option.secondary_opts if no.startswith("--")]
            continue
        plain.append(argument)
        if left and not equals and _wants_value(argument, options):
            plain.append(left.pop(0))
    return plain


def _wants_value(argument: str, options: Mapping[str, click.Option]) -> bool:
    """Whether the next word is this one's value: of --name NAME, and of the last letter of -itp PORT."""
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
    """The engine on the data root that the command line names.

    recover  clear what killed commands left, and warn of damaged files; commands that look for both do neither
    """
    from pylab_container.engine import Engine
    from pylab_container.maintenance.recovery import clear_abandoned

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
        clear_abandoned(engine)
    return engine


class _Warnings:
    """One line on standard error for each damaged file that a command leaves out."""

    def __init__(self) -> None:
        from pylab_container.events import StoreDamaged

        self._told: set[str] = set()
        self._kind = StoreDamaged

    def __call__(self, event: Event) -> None:
        if isinstance(event, self._kind) and event.message not in self._told:
            self._told.add(event.message)
            say(f"Warning: {event.sentence()}", err=True)


def each(names: Iterable[str], act: Callable[[str], str | None], *, forgive: type[LabError] | None = None) -> int:
    """Do something to everything named, and go on after an error. Returns the exit status.

    act's answer is printed; None stands for the name itself, and "" for nothing.
    forgive  an error of this kind is told, and is no failure
    """
    status = 0
    for name in names:
        try:
            with disk_errors():
                answer = act(name)
        except LabError as error:
            report(error)
            status = status if forgive and isinstance(error, forgive) else 1
        else:
            if answer != "":
                say(name if answer is None else answer)
    return status
