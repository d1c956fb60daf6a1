"""build: a Dockerfile becomes an image, told as docker's classic builder told it."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from msgspec import Struct

from pylab_container.cli import arguments, build_output, tables
from pylab_container.cli.command import Command, open_engine
from pylab_container.cli.entries import pair
from pylab_container.cli.printing import pass_on, say
from pylab_container.cli.transfer_output import Display
from pylab_container.errors import BuildFailed, InvalidInput, LabError
from pylab_container.events import ignore
from pylab_container.oci.reference import parse_tag
from pylab_container.text.address import parse_ip
from pylab_container.text.fieldlist import split_fields
from pylab_container.text.visible import visible_lines

if TYPE_CHECKING:
    from pylab_container.build.recipe import BuildOptions
    from pylab_container.engine import Engine
    from pylab_container.images.image import Image

_LARGEST_SECRET = 500 * 1024  # BuildKit's limit


class Request(Struct, frozen=True):
    """A build as the command line describes it."""

    context: str
    tags: tuple[str, ...]
    dockerfile: str | None
    arguments: tuple[str, ...]
    labels: tuple[str, ...]
    target: str
    no_cache: bool
    cache_from: tuple[str, ...]
    network: str
    hosts: tuple[str, ...]
    platform: str
    secrets: tuple[str, ...]
    pull: bool

    def options(self) -> BuildOptions:
        """The same for the engine. Raises InvalidInput."""
        from pylab_container.build.recipe import BuildOptions

        return BuildOptions(
            names=tuple(parse_tag(tag) for tag in self.tags),
            dockerfile=self.dockerfile,
            buildargs=_build_arguments(self.arguments),
            labels=dict(pair(label) for label in self.labels),
            target=self.target,
            nocache=self.no_cache,
            cache_from=tuple(_image_names(self.cache_from)),
            network=self.network,
            extra_hosts=tuple(_host(text) for text in self.hosts),
            platform=self.platform,
            secrets=dict(_secret(text) for text in self.secrets),
            pull=self.pull,
        )


_OPTIONS = (
    click.argument("context", metavar="PATH|URL|-", shell_complete=arguments.directories),
    click.option(
        "-t",
        "--tag",
        "tags",
        multiple=True,
        metavar="NAME[:TAG]",
        shell_complete=arguments.images,
        help="The image's name. Repeatable.",
    ),
    click.option(
        "-f",
        "--file",
        "dockerfile",
        metavar="FILE|-",
        shell_complete=arguments.files,
        help="The Dockerfile.  [default: PATH/Dockerfile]",
    ),
    click.option("--build-arg", "arguments", multiple=True, metavar="NAME[=VALUE]", help="A value for an ARG."),
    click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="A label on the image."),
    click.option("--target", default="", metavar="STAGE", help="The stage to build.  [default: the last one]"),
    click.option("--no-cache", is_flag=True, help="Carry out every step again."),
    click.option(
        "--cache-from",
        multiple=True,
        metavar="IMAGE,…",
        shell_complete=arguments.images,
        help="Reuse no other steps than those of IMAGE.",
    ),
    click.option("--network", default="", metavar="default|none|host", help="The network of RUN.  [default: default]"),
    click.option("--add-host", "hosts", multiple=True, metavar="NAME:ADDRESS", help="An address that RUN knows."),
    click.option("--platform", default="", metavar="OS/ARCH", help="The target's.  [default: this machine's]"),
    click.option(
        "--secret",
        "secrets",
        multiple=True,
        metavar="id=ID[,src=FILE|,env=NAME]",
        help="What RUN --mount=type=secret,id=ID sees, and no layer keeps.",
    ),
    click.option("--pull", is_flag=True, help="Ask registries for newer base images."),
)


def _request_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command these options; it gets them as one Request."""

    @functools.wraps(function)
    def wrapper(**values: Any) -> Any:
        given = {name: values.pop(name) for name in Request.__struct_fields__}
        return function(Request(**given), **values)

    decorated: Callable[..., Any] = wrapper
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


class BuildCommand(Command):
    """Its exit status is that of the RUN step that failed."""

    def status(self, error: LabError) -> int:
        return error.status if isinstance(error, BuildFailed) else 1


@click.command(cls=BuildCommand)
@_request_options
@click.option(
    "--iidfile", "id_file", metavar="FILE", shell_complete=arguments.files, help="Write the image's id into FILE."
)
@click.option("-q", "--quiet", is_flag=True, help="Print only the image's id, or everything if the build fails.")
@click.option("--progress", type=click.Choice(["auto", "plain", "quiet"]), help="quiet is -q; the others are alike.")
@click.option("--explain", is_flag=True, help="Tell of each step if it was reused, why not, and what it cost.")
@click.option("--dry-run", is_flag=True, help="Tell what would be done, and do nothing.")
@click.option("--check", is_flag=True, help="Only look for mistakes that build; exit status 1 if there are any.")
@click.option("--call", type=click.Choice(["build", "check"]), help="check is --check.")
@click.option("--rm", "--force-rm", "_remove", is_flag=True, help="No effect: RUN's containers are always removed.")
def build(
    request: Request,
    id_file: str | None,
    quiet: bool,  # noqa: FBT001 (click calls it)
    progress: str | None,
    explain: bool,  # noqa: FBT001
    dry_run: bool,  # noqa: FBT001
    check: bool,  # noqa: FBT001
    call: str | None,
    _remove: bool,  # noqa: FBT001
) -> int:
    """Build an image from a Dockerfile.

    PATH is the folder with the files that COPY and ADD may use. With - they come as a tar archive from standard input,
    or a Dockerfile comes alone.

    A RUN that fails gives its exit status.
    """
    engine = open_engine()
    if check or call == "check":
        return _check(engine, request)
    if dry_run:
        return _plan(engine, request)
    if id_file:
        Path(id_file).unlink(missing_ok=True)  # a build that fails leaves no old id
    quiet = quiet or progress == "quiet"
    image = _build(engine, request, quiet=quiet)
    if id_file:
        _write_id(Path(id_file), image.id)
    _tell(request, image, quiet=quiet, explain=explain)
    return 0


def _build(engine: Engine, request: Request, *, quiet: bool) -> Image:
    from pylab_container.docker.build_output import Presenter
    from pylab_container.engine.builds import build as make

    kept = io.BytesIO()
    presenter = Presenter((lambda text: _keep(kept, text)) if quiet else _print, shown=visible_lines)
    try:
        with engine.events.subscribed(presenter), engine.events.subscribed(ignore if quiet else Display(sys.stdout)):
            return make(engine, request.context, request.options())
    except LabError:
        presenter.close()
        pass_on(kept.getvalue(), nl=False, err=True)
        raise


def _tell(request: Request, image: Image, *, quiet: bool, explain: bool) -> None:
    """What follows the steps."""
    report = image.build_report
    assert report is not None
    if quiet:
        say(image.id)
    else:
        say(f"Successfully built {tables.short_id(image.id)}")
        for tag in request.tags:
            say(f"Successfully tagged {parse_tag(tag).familiar}")
    if explain:
        say(f"\n{build_output.explanation(report)}", err=quiet)
    if report.warnings and not quiet:
        say(f"\n{build_output.warned(report.warnings)}", err=True)


def _plan(engine: Engine, request: Request) -> int:
    from pylab_container.engine.builds import plan

    say(build_output.plan(plan(engine, request.context, request.options())))
    return 0


def _check(engine: Engine, request: Request) -> int:
    from pylab_container.engine.builds import check

    warnings = check(engine, request.context, request.options())
    say(build_output.checked(warnings), nl=False)
    return 1 if warnings else 0


def _print(text: str) -> None:
    # A build goes on when nobody reads what it says; and a Dockerfile may hold bytes that are no text.
    with contextlib.suppress(BrokenPipeError):
        pass_on(text.encode(errors="surrogateescape"), nl=False)


def _keep(buffer: io.BytesIO, text: str) -> None:
    buffer.write(text.encode(errors="surrogateescape"))


def _write_id(path: Path, image_id: str) -> None:
    try:
        path.write_text(image_id)
    except OSError as error:
        raise InvalidInput(f"cannot write {path}: {error.strerror}", hint=f"the image is {image_id}") from error


# ---- options that are more than a word ---------------------------------------------------------


def _build_arguments(entries: Iterable[str]) -> dict[str, str]:
    """NAME=VALUE as it stands; NAME alone takes the value from the environment, and counts only if it is there."""
    values = {}
    for entry in entries:
        name, equals, value = entry.partition("=")
        if equals:
            values[name] = value
        elif name in os.environ:
            values[name] = os.environ[name]
    return values


def _image_names(entries: Iterable[str]) -> list[str]:
    """--cache-from: names, several of them with commas between. Raises InvalidInput."""
    names = [name.strip() for entry in entries for name in entry.split(",")]
    for name in names:
        if not name or "=" in name:
            raise InvalidInput(f"invalid --cache-from {name!r}", hint="give an image's name; there are no other caches")
    return names


def _host(text: str) -> str:
    """--add-host: NAME:ADDRESS or NAME=ADDRESS, as NAME:ADDRESS. Raises InvalidInput."""
    name, separator, address = text.partition("=") if "=" in text else text.partition(":")
    if not (name and separator):
        raise InvalidInput(f'bad format for add-host: "{text}"', hint="write NAME:ADDRESS, as db:10.0.0.2")
    try:
        return f"{name}:{parse_ip(address.strip('[]'))}"
    except ValueError:
        raise InvalidInput(f'invalid IP address in add-host: "{address}"', hint="write NAME:ADDRESS") from None


def _secret(text: str) -> tuple[str, Path | bytes]:
    """--secret: the id, and a file's path or a variable's value. Without src and env, the id is either's name.

    Source: Docker's documentation of `docker buildx build --secret`. Raises InvalidInput.
    """
    hint = "write id=ID,src=FILE or id=ID,env=VARIABLE"
    fields: dict[str, str] = {}
    for field in split_fields(text):
        name, equals, value = field.partition("=")
        name = {"source": "src"}.get(name.lower(), name.lower())
        if not equals or name not in ("id", "src", "env", "type"):
            raise InvalidInput(f"invalid field '{field}' in --secret", hint=hint)
        fields[name] = value
    if not fields.get("id"):
        raise InvalidInput(f"--secret {text}: no id", hint=hint)
    if fields.get("type") not in (None, "file", "env"):
        raise InvalidInput(f'unsupported secret type "{fields["type"]}"', hint="there are file and env")
    if fields.get("type") == "env":
        fields.setdefault("env", fields.pop("src", fields["id"]))
    return fields["id"], _secret_source(fields)


def _secret_source(fields: dict[str, str]) -> Path | bytes:
    name = fields["id"]
    variable = fields.get("env", name if "src" not in fields and "type" not in fields else "")
    if variable in os.environ:
        return os.environb[os.fsencode(variable)]
    if "env" in fields:
        raise InvalidInput(f"secret {name}: there is no environment variable {variable}", hint="export it first")
    path = Path(fields.get("src", name))
    try:
        size = path.stat().st_size
    except OSError as error:
        raise InvalidInput(f"secret {name}: cannot read {path}: {error.strerror}", hint="check src=") from error
    if size > _LARGEST_SECRET:
        raise InvalidInput(f"secret {name}: {path} is larger than 500 kB", hint="a secret is a key, not an archive")
    return path
