"""`python -m pylab_container` is `labctr`."""

from __future__ import annotations

from pylab_container.cli import entry

if __name__ == "__main__":
    entry()
