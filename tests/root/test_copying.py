"""COPY and ADD: destinations, owners, replaced files, and that no symlink leads out of the image."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.server
import io
import os
import stat
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pylab_container.build import copy_instruction
from pylab_container.build.context import BuildContext
from pylab_container.build.copy_instruction import CopyOptions, Owner, find_owner, gather
from pylab_container.errors import InvalidArchive, InvalidInput, NotFound, RuntimeFailed
from pylab_container.host.removal import remove_below
from pylab_container.oci.ids import EntryName

OLD = 981173106  # 2001-02-03 04:05:06
COPY, ADD = CopyOptions(), CopyOptions(unpack=True)
CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")  # cap_net_bind_service


@pytest.fixture
def context(tmp_path: Path) -> Path:
    directory = tmp_path / "context"
    (directory / "d/sub").mkdir(parents=True)
    (directory / "a").write_text("a\n")
    (directory / "d/one").write_text("one\n")
    (directory / "d/sub/two").write_text("two\n")
    (directory / "d/link").symlink_to("one")
    (directory / "d").chmod(0o700)
    for path in (directory / "a", directory / "d/one", directory / "d/sub", directory / "d"):
        os.chown(path, 1000, 1000)
        os.utime(path, ns=(OLD * 10**9 + 7, OLD * 10**9 + 7))
    return directory


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The root of an image with symlinks to /old, which has another owner than root, and out of the image."""
    directory = tmp_path / "root"
    (directory / "old/dir").mkdir(parents=True)
    (directory / "etc").mkdir()
    (directory / "etc/passwd").write_text("root:x:0:0::/:\nstudent:x:1000:1001::/:\n")
    (directory / "etc/group").write_text("root:x:0:\nstudent:x:50:\nstaff:x:51:\n")
    (directory / "old/file").write_text("old\n")
    (directory / "old").chmod(0o750)
    for path in (directory / "old", directory / "old/file"):
        os.chown(path, 7, 8)
    links = {"to-old": "old", "to-file": "/old/file", "dangling": "nowhere/x", "escape": "../../../../tmp"}
    for name, target in {**links, "loop": "loop"}.items():
        (directory / name).symlink_to(target)
    return directory


def copy(
    context: Path | BuildContext,
    words: str | list[str],
    destination: str,
    root: Path,
    options: CopyOptions = COPY,
    heredocs: list[tuple[str, bytes]] | None = None,
) -> None:
    source = context if isinstance(context, BuildContext) else BuildContext(context)
    sources = gather(source, words.split() if isinstance(words, str) else words, heredocs or [], options)
    copy_instruction.copy(sources, destination, root, options)


def told(path: Path) -> str:
    """Return mode, owner, and content or link target of a file."""
    status = path.lstat()
    content = os.readlink(path) if path.is_symlink() else path.read_text() if path.is_file() else ""
    return f"{stat.filemode(status.st_mode)} {status.st_uid}:{status.st_gid} {content}".strip()


def tree(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def archive(*members: tuple[str, str | bytes], **more: object) -> bytes:
    """A tar: name and content; "-> x" is a symbolic link, "= x" a hard link, a name with / at its end a folder."""
    stream = io.BytesIO()
    with tarfile.open(None, "w", stream) as made:
        for name, content in members:
            member = tarfile.TarInfo(name.rstrip("/") if name != "/" else name)
            member.mtime, member.uid, member.gid = OLD, 11, 12
            data = content.encode() if isinstance(content, str) else content
            if name.endswith("/"):
                member.type, member.mode = tarfile.DIRTYPE, 0o710
            elif data.startswith((b"-> ", b"= ")):
                member.type = tarfile.SYMTYPE if data.startswith(b"-") else tarfile.LNKTYPE
                member.linkname, data = os.fsdecode(data.partition(b" ")[2]), b""
            member.size = len(data)
            for field, value in more.items():
                setattr(member, field, value)
            made.addfile(member, io.BytesIO(data))
    return stream.getvalue()


# -- where it lands ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "destination", "landed"),
    [
        ("a", "/b", "b"),
        ("a", "/new/", "new/a"),
        ("a", "/old", "old/a"),
        ("a", "/x/y/z", "x/y/z"),
        ("a", "/", "a"),
        ("a", "/old/../up", "up"),
        ("a", "/old/dir", "old/dir/a"),
        ("a", "/to-old/b", "old/b"),
        ("a", "/to-old", "old/a"),
        ("a", "/to-file", "old/file"),
        ("a", "/dangling", "nowhere/x"),
        ("a", "/escape/b", "tmp/b"),
        ("d", "/new", "new/one"),
        ("d", "/old", "old/one"),
        ("d", "/dangling", "nowhere/x/one"),
        ("d", "/", "sub/two"),
        ("d/link", "/new/", "new/link"),
    ],
)
def test_sources_land_where_docker_puts_them(
    context: Path, root: Path, words: str, destination: str, landed: str
) -> None:
    copy(context, words, destination, root)
    assert told(root / landed).endswith({"a": "a", "d": "two" if "two" in landed else "one"}.get(words, "one"))
    assert not (root / landed).is_symlink()


@pytest.mark.parametrize(
    ("words", "destination"),
    [("a", "/old/file/x"), ("a", "/old/file/"), ("d", "/old/file"), ("a", "/loop/x"), ("a", "/n\0ul"), ("d", "/loop")],
)
def test_a_destination_that_cannot_be_is_refused_with_a_hint(
    context: Path, root: Path, words: str, destination: str
) -> None:
    before = tree(root)
    with pytest.raises(InvalidInput) as caught:
        copy(context, words, destination, root)
    assert caught.value.hint
    assert tree(root) == before


def test_a_folder_that_is_there_keeps_its_own_and_those_in_it_take_the_new(context: Path, root: Path) -> None:
    (root / "old/sub").mkdir(mode=0o711)
    os.chown(root / "old/sub", 7, 8)
    copy(context, "d", "/old", root)
    assert told(root / "old") == "drwxr-x--- 7:8"
    assert told(root / "old/sub") == "drwxr-xr-x 0:0"
    assert (root / "old/sub").stat().st_mtime == OLD
    assert told(root / "old/file") == "-rw-r--r-- 7:8 old"


def test_what_is_of_another_kind_is_replaced(context: Path, root: Path) -> None:
    outside = root.parent / "outside"
    outside.mkdir()
    (root / "x/one").mkdir(parents=True)
    (root / "x/one/below").touch()
    (root / "x/sub").symlink_to(outside)
    (root / "x/link").mkdir()
    copy(context, "d", "/x", root)
    assert tree(root / "x") == ["link", "one", "sub", "sub/two"]
    assert told(root / "x/link") == "lrwxrwxrwx 0:0 one"
    assert not tree(outside)


def test_the_last_of_two_sources_with_a_name_stays(context: Path, root: Path) -> None:
    (context / "d/a").write_text("another\n")
    copy(context, "a d/a", "/new/", root)
    assert (root / "new/a").read_text() == "another\n"


# -- whose it is -------------------------------------------------------------------------------


def test_files_of_the_context_belong_to_root_and_keep_mode_and_whole_seconds(context: Path, root: Path) -> None:
    (context / "d/one").chmod(0o640)
    copy(context, "d", "/n1/n2", root)
    assert told(root / "n1") == told(root / "n1/n2") == "drwxr-xr-x 0:0"
    assert told(root / "n1/n2/one") == "-rw-r----- 0:0 one"
    assert (root / "n1/n2/one").stat().st_mtime_ns == OLD * 10**9


def test_set_id_bits_of_files_go_and_those_of_folders_stay(context: Path, root: Path) -> None:
    for name, mode in (("d/one", 0o4755), ("a", 0o2755), ("d/sub", 0o3775)):
        (context / name).chmod(mode)
    copy(context, "a d", "/new/", root)
    assert stat.S_IMODE((root / "new/one").stat().st_mode) == 0o755
    assert stat.S_IMODE((root / "new/a").stat().st_mode) == 0o755
    assert stat.S_IMODE((root / "new/sub").stat().st_mode) == 0o3775


def test_chown_gives_all_that_is_new_to_the_owner(context: Path, root: Path) -> None:
    copy(context, "a", "/f/g/", root, CopyOptions(owner="student:staff"))
    copy(context, "d", "/h/i", root, CopyOptions(owner="5:6"))
    copy(context, "d", "/old", root, CopyOptions(owner="5"))
    owners = {
        name: told(root / name).split()[1] for name in ("f", "f/g", "f/g/a", "h", "h/i", "h/i/link", "old", "old/one")
    }
    assert owners == {
        "f": "1000:51",
        "f/g": "1000:51",
        "f/g/a": "1000:51",
        "h": "0:0",  # the parents of a folder stay root's
        "h/i": "5:6",
        "h/i/link": "5:6",
        "old": "7:8",
        "old/one": "5:5",
    }


def test_names_of_chown_are_those_of_the_image(root: Path) -> None:
    assert find_owner("student", root) == Owner(1000, 50)  # the group of that name, as in the classic builder
    assert find_owner("student:staff", root) == Owner(1000, 51)
    assert find_owner("12:staff", root) == Owner(12, 51)
    (root / "etc/passwd").unlink()
    (root / "etc/passwd").symlink_to("../../../../../../etc/passwd")
    with pytest.raises(InvalidInput):
        find_owner("student", root)


@pytest.mark.parametrize("owner", ["nobody", "student:none", ":staff", "student:", "1:2:3", "99999999999", "１"])
def test_an_unknown_owner_is_refused_before_anything_is_written(context: Path, root: Path, owner: str) -> None:
    before = tree(root)
    with pytest.raises(InvalidInput) as caught:
        copy(context, "a", "/x/y", root, CopyOptions(owner=owner))
    assert caught.value.hint
    assert tree(root) == before


def test_files_of_a_root_keep_owner_set_id_bit_and_capabilities(context: Path, root: Path) -> None:
    os.setxattr(context / "d/sub/two", "security.capability", CAPABILITY)
    (context / "d/one").chmod(0o4755)
    other = BuildContext.of_root(context)
    copy(other, "/d", "/x", root)
    assert told(root / "x/one") == "-rwsr-xr-x 1000:1000 one"
    assert told(root / "x/sub") == "drwxr-xr-x 1000:1000"
    assert os.getxattr(root / "x/sub/two", "security.capability") == CAPABILITY
    copy(other, "/d/sub/two", "/alone", root)  # not a file alone: so it is in the classic builder
    assert os.listxattr(root / "alone") == []
    copy(other, "/d", "/y", root, CopyOptions(owner="1:2"))
    assert told(root / "y/one") == "-rwxr-xr-x 1:2 one"
    assert os.listxattr(root / "y/sub/two") == []


def test_chmod_sets_files_and_folders_but_no_links(context: Path, root: Path) -> None:
    copy(context, "a", "/x/a", root, CopyOptions(mode="4711", owner="1:2"))
    copy(context, "d", "/y", root, CopyOptions(mode="u=rwX,go=rX"))
    assert told(root / "x") == "drwxr-xr-x 1:2"
    assert told(root / "x/a") == "-rws--x--x 1:2 a"
    assert told(root / "y/sub") == "drwxr-xr-x 0:0"
    assert told(root / "y/one") == "-rw-r--r-- 0:0 one"
    with pytest.raises(InvalidInput, match="chmod"):
        gather(BuildContext(context), ["a"], [], CopyOptions(mode="9"))


# -- kinds of files ----------------------------------------------------------------------------


def test_every_kind_of_file_is_copied(context: Path, root: Path) -> None:
    directory = context / "kinds"
    directory.mkdir()
    os.mkfifo(directory / "fifo", 0o620)
    os.mknod(directory / "null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    (directory / "empty").touch()
    (directory / "first").write_text("same")
    (directory / "second").hardlink_to(directory / "first")
    (directory / "none").mkdir()
    name = os.fsdecode(b"new\nline \xe9")
    (directory / name).write_text("x")
    copy(context, "kinds", "/k", root)
    assert tree(root / "k") == tree(directory)
    assert stat.S_ISFIFO((root / "k/fifo").lstat().st_mode)
    assert (root / "k/null").stat().st_rdev == os.makedev(1, 3)
    assert (root / "k/first").stat().st_ino == (root / "k/second").stat().st_ino
    copy(context, "kinds/fifo", "/alone", root)
    assert stat.S_ISFIFO((root / "alone").lstat().st_mode)


def test_large_files_are_copied_whole_and_one_that_changes_meanwhile_is_refused(context: Path, root: Path) -> None:
    (context / "large").write_bytes(os.urandom(3 << 20))
    sources = gather(BuildContext(context), ["large"], [], COPY)
    copy_instruction.copy(sources, "/large", root, COPY)
    assert (root / "large").read_bytes() == (context / "large").read_bytes()
    with open(context / "large", "ab") as file:
        file.write(b"more")
    with pytest.raises(RuntimeFailed, match="changed while it was copied"):
        copy_instruction.copy(sources, "/again", root, COPY)


def test_small_files_are_copied_as_they_were_when_their_digest_was_taken(context: Path, root: Path) -> None:
    sources = gather(BuildContext(context), ["a"], [], COPY)
    (context / "a").write_text("changed")
    copy_instruction.copy(sources, "/a", root, COPY)
    assert (root / "a").read_text() == "a\n"


def test_a_tree_deeper_than_python_s_stack_is_copied(context: Path, root: Path) -> None:
    path = context / "deep"
    path.mkdir()
    for _ in range(1200):
        path = path / "x"
        os.mkdir(path)
    try:
        copy(context, "deep", "/y", root)
        assert os.path.isdir(f"{root}/y" + 1200 * "/x")
    finally:
        remove_below(context, EntryName("deep"))
        remove_below(root, EntryName("y"))


def test_here_documents_become_files_after_the_other_sources(context: Path, root: Path) -> None:
    copy(context, "a", "/new/", root, CopyOptions(owner="1:2"), [("one.txt", b"1\n"), ("two.txt", b"")])
    assert told(root / "new/one.txt") == "-rw-r--r-- 1:2 1"
    copy(context, [], "/script", root, CopyOptions(mode="755"), [("EOF", b"#!/bin/sh\n")])
    assert told(root / "script") == "-rwxr-xr-x 0:0 #!/bin/sh"


def test_a_file_with_a_whiteout_s_name_hides_as_it_would_in_a_layer(context: Path, root: Path) -> None:
    (context / "d/.wh.file").touch()
    copy(context, "d", "/old", root)
    assert tree(root / "old") == ["dir", "link", "one", "sub", "sub/two"]


# -- --parents, --exclude, --link --------------------------------------------------------------


def test_parents_bring_folders_with_their_modes(context: Path, root: Path) -> None:
    copy(context, "a d/sub/two", "/p/", root, CopyOptions(parents=True))
    assert tree(root / "p") == ["a", "d", "d/sub", "d/sub/two"]
    assert told(root / "p/d") == "drwx------ 0:0"
    copy(context, "d/./sub", "/q", root, CopyOptions(parents=True))
    assert tree(root / "q") == ["sub", "sub/two"]
    copy(context, "**/two", "/r", root, CopyOptions(parents=True, exclude=("a",)))
    assert tree(root / "r") == ["d", "d/sub", "d/sub/two"]


def test_what_parents_strip_is_part_of_the_digest(context: Path) -> None:
    digests = {
        gather(BuildContext(context), [word], [], CopyOptions(parents=True)).digest
        for word in ("d/./sub", "d/sub/./", "d/sub")
    }
    assert len(digests) == 3


def test_excluded_files_stay_out(context: Path, root: Path) -> None:
    copy(context, ".", "/x", root, CopyOptions(exclude=("d/*", "!d/sub")))
    assert tree(root / "x") == ["a", "d", "d/sub", "d/sub/two"]


def test_a_linked_copy_follows_no_link_of_the_image(context: Path, root: Path, tmp_path: Path) -> None:
    copy(context, "a", "/to-old/b", root, CopyOptions(link=True))
    assert told(root / "to-old") == "drwxr-xr-x 0:0"
    assert told(root / "to-old/b") == "-rw-r--r-- 0:0 a"
    assert not (root / "old/b").exists()
    (tmp_path / "upper").mkdir()
    copy(context, "d", "/x/y/", tmp_path / "upper", CopyOptions(link=True))
    assert tree(tmp_path / "upper") == ["x", "x/y", "x/y/link", "x/y/one", "x/y/sub", "x/y/sub/two"]


# -- archives ----------------------------------------------------------------------------------

MEMBERS = (("d/", ""), ("d/file", "unpacked"), ("link", "-> d/file"), ("hard", "= d/file"))


@pytest.mark.parametrize("destination", ["/new/", "/new", "/to-old/new"])
@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_add_unpacks_an_archive_with_its_owners(
    context: Path, root: Path, destination: str, compress: Callable[[bytes], bytes]
) -> None:
    (context / "x").write_bytes(compress(archive(*MEMBERS)))
    copy(context, "x", destination, root, CopyOptions(unpack=True, owner="5:6"))
    top = root / destination.strip("/")
    assert told(top) == "drwxr-xr-x 0:0"
    assert told(top / "d") == "drwx--x--- 11:12"
    assert told(top / "d/file") == told(top / "hard") == "-rw-r--r-- 11:12 unpacked"
    assert told(top / "link") == "lrwxrwxrwx 11:12 d/file"
    assert (top / "d").stat().st_mtime == OLD


@pytest.mark.parametrize("content", [b"", b"text", gzip.compress(b"text", mtime=0), b"\x1f\x8bno gzip", bytes(10240)])
def test_add_copies_what_is_no_archive(context: Path, root: Path, content: bytes) -> None:
    (context / "x.tar").write_bytes(content)
    copy(context, "x.tar", "/new/", root, ADD)
    assert (root / "new/x.tar").read_bytes() == content


@pytest.mark.parametrize(
    "members",
    [
        (("../../../../out", "x"),),
        (("/out", "x"),),
        (("l", "-> /"), ("l/out", "x")),
        (("l", "-> ../../../../.."), ("l/out", "x")),
        (("l", "-> .."), ("l/l2", "-> .."), ("l2/out", "x")),
        (("out", "x"), ("hard", "= ../../../../out")),
    ],
)
def test_an_archive_stays_below_its_destination(
    context: Path, root: Path, members: tuple[tuple[str, str], ...]
) -> None:
    before = tree(root.parent)
    (context / "x").write_bytes(archive(*members))
    copy(context, "x", "/new/", root, ADD)
    assert (root / "new/out").read_text() == "x"
    added = {path for path in tree(root.parent) if path not in before and not path.startswith("root/new")}
    assert added == {"context/x"}


def test_an_archive_that_is_cut_off_is_refused(context: Path, root: Path) -> None:
    (context / "x").write_bytes(archive(("a", "1" * 5000))[:2000])
    with pytest.raises(InvalidArchive, match="cut off"):
        copy(context, "x", "/new/", root, ADD)


def test_an_archive_hides_files_as_a_layer_would_and_keeps_only_capabilities(context: Path, root: Path) -> None:
    records = {
        "SCHILY.xattr.security.capability": CAPABILITY.decode("utf-8", "surrogateescape"),
        "SCHILY.xattr.user.note": "1",
    }
    content = archive((".wh.file", ""), ("new", "x"), pax_headers=records)
    (context / "x").write_bytes(content)
    copy(context, "x", "/old/", root, ADD)
    assert tree(root / "old") == ["dir", "new"]
    assert os.listxattr(root / "old/new") == ["security.capability"]


# -- downloads ---------------------------------------------------------------------------------

SITE: dict[str, tuple[int, bytes, dict[str, str]]] = {
    "/plain": (200, b"plain\n", {"Last-Modified": "Sat, 03 Feb 2001 04:05:06 GMT"}),
    "/": (200, b"index\n", {}),
    "/named/": (200, b"named\n", {"Content-Disposition": 'attachment; filename="a/../given"'}),
    "/moved": (302, b"", {"Location": "/plain"}),
    "/to-file": (302, b"", {"Location": "file:///etc/passwd"}),
    "/to-ftp": (302, b"", {"Location": "ftp://host/x"}),
    "/round": (302, b"", {"Location": "/round"}),
    "/short": (200, b"short", {"Content-Length": "100"}),
    "/x.tar": (200, archive(("member", "x")), {}),
    "/name%20with%20spaces": (200, b"spaces\n", {}),
}


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, content, headers = SITE.get(self.path.partition("?")[0], (404, b"", {}))
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *words: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def online(context: Path, tmp_path: Path) -> BuildContext:
    (tmp_path / "downloads").mkdir()
    return BuildContext(context, downloads=lambda: tmp_path / "downloads")


@pytest.mark.parametrize(
    ("path", "destination", "landed"),
    [
        ("/plain", "/x", "x"),
        ("/plain?query=1#part", "/new/", "new/plain"),
        ("/plain", "/old", "old/plain"),
        ("/moved", "/new/", "new/moved"),
        ("/", "/x", "x"),
        ("/", "/old", "old/__unnamed__"),
        ("/named/", "/new/", "new/given"),
        ("/name with spaces", "/new/", "new/name with spaces"),
        ("/x.tar", "/new/", "new/x.tar"),
    ],
)
def test_a_download_lands_under_the_name_of_its_url(
    online: BuildContext, root: Path, site: str, path: str, destination: str, landed: str
) -> None:
    copy(online, [site + path], destination, root, ADD)
    status = (root / landed).stat()
    assert stat.filemode(status.st_mode) == "-rw-------"
    assert (status.st_uid, status.st_mtime) == (0, OLD if path[:3] in ("/pl", "/mo") else 0)


def test_a_download_is_unpacked_only_when_asked(online: BuildContext, root: Path, site: str) -> None:
    copy(online, f"{site}/x.tar", "/new/", root, CopyOptions(unpack=True, unpack_downloads=True))
    assert (root / "new/member").read_text() == "x"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/missing", "status 404"),
        ("/to-file", "file:///etc/passwd"),
        ("/to-ftp", "it leads to ftp://"),
        ("/round", "redirect"),
        ("/short", "cut off after 5 of 100 bytes"),
        ("//", "cannot determine filename"),
    ],
)
def test_a_download_that_fails_says_why_and_leaves_nothing(
    online: BuildContext, root: Path, site: str, path: str, words: str
) -> None:
    before = tree(root)
    with pytest.raises((InvalidInput, NotFound, RuntimeFailed), match=words) as caught:
        copy(online, site + path if path != "//" else f"{site}/", "/new/", root, ADD)
    assert caught.value.hint
    assert tree(root) == before


def test_a_server_that_is_not_there_is_told(online: BuildContext, root: Path) -> None:
    for url, words in (
        ("http://127.0.0.1:1/x", "dial tcp 127.0.0.1:1: connect: connection refused"),
        ("http://name.invalid/x", "dial tcp: lookup name.invalid: "),
    ):
        with pytest.raises(RuntimeFailed, match=f'Get "{url}": {words}'):
            copy(online, url, "/x", root, ADD)
    for url in ("http:///x", "http://host:port/x"):
        with pytest.raises(InvalidInput, match="is not a URL"):
            copy(online, url, "/x", root, ADD)


def test_a_download_must_have_the_digest_that_was_told(
    online: BuildContext, root: Path, site: str, tmp_path: Path
) -> None:
    right = f"sha256:{hashlib.sha256(SITE['/plain'][1]).hexdigest()}"
    copy(online, f"{site}/plain", "/x", root, CopyOptions(unpack=True, checksum=right))
    left = tree(tmp_path / "downloads")
    with pytest.raises(InvalidInput, match="digest mismatch"):
        copy(online, f"{site}/plain", "/y", root, CopyOptions(unpack=True, checksum=f"sha256:{'0' * 64}"))
    assert not (root / "y").exists()
    assert tree(tmp_path / "downloads") == left


@pytest.mark.parametrize(
    ("words", "checksum", "message"),
    [
        ("a", f"sha256:{'0' * 64}", "requires HTTP"),
        ("http://x/a http://x/b", f"sha256:{'0' * 64}", "multiple sources"),
        ("http://x/a", "sha256:123", "invalid checksum digest"),
        ("http://x/a", f"md5:{'0' * 32}", "invalid checksum digest"),
    ],
)
def test_a_digest_that_makes_no_sense_is_refused(
    online: BuildContext, root: Path, words: str, checksum: str, message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        copy(online, words, "/x/", root, CopyOptions(unpack=True, checksum=checksum))


def test_only_the_context_fetches(online: BuildContext, context: Path, root: Path, site: str) -> None:
    with pytest.raises(InvalidInput, match="--from"):
        copy(BuildContext.of_root(context), f"{site}/plain", "/x", root, ADD)
    with pytest.raises(InvalidInput, match="git"):
        copy(online, "git://host/repository", "/x", root, ADD)


# -- WORKDIR -----------------------------------------------------------------------------------


def test_a_directory_is_made_through_links_and_one_that_is_there_stays(root: Path) -> None:
    copy_instruction.make_directory(root, "/to-old/a/b")
    assert told(root / "old/a/b") == "drwxr-xr-x 0:0"
    copy_instruction.make_directory(root, "/old")
    assert told(root / "old") == "drwxr-x--- 7:8"
    copy_instruction.make_directory(root, "/")
    with contextlib.chdir(root), pytest.raises(InvalidInput, match="not a directory"):
        copy_instruction.make_directory(root, "/old/file/x")
