"""/exec: additional processes in containers, for docker exec."""

from __future__ import annotations

import contextlib

from aiohttp import web

from pylab_container.containers.execution import Exec
from pylab_container.containers.settle import read_settled
from pylab_container.daemon import fields, shapes
from pylab_container.daemon.application import Route
from pylab_container.daemon.attaching import StreamOptions, detach_keys, pump
from pylab_container.daemon.call import Call, answer
from pylab_container.daemon.containers import find, size_of_terminal
from pylab_container.daemon.hijack import MULTIPLEXED, RAW, HijackedConnection, HijackedResponse, frame, hijack
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
from pylab_container.oci.image import Json
from pylab_container.oci.lifecycle import State

EXIT_TIMEOUT = 10.0  # seconds to wait for the exit of a process whose streams have ended
START_TIMEOUT = 10.0  # seconds to wait for the start of a process before a resize (moby daemon/resize.go)


_EXEC = {
    **shapes.named("User WorkingDir DetachKeys", str),
    **shapes.named("Tty AttachStdin AttachStdout AttachStderr Privileged Detach", bool),
    "Cmd": [str],
    "Env": [str],
    "ConsoleSize": [int],
}
_START = {"Detach": bool, "Tty": bool, "ConsoleSize": [int]}


async def create(call: Call) -> web.Response:
    """POST /containers/NAME/exec: describe a process for a running container."""
    body = known("ExecCreate", await call.document(_EXEC), call.version)
    if not fields.texts(body, "Cmd"):
        raise InvalidInput("No exec command specified", hint='{"Cmd": ["PROGRAM", …]}')
    container = await find(call)
    execution = await call.run(_create, container, body, call.name)
    return answer({"Id": execution.id}, 201)


def _create(container: Container, body: Json, name: str) -> Exec:
    """Describe the process. Raises Conflict with the container's name as the client wrote it."""
    if container.record.state is State.PAUSED:
        raise Conflict(f"Container {name} is paused, unpause the container before exec", hint="unpause it")
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
    """POST /exec/ID/start: start it, in the background or connected to the client."""
    body = await call.document(_START, optional=not call.before("1.42"), typed=not call.before("1.22"))
    execution = await _execution(call)
    if fields.flag(body, "Detach"):
        await call.run(_start_detached, execution)
        return web.Response()
    await call.run(_refuse_paused, call.engine, execution)
    # create() decided whether there is a terminal. This Tty selects the format of the output.
    raw = fields.flag(body, "Tty")
    client = hijack(call, RAW if raw or call.before("1.42") else MULTIPLEXED)
    try:
        attachment = await call.opened(lambda: execution.start(console_size=_console_size(body)))
        with contextlib.closing(SharedStreams(attachment)) as streams:
            await _connect(call, execution, client, streams.share(), raw=raw)
    except LabError as error:
        await _send_error(client, error, raw=raw)
    except ConnectionError:
        pass  # the client has disconnected; the process continues
    client.close()
    return HijackedResponse()


def _start_detached(execution: Exec) -> None:
    try:
        execution.start_detached()
    except (CommandNotFound, CommandNotExecutable, RuntimeFailed) as error:
        raise InvalidInput(_words(error), hint=error.hint) from error


def _refuse_paused(engine: Engine, execution: Exec) -> None:
    """Raise Conflict for a paused container, before the connection is hijacked."""
    state = read_settled(engine.data, engine.runtime, execution.container_id).state_document()
    if state["Paused"]:
        raise Conflict(
            f"Container {execution.container_id} is paused, unpause the container before exec",
            hint=f"labctr unpause {execution.container_id[:12]}",
        )


async def _connect(call: Call, execution: Exec, client: HijackedConnection, streams: Share, *, raw: bool) -> None:
    options = execution.options
    shown = [name for name, attached in (("stdout", options.stdout), ("stderr", options.stderr)) if attached]
    stream_options = StreamOptions(shown, options.stdin, options.tty, raw, keys=detach_keys(options.detach_keys))
    if await pump(client, streams, stream_options):
        await call.run(execution.detached)
    elif not client.disconnected:
        with contextlib.suppress(TimeoutError):  # clients request the exit code as soon as the stream ends
            await call.run(execution.wait, EXIT_TIMEOUT)


async def _send_error(client: HijackedConnection, error: LabError, *, raw: bool) -> None:
    """Send the error of a failed start in the stream: the answer has already begun."""
    text = _words(error).encode() + b"\r\n"
    await client.send(text if raw else frame("stdout", text))


def _words(error: LabError) -> str:
    """Return the message in the words of runc under dockerd, which clients match."""
    if isinstance(error, CommandNotFound | CommandNotExecutable | RuntimeFailed):
        prefix = "exec failed: unable to start container process: "
        return f"OCI runtime exec failed: {prefix}{error.message.removeprefix(prefix)}: unknown"
    return error.message


def _console_size(body: Json) -> tuple[int, int] | None:
    match body.get("ConsoleSize"):
        case [int(rows), int(columns)] if rows > 0 and columns > 0:
            return (rows, columns)
    return None


async def resize(call: Call) -> web.Response:
    """POST /exec/ID/resize: set the size of its terminal, once its process has started.

    docker sends this as soon as its connection is open, perhaps before the process runs. It stops after some attempts.
    """
    rows, columns = size_of_terminal(call)
    execution = await _execution(call)
    await call.run(execution.resize, rows=rows, columns=columns, timeout=START_TIMEOUT)
    return web.Response(status=200)


async def inspect(call: Call) -> web.Response:
    """GET /exec/ID/json: its configuration and state."""
    execution = await _execution(call)
    return answer(await call.run(lambda: execution.attrs))


ROUTES = (
    Route("POST", "/containers/{name}/exec", create),
    Route("POST", "/exec/{name}/start", start, streams=True),
    Route("POST", "/exec/{name}/resize", resize),
    Route("GET", "/exec/{name}/json", inspect),
)
