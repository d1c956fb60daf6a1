"""build: build an image from a Dockerfile, with the output of docker's classic builder."""

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

MAX_SECRET_SIZE = 500 * 1024  # bytes; BuildKit's limit


class Request(Struct, frozen=True):
    """The options of a build on the command line."""

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
        """Translate the options for the engine. Raises InvalidInput."""
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
        help="Name of the image. Repeatable.",
    ),
    click.option(
        "-f",
        "--file",
        "dockerfile",
        metavar="FILE|-",
        shell_complete=arguments.files,
        help="The Dockerfile.  [default: PATH/Dockerfile]",
    ),
    click.option(
        "--build-arg", "arguments", multiple=True, metavar="NAME[=VALUE]", help="Set a build-time variable (ARG)."
    ),
    click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="Set metadata for the image."),
    click.option(
        "--target", default="", metavar="STAGE", help="Set the target build stage to build.  [default: the last one]"
    ),
    click.option("--no-cache", is_flag=True, help="Do not use cache when building the image."),
    click.option(
        "--cache-from",
        multiple=True,
        metavar="IMAGE,…",
        shell_complete=arguments.images,
        help="Only images to consider as cache sources.",
    ),
    click.option(
        "--network",
        default="",
        metavar="default|none|host",
        help="Networking mode for the RUN instructions.  [default: default]",
    ),
    click.option(
        "--add-host", "hosts", multiple=True, metavar="NAME:ADDRESS", help="Add a custom host-to-IP mapping for RUN."
    ),
    click.option("--platform", default="", metavar="OS/ARCH", help="Target platform.  [default: this machine's]"),
    click.option(
        "--secret",
        "secrets",
        multiple=True,
        metavar="id=ID[,src=FILE|,env=NAME]",
        help="Secret for RUN --mount=type=secret,id=ID; no layer contains it.",
    ),
    click.option("--pull", is_flag=True, help="Always attempt to pull newer base images."),
)


def _request_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add these options to a command, which receives them as one Request."""

    @functools.wraps(function)
    def wrapper(**values: Any) -> Any:
        options = {name: values.pop(name) for name in Request.__struct_fields__}
        return function(Request(**options), **values)

    decorated: Callable[..., Any] = wrapper
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


class BuildCommand(Command):
    """A failed RUN step determines the exit status."""

    def status(self, error: LabError) -> int:
        return error.status if isinstance(error, BuildFailed) else 1


@click.command(cls=BuildCommand)
@_request_options
@click.option(
    "--iidfile", "id_file", metavar="FILE", shell_complete=arguments.files, help="Write the image id to FILE."
)
@click.option("-q", "--quiet", is_flag=True, help="Suppress the build output and print the image id on success.")
@click.option(
    "--progress", type=click.Choice(["auto", "plain", "quiet"]), help="quiet: as -q; auto and plain are the same."
)
@click.option(
    "--explain", is_flag=True, help="Show for each step whether it came from the cache, the reason, and its cost."
)
@click.option("--dry-run", is_flag=True, help="Show the plan of the build without running it.")
@click.option("--check", is_flag=True, help="Only check the Dockerfile; exit status 1 if there are warnings.")
@click.option("--call", type=click.Choice(["build", "check"]), help="check: as --check.")
@click.option(
    "--rm", "--force-rm", "_remove", is_flag=True, help="No effect: the containers of RUN are always removed."
)
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

    PATH is the directory with the files for COPY and ADD. With - standard input is a tar archive of them, or a
    Dockerfile without files.

    The exit status is that of a failed RUN.
    """
    engine = open_engine()
    if check or call == "check":
        return _check(engine, request)
    if dry_run:
        return _plan(engine, request)
    if id_file:
        Path(id_file).unlink(missing_ok=True)  # a failed build must not leave an old id
    quiet = quiet or progress == "quiet"
    image = _build(engine, request, quiet=quiet)
    if id_file:
        _write_id(Path(id_file), image.id)
    _show_result(request, image, quiet=quiet, explain=explain)
    return 0


def _build(engine: Engine, request: Request, *, quiet: bool) -> Image:
    from pylab_container.docker.build_output import Presenter
    from pylab_container.engine.builds import build as build_image

    kept = io.BytesIO()
    presenter = Presenter((lambda text: _keep(kept, text)) if quiet else _print, shown=visible_lines)
    try:
        with engine.events.subscribed(presenter), engine.events.subscribed(ignore if quiet else Display(sys.stdout)):
            return build_image(engine.parts, request.context, request.options())
    except LabError:
        presenter.close()
        pass_on(kept.getvalue(), nl=False, err=True)
        raise


def _show_result(request: Request, image: Image, *, quiet: bool, explain: bool) -> None:
    """Print the output after the steps."""
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

    say(build_output.plan(plan(engine.parts, request.context, request.options())))
    return 0


def _check(engine: Engine, request: Request) -> int:
    from pylab_container.engine.builds import check

    warnings = check(engine.parts, request.context, request.options())
    say(build_output.checked(warnings), nl=False)
    return 1 if warnings else 0


def _print(text: str) -> None:
    # The build continues if the reader closes the pipe. A Dockerfile may contain bytes that are not UTF-8.
    with contextlib.suppress(BrokenPipeError):
        pass_on(text.encode(errors="surrogateescape"), nl=False)


def _keep(buffer: io.BytesIO, text: str) -> None:
    buffer.write(text.encode(errors="surrogateescape"))


def _write_id(path: Path, image_id: str) -> None:
    try:
        path.write_text(image_id)
    except OSError as error:
        raise InvalidInput(f"cannot write {path}: {error.strerror}", hint=f"the image is {image_id}") from error


# ---- options with a syntax ---------------------------------------------------------


def _build_arguments(entries: Iterable[str]) -> dict[str, str]:
    """Parse --build-arg.

    NAME alone has the value of the environment variable, and is ignored without one.
    """
    values = {}
    for entry in entries:
        name, equals, value = entry.partition("=")
        if equals:
            values[name] = value
        elif name in os.environ:
            values[name] = os.environ[name]
    return values


def _image_names(entries: Iterable[str]) -> list[str]:
    """Parse --cache-from: comma-separated names of images. Raises InvalidInput."""
    names = [name.strip() for entry in entries for name in entry.split(",")]
    for name in names:
        if not name or "=" in name:
            raise InvalidInput(
                f"invalid --cache-from {name!r}", hint="give the name of an image: other caches are not supported"
            )
    return names


def _host(text: str) -> str:
    """Parse --add-host, NAME:ADDRESS or NAME=ADDRESS, as NAME:ADDRESS. Raises InvalidInput."""
    name, separator, address = text.partition("=") if "=" in text else text.partition(":")
    if not (name and separator):
        raise InvalidInput(f'bad format for add-host: "{text}"', hint="write NAME:ADDRESS, as db:10.0.0.2")
    try:
        return f"{name}:{parse_ip(address.strip('[]'))}"
    except ValueError:
        raise InvalidInput(f'invalid IP address in add-host: "{address}"', hint="write NAME:ADDRESS") from None


def _secret(text: str) -> tuple[str, Path | bytes]:
    """Parse --secret: the id, and the path of a file or the value of a variable.

    By default the file or variable has the name id.

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
        raise InvalidInput(f'unsupported secret type "{fields["type"]}"', hint="write type=file or type=env")
    if fields.get("type") == "env":
        fields.setdefault("env", fields.pop("src", fields["id"]))
    return fields["id"], _secret_source(fields)


def _secret_source(fields: dict[str, str]) -> Path | bytes:
    name = fields["id"]
    variable = fields.get("env", name if "src" not in fields and "type" not in fields else "")
    if variable in os.environ:
        return os.environb[os.fsencode(variable)]
    if "env" in fields:
        raise InvalidInput(f"secret {name}: the environment variable {variable} is not set", hint="export it first")
    path = Path(fields.get("src", name))
    try:
        size = path.stat().st_size
    except OSError as error:
        raise InvalidInput(f"secret {name}: cannot read {path}: {error.strerror}", hint="check src=") from error
    if size > MAX_SECRET_SIZE:
        raise InvalidInput(f"secret {name}: {path} is larger than 500 kB", hint="choose a smaller file")
    return path
