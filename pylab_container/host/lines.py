"""Read the lines of a file that grows and may be damaged, in constant memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO


def whole_lines(file: BinaryIO, longest: int) -> Iterator[tuple[bytes, int]]:
    """Yield each complete line from the file's position on, with its newline and its length in bytes.

    longest  bytes; of a longer line only the start is yielded, without a newline, with the length of the whole line

    An incomplete last line is not yielded, because its writer may be about to complete it: the file's position is then
    at its start.
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
