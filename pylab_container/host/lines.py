"""Lines of a file that grows, and that may be damaged: read one by one, in constant memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO


def whole_lines(file: BinaryIO, longest: int) -> Iterator[tuple[bytes, int]]:
    """The lines from where the file stands, each with its newline and its length in bytes.

    Half a line at the end is left: the file stands before it then, because its writer may be about to write the rest.
    Of a line of more than `longest` bytes only the beginning is given, without a newline, and the length of all of it.
    """
    while line := file.readline(longest):
        length = len(line)
        while not line.endswith(b"\n"):
            rest = file.readline(longest) if length >= longest else b""
            if not rest:
                file.seek(-length, os.SEEK_CUR)
                return
            length += len(rest)
            if rest.endswith(b"\n"):
                break
        yield line, length
