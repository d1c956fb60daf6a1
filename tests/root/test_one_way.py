"""`containers.run` goes through the modules from top to bottom: none is entered again while it is on the call stack."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from types import FrameType

import pytest

import pylab_container
from pylab_container import Engine, Image

pytestmark = pytest.mark.shared_engine

PACKAGE = str(Path(pylab_container.__file__).parent)
RECEIVERS = ("engine/event_stream.py", "docker/event_log.py")
"""Where events arrive: every mechanism calls them through its Emit, whatever is above it."""


class Climbs:
    """Counts how often a module is entered from another module while a function of it is on the stack."""

    def __init__(self) -> None:
        self.counted: Counter[str] = Counter()
        self._stack: list[str] = []

    def profile(self, frame: FrameType, event: str, _: object) -> None:
        """The function for sys.setprofile()."""
        path = frame.f_code.co_filename
        if not path.startswith(PACKAGE) or frame.f_code.co_name.startswith("<"):
            return
        module = path.removeprefix(f"{PACKAGE}/")
        if event == "call":
            if self._stack and self._stack[-1] != module and module in self._stack and module not in RECEIVERS:
                self.counted[module] += 1
            self._stack.append(module)
        elif event == "return" and self._stack:
            self._stack.pop()


def test_no_module_is_entered_again_more_than_twice_on_the_way_of_run(engine: Engine, image: Image) -> None:
    engine.containers.run(image, ["true"], network_mode="none", remove=True)  # what is imported or made once
    climbs = Climbs()
    sys.setprofile(climbs.profile)
    try:
        engine.containers.run(image, ["true"], network_mode="none", remove=True)
    finally:
        sys.setprofile(None)
    assert {module: count for module, count in climbs.counted.items() if count > 2} == {}
