"""Image configs, digests, chain ids, and JSON as Go writes it."""

from __future__ import annotations

import hashlib
import json

import pytest

from pylab_container.errors import CorruptStore, InvalidArchive
from pylab_container.oci.image import (
    EMPTY_CONFIG,
    ImageConfig,
    chain_id,
    child_config,
    first_config,
    go_json,
    ordered_config,
    sha256,
)

A, B, C = (sha256(letter) for letter in (b"a", b"b", b"c"))
NOW = "2026-01-02T03:04:05Z"


def base(**config: object) -> ImageConfig:
    return first_config(
        diff_id=A, created=NOW, comment="Imported from -", architecture="amd64", version="20.10.24", config=config
    )


def test_no_layers_have_no_chain_id_and_one_layer_has_its_diff_id() -> None:
    assert chain_id([]) == ""
    assert chain_id([A]) == A


def test_a_chain_id_names_the_layer_and_everything_below() -> None:
    two = "sha256:" + hashlib.sha256(f"{A} {B}".encode()).hexdigest()
    assert chain_id([A, B]) == two
    assert chain_id([A, B, C]) == "sha256:" + hashlib.sha256(f"{two} {C}".encode()).hexdigest()
    assert chain_id([B, A]) != two


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("a && b > c < d", rb'"a \u0026\u0026 b \u003e c \u003c d"'),
        ("\u2028\u2029", rb'"\u2028\u2029"'),
        ("é😀", '"é😀"'.encode()),
        ('"\\/', rb'"\"\\/"'),
        ("\n\r\t\x01\x1f", rb'"\n\r\t\u0001\u001f"'),
        ("\b\f", rb'"\u0008\u000c"'),
        ("\x7f", b'"\x7f"'),
        ("bytes \udcff\udcfe", rb'"bytes \ufffd\ufffd"'),
        ({"b": 1, "a": [None, True, 1.5]}, b'{"b":1,"a":[null,true,1.5]}'),
        ({}, b"{}"),
    ],
)
def test_json_is_written_as_go_writes_it(value: object, written: bytes) -> None:
    assert go_json(value) == written


def test_a_backslash_before_a_letter_is_not_taken_for_a_control_character() -> None:
    assert go_json(r"C:\b\f") == rb'"C:\\b\\f"'


def test_a_config_is_identified_by_its_bytes_and_they_are_kept() -> None:
    raw = b'{ "rootfs": {"type": "layers", "diff_ids": ["%s"]},\n "os": "linux", "x-vendor": {"a": [1]} }' % A.encode()
    config = ImageConfig.parse(raw)
    assert config.raw == raw
    assert config.id == sha256(raw)
    assert config.document["x-vendor"] == {"a": [1]}


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"no json",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"{}",
        b'{"rootfs": null}',
        b'{"rootfs": []}',
        b'{"rootfs": {"diff_ids": [1]}}',
        b'{"rootfs": {"diff_ids": 5}}',
        b'{"rootfs": {"diff_ids": []}, "config": "x"}',
        b'{"rootfs": {"diff_ids": []}, "history": 5}',
        b'{"rootfs": {"diff_ids": []}, "created": "yesterday"}',
        b'{"rootfs": {"diff_ids": []}, "created": 1700000000}',
        '{"rootfs": {"diff_ids": []}}'.encode("utf-16"),
        b'\xef\xbb\xbf{"rootfs": {"diff_ids": []}}',
        b'{"rootfs": {"diff_ids": []}, "x-vendor": NaN}',
        b'{"rootfs": {"diff_ids": []}, "x-vendor": 1e999}',
        b'{"rootfs": {"diff_ids": []}, "Size": ' + b"9" * 5000 + b"}",
        b'{"a":' * 50_000,
        b'{"rootfs": {"diff_ids": []}, "history": [{"created": "2026-13-01T00:00:00Z"}]}',
    ],
)
def test_what_is_no_image_config_is_refused(raw: bytes) -> None:
    with pytest.raises((InvalidArchive, CorruptStore)):
        ImageConfig.parse(raw)


def test_half_a_surrogate_pair_is_read_as_go_reads_it() -> None:
    raw = rb'{"rootfs": {"diff_ids": []}, "config": {"Labels": {"a": "\ud800 \ud83d\ude00"}}}'
    config = ImageConfig.parse(raw)
    assert (config.raw, config.config["Labels"]) == (raw, {"a": "\ufffd \U0001f600"})


def test_a_null_is_read_as_go_reads_it() -> None:
    raw = b'{"rootfs": {}, "config": {"Env": [null], "Cmd": "sh", "Labels": {"a": null}, "Volumes": null}}'
    assert ImageConfig.parse(raw).config == {"Env": [""], "Cmd": ["sh"], "Labels": {"a": ""}, "Volumes": None}


def test_the_moments_of_images_are_compared_and_not_their_texts() -> None:
    texts = ["2026-11-24T10:00:00+02:00", "2026-11-24T08:00:00.12Z", "2026-11-24T08:00:00.123Z", "2026-11-24T08:00:01Z"]
    moments = [
        ImageConfig.parse(b'{"rootfs": {"diff_ids": []}, "created": "%s"}' % text.encode()).created_at for text in texts
    ]
    assert moments == sorted(moments)
    assert moments[1] - moments[0] == 120_000_000
    assert ImageConfig.parse(b'{"rootfs": {"diff_ids": []}}').created_at == -62_135_596_800 * 10**9


def test_an_image_from_scratch_may_have_no_layers_and_null_for_what_is_empty() -> None:
    config = ImageConfig.parse(b'{"rootfs": {"type": "layers", "diff_ids": null}, "config": null, "history": null}')
    assert (config.diff_ids, config.chain_id, config.history, config.config) == ((), "", (), {})
    assert (config.created, config.architecture, config.author) == ("", "", "")


def test_a_base_image_has_the_shape_of_docker_import() -> None:
    document = base().document
    assert list(document) == sorted(document)
    assert set(document) == {
        *("architecture", "comment", "config", "container_config", "created"),
        *("docker_version", "history", "os", "rootfs"),
    }
    assert document["config"] == dict(EMPTY_CONFIG)
    assert document["history"] == [{"created": NOW, "comment": "Imported from -"}]
    assert document["rootfs"] == {"type": "layers", "diff_ids": [A]}
    assert (document["os"], document["architecture"], document["docker_version"]) == ("linux", "amd64", "20.10.24")


def test_a_base_image_may_have_a_configuration() -> None:
    assert base(Cmd=["bash"]).config == {**EMPTY_CONFIG, "Cmd": ["bash"]}


def child(parent: ImageConfig | None, diff_id: str | None = B, **more: str) -> ImageConfig:
    return child_config(
        parent,
        config={**EMPTY_CONFIG, "Cmd": ["httpd"]},
        created=NOW,
        created_by="bash",
        architecture="amd64",
        version="20.10.24",
        diff_id=diff_id,
        **more,  # type: ignore[arg-type]
    )


def test_a_child_adds_a_layer_and_a_line_of_history() -> None:
    image = child(base(), author="me", comment="web", container="c" * 64)
    assert image.diff_ids == (A, B)
    assert image.chain_id == chain_id([A, B])
    assert image.history[1] == {"created": NOW, "author": "me", "created_by": "bash", "comment": "web"}
    assert (image.author, image.document["container"]) == ("me", "c" * 64)
    assert "comment" not in image.document, "moby keeps a child's comment in its history alone"
    assert image.config["Cmd"] == ["httpd"]


def test_a_child_without_a_layer_says_so_in_its_history() -> None:
    image = child(base(), diff_id=None)
    assert image.diff_ids == (A,)
    assert image.history[1] == {"created": NOW, "created_by": "bash", "empty_layer": True}


def test_a_child_does_not_inherit_author_comment_and_container() -> None:
    parent = child(base(), author="me", comment="web", container="c" * 64)
    assert not {"author", "comment", "container"} & set(child(parent).document)


def test_unknown_fields_of_the_parent_survive_in_the_child() -> None:
    parent = ImageConfig.build({**base().document, "variant": "v8", "x-vendor": {"b": 1, "a": 2}})
    assert child(parent).document["x-vendor"] == {"b": 1, "a": 2}
    assert child(parent).document["variant"] == "v8"


def test_the_parent_is_not_changed_by_its_child() -> None:
    parent = base()
    before = json.dumps(parent.document)
    child(parent, author="me")
    assert json.dumps(parent.document) == before
    assert parent.id == base().id


def test_an_image_from_scratch_needs_no_parent() -> None:
    image = child(None)
    assert image.diff_ids == (B,)
    assert (image.document["os"], image.architecture) == ("linux", "amd64")


def test_fields_of_a_configuration_stand_in_docker_s_order_and_unknown_ones_last() -> None:
    assert list(ordered_config({"x": 1, "StopSignal": "", "Cmd": None, "Env": [], "Hostname": ""})) == [
        *("Hostname", "Env", "Cmd", "StopSignal", "x"),
    ]


def test_equal_content_gives_equal_ids() -> None:
    assert base(Cmd=["a"], Env=["B=c"]).id == base(Env=["B=c"], Cmd=["a"]).id
