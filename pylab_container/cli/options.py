"""The options that `run` and `create` have in common, and what they mean to the engine."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import click

from pylab_container.cli import terminal
from pylab_container.errors import InvalidInput
from pylab_container.formats import sizes
from pylab_container.formats.reference import parse

if TYPE_CHECKING:
    from pylab_container.engine import Engine
    from pylab_container.engine.container import Container


@dataclass(frozen=True)
class Creation:
    """A container as the command line describes it."""

    image: str
    command: tuple[str, ...]
    stdin: bool
    tty: bool
    name: str | None
    volumes: tuple[str, ...]
    environment: tuple[str, ...]
    environment_files: tuple[str, ...]
    workdir: str
    user: str
    hostname: str
    entrypoint: str | None
    network: str
    memory: str | None
    cpus: float | None
    pids_limit: int | None
    labels: tuple[str, ...]

    @property
    def familiar_image(self) -> str:
        """The image's name with its tag."""
        return parse(self.image).familiar

    def create(self, engine: Engine, *, attached: bool, remove: bool) -> Container:
        """Make the container.

        attached  somebody will be connected from its start on, and wait for its end
        remove    it goes when it has ended; whoever is attached sees to that himself
        """
        return engine.containers.create(
            self.image,
            list(self.command) or None,
            name=self.name,
            entrypoint=None if self.entrypoint is None else list(filter(None, [self.entrypoint])),
            environment=[*_from_files(self.environment_files), *environment_of(self.environment)],
            working_dir=self.workdir,
            user=self.user,
            hostname=self.hostname,
            volumes=[_absolute_source(volume) for volume in self.volumes],
            labels=dict(pair(label) for label in self.labels),
            tty=self.tty,
            stdin_open=self.stdin,
            stdin_once=attached,
            console_size=terminal.size(terminal.STDIN) if self.tty and attached else None,
            network_mode=self.network,
            mem_limit=sizes.parse(self.memory) if self.memory else None,
            nano_cpus=round(self.cpus * 10**9) if self.cpus else None,
            pids_limit=self.pids_limit,
            auto_remove=remove and not attached,
        )


_OPTIONS = (
    click.argument("image"),
    click.argument("command", nargs=-1, type=click.UNPROCESSED),
    click.option("-i", "--interactive", "stdin", is_flag=True, help="Pass standard input on."),
    click.option("-t", "--tty", is_flag=True, help="Give it a terminal."),
    click.option("--name", metavar="NAME", help="Its name."),
    click.option("-v", "--volume", "volumes", multiple=True, metavar="[SOURCE:]DIR[:ro]", help="Mount SOURCE at DIR."),
    click.option("-e", "--env", "environment", multiple=True, metavar="NAME[=VALUE]", help="A variable."),
    click.option("--env-file", "environment_files", multiple=True, metavar="FILE", help="Variables, one a line."),
    click.option("-w", "--workdir", default="", metavar="DIR", help="The working directory in the container."),
    click.option("-u", "--user", default="", metavar="NAME|UID[:GROUP|GID]", help="Who the command runs as."),
    click.option("-h", "--hostname", default="", metavar="NAME", help="The host name in the container."),
    click.option("--entrypoint", metavar="PROGRAM", help="Replaces the image's ENTRYPOINT."),
    click.option("--network", "--net", default="bridge", metavar="bridge|none|host", help="[default: bridge]"),
    click.option("-m", "--memory", metavar="BYTES", help="At most so much memory: 512m, 2g."),
    click.option("--cpus", type=float, metavar="N", help="At most so many processors: 1.5."),
    click.option("--pids-limit", type=int, metavar="N", help="At most so many tasks."),
    click.option("-l", "--label", "labels", multiple=True, metavar="NAME[=VALUE]", help="A label."),
)


def creation_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command these options; it gets them as one Creation."""

    @functools.wraps(function)
    def wrapper(**values: Any) -> Any:
        given = {field.name: values.pop(field.name) for field in fields(Creation)}
        return function(Creation(**given), **values)

    decorated: Callable[..., Any] = wrapper
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


def environment_of(entries: Iterable[str]) -> list[str]:
    """NAME=VALUE as it stands; NAME alone takes the caller's value, and counts only if there is one."""
    return [entry if "=" in entry else f"{entry}={os.environ[entry]}" for entry in entries if _is_given(entry)]


def _is_given(entry: str) -> bool:
    return "=" in entry or entry in os.environ


def _from_files(paths: Iterable[str]) -> list[str]:
    """The entries of --env-file: one a line; empty lines and those that start with # do not count."""
    lines: list[str] = []
    for path in paths:
        try:
            with open(path, encoding="utf-8") as file:
                lines += [line.lstrip().rstrip("\n") for line in file]
        except OSError as error:
            raise InvalidInput(f"open {path}: {error.strerror}", hint="give the path of a text file") from error
        except UnicodeDecodeError:
            raise InvalidInput(f"{path} is not UTF-8 text", hint="write NAME=value, one a line") from None
    return environment_of(line for line in lines if line and not line.startswith("#"))


def _absolute_source(volume: str) -> str:
    """-v ./here:/there means the caller's directory; the engine does not know that one."""
    source, colon, rest = volume.partition(":")
    return f"{os.path.abspath(source)}:{rest}" if colon and source.startswith(".") else volume


def pair(text: str) -> tuple[str, str]:
    """NAME=VALUE; NAME alone has an empty value."""
    name, _, value = text.partition("=")
    return name, value
