"""Builds whose context lies behind a URL or in a git repository: real servers on loopback, the real git."""

from __future__ import annotations

import functools
import http.server
import io
import socket
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pylab_container import Engine
from pylab_container.errors import InvalidInput, RuntimeFailed
from pylab_container.images.image import Image
from tests.support.commands import Labctr
from tests.support.network import free_port
from tests.support.waiting import eventually

pytestmark = pytest.mark.shared_engine

TEXT = b"FROM busybox:1\nLABEL from=elsewhere\n"


def archive(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(None, "w:gz", stream) as made:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            made.addfile(member, io.BytesIO(content))
    return stream.getvalue()


FILES = {
    "/Dockerfile": TEXT,
    "/context.tar.gz": archive({"Dockerfile": TEXT + b"COPY file /\n", "file": b"1", "other/Named": TEXT}),
    "/broken.tar": b"no archive, and no Dockerfile\0",
}


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    """A web server; its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = FILES.get(self.path)
            self.send_response(404 if found is None else 200)
            self.send_header("Content-Length", str(len(found or b"")))
            self.end_headers()
            self.wfile.write(found or b"")

        def log_message(self, format: str, *arguments: object) -> None:
            """Nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def git(directory: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=T", "-c", "user.email=t@example.org"]
    command = ["git", "-C", str(directory), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A repository with a branch, a tag, a folder and a link out of it, and the URL where a git server has it."""
    base = tmp_path_factory.mktemp("git")
    work = base / "demo"
    (work / "sub").mkdir(parents=True)
    git(work, "init", "--quiet", "--initial-branch=trunk")
    (work / "Dockerfile").write_bytes(TEXT)
    (work / "sub/Dockerfile").write_text("FROM busybox:1\nLABEL from=sub\n")
    (work / "out").symlink_to("/etc")
    git(work, "add", ".")
    git(work, "commit", "--quiet", "-m", "one")
    git(work, "tag", "v1")
    git(work, "switch", "--quiet", "-c", "later")
    (work / "Dockerfile").write_text("FROM busybox:1\nLABEL from=later\n")
    git(work, "commit", "--quiet", "-am", "two")
    git(work, "switch", "--quiet", "trunk")
    port = free_port()
    command = ["git", "daemon", "--export-all", f"--base-path={base}", "--listen=127.0.0.1", f"--port={port}"]
    with subprocess.Popen([*command, "--reuseaddr"], stderr=subprocess.DEVNULL) as server:
        try:
            _await(port)
            yield f"git://127.0.0.1:{port}/demo", work
        finally:
            # What listens is a child of git(1), which hands on its own end.
            server.terminate()


def _await(port: int) -> None:
    def answers() -> bool:
        with socket.socket() as one:
            return one.connect_ex(("127.0.0.1", port)) == 0

    eventually(answers)


def label(image: Image) -> str:
    return str(image.attrs["Config"]["Labels"]["from"])


def test_a_url_leads_to_a_dockerfile_or_to_an_archive(engine: Engine, image: Image, web: str) -> None:
    alone, whole = engine.images.build(f"{web}/Dockerfile"), engine.images.build(f"{web}/context.tar.gz")
    named = engine.images.build(f"{web}/context.tar.gz", dockerfile="other/Named")
    assert [label(one) for one in (alone, whole, named)] == ["elsewhere"] * 3
    assert len(whole.history()) == len(alone.history()) + 1


@pytest.fixture(scope="module")
def bare(demo: tuple[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the same repository as files alone, on a server that knows nothing of git."""
    base = tmp_path_factory.mktemp("bare")
    git(base, "clone", "--quiet", "--bare", str(demo[1]), "demo.git")
    git(base / "demo.git", "update-server-info")
    handler = functools.partial(_Quiet, directory=str(base))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/demo.git"
        server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing."""


@pytest.mark.parametrize(("name", "expected"), [("", "elsewhere"), ("#later", "later"), ("#v1:sub", "sub")])
def test_a_repository_may_be_bare_files(engine: Engine, image: Image, bare: str, name: str, expected: str) -> None:
    assert label(engine.images.build(bare + name)) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("", "elsewhere"),
        ("#v1", "elsewhere"),
        ("#later", "later"),
        ("#:sub", "sub"),
        ("#later:sub", "sub"),
        ("#:../..", "elsewhere"),
    ],
)
def test_a_repository_is_built_as_a_branch_or_tag_has_it(
    engine: Engine, image: Image, demo: tuple[str, Path], name: str, expected: str
) -> None:
    assert label(engine.images.build(demo[0] + name)) == expected


def test_a_repository_is_built_as_a_commit_has_it(engine: Engine, image: Image, demo: tuple[str, Path]) -> None:
    url, work = demo
    commit = git(work, "rev-parse", "--short", "later")
    assert label(engine.images.build(f"{url}#{commit}")) == "later"


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("#nosuch", InvalidInput, "nosuch is not a branch, tag or commit"),
        ("#:nosuch", InvalidInput, "no directory nosuch"),
        ("#:Dockerfile", InvalidInput, "no directory Dockerfile"),
        ("#:out", InvalidInput, "no directory out"),
        ("#--upload-pack=touch", InvalidInput, "invalid refspec"),
        ("-nosuch", RuntimeFailed, "git fetch failed"),
    ],
)
def test_what_a_repository_does_not_have_is_told(
    engine: Engine,
    image: Image,
    demo: tuple[str, Path],
    tmp_path: Path,
    name: str,
    error: type[Exception],
    words: str,
) -> None:
    with pytest.raises(error, match=words):
        engine.images.build(demo[0] + name)
    assert list((engine.data_root / "tmp").glob("*")) == []


def test_a_submodule_never_brings_files_of_this_machine(
    engine: Engine, image: Image, demo: tuple[str, Path], tmp_path: Path
) -> None:
    url, work = demo
    inner = tmp_path / "inner"
    inner.mkdir()
    git(inner, "init", "--quiet")
    git(inner, "commit", "--quiet", "--allow-empty", "-m", "one")
    git(work, "switch", "--quiet", "-c", "hostile")
    git(work, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", f"file://{inner}", "inner")
    git(work, "commit", "--quiet", "-m", "hostile")
    git(work, "switch", "--quiet", "trunk")
    with pytest.raises(RuntimeFailed, match="transport 'file' not allowed"):
        engine.images.build(f"{url}#hostile")


def test_labctr_builds_from_a_url(labctr: Labctr, image: Image, web: str) -> None:
    done = labctr("build", "-q", "-t", "remote:2", f"{web}/Dockerfile")
    assert (done.returncode, done.stderr) == (0, "")
    assert labctr("build", f"{web}/broken.tar", check=False).returncode == 1
