"""Every option of `docker run` (docker CLI 28): taken by `labctr run`, or refused with a reason."""

from __future__ import annotations

import re
import subprocess

import click
import pytest

from pylab_container.cli.options import ONLY, REFUSED
from pylab_container.cli.run import run


def known() -> dict[str, click.Option]:
    return {
        name: one for one in run.params if isinstance(one, click.Option) for name in (*one.opts, *one.secondary_opts)
    }


def test_each_option_of_docker_run_is_known() -> None:
    text = subprocess.run(["docker", "run", "--help"], capture_output=True, text=True, check=True).stdout
    options = set(re.findall(r"^ +(?:-\w, )? *(--[a-z0-9-]+)", text, re.MULTILINE)) - {"--help"}
    assert len(options) > 90
    assert options - set(known()) == set()


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_done_is_refused_with_the_reason(name: str) -> None:
    arguments = [name, *([] if known()[name].is_flag else ["1"]), "busybox"]
    with pytest.raises(click.UsageError) as raised:
        run.make_context("run", arguments)
    assert raised.value.message == f"{name} is not supported: {REFUSED[name]}"


@pytest.mark.parametrize(("name", "value"), ONLY.items())
def test_of_some_options_one_value_says_what_happens_anyway(name: str, value: str) -> None:
    assert run.make_context("run", [name, value, "busybox"]).params["image"] == "busybox"
    with pytest.raises(click.UsageError, match=f"{name} other is not supported"):
        run.make_context("run", [name, "other", "busybox"])


def test_refused_options_are_not_shown() -> None:
    assert all(known()[name].hidden for name in (*REFUSED, *ONLY))
