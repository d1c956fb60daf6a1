"""The input of import and load: a path, an open stream, or standard input."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pylab_container.errors import InvalidInput


@contextlib.contextmanager
def opened(source: str | Path | BinaryIO) -> Iterator[tuple[BinaryIO, str]]:
    """Open a path or take a stream; "-" is standard input.

    Yields the stream, and its name in the image's history.

    Raises InvalidInput.
    """
    if source == "-":
        yield sys.stdin.buffer, "-"
    elif isinstance(source, str | Path):
        try:
            stream = Path(source).open("rb", buffering=0)  # noqa: SIM115 (closed by the with below)
        except FileNotFoundError:
            raise InvalidInput(
                f"no such file: {source}", hint="give the path of a tar archive, or - for standard input"
            ) from None
        except OSError as error:
            raise InvalidInput(f"cannot read {source}: {error.strerror}", hint="check that it is a file") from error
        with stream:
            yield stream, Path(source).name
    else:
        yield source, "-"
