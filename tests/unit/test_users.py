"""oci/users.py: users and groups of a container, by name and by number, with Docker's rules."""

from __future__ import annotations

import pytest

from pylab_container.errors import InvalidInput
from pylab_container.oci.users import User, find_user

PASSWD = """root:x:0:0:root:/root:/bin/bash
# a comment
broken:x:12
www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin
777:x:1777:1000:a name that looks like a number:/home/seven:/bin/sh
homeless:x:50:50:::
"""
GROUP = """root:x:0:
adm:x:4:www-data,other
www-data:x:33:
staff:x:50:other,www-data
broken
"""


@pytest.mark.parametrize(
    ("user", "uid", "gid", "additional", "home"),
    [
        ("", 0, 0, (0,), "/root"),
        ("root", 0, 0, (0,), "/root"),
        ("www-data", 33, 33, (33, 4, 50), "/var/www"),
        ("33", 33, 33, (33, 4, 50), "/var/www"),
        ("www-data:adm", 33, 4, (4,), "/var/www"),
        ("www-data:9", 33, 9, (9,), "/var/www"),
        ("www-data:", 33, 33, (33, 4, 50), "/var/www"),
        ("1000", 1000, 0, (0,), "/"),
        ("1000:1000", 1000, 1000, (1000,), "/"),
        ("777", 1777, 1000, (1000,), "/home/seven"),
        ("homeless", 50, 50, (50,), "/"),
    ],
)
def test_user_is_found_as_docker_finds_it(
    user: str, uid: int, gid: int, additional: tuple[int, ...], home: str
) -> None:
    assert find_user(user, passwd=PASSWD, group=GROUP) == (User(uid=uid, gid=gid, additional_gids=additional), home)


def test_an_image_without_passwd_knows_numbers_only() -> None:
    assert find_user("", passwd="", group="") == (User(additional_gids=(0,)), "/")
    with pytest.raises(InvalidInput, match="unable to find user root") as caught:
        find_user("root", passwd="", group="")
    assert caught.value.hint


@pytest.mark.parametrize(
    "user", ["nobody", "broken", "www-data:nogroup", "-1", "2147483648", "0:4294967296", "٣", ":x"]
)
def test_a_user_or_group_without_an_entry_is_refused(user: str) -> None:
    with pytest.raises(InvalidInput):
        find_user(user, passwd=PASSWD, group=GROUP)
