"""NAME=VALUE on the command line and in files: variables, labels, settings."""

from __future__ import annotations

import os
from collections.abc import Iterable

from pylab_container.errors import InvalidInput


def environment_of(entries: Iterable[str]) -> list[str]:
    """NAME=VALUE as it stands; NAME alone takes the caller's value, and counts only if there is one."""
    return [entry if "=" in entry else f"{entry}={os.environ[entry]}" for entry in entries if _is_given(entry)]


def _is_given(entry: str) -> bool:
    return "=" in entry or entry in os.environ


def lines_of(paths: Iterable[str]) -> list[str]:
    """The entries of --env-file and --label-file: one a line; empty lines and those that start with # do not count."""
    lines: list[str] = []
    for path in paths:
        try:
            with open(path, encoding="utf-8") as file:
                lines += [line.lstrip().rstrip("\r\n") for line in file]
        except OSError as error:
            raise InvalidInput(f"open {path}: {error.strerror}", hint="give the path of a text file") from error
        except UnicodeDecodeError:
            raise InvalidInput(f"{path} is not UTF-8 text", hint="write NAME=value, one a line") from None
    return [line for line in lines if line and not line.startswith("#")]


def pair(text: str) -> tuple[str, str]:
    """NAME=VALUE; NAME alone has an empty value."""
    name, _, value = text.partition("=")
    return name, value
