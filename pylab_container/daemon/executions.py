"""One more process in a container: docker exec."""

from __future__ import annotations

import contextlib

from aiohttp import web

from pylab_container.containers.execution import Exec
from pylab_container.daemon import fields, shapes
from pylab_container.daemon.application import Route
from pylab_container.daemon.attaching import Wish, detach_keys, pump
from pylab_container.daemon.call import Call, Json, answer
from pylab_container.daemon.containers import find, size_of_terminal
from pylab_container.daemon.hijack import MULTIPLEXED, RAW, Hijacked, Taken, frame, hijack
from pylab_container.daemon.sharing import Share, SharedStreams
from pylab_container.daemon.versions import known
from pylab_container.engine import Engine
from pylab_container.engine.container import Container
from pylab_container.errors import (
    CommandNotExecutable,
    CommandNotFound,
    Conflict,
    InvalidInput,
    LabError,
    RuntimeFailed,
)
from pylab_container.oci.lifecycle import State

_END = 10.0  # seconds that a process gets to end after its streams have
_START_TIMEOUT = 10.0  # seconds; moby: daemon/resize.go


_EXEC = {
    **shapes.named("User WorkingDir DetachKeys", str),
    **shapes.named("Tty AttachStdin AttachStdout AttachStderr Privileged Detach", bool),
    "Cmd": [str],
    "Env": [str],
    "ConsoleSize": [int],
}
_START = {"Detach": bool, "Tty": bool, "ConsoleSize": [int]}


async def create(call: Call) -> web.Response:
    """Describe a process for a running container; it is started later."""
    body = known("ExecCreate", await call.document(_EXEC), call.version)
    if not fields.texts(body, "Cmd"):
        raise InvalidInput("No exec command specified", hint='{"Cmd": ["PROGRAM", …]}')
    container = await find(call)
    execution = await call.run(_create, container, body, call.name)
    return answer({"Id": execution.id}, 201)


def _create(container: Container, body: Json, called: str) -> Exec:
    """Raises Conflict, with the name that the client gave."""
    if container.record.state is State.PAUSED:
        raise Conflict(f"Container {called} is paused, unpause the container before exec", hint="unpause it")
    detach_keys(fields.text(body, "DetachKeys"))
    return container.exec_create(
        fields.texts(body, "Cmd"),
        tty=fields.flag(body, "Tty"),
        stdin=fields.flag(body, "AttachStdin"),
        stdout=fields.flag(body, "AttachStdout"),
        stderr=fields.flag(body, "AttachStderr"),
        user=fields.text(body, "User"),
        environment=fields.texts(body, "Env"),
        workdir=fields.text(body, "WorkingDir"),
        privileged=fields.flag(body, "Privileged"),
        detach_keys=fields.text(body, "DetachKeys"),
        console_size=_console_size(body),
    )


async def _execution(call: Call) -> Exec:
    return await call.run(call.engine.executions.get, call.name)


async def start(call: Call) -> web.StreamResponse:
    """Start it: in the background, or with its streams connected to the client."""
    body = await call.document(_START, optional=not call.before("1.42"), typed=not call.before("1.22"))
    execution = await _execution(call)
    if fields.flag(body, "Detach"):
        await call.run(_start_detached, execution)
        return web.Response()
    await call.run(_refuse_paused, call.engine, execution)
    # Whether there is a terminal was said when it was made; this says how the client wants the output.
    raw = fields.flag(body, "Tty")
    client = hijack(call, RAW if raw or call.before("1.42") else MULTIPLEXED)
    try:
        attachment = await call.opened(lambda: execution.start(console_size=_console_size(body)))
        with contextlib.closing(SharedStreams(attachment)) as streams:
            await _connect(call, execution, client, streams.share(), raw=raw)
    except LabError as error:
        await _tell(client, error, raw=raw)
    except ConnectionError:
        pass  # the client has gone, the process runs on
    client.close()
    return Taken()


def _start_detached(execution: Exec) -> None:
    try:
        execution.start_detached()
    except (CommandNotFound, CommandNotExecutable, RuntimeFailed) as error:
        raise InvalidInput(_words(error), hint=error.hint) from error


def _refuse_paused(engine: Engine, execution: Exec) -> None:
    """Raise Conflict before the response begins: later an error could only be text in the stream."""
    state = engine.containers.get(execution.container_id).record.state_document()
    if state["Paused"]:
        raise Conflict(
            f"Container {execution.container_id} is paused, unpause the container before exec",
            hint=f"labctr unpause {execution.container_id[:12]}",
        )


async def _connect(call: Call, execution: Exec, client: Hijacked, streams: Share, *, raw: bool) -> None:
    options = execution.options
    shown = [name for name, wanted in (("stdout", options.stdout), ("stderr", options.stderr)) if wanted]
    wish = Wish(shown, options.stdin, options.tty, raw, keys=detach_keys(options.detach_keys))
    if await pump(client, streams, wish):
        await call.run(execution.detached)
    elif not client.gone:
        with contextlib.suppress(TimeoutError):  # who sees the stream end asks for the exit code at once
            await call.run(execution.wait, _END)


async def _tell(client: Hijacked, error: LabError, *, raw: bool) -> None:
    """A failed start, in the stream: the answer has begun by then."""
    text = _words(error).encode() + b"\r\n"
    await client.send(text if raw else frame("stdout", text))


def _words(error: LabError) -> str:
    """The message, as clients know it from runc under Docker."""
    if isinstance(error, CommandNotFound | CommandNotExecutable | RuntimeFailed):
        where = "exec failed: unable to start container process: "
        return f"OCI runtime exec failed: {where}{error.message.removeprefix(where)}: unknown"
    return error.message


def _console_size(body: Json) -> tuple[int, int] | None:
    match body.get("ConsoleSize"):
        case [int(rows), int(columns)] if rows > 0 and columns > 0:
            return (rows, columns)
    return None


async def resize(call: Call) -> web.Response:
    """Tell its terminal how large it is, as soon as its process is there.

    The docker command asks for that once its connection stands, which may be earlier, and gives up after some tries.
    """
    rows, columns = size_of_terminal(call)
    execution = await _execution(call)
    await call.run(execution.resize, rows=rows, columns=columns, timeout=_START_TIMEOUT)
    return web.Response(status=200)


async def inspect(call: Call) -> web.Response:
    """All that is known about it."""
    execution = await _execution(call)
    return answer(await call.run(lambda: execution.attrs))


ROUTES = (
    Route("POST", "/containers/{name}/exec", create),
    Route("POST", "/exec/{name}/start", start, streams=True),
    Route("POST", "/exec/{name}/resize", resize),
    Route("GET", "/exec/{name}/json", inspect),
)
