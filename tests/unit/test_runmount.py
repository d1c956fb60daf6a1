"""RUN --mount, as BuildKit reads it."""

from __future__ import annotations

import pytest

from pylab_container.dockerfile.runmount import RunMount, parse_mount, stage_of
from pylab_container.errors import InvalidInput


def test_a_mount_is_a_readonly_bind_of_the_context_by_default() -> None:
    assert parse_mount("target=/src") == RunMount("bind", "/src", readonly=True, id="/src", mode=0o755)


@pytest.mark.parametrize("written", ["rw", "readwrite", "rw=true", "readonly=false", "ro=false"])
def test_a_bind_can_be_made_writable_in_each_spelling(written: str) -> None:
    assert not parse_mount(f"type=bind,target=/src,{written}").readonly


@pytest.mark.parametrize("written", ["ro", "readonly", "rw=false", "readonly=true"])
def test_a_cache_can_be_made_readonly_in_each_spelling(written: str) -> None:
    assert parse_mount(f"type=cache,target=/c,{written}").readonly
    assert not parse_mount("type=cache,target=/c").readonly


def test_source_and_target_have_their_short_names() -> None:
    for text in ("src=a,dst=/b", "source=a,destination=/b", "source=a,target=/b"):
        mount = parse_mount(f"type=bind,from=compile,{text}")
        assert (mount.stage, mount.source, mount.target) == ("compile", "a", "/b")


def test_a_cache_is_known_by_its_target_unless_it_has_an_id() -> None:
    assert parse_mount("type=cache,target=/var/cache/apt/").id == "/var/cache/apt"
    mount = parse_mount("type=cache,target=/c,id=apt,sharing=locked,mode=0700,uid=1,gid=2")
    assert (mount.id, mount.sharing, mount.mode, mount.uid, mount.gid) == ("apt", "locked", 0o700, 1, 2)


def test_a_tmpfs_may_have_a_size() -> None:
    assert parse_mount("type=tmpfs,target=/t,size=64m").size == 64 << 20
    assert parse_mount("type=tmpfs,target=/t").size is None


def test_a_secret_lies_in_run_secrets_and_only_root_may_read_it() -> None:
    mount = parse_mount("type=secret,id=token")
    assert (mount.target, mount.mode, mount.required) == ("/run/secrets/token", 0o400, False)
    assert parse_mount("type=secret,target=/root/.aws").id == ".aws"
    assert parse_mount("type=secret,id=token,required").required


def test_a_secret_that_is_a_variable_is_no_file() -> None:
    mount = parse_mount("type=secret,id=token,env=TOKEN")
    assert (mount.target, mount.env) == ("", "TOKEN")


def test_values_take_variables_but_from_does_not() -> None:
    assert parse_mount("target=$X", lambda word: word.replace("$X", "/there")).target == "/there"
    with pytest.raises(InvalidInput, match="from= takes none"):
        parse_mount("from=$X,target=/a", lambda word: word)


def test_quotes_keep_a_comma() -> None:
    assert parse_mount('"target=/a,b"').target == "/a,b"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("type=bind", "target is missing"),
        ("type=ssh,target=/a", "type ssh is not supported"),
        ("type=volume,target=/a", 'unsupported mount type "volume"'),
        ("type=bind,target=/a,sharing=locked", 'unexpected key "sharing"'),
        ("type=tmpfs,target=/a,from=x", 'unexpected key "from"'),
        ("type=cache,target=/a,sharing=mine", 'unsupported sharing value "mine"'),
        ("type=cache,target=/a,mode=9", 'invalid value "9" for mode'),
        ("type=cache,target=/a,uid=root", 'invalid value "root" for uid'),
        ("type=bind,target=/a,readonly=perhaps", "invalid value for readonly"),
        ("type=secret", "without an id"),
        ("target=/a,nonsense", 'invalid field "nonsense"'),
        ("target=/a,colour=red", 'unexpected key "colour"'),
        ("type=tmpfs,target=/a,size=much", 'invalid size: "much"'),
        ("", "target is missing"),
    ],
)
def test_a_mount_that_makes_no_sense_is_refused_with_a_hint(text: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as caught:
        parse_mount(text)
    assert caught.value.hint


def test_the_stage_is_seen_before_the_variables_are_known() -> None:
    assert stage_of("type=cache,from=compile,target=/a,mode=$MODE") == "compile"
    assert stage_of("target=/a") == stage_of("nonsense") == ""
