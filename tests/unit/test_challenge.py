"""WWW-Authenticate, as registries and their proxies write it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylab_container.registry.challenge import Challenge, parse


@pytest.mark.parametrize(
    ("header", "challenges"),
    [
        ("", []),
        ('Basic realm="basic-realm"', [Challenge("basic", {"realm": "basic-realm"})]),
        ("Basic realm=plain", [Challenge("basic", {"realm": "plain"})]),
        ("Negotiate", [Challenge("negotiate")]),
        (
            'Bearer realm="https://auth.example/token",service="registry",scope="repository:a/b:pull,push"',
            [
                Challenge(
                    "bearer",
                    {
                        "realm": "https://auth.example/token",
                        "service": "registry",
                        "scope": "repository:a/b:pull,push",
                    },
                )
            ],
        ),
        (
            'BEARER  Realm = "a" , service="b", Basic realm="c"',
            [Challenge("bearer", {"realm": "a", "service": "b"}), Challenge("basic", {"realm": "c"})],
        ),
        ('Negotiate, Basic realm="x"', [Challenge("negotiate"), Challenge("basic", {"realm": "x"})]),
        (r'Basic realm="say \"hi\" \\ there"', [Challenge("basic", {"realm": r'say "hi" \ there'})]),
        ('Bearer realm="never ends', [Challenge("bearer")]),
    ],
)
def test_a_header_is_its_challenges(header: str, challenges: list[Challenge]) -> None:
    assert parse(header)[: len(challenges)] == challenges
    assert len(parse(header)) >= len(challenges)


@given(st.text())
def test_no_header_is_too_strange(header: str) -> None:
    assert all(challenge.scheme == challenge.scheme.lower() for challenge in parse(header))
