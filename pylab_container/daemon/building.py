"""/build: an image from a Dockerfile, by the classic builder; and /commit: one from a container."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from aiohttp import web

from pylab_container.build.recipe import BuildOptions
from pylab_container.build.remote import is_remote
from pylab_container.daemon import creation, shapes, streams
from pylab_container.daemon.application import Route
from pylab_container.daemon.call import BUILDS, Call, Json, answer
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

_RED = "\x1b[91m{}\x1b[0m"
"""How docker's classic builder shows the standard error of a command."""
_HARMLESS: Mapping[str, tuple[str, ...]] = {
    "isolation": ("default",),
    "outputs": ("[]", "null"),
    "securityopt": ("[]", "null"),
    "squash": ("0", "false"),
    "version": ("1",),
}
"""Parameters that can only say what happens anyway."""
_REFUSALS = {
    "isolation": 'Unsupported isolation: "{}"',
    "securityopt": "The daemon on this platform does not support setting security options on build",
}
"""Docker's own words of what it does not do either."""
_PERIOD = 100_000  # microseconds: the period that a quota is of where nobody says another


async def build_image(call: Call) -> web.StreamResponse:
    """Build; each line of the answer is a piece of what docker prints."""
    options = _options(call)
    engine, place = call.private_engine(), _remote(call)
    context = place or await streams.received(call)
    under_way = call.request.app[BUILDS]

    def work(tell: streams.Tell, stop: threading.Event) -> None:
        said: list[str] = []
        quiet = call.flag("q")
        presenter = Presenter(said.append if quiet else lambda text: tell({"stream": text}), errors=_RED)

        def note(event: Event) -> None:
            presenter(event)
            if not quiet and (transfer := progress.document(event)) is not None:  # of a base image
                tell(transfer)

        under_way.add(stop)
        try:
            with engine.events.subscribed(note):
                image = build(engine, context, options, stop=stop)
        except LabError as error:
            presenter.close()
            if said:
                tell({"stream": "".join(said)})
            raise _as_told(error) from error
        finally:
            under_way.discard(stop)
            if not isinstance(context, str):
                context.close()
        _tell_end(tell, image, options, quiet=quiet, with_result=not call.before("1.30"))

    return await streams.send_told(call, work, told=False)


def _remote(call: Call) -> str:
    """Where the context is, if not in the body. Raises InvalidInput."""
    place = call.text("remote")
    if place and not is_remote(place):
        raise InvalidInput(f"remoteURL ({place}) could not be recognized as URL", hint="send the context as a tar")
    return place


def _tell_end(tell: streams.Tell, image: Image, options: BuildOptions, *, quiet: bool, with_result: bool) -> None:
    if quiet:
        tell({"stream": f"{image.id}\n"})
        return
    for image_id in _stages(image) if with_result else ():
        tell({"aux": {"ID": image_id}})
    tell({"stream": f"Successfully built {image.id[7:19]}\n"})
    for name in options.names:
        tell({"stream": f"Successfully tagged {name.familiar}\n"})


def _stages(image: Image) -> Iterator[str]:
    """What each stage has made, as far as it made anything; the last one is the image itself."""
    assert image.build_report is not None
    for _, steps in itertools.groupby(image.build_report.steps, key=lambda step: step.stage):
        if image_id := list(steps)[-1].image_id:
            yield image_id


def _as_told(error: LabError) -> LabError:
    """A mistake in the Dockerfile with its place; docker says it so."""
    if isinstance(error, StepRefused):
        return InvalidInput(error.message, hint=error.hint)
    if not isinstance(error, DockerfileError):
        return error
    return InvalidInput(f"dockerfile parse error line {error.line}: {error.message}", hint=error.hint)


def _options(call: Call) -> BuildOptions:
    """What the parameters ask for. Raises InvalidInput for what the builder does not do."""
    for name, values in _HARMLESS.items():
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
        every_stage=True,  # the classic builder asks for no stage's need
        keep=_kept(call),
    )


def _kept(call: Call) -> Literal["never", "failed", "always"]:
    """Which containers stay: without --force-rm those of RUNs that fail, with --rm=false all."""
    if call.flag("forcerm"):
        return "never"
    return "failed" if call.flag("rm", default=True) else "always"


def _parameter(call: Call, name: str, what: str, shape: Any) -> Any:
    """A parameter that is JSON of this shape; None without it. Raises InvalidInput."""
    try:
        return shapes.read(text.encode(), shape) if (text := call.text(name)) else None
    except InvalidInput as error:
        raise InvalidInput(f"error reading {what}: {error.message}", hint=error.hint) from None


def _hosts(text: str) -> list[str]:
    """ "name:address", once or, as older clients send it, several times with commas between."""
    return [host for host in text.split(",") if host]


def _limits(call: Call) -> Json:
    """What the commands of RUN may use, as fields of HostConfig."""
    fields: Json = {
        "Memory": call.number("memory"),
        "MemorySwap": call.number("memswap"),
        "CpuShares": call.number("cpushares"),
        "CpusetCpus": call.text("cpusetcpus"),
        "CpusetMems": call.text("cpusetmems"),
        "CgroupParent": call.text("cgroupparent"),
        "ShmSize": call.number("shmsize"),
        "Ulimits": _parameter(call, "ulimits", "ulimit settings", creation.ULIMITS),
    }
    if quota := call.number("cpuquota"):
        fields["NanoCpus"] = quota * 10**9 // (call.number("cpuperiod") or _PERIOD)
    limits = {name: value for name, value in fields.items() if value}
    return complete_memory(limits)


# ---- around it -------------------------------------------------------------------------------


async def prune(call: Call) -> web.Response:
    """Remove the build cache."""
    known = {name: values for name, values in call.filters().items() if name not in ("unused-for", "dangling")}
    if call.number("keep-storage"):
        raise InvalidInput("keep-storage is not supported", hint='use the filter {"until": ["24h"]}')
    pruned = await call.run(call.engine.prune_builds, all=call.flag("all"), filters=known)
    names = [removal.name for removal in pruned.deleted]
    return answer({"CachesDeleted": names, "SpaceReclaimed": pruned.space_reclaimed})


async def cancel(call: Call) -> web.Response:
    """A build of the classic builder ends when its client closes the connection; there are no others."""
    if not call.text("id"):
        raise InvalidInput("build ID not provided", hint="id=…")
    return web.Response(content_type="application/json")


async def session(call: Call) -> web.Response:
    """What BuildKit's clients open beside a build."""
    if "Upgrade" not in call.request.headers:
        raise InvalidInput("no upgrade proto in request", hint="Upgrade: h2c")
    raise Unavailable("this engine has no BuildKit", hint="DOCKER_BUILDKIT=0 docker build")


async def commit(call: Call) -> web.Response:
    """An image of a container, and of what it has changed."""
    name = call.text("container")
    if not name:
        raise InvalidInput('invalid name or ID supplied: ""', hint="container=NAME")
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
