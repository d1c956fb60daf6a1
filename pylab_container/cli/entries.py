"""NAME=VALUE entries on the command line and in files: variables, labels, settings."""

from __future__ import annotations

import os
from collections.abc import Iterable

from pylab_container.errors import InvalidInput


def environment_of(entries: Iterable[str], files: Iterable[str] = ()) -> list[str]:
    """Return the entries; NAME alone gets the value of the caller's variable.

    If the caller has no such variable, an entry NAME unsets the image's variable, and a line of a file is ignored.
    """
    lines = [_with_value(line) for line in lines_of(files)]
    return [line for line in lines if "=" in line] + [_with_value(entry) for entry in entries]


def _with_value(entry: str) -> str:
    return f"{entry}={os.environ[entry]}" if "=" not in entry and entry in os.environ else entry


def lines_of(paths: Iterable[str]) -> list[str]:
    """Return the lines of --env-file or --label-file without empty lines and # comments."""
    lines: list[str] = []
    for path in paths:
        try:
            with open(path, encoding="utf-8") as file:
                lines += [line.lstrip().rstrip("\r\n") for line in file]
        except OSError as error:
            raise InvalidInput(f"open {path}: {error.strerror}", hint="give the path of a text file") from error
        except UnicodeDecodeError:
            raise InvalidInput(f"{path} is not UTF-8 text", hint="write NAME=value, one per line") from None
    return [line for line in lines if line and not line.startswith("#")]


def pair(text: str) -> tuple[str, str]:
    """Divide NAME=VALUE; NAME alone has an empty value."""
    name, _, value = text.partition("=")
    return name, value
