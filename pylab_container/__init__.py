"""A container engine to learn from: images, layers, overlay2 and build, in Docker's own format.

    from pylab_container import Engine

    engine = Engine("/var/lib/pylab-container")
    image = engine.images.import_("debian.tar", "debian:12")
    engine.containers.run(image, ["cat", "/etc/debian_version"])

The source is meant to be read. Start at `engine/`: `import_`, `commit`, `build` and `run`
are recipes of a few lines, and every mechanism that they name lives in the layer below.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pylab_container.engine import Engine as Engine

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # `labctr version` must not pay for importing the whole engine (PEP 562).
    if name == "Engine":
        from pylab_container.engine import Engine

        return Engine
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def load_ipython_extension(shell: Any) -> None:
    """`%load_ext pylab_container`: the magics %labctr and %docker, and rich displays."""
    from pylab_container.notebook.magics import register

    register(shell)
