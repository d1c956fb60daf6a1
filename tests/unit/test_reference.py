"""Image names, against the behaviour that the distribution project publishes in its own tests."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylab_container.errors import InvalidReference
from pylab_container.oci.reference import Reference, parse, parse_tag

DIGEST = "sha256:" + "f" * 64


@pytest.mark.parametrize(
    ("text", "domain", "path", "tag", "digest"),
    [
        ("debian", "docker.io", "library/debian", "latest", None),
        ("debian:12", "docker.io", "library/debian", "12", None),
        ("library/debian", "docker.io", "library/debian", "latest", None),
        ("docker.io/debian", "docker.io", "library/debian", "latest", None),
        ("docker.io/library/debian:12", "docker.io", "library/debian", "12", None),
        ("index.docker.io/debian", "docker.io", "library/debian", "latest", None),
        ("index.docker.io/public/moonbase", "docker.io", "public/moonbase", "latest", None),
        ("docker/docker", "docker.io", "docker/docker", "latest", None),
        ("localhost/foo", "localhost", "foo", "latest", None),
        ("localhost:5000/foo/bar:v1", "localhost:5000", "foo/bar", "v1", None),
        ("test.com/repo:tag", "test.com", "repo", "tag", None),
        ("test:5000/repo", "test:5000", "repo", "latest", None),
        ("test:5000/repo:tag", "test:5000", "repo", "tag", None),
        (f"test:5000/repo@{DIGEST}", "test:5000", "repo", None, DIGEST),
        (f"test:5000/repo:tag@{DIGEST}", "test:5000", "repo", "tag", DIGEST),
        ("lowercase:Uppercase", "docker.io", "library/lowercase", "Uppercase", None),
        ("Upper/repo", "Upper", "repo", "latest", None),
        ("sub-dom1.foo.com/bar/baz/quux:some-long-tag", "sub-dom1.foo.com", "bar/baz/quux", "some-long-tag", None),
        ("b.gcr.io/test.example.com/my-app:test", "b.gcr.io", "test.example.com/my-app", "test", None),
        ("xn--n3h.com/myimage:xn--n3h.com", "xn--n3h.com", "myimage", "xn--n3h.com", None),
        ("foo_bar.com:8080/x", "foo_bar.com:8080", "x", None, None),
        ("foo/foo_bar.com:8080", "docker.io", "foo/foo_bar.com", "8080", None),
        ("192.168.1.1:8080/x", "192.168.1.1:8080", "x", "latest", None),
        ("[2001:db8::1]:5000/repo", "[2001:db8::1]:5000", "repo", "latest", None),
        ("[2001:db8::1]/repo:t", "[2001:db8::1]", "repo", "t", None),
        ("a__b", "docker.io", "library/a__b", "latest", None),
        ("a-----b/c.d", "docker.io", "a-----b/c.d", "latest", None),
        ("asd.asd__123", "docker.io", "library/asd.asd__123", "latest", None),
    ],
)
def test_a_name_is_read_in_full(text: str, domain: str, path: str, tag: str | None, digest: str | None) -> None:
    if "_" in domain:  # the grammar of a domain has no underscore
        with pytest.raises(InvalidReference, match="host"):
            parse(text)
    else:
        assert parse(text) == Reference(domain, path, tag, digest)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":justtag",
        "@sha256:" + "f" * 64,
        "repo@sha256:" + "f" * 34,
        "repo@sha256:" + "F" * 64,
        "repo@md5:" + "f" * 32,
        "validname@invaliddigest:" + "f" * 128,
        "repo@",
        "repo:",
        "repo:-tag",
        "repo:.tag",
        "repo:" + "t" * 129,
        "repo:tag\n",
        "repo\n",
        "re po",
        "Uppercase:tag",
        "test:5000/Uppercase/lowercase:tag",
        "aa/asdf$$^/aa",
        "a//b",
        "/a",
        "a/",
        "docker.io/",
        "https://github.com/docker/docker",
        "-foo/bar",
        "foo-/bar",
        "foo/bar-",
        "_foo",
        "foo___bar",
        "foo..bar",
        "foo._bar",
        "-foo.com/bar",
        "foo-.com/bar",
        "foo.com:port/bar",
        "[fe80::1%eth0]:5000/repo",
        "[2001:db8::1/repo",
        "a/" + "b" * 254,
        "café",
        "a:b:c",
        f"a@{DIGEST}@{DIGEST}",
    ],
)
def test_what_is_no_name_is_refused_with_a_hint(text: str) -> None:
    with pytest.raises(InvalidReference) as caught:
        parse(text)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "familiar", "repository"),
    [
        ("docker.io/library/debian", "debian:latest", "debian"),
        ("debian:12", "debian:12", "debian"),
        ("docker.io/user/app:v1", "user/app:v1", "user/app"),
        ("index.docker.io/library/debian", "debian:latest", "debian"),
        ("quay.io/library/debian:12", "quay.io/library/debian:12", "quay.io/library/debian"),
        (f"debian@{DIGEST}", f"debian@{DIGEST}", "debian"),
        ("docker.io/library/foo/bar:x", "library/foo/bar:x", "library/foo/bar"),
    ],
)
def test_a_name_is_shown_as_people_write_it(text: str, familiar: str, repository: str) -> None:
    reference = parse(text)
    assert (reference.familiar, str(reference), reference.repository) == (familiar, familiar, repository)


def test_an_upper_case_name_gets_its_lower_case_proposed() -> None:
    with pytest.raises(InvalidReference, match='try "debian:12"'):
        parse("Debian:12")


@pytest.mark.parametrize(
    ("text", "hint"), [("Bad Name", "a repository name is lower-case letters"), ("debian:12:13", "write NAME:TAG")]
)
def test_the_hint_for_an_invalid_name_describes_a_valid_one(text: str, hint: str) -> None:
    with pytest.raises(InvalidReference) as caught:
        parse(text)
    assert caught.value.hint.startswith(hint)


def test_the_longest_name_has_255_characters() -> None:
    assert parse("a/" + "b" * 253).path == "a/" + "b" * 253


@pytest.mark.parametrize("text", [f"debian@{DIGEST}", "a" * 64, "0123456789abcdef" * 4, "debian:"])
def test_a_name_that_cannot_be_given_is_refused(text: str) -> None:
    with pytest.raises(InvalidReference):
        parse_tag(text)


def test_a_name_that_can_be_given_is_read() -> None:
    assert parse_tag("lab/httpd:v1") == Reference("docker.io", "lab/httpd", "v1")


def test_another_tag_drops_the_digest() -> None:
    assert parse(f"debian:12@{DIGEST}").with_tag("13") == Reference("docker.io", "library/debian", "13")


@given(st.text(alphabet="abAZ09./:@-_[]\n", max_size=40))
def test_any_text_is_a_name_or_refused_and_a_name_reads_back_the_same(text: str) -> None:
    try:
        reference = parse(text)
    except InvalidReference:
        return
    assert parse(reference.familiar) == reference
