"""`python -m pylab_container` is `labctr`."""

from __future__ import annotations

import sys

from pylab_container.cli import main

if __name__ == "__main__":
    sys.exit(main())
