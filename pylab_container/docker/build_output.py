"""The output of a running build, in the words of docker's classic builder."""

from __future__ import annotations

import threading
from collections.abc import Callable

from msgspec import Struct

from pylab_container import events


class _Block(Struct):
    """The output of one step.

    held      text that is held back until the steps before have ended
    has_run   its command has started
    open      number of instructions that have not ended: its own, and after a FROM the triggers of the image
    begun     its first line was printed
    at_start  the output is at the start of a line
    """

    held: str = ""
    has_run: bool = False
    open: int = 1
    begun: bool = False
    at_start: bool = True


class Presenter:
    """Prints the events of a build as docker's classic builder does: one step after the other.

    Stages may be built concurrently. The output of the first step that has not ended is printed at once; the output of
    later steps is held back until all steps before have ended.
    """

    def __init__(
        self, write: Callable[[str], None], *, errors: str = "", shown: Callable[[str], str] = lambda text: text
    ) -> None:
        """write prints text; it must not raise, because it is called in the threads that build.

        shown   escapes an instruction or a warning; output of commands is not changed
        errors  a frame for the standard error of commands: "\\x1b[91m{}\\x1b[0m" makes it red
        """
        self._write = write
        self._errors = errors or "{}"
        self._as_shown = shown
        self._shown = 1
        self._blocks: dict[int, _Block] = {}
        self._lock = threading.Lock()

    def __call__(self, event: events.Event) -> None:
        """Print the next event; events that are not about a build are ignored."""
        with self._lock:
            match event:
                case events.BuildStepStarted():
                    self._started(event)
                case events.BuildContainer(container_id, number):
                    self._block(number).has_run = True
                    self._say(number, f" ---> Running in {container_id[:12]}\n")
                case events.BuildContainerRemoved(container_id, number):
                    self._new_line(number)
                    self._say(number, f"Removing intermediate container {container_id[:12]}\n")
                case events.BuildOutput(text, number, stream):
                    self._print(number, text, self._errors if stream == "stderr" else "{}")
                case events.BuildStep():
                    self._ended(event)
                case events.BuildWarning(text):
                    self._write(f"{self._as_shown(text)}\n")

    def close(self) -> None:
        """Print the held output after a failed build, if the step's command has started."""
        with self._lock:
            for number, block in sorted(self._blocks.items()):
                if number > self._shown and block.open and not block.has_run:
                    continue
                self._shown = max(self._shown, number)
                self._release(number)
                self._new_line(number)

    def _started(self, event: events.BuildStepStarted) -> None:
        block = self._block(event.number)
        if not block.begun:  # a trigger belongs to the step of its FROM
            block.begun = True
            self._say(event.number, f"Step {event.number}/{event.of} : {self._as_shown(event.instruction)}")
            self._say(event.number, "\n")  # in two pieces, as in docker's API

    def _ended(self, event: events.BuildStep) -> None:
        number, block = event.number, self._block(event.number)
        self._new_line(number)
        if event.cache == "hit":
            self._say(number, " ---> Using cache\n")
        if event.triggers:
            self._say(number, f"# Executing {event.triggers} build trigger{'s'[: event.triggers != 1]}\n")
        block.open += event.triggers - 1
        if not block.open:
            if event.image_id:  # an ARG before FROM has no image
                self._say(number, f" ---> {event.image_id[7:19]}\n")
            self._show_next()

    def _show_next(self) -> None:
        while (block := self._blocks.get(self._shown)) and not block.open:
            self._shown += 1
            self._release(self._shown)

    def _say(self, number: int, text: str) -> None:
        if not text:
            return
        block = self._block(number)
        block.at_start = text.endswith("\n")
        if number <= self._shown:
            self._write(text)
        else:
            block.held += text

    def _print(self, number: int, text: str, frame: str) -> None:
        """Print the output of a command."""
        if text:
            self._say(number, frame.replace("{}", text))
            self._block(number).at_start = text.endswith("\n")

    def _new_line(self, number: int) -> None:
        """End a line that the step's command has not ended."""
        if not self._block(number).at_start:
            self._say(number, "\n")

    def _release(self, number: int) -> None:
        if (block := self._blocks.get(number)) and block.held:
            self._write(block.held)
            block.held = ""

    def _block(self, number: int) -> _Block:
        return self._blocks.setdefault(number, _Block())
