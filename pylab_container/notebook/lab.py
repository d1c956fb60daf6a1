"""One lab: its engine, its directory, what it needs from other labs, and its helpers.

from pylab_container.notebook.lab import Lab

lab = Lab("02")
engine = lab.engine

<data root>/labs/
├── 01/             what lab 01 makes outside the engine: a base system and its tar
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

from pylab_container.engine import Engine
from pylab_container.errors import ContainerNotFound, ImageNotFound, InvalidInput, RuntimeFailed
from pylab_container.events import Event
from pylab_container.host import programs
from pylab_container.host.extras import extra
from pylab_container.images.image import Image
from pylab_container.notebook import source, trees
from pylab_container.notebook.display import ErrorCard, Note, event_table, portable
from pylab_container.notebook.exercises import EXERCISES
from pylab_container.notebook.widgets import Notice
from pylab_container.store.names import DEFAULT_ROOT

with extra("labs"):
    from IPython.display import display

# What the base system has besides Debian's essential packages: `ip` for lab 01, curl for the web servers.
PACKAGES = "iproute2,curl,ca-certificates"

MAKE_SYSTEM = (
    "mmdebstrap --variant=minbase --include={packages} {distribution} $LAB/{distribution} $LAB/{distribution}.list"
)
PACK_SYSTEM = (
    "chroot $LAB/{distribution} tar --numeric-owner --exclude=/proc --exclude=/sys -cf - / > $LAB/{distribution}.tar"
)


class Lab:
    """What a notebook needs besides the engine.

    number    "00" to "05"
    own_root  with a data root that no other lab uses, made when the engine is first asked for

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
        self._order = trees.Order()
        self._stage: trees.Tree | None = None

    @cached_property
    def engine(self) -> Engine:
        """The engine of this lab."""
        return Engine(self.data_root)

    # ---- beginning and end ----

    def reset(self, *images: str, containers: Sequence[str] = ()) -> None:
        """Remove what an earlier run left: these containers, and these images with all that is made from them.

        A lab with a data root of its own loses the whole data root.
        """
        if self.own_root:
            self._reset_root()
        for container in self.engine.containers.list(all=True) if containers else ():
            with contextlib.suppress(ContainerNotFound):  # its monitor was first
                if container.name in containers:  # get() would take c1000 for the beginning of an id, too
                    container.remove(force=True)
        for name in images:
            for image in self.engine.images.list(name):
                for first in _same_start(self.engine, _first_step(self.engine, image)):
                    _remove_family(self.engine, first)

    def require(self, number: str, *, image: str, distribution: str = "bookworm") -> Image:
        """The image that another lab delivers; it is made now if it is missing.

        Only lab 01 delivers something that others need: the base image.
        """
        if number != "01":
            raise InvalidInput(f"no lab needs anything of lab {number}", hint='lab.require("01", …)')
        notice = Notice(f"✔ {image} is here (lab 01)")
        notice.show()
        try:
            found = self.engine.images.get(image)
        except ImageNotFound:
            notice.say(f"lab 01 has not run here: making {image}, about half a minute …")
            found = self.engine.images.import_(self._base_tar(distribution), image)
        notice.done()
        return found

    def base_tar(self, distribution: str) -> Path:
        """The tar of lab 01, made now if it is missing; saying so."""
        notice = Notice(f"✔ {distribution}.tar is here (lab 01)")
        notice.show()
        if not (self.labs / "01" / f"{distribution}.tar").exists():
            notice.say("lab 01 has not run here: making the base system, about half a minute …")
        tar = self._base_tar(distribution)
        notice.done()
        return tar

    # ---- doing ----

    def shell(self, command: str) -> None:
        """Run a shell command and show what it prints, with $LAB and $LABCTR_ROOT for their directories."""
        done = programs.run(["bash", "-c", command], check=False)
        sys.stdout.write(portable(done.output + done.errors))
        if done.status != 0:
            sys.stdout.write(f"[status {done.status}]\n")

    def once(self, command: str, *, makes: str) -> None:
        """Show a shell command, and run it unless what it makes is there already.

        makes  a path that the shell expands: "$LAB/bookworm"

        Raises RuntimeFailed with the command's last words; then nothing half-made is left.
        """
        notice = Notice(f"$ {command}")
        notice.show()
        notice.say(f"$ {command}   … running")
        _run_once(command, Path(os.path.expandvars(makes)))
        notice.done()

    def write(self, name: str, text: str) -> None:
        """Write a file in the lab's directory; directories on the way are made."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def apt_sources(self, distribution: str) -> None:
        """Write $LAB/<distribution>.list: the machine's own Debian mirrors, for this distribution."""
        _write_sources(distribution, self.directory / f"{distribution}.list")

    @contextlib.contextmanager
    def watch(self, *kinds: type[Event]) -> Iterator[None]:
        """Afterwards, show what the engine did in the block; only events of the kinds, where any are given."""
        with self.engine.events.collected() as events:
            yield
        display(event_table(events, kinds))

    @contextlib.contextmanager
    def expect(self, error: type[Exception]) -> Iterator[None]:
        """Show the error that the block is meant to raise. Raises InvalidInput where it does not."""
        try:
            yield
        except error as raised:
            display(ErrorCard(raised))
            return
        raise InvalidInput(f"expected {error.__name__}, but nothing went wrong", hint="was the cell changed?")

    # ---- looking ----

    def tree(self, path: str | Path, *, depth: int = 3) -> trees.Tree:
        """A directory tree, ids cut short and in the order in which this notebook met them."""
        place = Path(os.path.expandvars(str(path)))
        return trees.read(place, depth=depth, order=self._order, title=portable(str(place)))

    def stage(self, title: str, *, depth: int = 6) -> trees.Tree:
        """The data root's tree now, compared with the stage before; the files of layers are only counted."""
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
        """The source of a function, class, method or property of the engine, with its file and first line.

        subject  the object, or its name: "images.import_", "Container.commit", "store.overlay2.Overlay2"

        Raises InvalidInput for an unknown name and for an object that the engine does not define.
        """
        return source.find(subject, self.engine if isinstance(subject, str) else None)

    # ---- exercises ----

    def check(self, number: int, answer: object, subject: object = None) -> Note:
        """Whether the answer to an exercise is right, or what to look at next. None means: not tried yet."""
        exercise = EXERCISES.get((self.number, number))
        if exercise is None:
            count = sum(1 for lab, _ in EXERCISES if lab == self.number)
            raise InvalidInput(f"lab {self.number} has no exercise {number}", hint=f"they are 1 to {count}")
        note = exercise.judge(answer, subject)
        return Note(note.kind, f"exercise {number}: {note.text}")

    # ---- how ----

    def _reset_root(self) -> None:
        if not self.data_root.exists():
            return
        for container in Engine(self.data_root).containers.list(all=True):
            container.remove(force=True)
        shutil.rmtree(self.data_root)

    def _base_tar(self, distribution: str) -> Path:
        """What lab 01 does before it imports, in lab 01's directory."""
        directory = self.labs / "01"
        tar = directory / f"{distribution}.tar"
        if tar.exists():
            return tar
        directory.mkdir(parents=True, exist_ok=True)
        _write_sources(distribution, directory / f"{distribution}.list")
        for command, made in ((MAKE_SYSTEM, directory / distribution), (PACK_SYSTEM, tar)):
            text = command.format(packages=PACKAGES, distribution=distribution)
            _run_once(f"LAB={shlex.quote(str(directory))}\n{text}", made)
        return tar


def _shared_root() -> Path:
    """The data root that labs share, also where a notebook's own root is set already."""
    root = Path(os.environ.get("LABCTR_ROOT") or DEFAULT_ROOT).absolute()
    own = root.name == "root" and root.parent.parent.name == "labs"
    return root.parents[2] if own else root


def _run_once(command: str, target: Path) -> None:
    # The marker outlives a kernel that is killed meanwhile: what lies there then is half-made.
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
        words = "\n".join(done.errors.strip().splitlines()[-5:])
        raise RuntimeFailed(f"{command} failed: {words}", hint="is there a network? try apt-get update first")


def _delete(target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    target.unlink(missing_ok=True)


def _write_sources(distribution: str, target: Path) -> None:
    """The mirrors that apt of this machine uses for Debian, as lines of a sources.list."""
    fields = "$(REPO_URI) $(CODENAME) $(COMPONENT)"
    known = programs.run(
        ["apt-get", "indextargets", "--format", fields, "Created-By: Packages", "Origin: Debian"]
    ).output
    repositories = [line.split() for line in sorted(set(known.splitlines()))]
    suites = {distribution, f"{distribution}-updates", f"{distribution}-security"}
    wanted = [repository for repository in repositories if repository[1] in suites]
    if not wanted:  # another distribution than the machine's: same mirror, its main suite
        wanted = [[uri, distribution, component] for uri, suite, component in repositories if "-" not in suite]
    if not wanted:
        raise RuntimeFailed("apt knows no Debian mirror", hint="apt-get update, then run the cell again")
    target.write_text("".join(f"deb {' '.join(repository)}\n" for repository in wanted))


def _first_step(engine: Engine, image: Image) -> Image:
    """The image of the build's first instruction: the uppermost ancestor that no name keeps from it.

    From there also the steps of earlier builds are found, whose name has moved on.
    """
    while (parent := image.attrs["Parent"]) and not (above := engine.images.get(parent)).tags:
        image = above
    return image


def _same_start(engine: Engine, image: Image) -> list[Image]:
    """The image, and if it is a base image also every other import of the same tar."""
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
    # Without pruning: the parents are still to be visited by whoever called this.
    engine.images.remove(image, force=True, noprune=True)
