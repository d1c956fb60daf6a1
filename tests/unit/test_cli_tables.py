"""cli/: what is shown and how options are read, without an engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from pylab_container.cli import main, tables
from pylab_container.cli.entries import environment_of
from pylab_container.cli.output import moment
from pylab_container.errors import InvalidInput
from pylab_container.text.keys import DetachKeys
from pylab_container.text.sizes import human, human_binary, parse
from pylab_container.text.timestamps import NEVER, ago

NOW = 1_700_000_000.0
BEFORE = "2023-11-14T22:13:12Z"  # eight seconds before NOW

SECOND = 10**9
MINUTE, HOUR = 60 * SECOND, 3600 * SECOND
DAY = 24 * HOUR


def test_columns_are_as_wide_as_dockers() -> None:
    rows = [("centos7u6", "latest", "8f3d1ba2c4e5", "5 seconds ago", "438MB")]
    assert tables.render(["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"], rows) == (
        "REPOSITORY   TAG       IMAGE ID       CREATED         SIZE\n"
        "centos7u6    latest    8f3d1ba2c4e5   5 seconds ago   438MB"
    )


def test_a_table_without_rows_is_its_headings() -> None:
    assert tables.render(["CONTAINER ID", "IMAGE", "PORTS", "NAMES"], []) == "CONTAINER ID   IMAGE     PORTS     NAMES"


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["sleep", "1000"], '"sleep 1000"'),
        (["/bin/sh", "-c", "/usr/sbin/httpd -X"], '"/bin/sh -c \'/usr/sb…"'),
        (["12345678901234567890"], '"12345678901234567890"'),
        (["123456789012345678901"], '"1234567890123456789…"'),
        (["echo", 'say "hi"'], '"echo \'say \\"hi\\"\'"'),
    ],
)
def test_a_command_is_quoted_and_cut_at_20_characters(words: list[str], shown: str) -> None:
    assert tables.command(words) == shown


def test_a_full_command_is_not_cut() -> None:
    assert tables.command(["sh", "-c", "x" * 40], full=True) == f'"sh -c {"x" * 40}"'


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        ({"Status": "running", "StartedAt": BEFORE}, "Up 8 seconds"),
        ({"Status": "running", "StartedAt": BEFORE, "Health": {"Status": "healthy"}}, "Up 8 seconds (healthy)"),
        (
            {"Status": "running", "StartedAt": BEFORE, "Health": {"Status": "starting"}},
            "Up 8 seconds (health: starting)",
        ),
        ({"Status": "running", "StartedAt": BEFORE, "Health": {"Status": "none"}}, "Up 8 seconds"),
        ({"Status": "paused", "StartedAt": BEFORE}, "Up 8 seconds (Paused)"),
        ({"Status": "restarting", "ExitCode": 1, "FinishedAt": BEFORE}, "Restarting (1) 8 seconds ago"),
        ({"Status": "exited", "ExitCode": 137, "FinishedAt": BEFORE}, "Exited (137) 8 seconds ago"),
        ({"Status": "created"}, "Created"),
    ],
)
def test_status_says_how_long_it_has_been_so(state: dict[str, object], shown: str) -> None:
    assert tables.status(state, now=NOW) == shown


def test_published_ports_are_shown_as_docker_shows_them() -> None:
    both = ("0.0.0.0", "::")
    document = {
        "22/tcp": None,
        "80/tcp": [{"HostIp": address, "HostPort": "8080"} for address in both],
        **{
            f"{port}/udp": [{"HostIp": address, "HostPort": str(port)} for address in both]
            for port in (9000, 9001, 9002)
        },
    }
    assert tables.ports(document) == (
        "22/tcp, 0.0.0.0:9000-9002->9000-9002/udp, [::]:9000-9002->9000-9002/udp, "
        "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"
    )


def test_an_unknown_creation_time_is_shown_as_such() -> None:
    assert tables.created(BEFORE, now=NOW) == "8 seconds ago"
    assert tables.created(NEVER) == tables.created("") == "N/A"


@pytest.mark.parametrize(
    ("exposed", "shown"),
    [
        ([], ""),
        (["80/tcp"], "80/tcp"),
        (["443/tcp", "80/tcp"], "80/tcp, 443/tcp"),
        (["82/tcp", "80/tcp", "81/tcp", "53/udp"], "53/udp, 80-82/tcp"),
        (["53/udp", "53/tcp"], "53/tcp, 53/udp"),
    ],
)
def test_neighbouring_ports_are_joined(exposed: list[str], shown: str) -> None:
    assert tables.ports(dict.fromkeys(exposed)) == shown


@pytest.mark.parametrize(
    ("span", "shown"),
    [
        (0, "Less than a second"),
        (SECOND, "1 second"),
        (59 * SECOND, "59 seconds"),
        (MINUTE, "About a minute"),
        (2 * MINUTE, "2 minutes"),
        (59 * MINUTE, "59 minutes"),
        (HOUR, "About an hour"),
        (89 * MINUTE, "About an hour"),
        (90 * MINUTE, "2 hours"),
        (150 * MINUTE, "3 hours"),
        (47 * HOUR, "47 hours"),
        (48 * HOUR, "2 days"),
        (13 * DAY, "13 days"),
        (14 * DAY, "2 weeks"),
        (59 * DAY, "8 weeks"),
        (60 * DAY, "2 months"),
        (729 * DAY, "24 months"),
        (730 * DAY, "2 years"),
        (-5 * SECOND, "Less than a second"),
    ],
)
def test_spans_of_time_are_dockers_words(span: int, shown: str) -> None:
    assert ago(span) == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0B"),
        (3, "3B"),
        (999, "999B"),
        (1000, "1kB"),
        (1_980_000, "1.98MB"),
        (187_400_000, "187MB"),
        (999_900, "1MB"),
    ],
)
def test_sizes_have_three_digits(count: int, shown: str) -> None:
    assert human(count) == shown


def test_memory_is_counted_in_powers_of_1024() -> None:
    assert human_binary(25_275_000_000) == "23.54GiB"
    assert (parse("512m"), parse("1.5G"), parse("100"), parse("64kb")) == (512 << 20, 3 << 29, 100, 64 << 10)


@pytest.mark.parametrize("text", ["", "m", "-1", "1x", "1 2m"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="invalid size"):
        parse(text)


def test_ctrl_p_ctrl_q_is_recognised_in_one_piece_and_in_two() -> None:
    assert DetachKeys().feed(b"ls\x10\x11rest") == (b"ls", True)
    keys = DetachKeys()
    assert keys.feed(b"a\x10") == (b"a", False)
    assert keys.feed(b"\x11") == (b"", True)


def test_a_ctrl_p_that_something_else_follows_is_passed_on() -> None:
    keys = DetachKeys()
    assert keys.feed(b"\x10") == (b"", False)
    assert keys.feed(b"x") == (b"\x10x", False)
    assert keys.feed(b"\x10\x10") == (b"\x10", False)
    assert keys.feed(b"\x11") == (b"", True)


def test_a_moment_is_a_time_or_a_span_before_now() -> None:
    assert moment(BEFORE) == NOW - 8
    assert moment("1h30m", now=NOW) == NOW - 5400
    assert moment("10.5s", now=NOW) == NOW - 10.5
    assert moment("1700000000.5") == NOW + 0.5


@pytest.mark.parametrize("text", ["", "noon", "10d", "2023-11-1"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="invalid time"):
        moment(text)


def test_a_variable_without_value_takes_the_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIVEN", "here")
    monkeypatch.delenv("MISSING", raising=False)
    assert environment_of(["A=b", "GIVEN", "EMPTY="]) == ["A=b", "GIVEN=here", "EMPTY="]


def test_a_name_that_the_caller_has_not_is_kept_on_the_command_line_and_dropped_of_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GIVEN", "here")
    monkeypatch.delenv("MISSING", raising=False)
    file = tmp_path / "env"
    file.write_text("MISSING\nGIVEN\n# no\n\nA=b\n")
    assert environment_of(["MISSING"], [str(file)]) == ["GIVEN=here", "A=b", "MISSING"]


def test_main_can_be_called_in_process(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--root", str(tmp_path), "version"]) == 0
    assert capsys.readouterr().out.startswith("labctr:\n Version: ")
    assert main(["nonsense"]) == 1
    assert "No such command" in capsys.readouterr().err


def test_a_misspelt_command_is_corrected(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rnu"]) == 1
    assert "No such command 'rnu'. (Did you mean 'run'?)" in capsys.readouterr().err
