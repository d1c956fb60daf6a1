"""Benchmarks of our engine and of dockerd (or buildah), alternating on one machine.

    scripts/bench                       everything, five pairs each
    scripts/bench run --pairs 20        only this, more often

Each benchmark runs in pairs, ours and the peer's, the first of a pair changing places; what is
reported are medians, and the median of the ratios within the pairs: what slows the machine down
for a while slows down both. dockerd runs in a network namespace of its own, so its bridge and its
iptables rules vanish with it. The table is printed and written to build/bench/report.md.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import itertools
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
SCRATCH = REPOSITORY / "build/bench"
# About 190 MB in 9000 files.
BASE = ("mmdebstrap", "--variant=minbase", "--include=iproute2", "--quiet", "bookworm")

Measure = Callable[[], float]


@dataclass(frozen=True)
class Benchmark:
    """One thing to do, by us and by a peer; both return seconds or bytes."""

    name: str
    unit: str
    ours: Measure
    theirs: Measure
    peer: str = "dockerd"


class Lab:
    """The commands that run our engine, and their data root."""

    def __init__(self, scratch: Path, *, root: str = "labctr") -> None:
        self.scratch = scratch
        installed = Path(sys.executable).with_name("labctr")
        command = [str(installed)] if installed.exists() else [sys.executable, "-m", "pylab_container"]
        self.root = scratch / root
        self.command = [*command, "--root", str(self.root)]
        self.engine: Any = None
        self.environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}


class Docker:
    """The docker command, and the dockerd that it talks to."""

    def __init__(self, scratch: Path) -> None:
        self.command = ["docker", "--host", f"unix://{scratch}/socket"]
        self.environment = dict(os.environ)
        options = [f"--data-root={scratch}/docker", f"--exec-root={scratch}/exec", f"--pidfile={scratch}/pid"]
        daemon = ["unshare", "--net", "dockerd", *options, f"--host=unix://{scratch}/socket", "--bip=172.31.99.1/24"]
        with open(scratch / "log", "wb") as log:
            self.daemon = subprocess.Popen(daemon, stdout=log, stderr=log)
        while subprocess.run([*self.command, "version"], capture_output=True).returncode:
            if self.daemon.poll() is not None:
                raise SystemExit((scratch / "log").read_text())
            time.sleep(0.2)

    def stop(self) -> None:
        self.daemon.terminate()
        self.daemon.wait(60)


class Buildah:
    """buildah on a storage of its own; its steps run in runc, as ours and Docker's do."""

    def __init__(self, scratch: Path, tar: Path) -> None:
        self.command = ["buildah", f"--root={scratch}/buildah", f"--runroot={scratch}/buildah-run"]
        self.environment = {**os.environ, "STORAGE_DRIVER": "overlay"}
        self._scratch = scratch
        self._tar = tar

    def prepare(self) -> None:
        """Create the base image, unless an earlier call has created it."""
        if (self._scratch / "buildah").exists():
            return
        container = self._output("from", "scratch")
        self._output("add", container, str(self._tar), "/")
        self._output("commit", container, "bench:base")
        self._output("rm", container)

    def _output(self, *arguments: str) -> str:
        done = subprocess.run(
            [*self.command, *arguments], env=self.environment, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()


Side = Lab | Docker | Buildah


def timed(side: Side, *arguments: str) -> float:
    """Seconds that a command takes from the shell's point of view."""
    started = time.perf_counter()
    subprocess.run([*side.command, *arguments], env=side.environment, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def timed_here(lab: Lab) -> float:
    """Seconds that the same run takes in a process that has the engine already, as a notebook has."""
    from pylab_container import Engine

    if lab.engine is None:
        lab.engine = Engine(lab.root)
    started = time.perf_counter()
    lab.engine.containers.run("bench:base", "true", remove=True)
    return time.perf_counter() - started


class Fresh:
    """Tars with a new digest at each call: the base system and one small file with new content.

    Importing the same tar repeatedly would measure deletion: the layer exists already, so the
    engine deletes the new copy at once, and for a minute ext4 skips each inode that was freed
    (ext4_new_inode, recently_deleted). A single import then takes six times as long.
    """

    def __init__(self, base: Path, scratch: Path) -> None:
        self.scratch = scratch
        self._base = base
        self._tar = scratch / "fresh.tar"
        self._count = 0

    def tar(self) -> Path:
        """The next one, in the place of the last."""
        self._count += 1
        shutil.copyfile(self._base, self._tar)
        member = tarfile.TarInfo(f"./bench-{self._count}")
        with tarfile.open(self._tar, "a") as archive:
            archive.addfile(member)
        os.sync()  # what is left to write must not count
        return self._tar


def timed_import(side: Side, fresh: Fresh) -> float:
    tar = fresh.tar()
    return timed(side, "import", str(tar), "bench:import")


def timed_commit(side: Side, number: Iterator[int]) -> float:
    """Commit a container that wrote about 190 MB in some thousand files."""
    name = f"bench-{next(number)}"
    timed(side, "run", "--name", name, "--network", "none", "bench:base", "sh", "-c", f"cp -a /usr /{name}")
    os.sync()
    return timed(side, "commit", name, f"bench:{name}")  # not removed: see Fresh, on deletions


def timed_save(side: Side) -> float:
    with tempfile.TemporaryDirectory() as scratch:
        os.sync()
        return timed(side, "save", "-o", f"{scratch}/saved.tar", "bench:base")


def timed_load(side: Side, maker: Lab, fresh: Fresh) -> float:
    """Load an archive with a layer that is new to the engine; a third engine creates the archive."""
    timed(maker, "import", str(fresh.tar()), "bench:load")
    saved = fresh.scratch / "load.tar"
    timed(maker, "save", "-o", str(saved), "bench:load")
    os.sync()
    return timed(side, "load", "-q", "-i", str(saved))


class Registry:
    """Debian's docker-registry, which one side pulls from and pushes to.

    inside  the command before each program that speaks to it: dockerd's network is its own
    """

    def __init__(self, scratch: Path, inside: Sequence[str] = ()) -> None:
        self.host = "127.0.0.1:5999"
        self.inside = inside
        scratch.mkdir()
        config = {
            "version": "0.1",
            "log": {"level": "error"},
            "storage": {"filesystem": {"rootdirectory": str(scratch / "data")}},
            "http": {"addr": self.host},
        }
        (scratch / "config.yml").write_text(json.dumps(config))
        with open(scratch / "log", "wb") as log:
            command = [*inside, "docker-registry", "serve", str(scratch / "config.yml")]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        time.sleep(1)
        if self.process.poll() is not None:
            raise SystemExit((scratch / "log").read_text())

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)


@dataclass
class Registries:
    """A registry for each of the two, and an engine that fills them."""

    maker: Lab
    fresh: Fresh
    of: dict[int, Registry]
    number: Iterator[int]

    @classmethod
    @contextlib.contextmanager
    def running(cls, lab: Lab, docker: Docker, maker: Lab, fresh: Fresh) -> Iterator[Registries]:
        inside = ["nsenter", f"--net=/proc/{docker.daemon.pid}/ns/net"]
        subprocess.run([*inside, "ip", "link", "set", "lo", "up"], check=True)
        ours, theirs = Registry(lab.scratch / "ours"), Registry(lab.scratch / "theirs", inside)
        try:
            yield cls(maker, fresh, {id(lab): ours, id(docker): theirs}, itertools.count())
        finally:
            ours.stop()
            theirs.stop()


def timed_pull(side: Side, registries: Registries) -> float:
    """Pull an image with one layer that is new to the engine."""
    registry = registries.of[id(side)]
    name = f"{registry.host}/pull-{next(registries.number)}:1"
    timed(registries.maker, "import", str(registries.fresh.tar()), name)
    push = [*registry.inside, *registries.maker.command, "push", "--quiet", name]
    subprocess.run(push, env=registries.maker.environment, stdout=subprocess.DEVNULL, check=True)
    os.sync()
    return timed(side, "pull", "--quiet", name)


def timed_push(side: Side, registries: Registries) -> float:
    """Push an image with one layer that the registry has not seen."""
    name = f"{registries.of[id(side)].host}/push-{next(registries.number)}:1"
    timed(side, "import", str(registries.fresh.tar()), name)
    os.sync()
    return timed(side, "push", "--quiet", name)


SEVEN_STEPS = """FROM bench:base
ENV GREETING=hello
RUN mkdir /srv/site && echo "$GREETING" > /srv/site/index.html
COPY page /srv/site/
RUN cat /srv/site/page >> /srv/site/index.html
EXPOSE 80
CMD ["sh"]
"""


def context_of(scratch: Path, name: str, dockerfile: str, files: int) -> Path:
    """Create a build context with a number of files of 1 kB, 100 in each directory."""
    directory = scratch / name
    if not directory.exists():
        directory.mkdir()
        (directory / "Dockerfile").write_text(dockerfile)
        (directory / "page").write_text("a page\n")
        for number in range(files):
            path = directory / f"tree/{number // 100}/{number}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{number}\n" * (1024 // (len(str(number)) + 1)))
    return directory


def timed_build(side: Side, context: Path, *options: str) -> float:
    side.environment["DOCKER_BUILDKIT"] = "0"  # the classic builder
    if isinstance(side, Buildah):
        side.prepare()
        return timed(side, "build", "--quiet", "--runtime=runc", *options, str(context))
    return timed(side, "build", "--quiet", *options, str(context))


def timed_addition(side: Side, context: Path, number: Iterator[int]) -> float:
    """Copy ten thousand files. One of them has changed, so the build cache misses."""
    (context / "tree/new").write_text(str(next(number)))
    os.sync()
    return timed_build(side, context)


def our_import_memory(lab: Lab, tar: Path) -> float:
    """The process's largest resident set: one process does it all."""
    process = subprocess.Popen(
        [*lab.command, "import", str(tar), "bench:import"], env=lab.environment, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    timed(lab, "rmi", "bench:import")
    return usage.ru_maxrss * 1024.0


def their_import_memory(docker: Docker, tar: Path) -> float:
    """Return the peak resident set of dockerd during an import (VmHWM in proc(5); clear_refs 5 resets it)."""
    process = Path(f"/proc/{docker.daemon.pid}")
    (process / "clear_refs").write_text("5")
    timed(docker, "import", str(tar), "bench:import")
    (peak,) = [line.split()[1] for line in (process / "status").read_text().splitlines() if line.startswith("VmHWM")]
    timed(docker, "rmi", "bench:import")
    return float(peak) * 1024


class Listing:
    """Both daemons with three running containers each, made at the first measurement."""

    names = ("listed1", "listed2", "listed3")

    def __init__(self, lab: Lab, docker: Docker) -> None:
        self.sides: tuple[Lab, Docker] = (lab, docker)
        self.sockets = {id(lab): lab.scratch / "labctr-socket", id(docker): lab.scratch / "socket"}
        self.daemon: subprocess.Popen[bytes] | None = None

    def timed(self, side: Side) -> float:
        """Seconds for 500 requests for the list of containers, on one connection."""
        if self.daemon is None:
            self._start()
        connection = http.client.HTTPConnection("daemon")
        connection.sock = socket.socket(socket.AF_UNIX)
        with contextlib.closing(connection):
            connection.sock.connect(str(self.sockets[id(side)]))
            started = time.perf_counter()
            for _ in range(500):
                connection.request("GET", "/v1.41/containers/json")
                answer = connection.getresponse()
                if answer.status != 200 or len(json.loads(answer.read())) != len(self.names):
                    raise SystemExit(f"daemon-list: status {answer.status}")
            return time.perf_counter() - started

    def _start(self) -> None:
        lab, _ = self.sides
        for number in range(2 * len(self.names)):
            side, name = self.sides[number % 2], self.names[number // 2]
            timed(side, "run", "-d", "--name", name, "bench:base", "sleep", "1000")
        path = self.sockets[id(lab)]
        self.daemon = subprocess.Popen(
            [*lab.command, "daemon", "-H", f"unix://{path}"], env=lab.environment, stderr=subprocess.DEVNULL
        )
        while not path.exists():
            if self.daemon.poll() is not None:
                raise SystemExit("labctr daemon did not start")
            time.sleep(0.05)

    def stop(self) -> None:
        if self.daemon is not None:
            self.daemon.terminate()
            self.daemon.wait(60)
            for side in self.sides:
                timed(side, "rm", "-f", *self.names)


def benchmarks(
    lab: Lab, docker: Docker, tar: Path, fresh: Fresh, maker: Lab, registries: Registries, listing: Listing
) -> list[Benchmark]:
    number, buildah = itertools.count(), Buildah(lab.scratch, tar)
    seven = context_of(lab.scratch, "seven", SEVEN_STEPS, 0)
    many = context_of(lab.scratch, "many", "FROM bench:base\nCOPY tree /tree\n", 10_000)
    new = (seven, "--no-cache")
    run, alone = ("run", "--rm", "bench:base", "true"), ("run", "--rm", "--network", "none", "bench:base", "true")
    return [
        Benchmark("import", "s", lambda: timed_import(lab, fresh), lambda: timed_import(docker, fresh)),
        Benchmark("commit", "s", lambda: timed_commit(lab, number), lambda: timed_commit(docker, number)),
        Benchmark("save", "s", lambda: timed_save(lab), lambda: timed_save(docker)),
        Benchmark("load", "s", lambda: timed_load(lab, maker, fresh), lambda: timed_load(docker, maker, fresh)),
        Benchmark("pull", "s", lambda: timed_pull(lab, registries), lambda: timed_pull(docker, registries)),
        Benchmark("push", "s", lambda: timed_push(lab, registries), lambda: timed_push(docker, registries)),
        Benchmark("memory", "MB", lambda: our_import_memory(lab, tar), lambda: their_import_memory(docker, tar)),
        Benchmark("run", "s", lambda: timed(lab, *run), lambda: timed(docker, *run)),
        Benchmark("run-from-notebook", "s", lambda: timed_here(lab), lambda: timed(docker, *run)),
        Benchmark("run-without-network", "s", lambda: timed(lab, *alone), lambda: timed(docker, *alone)),
        Benchmark("build", "s", lambda: timed_build(lab, *new), lambda: timed_build(docker, *new)),
        Benchmark("build-buildah", "s", lambda: timed_build(lab, *new), lambda: timed_build(buildah, *new), "buildah"),
        Benchmark("build-cached", "s", lambda: timed_build(lab, seven), lambda: timed_build(docker, seven)),
        Benchmark(
            "build-10000-files",
            "s",
            lambda: timed_addition(lab, many, number),
            lambda: timed_addition(docker, many, number),
        ),
        Benchmark("daemon-list", "s", lambda: listing.timed(lab), lambda: listing.timed(docker)),
    ]


NAMES: tuple[str, ...] = ("import", "commit", "save", "load", "pull", "push", "memory")
NAMES += ("run", "run-from-notebook", "run-without-network")
NAMES += ("build", "build-buildah", "build-cached", "build-10000-files", "daemon-list")


def pairs(benchmark: Benchmark, count: int) -> list[tuple[float, float]]:
    """`count` pairs (ours, theirs), after one that only warms up."""
    measured = []
    for number in range(count + 1):
        if number % 2:
            ours = benchmark.ours()
            theirs = benchmark.theirs()
        else:
            theirs = benchmark.theirs()
            ours = benchmark.ours()
        measured.append((ours, theirs))
    return measured[1:]


def row(benchmark: Benchmark, measured: Sequence[tuple[float, float]]) -> str:
    scale = 1e6 if benchmark.unit == "MB" else 1.0
    ours, theirs = (statistics.median(side) / scale for side in zip(*measured, strict=True))
    ratios = sorted(mine / other for mine, other in measured)
    spread = f"{ratios[0]:.2f}–{ratios[-1]:.2f}"
    numbers = (
        f"{ours:.3g} {benchmark.unit} | {theirs:.3g} {benchmark.unit} | {statistics.median(ratios):.2f} | {spread}"
    )
    return f"| {benchmark.name} | {benchmark.peer} | {numbers} | {len(measured)} |"


def base_tar() -> Path:
    """A Debian base system, made once."""
    path = SCRATCH / "base.tar"
    if not path.exists():
        SCRATCH.mkdir(parents=True, exist_ok=True)
        subprocess.run([*BASE, str(path.with_suffix(".new.tar"))], check=True)
        path.with_suffix(".new.tar").rename(path)
    return path


@contextlib.contextmanager
def both(tar: Path) -> Iterator[tuple[Lab, Docker]]:
    """Both engines on empty data roots with the image bench:base; nothing is left of them afterwards."""
    # Next to the report, on the same disk; the sockets in it want a short path.
    scratch = Path(tempfile.mkdtemp(prefix="labctr-bench-"))
    docker = Docker(scratch)
    try:
        lab = Lab(scratch)
        for side in (lab, docker):
            timed(side, "import", str(tar), "bench:base")
        yield lab, docker
    finally:
        docker.stop()
        subprocess.run(["umount", "--lazy", "--quiet", "--recursive", str(scratch / "exec/netns/default")], check=False)
        shutil.rmtree(scratch)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure our engine against dockerd, in pairs.")
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], metavar="NAME", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--pairs", type=int, default=5, help="how many pairs of each (default 5)")
    chosen = parser.parse_args()
    tar = base_tar()
    lines = [
        f"Base: {tar.stat().st_size / 1e6:.0f} MB. Kernel {os.uname().release}, {os.cpu_count()} processors.\n",
        "| benchmark | peer | ours | the peer's | ours / the peer's | range | pairs |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    print(*lines, sep="\n", flush=True)
    with both(tar) as (lab, docker):
        fresh, maker, listing = Fresh(tar, lab.scratch), Lab(lab.scratch, root="maker"), Listing(lab, docker)
        with Registries.running(lab, docker, maker, fresh) as registries, contextlib.ExitStack() as stack:
            stack.callback(listing.stop)
            for benchmark in benchmarks(lab, docker, tar, fresh, maker, registries, listing):
                if not chosen.names or benchmark.name in chosen.names:
                    lines.append(row(benchmark, pairs(benchmark, chosen.pairs)))
                    print(lines[-1], flush=True)
    (SCRATCH / "report.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
