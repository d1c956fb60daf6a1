"""Odd names, numbers and texts over every route of the API and every command: refused in words of the API.

A refusal is an answer below 500 without words of Python's. The daemon logs no exception: the fixture looks at its log.
"""

from __future__ import annotations

import base64
import io
import itertools
import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from pylab_container.daemon import creation, executions, networks, shapes, volumes
from pylab_container.daemon.routes import ROUTES
from pylab_container.images.image import Image
from tests.support.api import Answer, Daemon
from tests.support.commands import Labctr

pytestmark = pytest.mark.shared_engine

LONG = "a" * 5000
TEXTS = (
    "a\0b",
    "\0",
    "a\nb",
    "\x1b[31m",
    "\ud800",
    "../../etc",
    "-1",
    "\xff",
    " ",
    LONG,
    f"/{LONG}",
    "9" * 400,
    "é" * 200,
)
HUGE = 0  # stands for a number that Python does not write
NUMBERS = (-1, -(1 << 63), (1 << 63) - 1, 10**400, HUGE)
PYTHON = re.compile(
    r"embedded null|surrogates not|codec can't|Errno|\w+Error\b|Traceback|object is not|has no attribute|recursion|"
    r"4300 digits|"
    r"is less than minimum|greater than maximum|invalid literal|not supported between|NoneType|too large to convert"
)
PARAMETERS = (
    "all author cgroupparent changes comment container condition copyUIDGID cpuperiod cpuquota cpusetcpus cpushares "
    "detachKeys digests dockerfile extrahosts filter filters follow force fromImage fromSrc buildargs labels h limit "
    "link logs memory memswap message name names networkmode noprune path pause platform ps_args q remote repo rm "
    "scope shmsize shared-size signal since size stderr stdin stdout stream t tag tail target term timeout timestamps "
    "type ulimits until v w one-shot verbose kind"
).split()
# Answers that last as long as their client, or as their container.
ENDLESS = {
    ("GET", "/events"),
    ("GET", "/containers/{name}/stats"),
    ("GET", "/containers/{name}/attach/ws"),
    ("POST", "/containers/{name}/attach"),
    ("POST", "/containers/{name}/wait"),
    ("POST", "/session"),
    ("POST", "/grpc"),
}
SHAPES: dict[str, Any] = {
    "/containers/create": creation.CREATE,
    "/containers/{name}/update": creation.UPDATE,
    "/commit?container=nosuch": creation.COMMIT,
    "/networks/create": networks._NETWORK,
    "/networks/bridge/connect": networks._CONNECTION,
    "/networks/bridge/disconnect": networks._CONNECTION,
    "/volumes/create": volumes._VOLUME,
    "/containers/{name}/exec": executions._EXEC,
}
_REPEATED = re.compile(r"(.)\1{50,}")
_PLACEHOLDER = re.compile(r"\{\w+\}")


@pytest.fixture
def container(daemon: Daemon, image: Image) -> str:
    return str(daemon.api.post("/containers/create", {"Image": image.id, "Cmd": ["true"]}).document["Id"])


def problem(answer: Answer) -> str:
    """Return the fault of an answer: a 5xx status or words of Python; "" if it has none."""
    text = answer.body.decode(errors="replace")
    if (answer.status >= 500 and answer.status not in (501, 503)) or PYTHON.search(text):
        return f"{answer.status} {_REPEATED.sub('…', text)[:200]}"
    return ""


def places() -> Iterator[tuple[str, str]]:
    for route in ROUTES:
        if (route.method, route.path) not in ENDLESS and not route.handler.__module__.endswith("swarm"):
            yield route.method, route.path


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: ascii(text[:12]))
def test_a_name_in_a_path(daemon: Daemon, text: str) -> None:
    name = quote(text, safe="", errors="surrogatepass")
    faults = []
    for method, path in places():
        if "{" in path:
            target = f"/v1.41{_PLACEHOLDER.sub(lambda _: name, path)}"
            answer = daemon.api.bare(method, target, None, {"Content-Type": "application/json"})
            faults += [f"{method} {path}: {found}"] if (found := problem(answer)) else []
    assert not faults, "\n".join(faults)


# Starting, saving and asking registries take long, and have few parameters.
SLOW = re.compile(r"/(start|restart|stop|kill|pause|unpause|export|changes|get|prune|df)$|^/distribution/")


def test_a_parameter(daemon: Daemon, container: str) -> None:
    """Each parameter of each route, with one text after the other: all of them with all would take minutes."""
    faults, texts = [], itertools.cycle(TEXTS)
    for method, path in places():
        for name in PARAMETERS if method != "DELETE" and not SLOW.search(path) else ():
            asked = f"{name}={quote(next(texts), safe='', errors='surrogatepass')}"
            target = f"/v1.44{_PLACEHOLDER.sub(container, path)}?{asked}"
            answer = daemon.api.bare(method, target, b"" if method == "POST" else None, {})
            faults += [f"{method} {path}?{asked[:40]}: {found}"] if (found := problem(answer)) else []
    assert not faults, "\n".join(faults)


def bodies(shape: Any, value: object) -> Iterator[Any]:
    """Yield for each leaf of a shape a document that contains only this leaf, with value."""
    if isinstance(shape, dict):
        for name, inner in shape.items():
            for body in bodies(inner, value):
                yield {"a" if name == "*" else name: body}
                if name == "*":
                    yield {str(value): body}
    elif isinstance(shape, list):
        yield from ([body] for body in bodies(shape[0], value))
    elif shape == shapes.WORDS and isinstance(value, str):
        yield [value]
    elif (shape in (str, shapes.ANY) and isinstance(value, str)) or (shape is int and isinstance(value, int)):
        yield value


def dumped(body: object) -> bytes:
    """A document; HUGE in it becomes a number of 5000 digits."""
    return re.sub(r"(?<=[:\[] )0\b|(?<=\[)0\b", "1" + "0" * 5000, json.dumps(body)).encode()


@pytest.mark.parametrize("path", SHAPES)
def test_a_value_in_a_body(daemon: Daemon, container: str, image: Image, path: str) -> None:
    faults, made = [], []
    target = "/v1.41" + path.replace("{name}", container)
    texts, numbers = itertools.cycle(TEXTS), itertools.cycle(NUMBERS)
    for name, shape in SHAPES[path].items():
        for values in (texts, numbers):
            value = next(values)
            for document in bodies({name: shape}, value):
                body = {"Image": image.id, **document} if path == "/containers/create" else document
                text = dumped(body) if value == HUGE else json.dumps(body).encode()
                answer = daemon.api.bare("POST", target, text, {"Content-Type": "application/json"})
                faults += [f"{text[-150:]!r}: {found}"] if (found := problem(answer)) else []
                if answer.status == 201:
                    made.append(answer.document.get("Id") or answer.document.get("Name"))
    for name in made if path.endswith("/create") else ():
        assert daemon.api.delete(f"/{path.split('/')[1]}/{name}").status == 204
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    "body",
    [b"[" * 100_000, b'{"a":' * 100_000, b'{"Image": 1' + b"0" * 5000 + b"}", b"\xff", b"\0", b'{"Name": "\\u0000"}'],
    ids=lambda body: ascii(body[:12]),
)
def test_a_body_that_is_hardly_json(daemon: Daemon, body: bytes) -> None:
    for path in ("/containers/create", "/networks/create", "/volumes/create"):
        answer = daemon.api.bare("POST", f"/v1.41{path}", body, {"Content-Type": "application/json"})
        assert answer.status == 400
        assert not problem(answer)


@pytest.mark.parametrize(
    "text",
    [b"\xff", b"[" * 5000, b"1" + b"0" * 5000, b"null", b'{"auth": 5}', b'{"a":"\\u0000"}'],
    ids=lambda t: ascii(t[:9]),
)
@pytest.mark.parametrize("name", ["X-Registry-Auth", "X-Registry-Config"])
def test_a_header_with_credentials(daemon: Daemon, name: str, text: bytes) -> None:
    headers = {name: base64.urlsafe_b64encode(text).decode()}
    for path in ("/images/create?fromImage=127.0.0.1:1/a", "/images/127.0.0.1:1/a/push", "/build"):
        answer = daemon.api.bare("POST", f"/v1.41{path}", b"", headers)
        assert not PYTHON.search(answer.body.decode(errors="replace")), answer.body


# -- archives and Dockerfiles ------------------------------------------------------------------


def member(kind: bytes = tarfile.REGTYPE, format: int = tarfile.PAX_FORMAT, **changes: Any) -> bytes:
    """An archive with one member. changes: attributes of its TarInfo."""
    archive = io.BytesIO()
    info = tarfile.TarInfo("name")
    info.type = kind
    for name, value in changes.items():
        setattr(info, name, value)
    with tarfile.open(fileobj=archive, mode="w", format=format) as writer:
        writer.addfile(info)
    return archive.getvalue()


@pytest.mark.parametrize(
    "archive",
    [
        member(uid=-5, format=tarfile.GNU_FORMAT),
        member(gid=1 << 40),
        member(pax_headers={"uid": "9" * 19}),
        member(pax_headers={"uid": "9" * 5000}),
        member(pax_headers={"mtime": "9" * 99}),
        member(tarfile.DIRTYPE, pax_headers={"mtime": "9" * 99}),
        member(pax_headers={"path": "a\0b"}),
        member(tarfile.SYMTYPE, pax_headers={"linkpath": "a\0b"}),
        member(tarfile.LNKTYPE, pax_headers={"linkpath": "a\0b"}),
        member(pax_headers={"path": LONG}),
    ],
)
def test_an_archive_with_an_odd_member_is_refused(cli: Labctr, daemon: Daemon, tmp_path: Path, archive: bytes) -> None:
    (tmp_path / "odd.tar").write_bytes(archive)
    done = cli("import", str(tmp_path / "odd.tar"), check=False)
    assert done.returncode != 0
    assert not PYTHON.search(done.stderr), done.stderr[-500:]
    answer = daemon.api.request("POST", "/images/create", archive, parameters={"fromSrc": "-"})
    assert not PYTHON.search(answer.body.decode(errors="replace"))


@pytest.mark.parametrize(
    "line",
    [
        "COPY --chown=4294967295 f /",
        f"COPY --chown={'9' * 5000} f /",
        "COPY --chown=huge f /",
        "COPY --chown=-1 f /",
        "RUN --mount=type=cache,target=/c,uid=4294967295 true",
        f"RUN --mount=type=cache,target=/c,gid={'9' * 5000} true",
        "RUN --mount=type=cache,target=/c,uid=-1 true",
        "COPY f\0 /",
        "WORKDIR /a\0b",
        f"WORKDIR /{LONG}",
        "USER a\0b\nRUN true",
        "ENV a=\0\nRUN true",
        "ADD http://[::1 /",
        f"ADD http://{'a' * 300}/x /",
    ],
    ids=lambda line: ascii(line[:40]),
)
def test_an_odd_value_in_a_dockerfile_is_refused(cli: Labctr, image: Image, tmp_path: Path, line: str) -> None:
    (tmp_path / "f").write_text("")
    (tmp_path / "passwd").write_text(f"huge:x:{'9' * 30}:0::/:/bin/sh\n")
    (tmp_path / "Dockerfile").write_text(f"FROM busybox:1\nCOPY passwd /etc/passwd\n{line}\n")
    done = cli("build", str(tmp_path), check=False)
    assert done.returncode != 0, done.stdout
    assert not PYTHON.search(done.stderr), done.stderr[-500:]


# -- commands ----------------------------------------------------------------------------------

LINES = [
    ["create", "--mount", "a\nb", "busybox:1"],
    ["create", "--cpus", "9" * 400, "busybox:1"],
    ["create", "--cpus", "nan", "busybox:1"],
    ["create", "--add-host", "a\nb:10.0.0.1", "busybox:1"],
    ["create", "--label", "\udcff=1", "--name", "\udcff", "busybox:1"],
    ["build", "--secret", "a\nb", "."],
    ["build", "--add-host", "a:fe80::1%\n", "."],
    ["commit", "--change", "\udcff", "nosuch"],
    ["logs", "--tail", "9" * 400, "nosuch"],
    ["logs", "--tail", "²", "nosuch"],
    ["network", "create", "--subnet", "fd00::%;flush ruleset/64", "--ipv6", "odd"],
    *(
        [*command.split(), text]
        for text in ("a\nb", "\udcff", LONG, f"/{LONG}", "9" * 400)
        for command in ("inspect", "volume inspect", "network inspect", "rm", "rmi", "volume rm", "network rm", "start")
    ),
    *([*command.split(), LONG] for command in ("volume create", "create --name x", "tag busybox:1", "rename nosuch")),
    *([command, f"nosuch:/{LONG}", "."] for command in ("cp",)),
    ["load", "-i", LONG],
    ["import", LONG],
    ["build", "-f", LONG, "."],
    ["build", LONG],
]


@pytest.mark.parametrize("line", LINES, ids=lambda line: ascii(" ".join(line))[:40])
def test_an_odd_argument_is_refused_by_a_command(cli: Labctr, image: Image, line: list[str]) -> None:
    done = cli(*line, check=False)
    assert done.returncode != 0
    assert done.stderr
    assert not PYTHON.search(done.stderr), done.stderr[-500:]
