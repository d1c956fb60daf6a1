"""Raw requests to dockerd and to our daemon: status, content type, shape of the document, and length of lists.

Allowed: where dockerd answers 500 for a mistake of the client, ours says 400; and what raw_rows.DIFFERENT says.
Messages of errors are compared in the sessions of raw_rows.WORDED, without the names of Go types in them.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.compat.raw_rows import DIFFERENT, SESSIONS, WORDED, WORDS
from tests.support.api import Answer, Api
from tests.support.pair import differences, words

_ROW = re.compile(r"(\S+) (\S+)(?: \[([^\]]+: [^\]]*)\])?(?: (.*))?")
_NAME = re.compile(r"\$([a-z]+)(\d*)")
_TYPE = re.compile(r" into Go .*")


@pytest.fixture(scope="module")
def both(sockets: tuple[Path, Path]) -> tuple[Api, Api]:
    """Docker's daemon and ours, with the same image."""
    return Api(sockets[0], ""), Api(sockets[1], "")


def _id(api: Api, name: str) -> str:
    for path in (f"/containers/{name}/json", f"/images/{name}:1/json", f"/networks/{name}"):
        found = api.get(path)
        if found.status == 200:
            return str(found.document["Id"]).removeprefix("sha256:")
    raise LookupError(name)


def _filled(api: Api, text: str) -> str:
    return _NAME.sub(lambda found: _id(api, found[1])[: int(found[2] or 64)], text)


def ask(api: Api, row: str) -> Answer:
    """Send one line."""
    found = _ROW.fullmatch(row)
    assert found, row
    method, target, header, body = found.groups()
    headers = dict([header.split(": ", 1)]) if header else {"Content-Type": "application/json"} if body else {}
    return api.bare(method, _filled(api, target), body.encode() if body else None, headers)


def compare(row: str, expected: Answer, got: Answer) -> list[str]:
    """Return the differences between two answers."""
    if got.status == DIFFERENT.get(row) or (expected.status, got.status) == (500, 400):
        return []
    if expected.status != got.status:
        return [f"{row}\n  docker: {expected.status} {expected.body[:200]!r}\n  ours: {got.status} {got.body[:200]!r}"]
    if expected.headers.get("Location") != got.headers.get("Location"):
        return [f"{row}: Location {expected.headers.get('Location')}, ours {got.headers.get('Location')}"]
    kinds = [answer.headers.get("Content-Type", "").partition(";")[0] for answer in (expected, got)]
    if kinds[0] and kinds[0] != kinds[1]:
        return [f"{row}: content type {kinds[0]}, ours {kinds[1]}"]
    if kinds[0] != "application/json" or not expected.body or expected.status >= 400:
        return []
    theirs_, ours_ = (_document(answer.body) for answer in (expected, got))
    if isinstance(theirs_, list) and isinstance(ours_, list) and len(theirs_) != len(ours_):
        return [f"{row}: {len(theirs_)} entries, ours {len(ours_)}"]
    missing = {one for one in differences(ours_, theirs_) if not one.startswith("+")}
    return [f"{row}: {sorted(missing)}"] if missing else []


def compare_words(row: str, expected: Answer, got: Answer) -> list[str]:
    """Return the differences between two error messages."""
    said = [_said(answer) for answer in (expected, got)]
    return [] if said[0] == said[1] else [f"{row}\n  docker: {said[0]}\n  ours: {said[1]}"]


def _said(answer: Answer) -> str:
    try:
        return _TYPE.sub("", words(answer))
    except ValueError:
        return answer.body.decode()


def _document(body: bytes) -> object:
    """A document; of several, the last."""
    return json.loads(body.splitlines()[-1])


@pytest.mark.parametrize("name", SESSIONS)
def test_bare_requests_are_answered_as_by_docker(name: str, both: tuple[Api, Api]) -> None:
    found = []
    for row in filter(None, SESSIONS[name].splitlines()):
        expected, got = (ask(api, row) for api in both)
        found += compare(row, expected, got)
        if SESSIONS[name] in WORDED and expected.status == got.status >= 400 and row not in WORDS:
            found += compare_words(row, expected, got)
    assert not found, "\n".join(found)


# -- how HTTP itself is spoken --------------------------------------------------------------------

_CREATE = b'{"Name":"wire"}'
WIRE: dict[str, bytes] = {
    "HTTP/1.0": b"GET /_ping HTTP/1.0\r\n\r\n",
    "HTTP/1.0 with keep-alive": b"GET /_ping HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    b"GET /_ping HTTP/1.0\r\nConnection: close\r\n\r\n",
    "no host": b"GET /_ping HTTP/1.1\r\nConnection: close\r\n\r\n",
    "absolute form": b"GET http://docker/v1.41/_ping HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n",
    "chunked": b"POST /v1.41/volumes/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\nf\r\n" + _CREATE + b"\r\n0\r\n\r\n",
    "expects 100": b"POST /v1.41/volumes/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n"
    b"Content-Length: 15\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n" + _CREATE,
    "again after an error": b"GET /v1.41/containers/nosuch/json HTTP/1.1\r\nHost: d\r\n\r\n"
    b"GET /_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n",
    "again after an unread body": b"POST /v1.41/nosuch HTTP/1.1\r\nHost: d\r\nContent-Length: 5\r\n\r\nhello"
    b"GET /_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n",
    "three at once": b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n" * 2
    + b"GET /v1.41/images/nosuch/json HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n",
    "no HTTP": b"hello\r\n\r\n",
    "a bad length": b"POST /v1.41/volumes/create HTTP/1.1\r\nHost: d\r\nContent-Length: x\r\n\r\n",
    "a chunk with an extension and a trailer": b"POST /v1.41/volumes/create HTTP/1.1\r\nHost: d\r\n"
    b"Content-Type: application/json\r\nTransfer-Encoding: CHUNKED\r\nConnection: close\r\n\r\nf;a=b\r\n"
    + _CREATE
    + b"\r\n0\r\nX: y\r\n\r\n",
    "no websocket": b"GET /v1.41/containers/nosuch/attach/ws HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n",
    "a bad escape": b"GET /v1.41/containers/%zz/json HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n",
    "an empty host": b"GET /_ping HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n",
    "an error to HEAD and again": b"HEAD /v1.41/containers/nosuch/archive?path=/ HTTP/1.1\r\nHost: d\r\n\r\n"
    b"GET /_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n",
    "an upgrade in small letters": b"POST /v1.41/session HTTP/1.1\r\nhost: d\r\nconnection: close\r\n\r\n",
    "two bodies at once": b"POST /v1.41/volumes/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n"
    b"Content-Length: 15\r\n\r\n" + _CREATE + b"DELETE /v1.41/volumes/wire HTTP/1.1\r\nHost: d\r\n\r\n"
    b"GET /v1.41/volumes/wire HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n",
    "a header without a colon": b"GET /_ping HTTP/1.1\r\nHost: d\r\nnonsense\r\n\r\n",
}


@pytest.mark.parametrize("name", WIRE)
def test_http_is_spoken_as_by_docker(name: str, both: tuple[Api, Api]) -> None:
    expected, got = (
        re.findall(rb"^HTTP/1\.[01] (\d+)", api.raw(WIRE[name], until_closed=True), re.MULTILINE) for api in both
    )
    assert got == expected


def test_two_lengths_of_one_body_are_refused(both: tuple[Api, Api]) -> None:
    request = (
        b"POST /v1.41/volumes/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: 3\r\n"
        b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\nf\r\n" + _CREATE + b"\r\n0\r\n\r\n"
    )
    # dockerd uses Transfer-Encoding. Behind a proxy the ambiguity allows request smuggling, so we refuse both headers
    # together (RFC 9112, 6.1).
    assert both[1].raw(request, until_closed=True).split()[1] == b"400"


def test_there_are_at_least_570_rows() -> None:
    assert sum(len(session.strip().splitlines()) for session in SESSIONS.values()) >= 570
