"""`labctr`, also as `python -m pylab_container`: the command line, or one line where its libraries are missing."""

from __future__ import annotations

import gc
import sys
from typing import NoReturn

from pylab_container.errors import MissingExtra


def entry() -> NoReturn:
    """Run the command that the arguments name, and exit with its status; 1 without the extra "cli"."""
    # The process is short-lived, and what it imports stays: 21 collections while modules load cost `labctr run` 3 ms.
    gc.set_threshold(100_000)
    try:
        from pylab_container.cli import entry as run
    except MissingExtra as error:
        sys.exit(f"Error: {error.message}: {error.hint}")
    run()


if __name__ == "__main__":
    entry()
