"""One lab: its engine, its directory, its prerequisites from other labs, and its helpers.

from pylab_container.notebook.lab import Lab

lab = Lab("02")
engine = lab.engine

<data root>/labs/
├── 01/             files that lab 01 makes outside the engine: a base system and its tar
├── 02/  …          each lab's directory is lab.directory, in the shell $LAB
└── 05/root/        a data root that only lab 05 uses
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import overload

from pylab_container.engine import Engine
from pylab_container.errors import ContainerNotFound, ImageNotFound, InvalidInput, RuntimeFailed
from pylab_container.events import Event
from pylab_container.host import programs
from pylab_container.host.extras import extra
from pylab_container.images.image import Image
from pylab_container.notebook import exercises, experiments, predictions, source, trees
from pylab_container.notebook.display import ErrorCard, Note, event_table, portable
from pylab_container.notebook.exercises import numbered
from pylab_container.notebook.exercises.exercise import Result
from pylab_container.notebook.progress import Progress
from pylab_container.notebook.sandbox import Sandbox
from pylab_container.notebook.widgets import Notice
from pylab_container.store.names import DEFAULT_ROOT

with extra("labs"):
    from IPython.display import display

# Packages of the base system besides Debian's essential ones: iproute2 for lab 01, curl for the web servers.
PACKAGES = "iproute2,curl,ca-certificates"

MAKE_SYSTEM = (
    "mmdebstrap --variant=minbase --include={packages} {distribution} $LAB/{distribution} $LAB/{distribution}.list"
)
PACK_SYSTEM = (
    "chroot $LAB/{distribution} tar --numeric-owner --exclude=/proc --exclude=/sys -cf - / > $LAB/{distribution}.tar"
)


class Lab:
    """The engine, the files and the helpers of one lab.

    number    "00" to "09"
    own_root  use a separate data root, which is created at the first use of the engine

    Sets $LABCTR_ROOT and $LAB for the shell commands and magics of the notebook.
    """

    def __init__(self, number: str, *, own_root: bool = False) -> None:
        self.number = number
        shared = _shared_root()
        self.labs = shared / "labs"
        self.directory = self.labs / number
        self.directory.mkdir(parents=True, exist_ok=True)
        self.own_root = own_root
        self.data_root = self.directory / "root" if own_root else shared
        os.environ["LABCTR_ROOT"] = str(self.data_root)
        os.environ["LAB"] = str(self.directory)
        self._base_name, self._distribution = "debian12:latest", "bookworm"
        self._order = trees.Order()
        self._stage: trees.Tree | None = None

    @cached_property
    def engine(self) -> Engine:
        """The engine of this lab."""
        return Engine(self.data_root)

    # ---- reset and prerequisites ----

    def reset(self, *images: str, containers: Sequence[str] = ()) -> None:
        """Remove the results of an earlier run: containers, and images with their descendants.

        A lab with its own data root deletes the whole data root.
        """
        if self.own_root:
            self._reset_root()
        for container in self.engine.containers.list(all=True) if containers else ():
            with contextlib.suppress(ContainerNotFound):  # its monitor removed it first
                if container.name in containers:  # get() would also match c1000 as the prefix of an id
                    container.remove(force=True)
        for name in images:
            for image in self.engine.images.list(name):
                for first in _same_start(self.engine, _first_step(self.engine, image)):
                    _remove_family(self.engine, first)

    def require(self, number: str, *, image: str, distribution: str = "bookworm") -> Image:
        """Return the image that another lab produces, and create it if it is missing.

        Only lab 01 produces an image for other labs: the base image.
        """
        if number != "01":
            raise InvalidInput(f"lab {number} produces no image for other labs", hint='lab.require("01", …)')
        self._base_name, self._distribution = image, distribution
        notice = Notice(f"✔ {image} is here (lab 01)")
        notice.show()
        try:
            base = self.engine.images.get(image)
        except ImageNotFound:
            notice.say(f"lab 01 has not run here: making {image}, about half a minute …")
            base = self.engine.images.import_(self._base_tar(distribution), image)
        notice.done()
        return base

    def base_tar(self, distribution: str) -> Path:
        """Return the tar of lab 01, and create it with a notice if it is missing."""
        notice = Notice(f"✔ {distribution}.tar is here (lab 01)")
        notice.show()
        if not (self.labs / "01" / f"{distribution}.tar").exists():
            notice.say("lab 01 has not run here: making the base system, about half a minute …")
        tar = self._base_tar(distribution)
        notice.done()
        return tar

    # ---- commands and files ----

    def shell(self, command: str) -> None:
        """Run a shell command and show its output, with $LAB and $LABCTR_ROOT for directories."""
        done = programs.run(["bash", "-c", command], check=False)
        sys.stdout.write(portable(done.output + done.errors))
        if done.status != 0:
            sys.stdout.write(f"[status {done.status}]\n")

    def once(self, command: str, *, makes: str) -> None:
        """Show a shell command, and run it unless its result exists.

        makes  the path of the result, with variables: "$LAB/bookworm"

        Raises RuntimeFailed with the last lines of the command's errors, after removing an incomplete result.
        """
        notice = Notice(f"$ {command}")
        notice.show()
        notice.say(f"$ {command}   … running")
        _run_once(command, Path(os.path.expandvars(makes)))
        notice.done()

    def write(self, name: str, text: str) -> None:
        """Write a file in the lab's directory, and create missing parent directories.

        Raises InvalidInput for a path that leads out of the directory, also through a symbolic link.
        """
        path = (self.directory / name).resolve()
        if not path.is_relative_to(self.directory.resolve()):
            raise InvalidInput(f"{name} is not in the lab's directory", hint="give a relative path: web/Dockerfile")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def apt_sources(self, distribution: str) -> None:
        """Write $LAB/<distribution>.list: the machine's Debian mirrors for this distribution."""
        _write_sources(distribution, self.directory / f"{distribution}.list")

    @contextlib.contextmanager
    def watch(self, *kinds: type[Event]) -> Iterator[Sequence[Event]]:
        """Show the engine's events after the block; kinds selects event classes. Yields the list of all events."""
        with self.engine.events.collected() as events:
            yield events
        display(event_table(events, kinds))

    @contextlib.contextmanager
    def expect(self, error: type[Exception]) -> Iterator[None]:
        """Show the error that the block is expected to raise. Raises InvalidInput if it raises none."""
        try:
            yield
        except error as raised:
            display(ErrorCard(raised))
            return
        raise InvalidInput(f"expected {error.__name__}, but nothing went wrong", hint="was the cell changed?")

    # ---- displays ----

    def tree(self, path: str | Path, *, depth: int = 3) -> trees.Tree:
        """Return a directory tree with shortened ids, in the order of their first appearance."""
        place = Path(os.path.expandvars(str(path)))
        return trees.read(place, depth=depth, order=self._order, title=portable(str(place)))

    def stage(self, title: str, *, depth: int = 6) -> trees.Tree:
        """Return the data root's tree compared with the previous stage.

        Files of layers are only counted.
        """
        now = trees.read(
            self.data_root,
            depth=depth,
            closed=("diff", "merged", "work"),
            order=self._order,
            title=f"$LABCTR_ROOT   {title}",
        )
        before, self._stage = self._stage, now
        return trees.Tree(now.title, now.entries, before)

    def source(self, subject: object) -> source.Source:
        """Return the source of a definition in the engine, with its file and first line.

        subject  the object, or its name: "images.import_", "Container.commit", "store.overlay2.Overlay2"

        Raises InvalidInput for an unknown name and for an object that the engine does not define.
        """
        return source.find(subject, self.engine if isinstance(subject, str) else None)

    # ---- exercises ----

    @overload
    def check(self, key: str, answer: object = None) -> Result: ...

    @overload
    def check(self, key: int, answer: object = None, subject: object = None) -> Note: ...

    def check(self, key: str | int, answer: object = None, subject: object = None) -> Result | Note:
        """Try the answer to an exercise, "04.2", and return what was observed. None stands for a missing answer.

        Raises InvalidInput for an unknown exercise.
        """
        if isinstance(key, int):
            return numbered.check(self.number, key, answer, subject)
        exercise = exercises.find(self.number, key)
        result = exercise.judge(self._sandbox(), answer)
        if result.tried and not result.misunderstood:
            self.progress.attempted(key, met=result.met, of=result.of)
        return result

    def hint(self, key: str) -> Note:
        """Return the next hint of an exercise: three, each more exact, and the first after an attempt."""
        hints = exercises.find(self.number, key).hints
        work = self.progress.read().exercises.get(key)
        if work is None:
            return Note("open", f"first try it: lab.check({key!r}, …)")
        number = self.progress.hinted(key, of=len(hints))
        return Note("open", f"hint {number} of {len(hints)}: {hints[number - 1]}")

    def break_(self, key: str) -> Note:
        """Make what a repair begins with, in the place of what an earlier attempt has made of it.

        Raises InvalidInput for an exercise that is not a repair.
        """
        prepare = exercises.find(self.number, key).prepare
        if prepare is None:
            raise InvalidInput(f"{key} is not a repair", hint=f"lab.check({key!r}, answer)")
        self._base()
        prepare(self.engine, self.directory, self._base_name)
        return Note("open", f"repair {key} is set up")

    @cached_property
    def progress(self) -> Progress:
        """What the student has done in all labs of this data root."""
        return Progress(self.labs)

    def _sandbox(self) -> Sandbox:
        return Sandbox(self.engine, self.directory, lock=self.labs / ".check.lock", base=self._base)

    # ---- predictions and experiments ----

    def predict(self, key: str, question: str, choices: Sequence[str], *, choice: str | None = None) -> None:
        """Ask for a prediction before an experiment, "04.a"; choice answers in code. Never blocks Run All."""
        predictions.ask(self.progress, key, question, choices, choice)

    def compare(self, key: str, happened: str) -> predictions.Comparison:
        """Return the prediction beside what happened, in the words of the question's choices."""
        return predictions.compare(self.progress, key, happened)

    def processes(self, *names: str) -> experiments.ProcessTrees:
        """Return the containers' processes as trees, side by side; process 1 is at the top."""
        return experiments.process_trees([self.engine.containers.get(name) for name in names])

    def stop_and_time(self, *names: str) -> experiments.StopTimes:
        """Stop the containers at the same time, and return how long each took, and its exit status."""
        return experiments.stop_and_time([self.engine.containers.get(name) for name in names])

    # ---- data root and base system ----

    def _base(self) -> Image:
        """Return the base image that the lab required, and make it if it is missing."""
        try:
            return self.engine.images.get(self._base_name)
        except ImageNotFound:
            return self.engine.images.import_(self._base_tar(self._distribution), self._base_name)

    def _reset_root(self) -> None:
        if not self.data_root.exists():
            return
        for container in Engine(self.data_root).containers.list(all=True):
            container.remove(force=True)
        shutil.rmtree(self.data_root)

    def _base_tar(self, distribution: str) -> Path:
        """Create the base system and its tar in lab 01's directory, as lab 01 does."""
        directory = self.labs / "01"
        tar = directory / f"{distribution}.tar"
        if tar.exists():
            return tar
        directory.mkdir(parents=True, exist_ok=True)
        _write_sources(distribution, directory / f"{distribution}.list")
        for command, result in ((MAKE_SYSTEM, directory / distribution), (PACK_SYSTEM, tar)):
            text = command.format(packages=PACKAGES, distribution=distribution)
            _run_once(f"LAB={shlex.quote(str(directory))}\n{text}", result)
        return tar


def _shared_root() -> Path:
    """Return the data root that labs share, also if $LABCTR_ROOT is a notebook's own root."""
    root = Path(os.environ.get("LABCTR_ROOT") or DEFAULT_ROOT).absolute()
    own = root.name == "root" and root.parent.parent.name == "labs"
    return root.parents[2] if own else root


def _run_once(command: str, target: Path) -> None:
    # If the kernel is killed during the command, the marker remains and shows that the target is incomplete.
    marker = target.with_name(f".{target.name}.unfinished")
    if marker.exists():
        _delete(target)
    if target.exists():
        return
    marker.touch()
    done = programs.run(["bash", "-c", command], check=False)
    if done.status != 0:
        _delete(target)
    marker.unlink()
    if done.status != 0:
        last_lines = "\n".join(done.errors.strip().splitlines()[-5:])
        raise RuntimeFailed(f"{command} failed: {last_lines}", hint="check the network try apt-get update first")


def _delete(target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    target.unlink(missing_ok=True)


def _write_sources(distribution: str, target: Path) -> None:
    """Write the Debian mirrors of this machine's apt as lines of a sources.list."""
    fields = "$(REPO_URI) $(CODENAME) $(COMPONENT)"
    targets = programs.run(
        ["apt-get", "indextargets", "--format", fields, "Created-By: Packages", "Origin: Debian"]
    ).output
    repositories = [line.split() for line in sorted(set(targets.splitlines()))]
    suites = {distribution, f"{distribution}-updates", f"{distribution}-security"}
    chosen = [repository for repository in repositories if repository[1] in suites]
    if not chosen:  # not the machine's distribution: the same mirrors with its main suite
        chosen = [[uri, distribution, component] for uri, suite, component in repositories if "-" not in suite]
    if not chosen:
        raise RuntimeFailed("apt has no Debian mirror", hint="apt-get update, then run the cell again")
    target.write_text("".join(f"deb {' '.join(repository)}\n" for repository in chosen))


def _first_step(engine: Engine, image: Image) -> Image:
    """Return the image of the build's first instruction.

    It is the oldest ancestor before one with a name.

    Its descendants include the steps of earlier builds, whose names now belong to other images.
    """
    while (parent := image.attrs["Parent"]) and not (above := engine.images.get(parent)).tags:
        image = above
    return image


def _same_start(engine: Engine, image: Image) -> list[Image]:
    """Return the image, and for a base image all other imports of the same tar."""
    if image.attrs["Parent"]:
        return [image]
    others = [other for other in engine.images.list(all=True) if not other.attrs["Parent"]]
    return [other for other in others if other.config.diff_ids == image.config.diff_ids]


def _remove_family(engine: Engine, image: Image) -> None:
    """Remove the image's containers, the images made from it, and then itself."""
    for child in engine.images.list(all=True):
        if child.attrs["Parent"] == image.id:
            _remove_family(engine, child)
    for container in engine.containers.list(all=True):
        if container.image == image:
            container.remove(force=True)
    # Without pruning: the caller still visits the parents.
    engine.images.remove(image, force=True, noprune=True)
