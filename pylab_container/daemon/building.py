"""/build: an image from a Dockerfile, with the API of the classic builder; /commit: an image from a container."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from aiohttp import web
from msgspec.structs import replace

from pylab_container.build.recipe import BuildOptions
from pylab_container.build.remote import is_remote
from pylab_container.daemon import creation, shapes, streams
from pylab_container.daemon.application import Route
from pylab_container.daemon.call import BUILDS, Call, answer
from pylab_container.daemon.images import target_name
from pylab_container.daemon.registries import all_credentials, instructions
from pylab_container.docker import progress
from pylab_container.docker.build_output import Presenter
from pylab_container.docker.hostconfig import complete_memory, extra_hosts
from pylab_container.engine.builds import build
from pylab_container.errors import DockerfileError, InvalidInput, LabError, StepRefused, Unavailable
from pylab_container.events import Event
from pylab_container.images.image import Image
from pylab_container.oci import reference as references
from pylab_container.oci.host_config import DEFAULT, HostConfig, Ulimit

_RED = "\x1b[91m{}\x1b[0m"
"""The format in which docker's classic builder shows the standard error of a command."""
_WITHOUT_EFFECT: Mapping[str, tuple[str, ...]] = {
    "isolation": ("default",),
    "outputs": ("[]", "null"),
    "securityopt": ("[]", "null"),
    "squash": ("0", "false"),
    "version": ("1",),
}
"""Parameters that are accepted with these values only, which have no effect."""
_REFUSALS = {
    "isolation": 'Unsupported isolation: "{}"',
    "securityopt": "The daemon on this platform does not support setting security options on build",
}
"""dockerd's messages about values that it does not support either."""
DEFAULT_CPU_PERIOD = 100_000  # microseconds


async def build_image(call: Call) -> web.StreamResponse:
    """POST /build: build an image; each line of the answer is output for docker to print."""
    options = _options(call)
    engine, place = call.private_engine(), _remote(call)
    context = place or await streams.received(call)
    builds = call.request.app[BUILDS]

    def work(put_line: streams.PutLine, stop: threading.Event) -> None:
        kept: list[str] = []
        quiet = call.flag("q")
        presenter = Presenter(kept.append if quiet else lambda text: put_line({"stream": text}), errors=_RED)

        def on_event(event: Event) -> None:
            presenter(event)
            if not quiet and (transfer := progress.document(event)) is not None:  # of a base image
                put_line(transfer)

        builds.add(stop)
        try:
            with engine.events.subscribed(on_event):
                image = build(engine.parts, context, options, stop=stop)
        except LabError as error:
            presenter.close()
            if kept:
                put_line({"stream": "".join(kept)})
            raise _as_dockerd(error) from error
        finally:
            builds.discard(stop)
            if not isinstance(context, str):
                context.close()
        _put_result(put_line, image, options, quiet=quiet, with_result=not call.before("1.30"))

    return await streams.send_produced(call, work, errors_in_stream=False)


def _remote(call: Call) -> str:
    """Return the URL of the context, "" if it is the body. Raises InvalidInput."""
    place = call.text("remote")
    if place and not is_remote(place):
        raise InvalidInput(f"remoteURL ({place}) could not be recognized as URL", hint="send the context as a tar")
    return place


def _put_result(
    put_line: streams.PutLine, image: Image, options: BuildOptions, *, quiet: bool, with_result: bool
) -> None:
    if quiet:
        put_line({"stream": f"{image.id}\n"})
        return
    for image_id in _stages(image) if with_result else ():
        put_line({"aux": {"ID": image_id}})
    put_line({"stream": f"Successfully built {image.id[7:19]}\n"})
    for name in options.names:
        put_line({"stream": f"Successfully tagged {name.familiar}\n"})


def _stages(image: Image) -> Iterator[str]:
    """Yield the image of each stage that built one, the final image last."""
    assert image.build_report is not None
    for _, steps in itertools.groupby(image.build_report.steps, key=lambda step: step.stage):
        if image_id := list(steps)[-1].image_id:
            yield image_id


def _as_dockerd(error: LabError) -> LabError:
    """Return an error of the Dockerfile in dockerd's words, with its line."""
    if isinstance(error, StepRefused):
        return InvalidInput(error.message, hint=error.hint)
    if not isinstance(error, DockerfileError):
        return error
    return InvalidInput(f"dockerfile parse error line {error.line}: {error.message}", hint=error.hint)


def _options(call: Call) -> BuildOptions:
    """Parse the parameters. Raises InvalidInput for one that the builder does not support."""
    for name, values in _WITHOUT_EFFECT.items():
        if call.text(name).lower() not in ("", *values):
            words = _REFUSALS.get(name, f"the parameter {name} is not supported: {{}}")
            raise InvalidInput(words.format(call.text(name)), hint="leave it out")
    arguments = _parameter(call, "buildargs", "build args", {"*": shapes.TEXT_OR_NULL}) or {}
    return BuildOptions(
        names=tuple(references.parse_tag(name) for name in call.texts("t") if name),
        dockerfile=call.text("dockerfile") or None,
        buildargs={name: value for name, value in arguments.items() if value is not None},
        valueless=tuple(name for name, value in arguments.items() if value is None),
        labels=_parameter(call, "labels", "labels", shapes.NAMES) or {},
        target=call.text("target"),
        nocache=call.flag("nocache"),
        pull=call.flag("pull"),
        cache_from=tuple(_parameter(call, "cachefrom", "cache sources", [str]) or ()),
        network=call.text("networkmode"),
        extra_hosts=tuple(extra_hosts([host for text in call.texts("extrahosts") for host in _hosts(text)])),
        platform=call.text_since("1.32", "platform"),
        auth_configs=all_credentials(call),
        limits=_limits(call),
        every_stage=True,  # the classic builder also builds stages that the target does not need
        keep=_kept(call),
    )


def _kept(call: Call) -> Literal["never", "failed", "always"]:
    """Return which containers of RUN are kept: those that failed, without --force-rm; all, with --rm=false."""
    if call.flag("forcerm"):
        return "never"
    return "failed" if call.flag("rm", default=True) else "always"


def _parameter(call: Call, name: str, what: str, shape: Any) -> Any:
    """Parse a parameter that is JSON of this shape; None if it is missing. Raises InvalidInput."""
    try:
        return shapes.read(text.encode(), shape) if (text := call.text(name)) else None
    except InvalidInput as error:
        raise InvalidInput(f"error reading {what}: {error.message}", hint=error.hint) from None


def _hosts(text: str) -> list[str]:
    """Divide "name:address,name:address", which older clients send in one value."""
    return [host for host in text.split(",") if host]


def _limits(call: Call) -> HostConfig:
    """Return the HostConfig of the containers of RUN. Raises InvalidInput."""
    ulimits = _parameter(call, "ulimits", "ulimit settings", creation.ULIMITS) or ()
    limits = replace(
        DEFAULT,
        memory=call.number("memory") or 0,
        memory_swap=call.number("memswap") or 0,
        cpu_shares=call.number("cpushares") or 0,
        cpuset_cpus=call.text("cpusetcpus"),
        cpuset_mems=call.text("cpusetmems"),
        cgroup_parent=call.text("cgroupparent"),
        shm_size=call.number("shmsize") or DEFAULT.shm_size,
        ulimits=tuple(map(Ulimit.parse, ulimits)),
        nano_cpus=(call.number("cpuquota") or 0) * 10**9 // (call.number("cpuperiod") or DEFAULT_CPU_PERIOD),
    )
    return complete_memory(limits)


# ---- other routes -------------------------------------------------------------------------------


async def prune(call: Call) -> web.Response:
    """POST /build/prune: remove build cache."""
    filters = {name: values for name, values in call.filters().items() if name not in ("unused-for", "dangling")}
    if call.number("keep-storage"):
        raise InvalidInput("keep-storage is not supported", hint='use the filter {"until": ["24h"]}')
    pruned = await call.run(call.engine.prune_builds, all=call.flag("all"), filters=filters)
    names = [removal.name for removal in pruned.deleted]
    return answer({"CachesDeleted": names, "SpaceReclaimed": pruned.space_reclaimed})


async def cancel(call: Call) -> web.Response:
    """POST /build/cancel: do nothing.

    Builds of the classic builder end when their client disconnects.
    """
    if not call.text("id"):
        raise InvalidInput("build ID not provided", hint="send id=ID")
    return web.Response(content_type="application/json")


async def session(call: Call) -> web.Response:
    """POST /session: refuse the connection that clients of BuildKit open beside a build."""
    if "Upgrade" not in call.request.headers:
        raise InvalidInput("no upgrade proto in request", hint="send the header Upgrade: h2c")
    raise Unavailable("this engine has no BuildKit", hint="DOCKER_BUILDKIT=0 docker build")


async def commit(call: Call) -> web.Response:
    """POST /commit: create an image from a container's changes."""
    name = call.text("container")
    if not name:
        raise InvalidInput('invalid name or ID supplied: ""', hint="send container=NAME")
    config = await call.document(creation.COMMIT, optional=True)
    target, changes = target_name(call.text("repo"), call.text("tag")), instructions(call)

    def committed() -> str:
        container = call.engine.containers.get(name)
        image = container.commit(
            target.familiar if target else None,
            message=call.text("comment"),
            author=call.text("author"),
            changes=changes,
            conf={field: value for field, value in config.items() if value},
            pause=call.flag("pause", default=True),
        )
        return image.id

    return answer({"Id": await call.run(committed)}, 201)


ROUTES = (
    Route("POST", "/build", build_image, streams=True),
    Route("POST", "/build/prune", prune),
    Route("POST", "/build/cancel", cancel),
    Route("POST", "/session", session),
    Route("POST", "/grpc", session),
    Route("POST", "/commit", commit),
)
