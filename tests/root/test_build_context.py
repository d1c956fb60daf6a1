"""The build context: its sources, its files, what source arguments match, and that no path leads out of it."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import os
import socket
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import zstandard

from pylab_container.build.context import BuildContext
from pylab_container.build.copy_instruction import CopyOptions, Sources, gather
from pylab_container.build.opened_context import OpenedContext, Scratch, open_context
from pylab_container.dockerfile.dockerignore import IgnorePatterns
from pylab_container.errors import InvalidArchive, InvalidInput

DOCKERFILE = b"FROM scratch\nCOPY . /\n"


@pytest.fixture
def scratch(tmp_path: Path) -> Scratch:
    @contextlib.contextmanager
    def directory() -> Iterator[Path]:
        with tempfile.TemporaryDirectory(dir=tmp_path) as name:
            yield Path(name)

    return directory


def write(directory: Path, files: Mapping[str, str]) -> Path:
    """Files by name; a name that ends with a slash is a folder, "-> x" is a link to x."""
    directory.mkdir(exist_ok=True)
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir(exist_ok=True)
        elif content.startswith("-> "):
            path.symlink_to(content[3:])
        else:
            path.write_text(content)
    return directory


def archive(files: Mapping[str, str]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(None, "w", stream) as made:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            made.addfile(member, io.BytesIO(content.encode()))
    return stream.getvalue()


def names(context: BuildContext, *words: str, exclude: tuple[str, ...] = (), parents: bool = False) -> list[str]:
    """Return the names that source arguments match, as the cache's explanation shows them."""
    return sorted(found(context, *words, exclude=exclude, parents=parents).fingerprints)


def found(context: BuildContext, *words: str, exclude: tuple[str, ...] = (), parents: bool = False) -> Sources:
    return gather(context, words, [], CopyOptions(exclude=exclude, parents=parents))


def context_of(directory: Path, patterns: str = "") -> BuildContext:
    return BuildContext(directory, ignored=IgnorePatterns.parse(patterns))


# -- where it comes from -----------------------------------------------------------------------


def test_a_folder_gives_its_dockerfile(tmp_path: Path, scratch: Scratch) -> None:
    write(tmp_path / "c", {"Dockerfile": "FROM scratch\n", "a": "1"})
    with open_context(tmp_path / "c", scratch) as opened:
        assert opened.dockerfile == b"FROM scratch\n"
        assert opened.name == "Dockerfile"
        assert names(opened.context, ".") == ["Dockerfile", "a"]


def test_a_dockerfile_may_be_lowercase_named_in_the_context_or_lie_outside(
    tmp_path: Path, scratch: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = write(tmp_path / "c", {"dockerfile": "1", "sub/x.Dockerfile": "2"})
    write(tmp_path, {"outside": "3"})
    monkeypatch.chdir(tmp_path)
    expected = {
        None: (b"1", "dockerfile"),
        "sub/x.Dockerfile": (b"2", "sub/x.Dockerfile"),
        str(context / "sub/x.Dockerfile"): (b"2", "sub/x.Dockerfile"),
        "c/sub/x.Dockerfile": (b"2", "sub/x.Dockerfile"),
        "outside": (b"3", "outside"),
        str(tmp_path / "outside"): (b"3", str(tmp_path / "outside")),
    }
    for dockerfile, (text, name) in expected.items():
        with open_context("c", scratch, dockerfile=dockerfile) as opened:
            assert (opened.dockerfile, opened.name) == (text, name)


def test_a_dockerfile_from_a_stream_leaves_the_folder_as_context(tmp_path: Path, scratch: Scratch) -> None:
    context = write(tmp_path / "c", {"a": "1"})
    with open_context(context, scratch, dockerfile=io.BytesIO(DOCKERFILE)) as opened:
        assert opened.dockerfile == DOCKERFILE
        assert names(opened.context, ".") == ["a"]


@pytest.mark.parametrize(
    "compress", [bytes, gzip.compress, bz2.compress, lzma.compress, zstandard.compress], ids=["plain", *"gbxz"]
)
def test_an_archive_in_a_stream_is_unpacked_and_gone_afterwards(
    tmp_path: Path, scratch: Scratch, compress: Callable[[bytes], bytes]
) -> None:
    stream = io.BytesIO(compress(archive({"Dockerfile": "FROM scratch\n", "top/a": "1"})))
    with open_context(stream, scratch) as opened:
        assert opened.dockerfile == b"FROM scratch\n"
        assert names(opened.context, "top") == ["top", "top/a"]
    assert not list(tmp_path.iterdir())


def test_an_archive_never_writes_outside(tmp_path: Path, scratch: Scratch) -> None:
    stream = io.BytesIO(archive({"Dockerfile": "FROM scratch\n", "../../out": "1"}))
    with open_context(stream, scratch) as opened:
        assert names(opened.context, ".") == ["Dockerfile", "out"]
        (made,) = tmp_path.iterdir()
        assert sorted(os.listdir(made)) == ["Dockerfile", "out"]
    assert not list(tmp_path.iterdir())


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path: Path, scratch: Scratch) -> None:
    stream = io.BytesIO(gzip.compress(archive({"Dockerfile": "#" * (1 << 20)})))
    with pytest.raises(InvalidArchive, match="unpacks to more"), open_context(stream, scratch, limit=1 << 19):
        pass


def test_a_stream_with_a_dockerfile_has_an_empty_context(scratch: Scratch) -> None:
    with open_context(io.BytesIO(DOCKERFILE), scratch) as opened:
        assert opened == OpenedContext(opened.context, DOCKERFILE, "Dockerfile")
        with pytest.raises(InvalidInput, match="file not found in build context"):
            found(opened.context, "a")


def test_a_stream_that_comes_in_small_pieces_is_read_to_its_end(scratch: Scratch) -> None:
    reading, writing = os.pipe()
    text = b"FROM scratch\n" + b"# comment\n" * 500
    with open(writing, "wb") as sender:
        sender.write(text)
    with open(reading, "rb", buffering=0) as pipe, open_context(pipe, scratch) as opened:
        assert opened.dockerfile == text


def test_two_things_from_standard_input_are_refused(scratch: Scratch) -> None:
    with (
        pytest.raises(InvalidInput, match="can't use stdin for both"),
        open_context("-", scratch, dockerfile="-"),
    ):
        pass


@pytest.mark.parametrize("kind", ["missing", "folder", "fifo", "link out", "empty", "huge"])
def test_what_is_no_dockerfile_is_refused_and_never_waited_for(tmp_path: Path, scratch: Scratch, kind: str) -> None:
    context = write(tmp_path / "c", {})
    path = context / "Dockerfile"
    write(tmp_path, {"secret": "FROM scratch\n"})
    words = "failed to read Dockerfile"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "link out":
        path.symlink_to("../secret")
    elif kind == "empty":
        path.touch()
        words = r"the Dockerfile \(Dockerfile\) cannot be empty"
    elif kind == "huge":
        with open(path, "wb") as file:
            file.truncate(1 << 25)
        words = "too large"
    with pytest.raises(InvalidInput, match=words) as caught, open_context(context, scratch):
        pass
    assert caught.value.hint


def test_a_folder_that_is_none_is_refused(tmp_path: Path, scratch: Scratch) -> None:
    write(tmp_path, {"file": ""})
    for name in ("missing", "file"):
        with pytest.raises(InvalidInput, match="not found or not a directory"), open_context(tmp_path / name, scratch):
            pass


@pytest.mark.parametrize(
    ("dockerfile", "kept"),
    [(None, ["b", "c"]), ("x.Dockerfile", ["a", "c"]), ("sub/y.Dockerfile", ["a", "b"]), ("outside", ["c"])],
)
def test_patterns_beside_the_dockerfile_come_before_those_of_the_folder(
    tmp_path: Path,
    scratch: Scratch,
    dockerfile: str | None,
    kept: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = {"Dockerfile": "F", "x.Dockerfile": "F", "sub/y.Dockerfile": "F", "a": "", "b": "", "c": ""}
    ignores = {"": "a", "x.Dockerfile": "b", "sub/y.Dockerfile": "c"}
    patterns = {f"{name}.dockerignore": f"{text}\n*Dockerfile*\n.d*\nsub\n" for name, text in ignores.items()}
    context = write(tmp_path / "c", {**files, **patterns})
    write(tmp_path, {"outside": "F", "outside.dockerignore": "a\nb\nsub\n*Dockerfile*\n.d*\n"})
    monkeypatch.chdir(tmp_path)
    with open_context(context, scratch, dockerfile=dockerfile) as opened:
        assert names(opened.context, ".") == kept


# -- what a source argument finds --------------------------------------------------------------

TREE = {
    "a": "1",
    "b.txt": "2",
    ".hidden": "3",
    "dir/a": "4",
    "dir/b.txt": "5",
    "dir/sub/c.txt": "6",
    "empty/": "",
    "link": "-> a",
    "to-dir": "-> dir",
    "absolute": "-> /dir/a",
    "out": "-> ../../../../etc/passwd",
    "dangling": "-> nowhere",
    "x[0]": "7",
}


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("a", ["a"]),
        ("/a", ["a"]),
        ("./a", ["a"]),
        ("dir/../a", ["a"]),
        ("dir", ["dir", "dir/a", "dir/b.txt", "dir/sub", "dir/sub/c.txt"]),
        ("dir/sub/", ["dir/sub", "dir/sub/c.txt"]),
        ("empty", ["empty"]),
        ("link", ["link"]),
        ("to-dir/sub", ["to-dir/sub", "to-dir/sub/c.txt"]),
        ("absolute", ["absolute"]),
        ("*.txt", ["b.txt"]),
        ("*/*.txt", ["dir/b.txt"]),
        ("?", ["a"]),
        ("[^b]", ["a"]),
        ("x[[]0]", ["x[0]"]),
        ("x\\[0]", ["x\\[0]"]),
        (".h*", [".hidden"]),
        ("**/a", ["dir/a"]),
    ],
)
def test_a_word_finds_what_docker_s_does(tmp_path: Path, word: str, expected: list[str]) -> None:
    context = context_of(write(tmp_path / "c", {**TREE, "x\\[0]": "8"}))
    assert names(context, word) == expected


@pytest.mark.parametrize("word", ["missing", "a/b", "out", "dangling", "dir/missing", "a\0b"])
def test_what_is_not_in_the_context_is_not_found(tmp_path: Path, word: str) -> None:
    with pytest.raises(InvalidInput, match=r"not found in build context or excluded by \.dockerignore: stat"):
        found(context_of(write(tmp_path / "c", TREE)), word)


@pytest.mark.parametrize("word", ["../c/a", "/../c/a"])
def test_a_word_that_leads_out_of_the_context_is_forbidden(tmp_path: Path, word: str) -> None:
    with pytest.raises(InvalidInput, match=r"forbidden path outside the build context: \.\./c/a"):
        found(context_of(write(tmp_path / "c", TREE)), word)


def test_a_pattern_that_finds_nothing_is_refused_only_when_it_is_alone(tmp_path: Path) -> None:
    context = context_of(write(tmp_path / "c", TREE))
    for pattern in ("z*", "dir/../a*", "to-dir/*.txt"):
        with pytest.raises(InvalidInput, match="no source files were specified"):
            found(context, pattern)
    assert names(context, "z*", "a") == ["a"]


@pytest.mark.parametrize("pattern", ["[", "a[b-", "[z-a]", "*\\"])
def test_a_pattern_with_wrong_syntax_is_refused(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(InvalidInput):
        found(context_of(write(tmp_path / "c", TREE)), pattern)


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ("dir", []),
        ("dir/*\n!dir/a", ["dir", "dir/a"]),
        ("dir\n!dir/sub", ["dir/sub", "dir/sub/c.txt"]),
        ("dir\n!**/c.txt", []),  # so the docker command: it does not look into a folder that no exception names
        ("**/*.txt", ["dir", "dir/a", "dir/sub"]),
    ],
)
def test_dockerignore_decides_what_is_there(tmp_path: Path, patterns: str, expected: list[str]) -> None:
    context = context_of(write(tmp_path / "c", TREE), patterns)
    if expected:
        assert names(context, "dir") == expected
    else:
        with pytest.raises(InvalidInput, match="excluded") as caught:
            found(context, "dir")
        assert ".dockerignore" in caught.value.hint


def test_a_link_to_what_is_ignored_finds_nothing(tmp_path: Path) -> None:
    context = context_of(write(tmp_path / "c", TREE), "dir/sub\n")
    for word in ("to-dir/sub", "to-dir/sub/c.txt"):
        with pytest.raises(InvalidInput, match="not found"):
            found(context, word)
    assert names(context, "to-dir") == ["to-dir", "to-dir/a", "to-dir/b.txt"]


def test_an_ignored_folder_is_no_source_for_an_exception_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="not found"):
        found(context_of(write(tmp_path / "c", TREE), "dir\n!dir/missing\n"), "dir")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["./dir/sub/c.txt"], ["dir", "dir/sub", "dir/sub/c.txt"]),
        (["dir/./sub"], ["dir/sub", "dir/sub/c.txt"]),
        (["**/a"], ["a", "dir", "dir/a"]),
        (["dir/sub/."], ["dir", "dir/sub", "dir/sub/c.txt"]),
    ],
)
def test_with_parents_a_word_brings_the_folders_above(tmp_path: Path, words: list[str], expected: list[str]) -> None:
    assert names(context_of(write(tmp_path / "c", TREE)), *words, parents=True) == expected


def test_with_parents_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="not found"):
        found(context_of(write(tmp_path / "c", TREE)), "dir/missing", parents=True)


@pytest.mark.parametrize(
    ("words", "exclude", "expected"),
    [
        (["dir"], ["*.txt"], ["dir", "dir/a", "dir/sub", "dir/sub/c.txt"]),
        (["dir"], ["**/*.txt"], ["dir", "dir/a", "dir/sub"]),
        (["dir"], ["*", "!sub/c.txt"], ["dir", "dir/sub", "dir/sub/c.txt"]),
        (["*"], ["b.txt", "dir", "to-dir", "x*", "link", "absolute"], [".hidden", "a", "empty"]),
        (["dir", "a"], ["sub", "b*"], ["a", "dir", "dir/a"]),
    ],
)
def test_exclude_keeps_out_what_its_patterns_name(
    tmp_path: Path, words: list[str], exclude: list[str], expected: list[str]
) -> None:
    files = {name: content for name, content in TREE.items() if name not in ("out", "dangling")}
    assert names(context_of(write(tmp_path / "c", files)), *words, exclude=tuple(exclude)) == expected


def test_a_root_has_no_ignore_file_and_its_top_has_no_above(tmp_path: Path) -> None:
    root = write(tmp_path / "r", {".dockerignore": "*\n", "etc/x": "1", "link": "-> /etc/../../etc"})
    context = BuildContext.of_root(root)
    assert names(context, "/etc", "../link", "/../../etc/x") == ["etc", "etc/x", "link", "link/x"]
    with pytest.raises(InvalidInput, match="stat missing: file does not exist"):
        found(context, "/missing")


# -- digests -----------------------------------------------------------------------------------


def digest(context: BuildContext, *words: str) -> str:
    return found(context, *words).digest


def test_digests_are_those_of_docker_s_classic_builder(tmp_path: Path) -> None:
    directory = write(tmp_path / "c", {"a": "a\n", "d/f": "f", "d/e/": ""})
    for path, mode in (("a", 0o644), ("d", 0o755), ("d/e", 0o755), ("d/f", 0o644)):
        (directory / path).chmod(mode)
    context = context_of(directory)
    file = "61f4faee8d3546bc59f21fe6168a562bac0717406832d488e77bd582568a57fb"
    assert digest(context, "a") == f"file:{file}"
    assert digest(context, "d") == "dir:f186914c4ed6dbd93c099dd2b2a6a5b3b650755a24df3e065a86708e691593e3"
    assert digest(context, "a", "d").startswith("multi:")


def test_a_touched_file_is_the_same_and_a_changed_one_is_told(tmp_path: Path) -> None:
    directory = write(tmp_path / "c", TREE)
    before = found(context_of(directory), "dir")
    os.utime(directory / "dir/a")
    os.utime(directory / "dir")
    assert found(context_of(directory), "dir") == found(context_of(directory), "dir")
    assert found(context_of(directory), "dir").digest == before.digest
    (directory / "dir/sub/c.txt").write_text("changed")
    (directory / "dir/a").chmod(0o755)
    after = found(context_of(directory), "dir")
    assert after.digest != before.digest
    changed = [name for name in after.fingerprints if after.fingerprints[name] != before.fingerprints[name]]
    assert changed == ["dir/a", "dir/sub/c.txt"]


def test_names_kinds_links_and_owners_count(tmp_path: Path) -> None:
    directory = write(tmp_path / "c", {"d/x": "1", "d/l": "-> x", "e/y": "1", "e/l": "-> x"})
    context, root = context_of(directory), BuildContext.of_root(directory)
    seen = {digest(context, "d/x"), digest(context, "e/y"), digest(context, "d"), digest(context, "e")}
    assert len(seen) == 4
    before = digest(context, "d"), digest(root, "d")
    os.chown(directory / "d/x", 5, 6)
    assert digest(context, "d") == before[0]
    assert digest(root, "d") != before[1]
    (directory / "d/l").unlink()
    (directory / "d/l").symlink_to("./x")
    assert digest(context, "d") != before[0]


def test_large_files_and_names_of_any_bytes_are_read(tmp_path: Path) -> None:
    directory = write(tmp_path / "c", {})
    (directory / "large").write_bytes(bytes(3 << 20))
    (directory / os.fsdecode(b"caf\xe9 \n")).write_text("x")
    first = digest(context_of(directory), ".")
    with open(directory / "large", "r+b") as file:
        file.seek(2 << 20)
        file.write(b"1")
    assert digest(context_of(directory), ".") != first


def test_sockets_are_left_out(tmp_path: Path) -> None:
    directory = write(tmp_path / "c", {"a": ""})
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(directory / "socket"))
        assert names(context_of(directory), ".") == ["a"]


def test_an_ignored_device_is_never_opened(tmp_path: Path) -> None:
    directory = write(tmp_path / "c", {"a": ""})
    os.mkfifo(directory / "fifo", 0o600)
    assert names(context_of(directory), ".") == ["a", "fifo"]
