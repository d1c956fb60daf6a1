"""Docker's config.json: found by any of a registry's names, written without losing what is not ours."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from pylab_container.docker.credentials import DEFAULT_KEY, CredentialFile, Credentials, host_of, key, parse_helper
from pylab_container.errors import InvalidInput


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def file(**document: Any) -> CredentialFile:
    return CredentialFile.parse(json.dumps(document).encode())


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("", "docker.io"),
        ("docker.io", "docker.io"),
        ("index.docker.io", "docker.io"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("registry-1.docker.io", "docker.io"),
        ("localhost:5000", "localhost:5000"),
        ("http://localhost:5000/v2/", "localhost:5000"),
        ("registry.example/path", "registry.example"),
    ],
)
def test_an_address_is_a_host(address: str, host: str) -> None:
    assert host_of(address) == host


def test_dockers_own_registry_is_known_by_its_oldest_address() -> None:
    assert key("docker.io") == DEFAULT_KEY == "https://index.docker.io/v1/"
    known = file(auths={DEFAULT_KEY: {"auth": encoded("me:secret")}})
    assert known.find("docker.io") == Credentials("me", "secret")


@pytest.mark.parametrize("name", ["here:5000", "http://here:5000", "https://here:5000/v1/", "https://here:5000/v2/"])
def test_a_registry_is_found_by_any_of_its_addresses(name: str) -> None:
    assert file(auths={name: {"auth": encoded("me:a:b")}}).find("here:5000") == Credentials("me", "a:b")


def test_another_port_is_another_registry() -> None:
    assert not file(auths={"here:5000": {"auth": encoded("me:secret")}}).find("here:5001")
    assert not file(auths={"here:5000": {"auth": encoded("me:secret")}}).find("here")


def test_an_identity_token_is_taken_along() -> None:
    known = file(auths={"here": {"auth": encoded("me:"), "identitytoken": "long"}}).find("here")
    assert known.identity_token == "long"


def test_helpers_are_chosen_by_registry_then_for_all() -> None:
    known = file(credsStore="store", credHelpers={"here": "own"})
    assert (known.helper("here"), known.helper("there")) == ("own", "store")
    assert file().helper("here") == ""


def test_an_entry_comes_and_goes_and_the_rest_stays() -> None:
    known = file(auths={"https://here/v1/": {}, "other": {"auth": encoded("a:b")}}, HttpHeaders={"X": "y"})
    written = known.with_entry("here", Credentials("me", "secret").document())
    document = json.loads(written.raw())
    assert document["HttpHeaders"] == {"X": "y"}
    assert set(document["auths"]) == {"here", "other"}
    assert written.find("here") == Credentials("me", "secret")
    assert set(json.loads(written.with_entry("here", None).raw())["auths"]) == {"other"}


@pytest.mark.parametrize("raw", [b"[]", b"{", b'{"auths": []}', b'{"auths": {"here": "x"}}', b'{"credHelpers": 3}'])
def test_a_file_of_another_shape_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidInput, match="not a valid credential file"):
        CredentialFile.parse(raw)


def test_a_secret_that_is_no_base64_is_refused() -> None:
    with pytest.raises(InvalidInput, match="cannot be decoded"):
        file(auths={"here": {"auth": "***"}}).find("here")


def test_a_helper_answers_with_a_password_or_a_token() -> None:
    assert parse_helper('{"ServerURL":"x","Username":"me","Secret":"s"}') == Credentials("me", "s")
    assert parse_helper('{"Username":"<token>","Secret":"long"}') == Credentials(identity_token="long")
    with pytest.raises(InvalidInput):
        parse_helper("credentials not found")


def test_a_password_is_in_no_traceback() -> None:
    assert "secret" not in repr(Credentials("me", "secret"))
