"""daemon/shapes.py: what Go's encoding/json makes of a document. Each row was held against dockerd."""

from __future__ import annotations

from typing import Any

import pytest

from pylab_container.daemon import shapes
from pylab_container.errors import InvalidInput

SHAPE = {
    "Name": str,
    "Count": int,
    "On": bool,
    "Cmd": shapes.WORDS,
    "Env": [str],
    "Labels": shapes.NAMES,
    "Inner": {"Deep": [{"Path": str}]},
    "Given": {"*": shapes.TEXT_OR_NULL},
    "Ports": {"*": [{"HostPort": str}]},
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"name": "a", "INNER": {"deep": [{"PATH": "x"}]}}', {"Name": "a", "Inner": {"Deep": [{"Path": "x"}]}}),
        ('{"labels": {"Name": "a", "name": "b"}}', {"Labels": {"Name": "a", "name": "b"}}),
        ('{"Name": "a", "name": "b"}', {"Name": "b"}),
        ('{"Name": "a", "name": null}', {"Name": "a"}),
        ('{"Labels": {"a": "1"}, "labels": {"b": "2"}}', {"Labels": {"a": "1", "b": "2"}}),
        ('{"Env": ["a"], "Env": ["b"]}', {"Env": ["b"]}),
        ('{"Env": [null], "Labels": {"a": null}, "Inner": {"Deep": [null]}}',
         {"Env": [""], "Labels": {"a": ""}, "Inner": {"Deep": [{}]}}),
        ('{"Ports": {"80/tcp": null, "81/tcp": [{"hostport": "1"}]}}',
         {"Ports": {"80/tcp": None, "81/tcp": [{"HostPort": "1"}]}}),
        ('{"Given": {"a": null, "b": "", "c": "d"}}', {"Given": {"a": None, "b": "", "c": "d"}}),
        ('{"Cmd": "one word"}', {"Cmd": ["one word"]}),
        ('{"Unknown": {"a": [1]}}', {}),
        ('{"Name": "a"} trailing', {"Name": "a"}),
        ('{"Name": "\\ud800"}', {"Name": "\ufffd"}),
        ("null", None),
    ],
    ids=str,
)  # fmt: skip
def test_a_document_is_read_as_go_reads_it(text: str, expected: Any) -> None:
    assert shapes.read(text.encode(), SHAPE) == expected


def test_bytes_that_are_no_text_become_the_sign_for_that() -> None:
    assert shapes.read(b'{"Name": "\xff"}', SHAPE) == {"Name": "\ufffd"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "got EOF while reading request body"),
        ('{"Name": "a', "unexpected EOF"),
        ('{"Name"', "unexpected EOF"),
        ("x", "invalid character 'x' looking for beginning of value"),
        ("{,}", "invalid character ',' looking for beginning of object key string"),
        ('{"Name" "a"}', "invalid character '\"' after object key"),
        ('{"Name": "a" "b"}', "invalid character '\"' after object key:value pair"),
        ('{"Env": ["a" "b"]}', "invalid character '\"' after array element"),
        ('{"Inner": {"Deep": [{}]} x}', "invalid character 'x' after object key:value pair"),
        ('{"Name": "a\\qb"}', "invalid character 'q' in string escape code"),
        ('{"Name": "a\tb"}', "invalid character '\\t' in string literal"),
        ('{"Count": NaN}', "invalid character 'N' looking for beginning of value"),
        ('{"Count": 1e9}', "json: cannot unmarshal number 1e9 into Go struct field Count of type int64"),
        ('{"Count": 9223372036854775808}', "json: cannot unmarshal number 9223372036854775808 into"),
        ('{"Count": true}', "json: cannot unmarshal bool into Go struct field Count of type int64"),
        ('{"On": 1}', "json: cannot unmarshal number into Go struct field On of type bool"),
        ('{"Labels": {"a": 1}}', "json: cannot unmarshal number into Go struct field Labels of type string"),
        ('{"Inner": {"Deep": {}}}', "json: cannot unmarshal object into Go struct field Inner.Deep of type []struct"),
        ("[]", "json: cannot unmarshal array into Go value of type struct"),
        ("[" * 100_000, "exceeded max depth"),
    ],
    ids=lambda text: text[:40],
)
def test_what_is_wrong_is_told_in_gos_words(text: str, words: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        shapes.read(text.encode(), SHAPE)
    assert raised.value.message.startswith(words)


def test_behind_a_parameter_nothing_follows() -> None:
    with pytest.raises(InvalidInput, match="invalid character 'x' after top-level value"):
        shapes.read(b"{}x", SHAPE, alone=True)
    with pytest.raises(InvalidInput, match="unexpected end of JSON input"):
        shapes.read(b" ", SHAPE, alone=True)
