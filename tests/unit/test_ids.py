"""Ids exist only in their full form, so that no path is built from what a damaged file says."""

from __future__ import annotations

import json

import pytest

from pylab_container.oci.ids import CacheId, ContainerId, Digest, EntryName, MountId, NetworkId, ShortName, VolumeName

HEX = "0123456789abcdef" * 4
FORMS: dict[type[EntryName] | type[Digest], tuple[str, ...]] = {
    CacheId: (HEX, f"{HEX}-init", "ab12cd34ef56gh78ij90kl12m", "ab12cd34ef56gh78ij90kl12m-init"),
    MountId: (HEX, "ab12cd34ef56gh78ij90kl12m"),
    ContainerId: (HEX,),
    NetworkId: (HEX,),
    ShortName: ("ABCDEFGHIJKLMNOPQRSTUVWXYZ",),
    VolumeName: ("data", "a", "A_b.c-d", HEX),
    Digest: (f"sha256:{HEX}",),
    EntryName: ("a", "...", ".tmp-x", "a b", "new\nline", "\udc80"),
}
FOREIGN = (
    *("", ".", "..", "/", "a/b", "../../x", "/etc", "\0", "a\0b", f"{HEX}/", f"./{HEX}", f"../{HEX}"),
    *(f"sha256:{HEX}/..", f"sha256:../{HEX[3:]}", "l/../.."),
)
INEXACT = (
    f" {HEX}",
    f"{HEX}\n",
    HEX.upper(),
    HEX[:-1],
    f"{HEX}0",
    f"{HEX}-init-init",
    f"sha256:{HEX}\n",
    HEX[:63] + "g",
)


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in FORMS.items() for text in texts])
def test_a_full_match_is_an_id(kind: type[EntryName], text: str) -> None:
    assert kind(text) == text
    assert kind.match(text) == text
    assert isinstance(kind(text), kind)
    assert json.loads(json.dumps(kind(text))) == text


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("text", FOREIGN)
def test_what_could_leave_its_directory_is_no_id(kind: type[EntryName], text: str) -> None:
    assert kind.match(text) is None
    with pytest.raises(ValueError, match="is not"):
        kind(text)


@pytest.mark.parametrize("kind", [CacheId, MountId, ContainerId, NetworkId, ShortName, Digest])
@pytest.mark.parametrize("text", INEXACT)
def test_more_or_less_than_the_form_is_no_id(kind: type[EntryName], text: str) -> None:
    assert kind.match(text) is None


def test_an_init_layer_s_id_follows_from_the_container_s() -> None:
    assert MountId(HEX).init == f"{HEX}-init"
    assert MountId.match(f"{HEX}-init") is None
