"""Commands on registries: pull, push, login, logout, search, registry serve."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pylab_container.cli import arguments
from pylab_container.cli.command import Command, open_engine
from pylab_container.cli.printing import say
from pylab_container.cli.transfer_output import Display
from pylab_container.docker.credentials import host_of, key
from pylab_container.errors import InvalidInput
from pylab_container.oci.reference import DEFAULT_TAG, Reference, parse

if TYPE_CHECKING:
    from pylab_container.registry.server import RegistryServer

_QUIET = click.option("-q", "--quiet", is_flag=True, help="Print only the image's name.")


@click.command(cls=Command)
@click.argument("name", metavar="NAME[:TAG|@DIGEST]", shell_complete=arguments.images)
@click.option("-a", "--all-tags", is_flag=True, help="Download all tags of the repository.")
@click.option(
    "--platform",
    default="",
    metavar="OS/ARCH",
    help="The platform to choose in a multi-platform image.  [default: this machine's]",
)
@_QUIET
def pull(*, name: str, all_tags: bool, platform: str, quiet: bool) -> None:
    """Download an image from a registry."""
    reference = _reference(name, all_tags=all_tags, quiet=quiet)
    progress = None if quiet else Display(sys.stdout)
    images = open_engine().images
    pull_image = images.pull_all_tags if all_tags else images.pull
    pull_image(name, platform=platform, progress=progress)
    say(_full(reference, all_tags=all_tags))


@click.command(cls=Command)
@click.argument("name", metavar="NAME[:TAG]", shell_complete=arguments.images)
@click.option("-a", "--all-tags", is_flag=True, help="Push all local tags of the repository.")
@_QUIET
def push(*, name: str, all_tags: bool, quiet: bool) -> None:
    """Upload an image to a registry.

    The name contains the registry: HOST[:PORT]/PATH[:TAG].
    """
    reference = _reference(name, all_tags=all_tags, quiet=quiet)
    if reference.digest:
        raise InvalidInput("cannot push a digest reference", hint=f"labctr push {reference.repository}:TAG")
    open_engine().images.push(name, all_tags=all_tags, progress=None if quiet else Display(sys.stdout))
    if quiet:
        say(_full(reference, all_tags=all_tags))


def _reference(name: str, *, all_tags: bool, quiet: bool) -> Reference:
    """Parse NAME, and print the default tag if NAME has no tag. Raises InvalidInput."""
    reference = parse(name)
    explicit = reference.digest or name.endswith(f":{reference.tag}")
    if all_tags and explicit:
        raise InvalidInput("tag can't be used with --all-tags/-a", hint=f"write {reference.repository} alone")
    if not all_tags and not explicit and not quiet:
        say(f"Using default tag: {DEFAULT_TAG}")
    return reference


def _full(reference: Reference, *, all_tags: bool) -> str:
    name = f"{reference.domain}/{reference.path}"
    if all_tags:
        return name
    return f"{name}{f':{reference.tag}' if reference.tag else ''}{f'@{reference.digest}' if reference.digest else ''}"


# ---- credentials -------------------------------------------------------------------------------


@click.command(cls=Command)
@click.argument("server", required=False, default="")
@click.option("-u", "--username", metavar="NAME", help="Username.")
@click.option("-p", "--password", metavar="TEXT", help="Password; other users can read it with `ps`.")
@click.option("--password-stdin", "from_stdin", is_flag=True, help="Read the password from standard input.")
def login(*, server: str, username: str | None, password: str | None, from_stdin: bool) -> None:
    """Authenticate to a registry.

    The credentials are stored in docker's config.json.
    """
    from pylab_container.registry.login import file_path

    if password is not None:
        say("WARNING! Using --password via the CLI is insecure. Use --password-stdin.", err=True)
    if from_stdin:
        if password is not None:
            raise InvalidInput("--password and --password-stdin are mutually exclusive", hint="leave one out")
        if not username:
            raise InvalidInput("Must provide --username with --password-stdin", hint="add -u NAME")
        password = sys.stdin.read().rstrip("\r\n")
    elif (username is None or password is None) and not sys.stdin.isatty():
        raise InvalidInput("cannot ask for a name and a password: no terminal", hint="write -u NAME --password-stdin")
    username = username or click.prompt("Username")
    password = password if password is not None else click.prompt("Password", hide_input=True)
    if not username or not password:
        raise InvalidInput("username and password are needed", hint="write -u NAME --password-stdin")
    open_engine().login(username, password, server)
    say(f"The password is kept in {file_path()}, or by the helper that it names.", err=True)
    say("Login Succeeded")


@click.command(cls=Command)
@click.argument("server", required=False, default="")
def logout(server: str) -> None:
    """Log out from a registry."""
    name = key(host_of(server))
    if open_engine().logout(server):
        say(f"Removing login credentials for {name}")
    else:
        say(f"Not logged in to {name}")


@click.command(cls=Command)
@click.argument("term")
def search(term: str) -> None:
    """Explain why registries cannot be searched for images."""
    open_engine().images.search(term)


# ---- registry serve ----------------------------------------------------------------------------


@click.command(cls=Command)
@click.argument("images", metavar="[IMAGE]...", nargs=-1, shell_complete=arguments.images)
@click.option("--port", type=click.IntRange(0, 65535), default=5000, show_default=True, help="0: any free port.")
@click.option(
    "--address", default="127.0.0.1", show_default=True, help="The address to listen on; 0.0.0.0 for all interfaces."
)
@click.option("--data", type=click.Path(file_okay=False), metavar="DIR", help="Keep the registry's data in DIR.")
def serve(*, images: tuple[str, ...], port: int, address: str, data: str | None) -> None:
    """Serve local images from a registry on this machine.

    Without IMAGE all named images are served. The server is Debian's docker-registry. Ctrl-C ends it.
    """
    from pylab_container.registry import server

    engine = open_engine()
    directory = Path(data) if data else None
    with server.running(
        engine.data, engine.registries, images, address=address, port=port, directory=directory
    ) as served:
        say(_instructions(served))
        sys.stdout.flush()
        try:
            status = served.wait()
        except KeyboardInterrupt:
            say("\nended", err=True)
        else:
            raise InvalidInput(
                f"docker-registry ended with status {status}", hint="choose another --port; --port 0 takes a free one"
            )


def _instructions(served: RegistryServer) -> str:
    """Return the commands for students to type."""
    host = f"{served.host}:{served.port}"
    pull = f"    labctr pull {host}" if served.is_local else f"    labctr --insecure-registry {host} pull {host}"
    audience = "all hosts on its networks"
    if served.is_local:
        audience = "this machine only (for a class: --address 0.0.0.0)"
    count = f"{len(served.names)} {'image' if len(served.names) == 1 else 'images'}"
    lines = [
        f"{count} at http://{host}, for {audience}. Type:",
        "",
        *(f"{pull}/{name.path}:{name.tag}" for name in served.names[:3]),
        "",
        "or, to use Docker's images under their own names, once:",
        "",
        f"    export LABCTR_REGISTRY_MIRRORS=http://{host}",
        "",
        "There is no password. Ctrl-C ends the registry.",
    ]
    return "\n".join(lines)
