"""Build a case with our engine and with a peer, and compare config, history and files of the images.

The peer is docker's classic builder; for what that does not know it is buildah, and for
what neither knows the Dockerfile reference, whose facts stand in the case.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import os
import re
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pylab_container import Engine, errors
from pylab_container.host import linux
from tests.compat.build_context import SECOND, Case, base_archive, write
from tests.compat.copy_cases import SITE
from tests.support.dockerd import Docker
from tests.support.fixtures import engine_on


@dataclass(frozen=True)
class Built:
    """The result of a build: "/path", "config.<field>", "history.<step>" or "author" → value."""

    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Refused:
    """The error message of a builder that refused the case."""

    words: str


Outcome = Built | Refused

# A time from here on is "now": none that was kept. Some tools round down, and the clock of files lags a little.
STARTED = time.time() - 2
BUILDAH_LEAVES = ("/etc", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/run")


def assert_same(case: Case, ours: Ours, expected: Mapping[str, Future[Outcome]]) -> None:
    """Build a case, and compare the result with the peer's."""
    theirs = expected[case.claim].result() if case.claim in expected else promised(case)
    if case.refused is not None:
        assert_refused(theirs, case.refused, by=case.peer)
        assert_refused(ours.build(case), case.refused, by="us")
    else:
        assert isinstance(theirs, Built), f"{case.peer}: {theirs.words}"
        built = ours.build(case)
        assert isinstance(built, Built), built.words
        found = list(differences(theirs.facts, built.facts, peer=case.peer))
        assert not found, "\n".join(found)


def promised(case: Case) -> Outcome:
    """Return the result that the Dockerfile reference requires, for a feature that no peer supports."""
    return Built(case.facts) if case.refused is None else Refused(case.refused)


def assert_refused(outcome: Outcome, words: str, *, by: str) -> None:
    assert isinstance(outcome, Refused), f"{by} built it"
    assert words.lower() in outcome.words.lower(), f"{by}: {outcome.words}"


def differences(theirs: Mapping[str, Any], ours: Mapping[str, Any], *, peer: str) -> Iterator[str]:
    """Return a line for each fact that differs.

    Of buildah only files are compared, for its configs have fields of their own, and not those
    that its RUN leaves. The reference says something about some facts, and nothing about times.
    """
    for name in sorted(theirs if peer == "reference" else {*theirs, *ours}):
        if peer == "buildah" and (not name.startswith("/") or name == "/" or name in BUILDAH_LEAVES):
            continue
        expected, got = theirs.get(name, "nothing"), ours.get(name, "nothing")
        if peer == "reference" and name.startswith("/"):
            got = re.sub(r"^(\S+ \S+) \S+", r"\1", got)
        if expected != got:
            yield f"{name}: expected {expected}, got {got}"


# -- ours --------------------------------------------------------------------------------------


class Ours:
    """Our engine with the base image."""

    def __init__(self, engine: Engine, scratch: Path, site: str) -> None:
        self.engine, self.scratch, self.site = engine, scratch, site

    def build(self, case: Case) -> Outcome:
        with tempfile.TemporaryDirectory(dir=self.scratch) as directory:
            for name, text in case.images.items():
                write(Case("", text, {}), Path(directory, name))
                self.engine.images.build(Path(directory, name), tag=name)
            context = Path(directory, "context")
            write(case, context)
            target = {"target": case.target} if case.target else {}
            try:
                image = self.engine.images.build(
                    context,
                    dockerfile=str(context / case.path),
                    buildargs=arguments(case, self.site),
                    labels=case.labels,
                    nocache=True,
                    **target,  # type: ignore[arg-type]
                )
            except errors.LabError as error:
                return Refused(str(error))
            with mounted(image.attrs["GraphDriver"]["Data"]) as root:
                return Built({**image_facts(image.config.document), **listing(root)})


@contextlib.contextmanager
def our_builder(directory: Path, site: str) -> Iterator[Ours]:
    """Our engine with the base image, in a directory."""
    with engine_on(directory / "root") as engine:
        (directory / "base.tar").write_bytes(base_archive())
        engine.images.import_(directory / "base.tar", "base")
        yield Ours(engine, directory, site)


# -- theirs ------------------------------------------------------------------------------------


@contextlib.contextmanager
def peers_build(
    cases: Sequence[Case], docker: Docker, directory: Path, site: str
) -> Iterator[Mapping[str, Future[Outcome]]]:
    """Let the peers build cases ahead, in threads; what they make of each, by its claim."""
    (directory / "base.tar").write_bytes(base_archive())
    with contextlib.ExitStack() as stack:
        peers: dict[str, Callable[[Case], Outcome]] = {}
        if any(case.peer == "docker" for case in cases):
            docker.run("import", directory / "base.tar", "base")
            peers["docker"] = lambda case: docker_builds(docker, case, directory, site)
        if any(case.peer == "buildah" for case in cases):
            buildah = Buildah(directory)
            stack.callback(buildah.close)
            peers["buildah"] = buildah.build
        pool = stack.enter_context(ThreadPoolExecutor(4))
        stack.callback(pool.shutdown, cancel_futures=True)
        yield {case.claim: pool.submit(peers[case.peer], case) for case in cases if case.peer in peers}


def docker_builds(docker: Docker, case: Case, scratch: Path, site: str) -> Outcome:
    with tempfile.TemporaryDirectory(dir=scratch) as directory:
        for name, text in case.images.items():
            write(Case("", text, {}), Path(directory, name))
            docker.run("build", "--quiet", "--network=none", f"--tag={name}", Path(directory, name))
        context = Path(directory, "context")
        write(case, context)
        options = ["--quiet", "--no-cache", "--network=none", f"--file={context / case.path}"]
        options += [f"--build-arg={name}={value}" for name, value in arguments(case, site).items()]
        options += [f"--label={name}={value}" for name, value in case.labels.items()]
        options += [f"--target={case.target}"] if case.target else []
        done = subprocess.run(
            ["docker", "build", *options, context], capture_output=True, text=True, env=docker.environment
        )
        if done.returncode:
            return Refused(done.stderr.strip().splitlines()[-1])
        image = docker.api.get(f"/images/{done.stdout.strip()}/json").document
        with mounted(image["GraphDriver"]["Data"]) as root:
            return Built({**image_facts(docker.config(image["Id"])), **listing(root)})


# Without these buildah raises both limits to values of its own, which needs CAP_SYS_RESOURCE. Only its configuration
# replaces them: where an option names a limit, buildah 1.28 sets its own value first and then the option's.
BUILDAH_LIMITS = '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n'


class Buildah:
    """buildah on a storage of its own."""

    def __init__(self, directory: Path) -> None:
        self._scratch = directory
        (directory / "containers.conf").write_text(BUILDAH_LIMITS)
        self._storage = [f"--root={directory}/buildah", f"--runroot={directory}/run", "--storage-driver=overlay"]
        container = self._run("from", "scratch")
        self._run("add", container, directory / "base.tar", "/")
        self._run("commit", container, "base")
        self._run("rm", container)

    def build(self, case: Case) -> Outcome:
        with tempfile.TemporaryDirectory(dir=self._scratch) as directory:
            context = Path(directory, "context")
            write(case, context)
            options = ["--quiet", "--no-cache", "--layers=false", "--isolation=chroot", f"--file={context / case.path}"]
            options += [f"--build-arg={name}={value}" for name, value in case.buildargs.items()]
            options += [f"--target={case.target}"] if case.target else []
            try:
                image = self._run("build", *options, context)
            except subprocess.CalledProcessError as error:
                return Refused(error.stderr)
            container = self._run("from", image)
            try:
                return Built(listing(Path(self._run("mount", container))))
            finally:
                self._run("rm", container)

    def close(self) -> None:
        self._run("rm", "--all")

    def _run(self, *words: str | Path) -> str:
        command = ["buildah", *self._storage, *map(str, words)]
        # What RUN --mount=type=cache keeps would stay in /var/tmp.
        environment = {
            **os.environ,
            "TMPDIR": str(self._scratch),
            "CONTAINERS_CONF": str(self._scratch / "containers.conf"),
        }
        return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.strip()


# -- what is compared --------------------------------------------------------------------------


def arguments(case: Case, site: str) -> dict[str, str]:
    """The build arguments; where one says SITE, the address of our HTTP server."""
    return {name: value.replace("SITE", site) for name, value in case.buildargs.items()}


def image_facts(document: Mapping[str, Any]) -> dict[str, Any]:
    """An image config without ids and times, field by field."""
    fields = {f"config.{name}": value for name, value in document["config"].items() if name != "Image"}
    history = {f"history.{number}": step_facts(step) for number, step in enumerate(document["history"])}
    return {**fields, **history, "author": document.get("author", "")}


def step_facts(step: Mapping[str, Any]) -> str:
    text = re.sub(r"(file|dir|multi):[0-9a-f]{64}", r"\1:…", step.get("created_by", ""))
    text = re.sub(r"127.0.0.1:\d+", "SITE", text)
    comment = re.sub("Imported from .*", "Imported from …", step.get("comment", ""))
    marks = [comment, step.get("author", ""), "empty" if step.get("empty_layer") else ""]
    return " | ".join([text, *filter(None, marks)])


@contextlib.contextmanager
def mounted(data: Mapping[str, str] | None) -> Iterator[Path]:
    """Mount the layers of an image read-only as one tree; data is GraphDriver.Data of inspect, None without layers."""
    layers = [data[name] for name in ("UpperDir", "LowerDir") if name in data] if data else []
    with tempfile.TemporaryDirectory() as directory:
        root, nothing, void = (Path(directory, name) for name in ("root", "nothing", "void"))
        for path in (root, nothing, void):  # overlayfs wants two directories at least
            path.mkdir()
        lower = ":".join([*layers, str(nothing), str(void)])
        linux.mount("overlay", str(root), "overlay", linux.MS_RDONLY, f"lowerdir={lower}")
        try:
            yield root
        finally:
            linux.umount(str(root), linux.MNT_DETACH)  # a program that another thread starts may hold a file of it


def listing(root: Path) -> dict[str, str]:
    """path: mode, owner, time, content, another name, extended attributes of everything."""
    first: dict[int, str] = {}
    facts = {}
    for directory, names, others in os.walk(root):
        names.sort()  # which of a file's names comes first is not for the file system to say, nor is where we go next
        others.sort()
        for name in [".", *names, *others] if directory == str(root) else [*names, *others]:
            path = os.path.join(directory, name)
            shown = "/" if name == "." else "/" + os.path.relpath(path, root)
            facts[shown] = _fact(path, shown, first)
    return facts


def _fact(path: str, shown: str, first: dict[int, str]) -> str:
    status = os.lstat(path)
    seconds, rest = divmod(status.st_mtime_ns, SECOND)
    when = "now" if seconds >= STARTED else f"{seconds}" + f".{rest:09}" * (rest != 0)
    parts = [stat.filemode(status.st_mode), f"{status.st_uid}:{status.st_gid}", when]
    if stat.S_ISREG(status.st_mode):
        parts.append(_content(Path(path)))
        if status.st_nlink > 1 and (same := first.setdefault(status.st_ino, shown)) != shown:
            parts.append(f"= {same}")
    elif stat.S_ISLNK(status.st_mode):
        parts.append(f"-> {os.readlink(path)}")
    elif stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
        parts.append(f"{os.major(status.st_rdev)},{os.minor(status.st_rdev)}")
    attributes = os.listxattr(path, follow_symlinks=False)
    parts += [f"{name}={os.getxattr(path, name, follow_symlinks=False).hex()}" for name in sorted(attributes)]
    return " ".join(parts)


def _content(path: Path) -> str:
    content = path.read_bytes()
    return repr(content)[1:] if len(content) <= 200 else hashlib.sha256(content).hexdigest()


@contextlib.contextmanager
def serving_site() -> Iterator[str]:
    """Run an HTTP server with the files of SITE, for ADD; its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content, headers = SITE.get(self.path.partition("?")[0], (None, {}))
            self.send_response(404 if content is None else 200)
            for name, value in {**headers, "Content-Length": str(len(content or b""))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *words: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
