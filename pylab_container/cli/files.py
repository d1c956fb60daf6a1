"""Commands on the files of a container: cp, diff."""

from __future__ import annotations

import sys

import click

from pylab_container.cli import arguments
from pylab_container.cli.archives import write
from pylab_container.cli.command import Command, open_engine
from pylab_container.cli.printing import say
from pylab_container.errors import InvalidInput
from pylab_container.text.sizes import human
from pylab_container.text.visible import visible

_USAGE = "labctr cp CONTAINER:SRC TARGET, or labctr cp SRC CONTAINER:TARGET"


@click.command(cls=Command, context_settings={"ignore_unknown_options": False})
@click.argument("source", metavar="[CONTAINER:]SRC|-", shell_complete=arguments.container_paths)
@click.argument("target", metavar="[CONTAINER:]TARGET|-", shell_complete=arguments.container_paths)
@click.option("-a", "--archive", is_flag=True, help="Keep the owners and set-id bits of files from a container.")
@click.option("-L", "--follow-link", is_flag=True, help="If SRC is a symbolic link, copy its target.")
@click.option("-q", "--quiet", is_flag=True, help="Do not print the result.")
def cp(source: str, target: str, archive: bool, follow_link: bool, quiet: bool) -> None:  # noqa: FBT001
    """Copy files/folders between a container and the local filesystem.

    - stands for a tar archive on standard input or output.
    """
    from pylab_container.containers.root_filesystem import ContainerFiles
    from pylab_container.docker import cp

    (source_name, source), (target_name, target) = _split(source), _split(target)
    if source_name and target_name:
        raise InvalidInput("copying between containers is not supported", hint="labctr cp A:/x - | labctr cp - B:/")
    if not source_name and not target_name:
        raise InvalidInput("must specify at least one container source", hint=_USAGE)
    engine = open_engine()
    container = engine.containers.get(source_name or target_name)
    if target == "-" and source_name:
        write(container.get_archive(source)[0], None)
        return
    if source == "-" and target_name:
        container.put_archive(target, sys.stdin.buffer)
        return
    files = ContainerFiles(engine.data, engine.runtime, container.id)
    if source_name:
        size = cp.to_host(files, source, target, keep_owners=archive, follow_link=follow_link)
    else:
        size = cp.to_container(files, source, target, follow_link=follow_link)
        target = f"{target_name}:{target}"
    if not quiet:
        say(f"Successfully copied {human(size)} to {target}", err=True)


def _split(argument: str) -> tuple[str, str]:
    """Return the container's name, "" for the host, and the path.

    A path with a colon starts with / or a dot.
    """
    name, colon, path = argument.partition(":")
    if not colon or argument.startswith(("/", ".")):
        return "", argument
    return name, path


@click.command(cls=Command)
@click.argument("container", shell_complete=arguments.containers)
def diff(container: str) -> None:
    """Inspect changes to files or directories on a container's filesystem.

    A line begins with A for added, C for changed or D for deleted.
    """
    for change in open_engine().containers.get(container).diff():
        say(f"{change.letter} {visible(change.path)}")
