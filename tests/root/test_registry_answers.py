"""registry/: what a hostile or broken registry answers is one clear error at once, never a traceback or a long wait."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from pylab_container.docker.credentials import Credentials
from pylab_container.errors import InvalidArchive, LabError, RegistryFailed, Unauthorized
from pylab_container.oci.manifest import kind_of, parse_docker_manifest, parse_index, parse_manifest
from pylab_container.registry.answers import number_of
from pylab_container.registry.blobs import Repository
from pylab_container.registry.client import RegistryClient
from pylab_container.registry.settings import RegistryEndpoint, RegistrySettings, RetryPolicy
from tests.support.faults import OddRegistry, answer

# A try after a failure would wait for longer than any test may take: what is final must not get there.
IMPATIENT = RegistrySettings(
    retry_policy=RetryPolicy(connect_timeout=60, read_timeout=60, tries=5, delay=3600, longest_delay=3600)
)
PYTHON = ("codec", "Invalid IPv6", "int too large", "recursion", "Errno", "object is not", "has no attribute", "Error(")
DEEP = b"[" * 100_000
PING = {r"/v2/$": answer(b"{}")}
MANIFEST = r"/v2/a/manifests/"


def challenge(header: str) -> dict[str, bytes]:
    return {r"/v2/": answer(b"{}", "401 Unauthorized", f"WWW-Authenticate: {header}")}


def token(body: bytes) -> dict[str, bytes]:
    """A registry that sends clients to its own server of tokens, which answers with a body."""
    return {r"^/token": answer(body)}


def ask(answers: dict[str, bytes], *, challenged: str = "") -> tuple[str, list[str]]:
    """Request a manifest; return the error's message, and what was requested.

    challenged  a WWW-Authenticate header, in which HOST stands for the registry's own
    """
    with OddRegistry(answers) as odd:
        if challenged:
            answers |= challenge(challenged.replace("HOST", odd.host))
        place = RegistryEndpoint(odd.host, (f"http://{odd.host}",))
        client = RegistryClient(place, IMPATIENT, Credentials(username="me", password="secret"))
        try:
            with pytest.raises(LabError) as caught:
                Repository(client, "a").manifest("1")
        finally:
            client.close()
        return caught.value.message, odd.requests


@pytest.mark.parametrize(
    "realm",
    [
        "http://[::1",
        "http://[::1]x/token",
        "http://127.0.0.1:99999/token",
        "http://127.0.0.1:port/token",
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
        "//127.0.0.1/token",
        "",
        "http://",
        "https://[v1.x]/",
        "\x1b[31m",
        "http://" + "a" * 5000,
    ],
    ids=lambda realm: ascii(realm[:30]),
)
def test_a_realm_that_is_no_address_is_one_error(realm: str) -> None:
    message, requests = ask({}, challenged=f'Bearer realm="{realm}"')
    assert not any(word in message for word in PYTHON)
    assert len(message) < 700
    assert not any("token" in path for path in requests)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no json",
        DEEP,
        b'{"a":' * 50_000,
        b'{"token": 1' + b"0" * 5000 + b"}",
        b'"text"',
        b"null",
        b'{"token": 5}',
        b'{"token": ""}',
        b'{"token": "a\\nb"}',
        b'{"token": "\\ud800"}',
        b"\xff\xfe",
    ],
    ids=lambda body: ascii(body[:20]),
)
def test_an_answer_of_a_server_of_tokens_that_is_none_is_one_error(body: bytes) -> None:
    message, requests = ask(token(body), challenged='Bearer realm="http://HOST/token"')
    assert not any(word in message for word in PYTHON)
    assert len([path for path in requests if path.startswith("/token")]) == 1


@pytest.mark.parametrize(
    "lasts", ["1" + "0" * 400, "-1" + "0" * 400, "NaN", "Infinity", "-Infinity", "true", '"x"', "1e999"]
)
def test_a_token_lasts_as_long_as_a_number_can_say(lasts: str) -> None:
    answers = token(b'{"token": "t", "expires_in": %s}' % lasts.encode())
    message, _ = ask(answers, challenged='Bearer realm="http://HOST/token"')
    assert "unauthorized" in message  # the registry does not accept it: it was read


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("file:///etc/passwd", "neither http nor https"),
        ("gopher://127.0.0.1/", "neither http nor https"),
        ("/v2/a/manifests/1", "stopped after 5 redirects"),
        ("http://[::1", "invalid address or header"),
        ("http://127.0.0.1:99999/", "invalid address or header"),
        ("http://\xff\xfe/", "invalid address or header"),
    ],
)
def test_a_redirect_that_leads_nowhere_is_one_error_at_once(location: str, words: str) -> None:
    message, requests = ask({**PING, MANIFEST: answer(b"", "307 Temporary Redirect", f"Location: {location}")})
    assert words in message
    assert not any(word in message for word in PYTHON)
    assert len(requests) <= 1 + 1 + 5  # the ping, the request and as many redirects as are followed


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01 this is no HTTP\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
    ],
    ids=["no HTTP", "no status", "many headers", "a long header"],
)
def test_an_answer_that_is_no_http_is_one_error_at_once(sent: bytes) -> None:
    message, requests = ask({**PING, MANIFEST: sent})
    assert "malformed HTTP response" in message
    assert len(requests) == 2


@pytest.mark.parametrize("status", ["999 Odd", "299 Odd", "404 Not Found", "400 Bad Request"])
@pytest.mark.parametrize(
    "body",
    [b"", DEEP, b'{"errors": 5}', b'{"errors": [null]}', b'{"errors": [{"code": {}, "message": [1]}]}', b"\xff" * 9999],
)
def test_an_error_that_says_nothing_is_one_error(status: str, body: bytes) -> None:
    message, _ = ask({**PING, MANIFEST: answer(body, status)})
    assert not any(word in message for word in PYTHON)
    assert len(message) < 5000


def test_a_long_error_is_cut() -> None:
    errors = {"errors": [{"code": "DENIED", "message": "x" * 100_000}] * 1000}
    message, _ = ask({**PING, MANIFEST: answer(json.dumps(errors).encode(), "403 Forbidden")})
    assert len(message) < 10_000


def test_a_login_with_an_unknown_status_is_refused() -> None:
    with OddRegistry({r"/v2/": answer(b"{}", "401 Unauthorized", "WWW-Authenticate: Basic")}) as odd:
        client = RegistryClient(
            RegistryEndpoint(odd.host, (f"http://{odd.host}",)), IMPATIENT, Credentials(username="a", password="b")
        )
        with pytest.raises(Unauthorized, match="failed with status: 401 Unauthorized"):
            client.login()
        client.close()


@pytest.mark.parametrize("location", ["http://[::1", "file:///etc/passwd", "http://127.0.0.1:99999/x"])
def test_a_place_for_an_upload_that_is_no_address_is_one_error(location: str) -> None:
    begun = answer(b"", "202 Accepted", f"Location: {location}")
    with OddRegistry({**PING, "uploads": begun, "blobs/sha256": answer(b"", "404 Not Found")}) as odd:
        client = RegistryClient(RegistryEndpoint(odd.host, (f"http://{odd.host}",)), IMPATIENT)
        with pytest.raises(RegistryFailed) as caught:
            Repository(client, "a", writes=True).upload_document(b"{}")
        client.close()
    assert not any(word in caught.value.message for word in PYTHON)


@pytest.mark.parametrize("length", ["abc", "-1", "9" * 5000, "1e3", "²"])
def test_a_length_is_a_number_or_nothing(length: str) -> None:
    assert number_of(length) == 0


_BLOB = {"digest": "sha256:" + "0" * 64, "size": 1}


@pytest.mark.parametrize(
    "raw",
    [
        DEEP,
        b"\xff",
        b"[]",
        b"5",
        b"{}",
        b'{"config": null, "layers": null, "manifests": null}',
        b'{"config": 5, "layers": [5], "manifests": [5]}',
        json.dumps({"config": {**_BLOB, "size": 1 << 70}, "layers": [], "manifests": [{**_BLOB, "size": -1}]}).encode(),
        json.dumps({"config": {**_BLOB, "digest": "sha256:../x"}, "layers": [], "manifests": [{"size": 1}]}).encode(),
        b'{"config": {"size": 1e999}, "manifests": [{"size": NaN}]}',
    ],
    ids=lambda raw: ascii(raw[:40]),
)
def test_a_manifest_that_is_none_is_described_without_words_of_python(raw: bytes) -> None:
    for parse in (parse_manifest, parse_index, *([parse_docker_manifest] if raw != b"[]" else [])):
        with pytest.raises(InvalidArchive) as caught:
            parse(raw)
        assert not any(word in caught.value.message for word in PYTHON)
    if raw[:1] != b"{" or raw == DEEP:
        with pytest.raises(InvalidArchive) as caught:
            kind_of(raw)
        assert not any(word in caught.value.message for word in PYTHON)


def test_patience_is_for_connections_that_fail() -> None:
    """Requests are retried after a lost connection. Without this test, an engine that never retries would pass."""
    quick = replace(IMPATIENT, retry_policy=replace(IMPATIENT.retry_policy, delay=0.001, longest_delay=0.001))
    with OddRegistry({**PING, MANIFEST: b""}) as odd:
        client = RegistryClient(RegistryEndpoint(odd.host, (f"http://{odd.host}",)), quick)
        with pytest.raises(RegistryFailed):
            Repository(client, "a").manifest("1")
        client.close()
        assert len(odd.requests) == 1 + quick.retry_policy.tries
