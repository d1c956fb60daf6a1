"""COPY, ADD and .dockerignore, each case a small build."""

from __future__ import annotations

import gzip

from tests.compat.build_context import (
    CAPABILITY,
    OLD,
    SECOND,
    Case,
    archive,
    device,
    fifo,
    file,
    folder,
    hard_link,
    symlink,
)

COPY = [
    # Where it goes.
    Case("a file gets a new name", "COPY a /b"),
    Case("a file goes into a folder that is there", "COPY a /old"),
    Case("a slash makes the destination a folder", "COPY a /new/"),
    Case("missing parents are made", "COPY a /x/y/z"),
    Case("a file goes to the root", "COPY a /"),
    Case("a destination without a slash starts at the working directory", "WORKDIR /srv\nCOPY a b\nCOPY a sub/"),
    Case("a dot is the working directory", "WORKDIR /srv\nCOPY a .\nCOPY b ./"),
    Case("a destination may climb with two dots", "WORKDIR /srv/x\nCOPY a ../up\nCOPY a ../../../../top"),
    Case("without WORKDIR the working directory is the root", "COPY a b\nCOPY dir ."),
    Case("a destination is cleaned", "COPY a /x/./y/../z//w"),
    Case("a file replaces a file, with its mode and owner", "COPY a /old/file"),
    Case("a file may not be put below a file", "COPY a /old/file/x", refused=""),
    Case("a file that is no folder may not be named with a slash", "COPY a /old/file/", refused=""),
    Case("a folder may not replace a file", "COPY dir /old/file", refused="not a directory"),
    Case("of a folder the contents are copied", "COPY dir /new"),
    Case("a slash after a folder changes nothing", "COPY dir/ /new/"),
    Case("a folder's contents join those that are there", "COPY dir /old"),
    Case("a folder's contents go to the root", "COPY dir /"),
    Case("folders join at every depth", "COPY . /\n", {"old/dir/added": "1\n", "old/file": "2\n", "etc/new": "3\n"}),
    Case("a folder that is there takes the new mode", "COPY . /", {"old/x": "x", "old": folder(0o711)}),
    Case("a file in a folder meets a folder", "COPY . /", {"old": "a file\n"}),
    Case("a folder in a folder meets a file", "COPY . /", {"old/file/x": "x"}),
    Case("many sources go into a folder", "COPY a b run.sh /new/"),
    Case("many sources want a slash", "COPY a b /new", refused="must be a directory and end with a /"),
    Case(
        "many sources want a slash, even to a folder", "COPY a b /old", refused="must be a directory and end with a /"
    ),
    Case("files and folders' contents mix", "COPY a dir empty /new/"),
    Case("of two with the same name the last stays", "COPY dir/one other/one /new/"),
    Case("copied twice is copied", "COPY a /b\nCOPY a /b"),
    Case("the whole context is copied", "COPY . /all"),
    # Links on the way.
    Case("a link to a folder is followed with a slash", "COPY a /to-old/"),
    Case("a link to a folder is followed without one", "COPY a /to-old"),
    Case("a folder is copied through a link", "COPY dir /to-old"),
    Case("a folder is copied through a link with a slash", "COPY dir /to-old/"),
    Case("a link in the middle is followed", "COPY a /absolute/dir/b"),
    Case("a link to a file is followed", "COPY a /to-file"),
    Case("a link to nothing is a destination", "COPY a /dangling"),
    Case("a link that climbs stays in the image", "COPY a /escape/x"),
    Case("a folder in a folder meets a link to a folder", "COPY . /", {"to-old/x": "x\n"}),
    Case("a file in a folder meets a link to a file", "COPY . /", {"to-file": "x\n"}),
    Case("a link in a folder meets a file", "COPY . /old/", {"file": symlink("dir/inner")}),
    Case("a link in a folder meets a folder", "COPY . /old/", {"dir": symlink("file")}),
    # What is copied.
    Case("a source may begin with a slash", "COPY /a /dir/../b /new/"),
    Case("a source outside the context is refused", "COPY ../a /b", refused=""),
    Case("a missing source is refused", "COPY missing /b", refused="not found"),
    Case("one missing source of many is refused", "COPY a missing /b/", refused="not found"),
    Case("modes are kept and owners are not", "COPY dir/one run.sh b /new/"),
    Case("an empty folder is copied", "COPY empty /new"),
    Case("a folder of folders is copied", "COPY . /new", {"x/y/z": folder(0o711), "x": folder(0o2775)}),
    Case("a link as source is followed", "COPY link /new"),
    Case("a link to a folder as source is followed", "COPY to-dir /new"),
    Case("a path through a link is followed", "COPY to-dir/one /new"),
    Case("links in a folder stay links", "COPY . /new", {"x": symlink("/etc/passwd"), "y": symlink("../up")}),
    Case("a link to nothing as source is refused", "COPY dangling /new", refused=""),
    Case(
        "a link out of the context is refused",
        "COPY out /new",
        {"out": symlink("../../../../../etc/hostname")},
        refused="",
    ),
    Case("an absolute link starts at the context", "COPY x /new", {"x": symlink("/d/file"), "d/file": "found\n"}),
    Case("hard links in a folder stay so", "COPY . /new", {"d/x": "same\n", "y": hard_link("d/x")}),
    Case("a file with two names is copied by one", "COPY y /new/", {"x": "same\n", "y": hard_link("x")}),
    Case("a fifo in a folder is copied", "COPY . /new", {"pipe": fifo(0o620)}),
    Case(
        "set-id and sticky bits", "COPY . /new", {"x": file("x", 0o4755), "y": file("y", 0o2755), "z": folder(0o1777)}
    ),
    Case("a file that nobody may read", "COPY . /new", {"x": file("x", 0)}),
    Case("times are whole seconds", "COPY x /new", {"x": file("x", time=OLD * SECOND + 987654321)}),
    Case("times before 1970 are kept", "COPY x /new", {"x": file("x", time=-OLD * SECOND)}),
    Case("capabilities of files are kept", "COPY . /new", {"x": file("x", 0o755, xattrs=CAPABILITY)}),
    Case("other attributes are not", "COPY . /new", {"x": file("x", xattrs={"user.note": b"1"})}),
    Case("names of any bytes are copied", "COPY . /new", {"caf\udce9": "latin\n", "naïve": "utf-8\n", "x\ty": "tab\n"}),
    Case(
        "long names and paths are copied",
        "COPY . /new",
        {f"{'n' * 255}": "1", f"{'d' * 90}/{'e' * 90}/{'f' * 90}": "2"},
    ),
    Case("a large file is copied", "COPY x /new", {"x": file(bytes(range(256)) * 5000)}),
    Case("zeros are copied", "COPY x /new", {"x": file(bytes(300_000))}),
    # Patterns.
    Case("a star is every name", "COPY * /new/", {"a": "a", ".b": "b", "d/x": "x", "e": folder()}),
    Case("a star at the end", "COPY a* /new/", {"a": "1", "ab": "2", "b": "3"}),
    Case("a question mark is one character", "COPY ? /new/", {"a": "1", "ab": "2", "é": "3"}),
    Case("a class of characters", "COPY [a-c]1 /new/", {"a1": "1", "c1": "2", "d1": "3"}),
    Case("a class of characters that are not", "COPY x[^a] /new/", {"xa": "1", "xb": "2", "x!": "3"}),
    Case("a star does not match a slash", "COPY d* /new/", {"d1": "1", "d/d2": "2"}),
    Case("stars in folders", "COPY */one /new/"),
    Case("a pattern for one file gives it a new name", "COPY ru* /new"),
    Case(
        "a pattern for many wants a slash",
        "COPY * /new",
        {"a": "a", "b": "b"},
        refused="must be a directory and end with a /",
    ),
    Case("a pattern may match nothing but not alone", "COPY missing* /new/", refused="no source files were specified"),
    Case("a pattern that matches nothing beside one that does", "COPY missing* a /new/"),
    Case("a pattern matches folders and their contents go", "COPY d*r /new/"),
    Case("a backslash takes the meaning from a star", "COPY x\\* /new/", {"x*": "1", "xy": "2"}),
    Case("a class takes the meaning from a bracket", "COPY x[[]0] /new/", {"x[0]": "1", "x0": "2"}),
    Case("a pattern that climbs is refused", "COPY dir/../a* /new/", refused="no source files were specified"),
    # Forms.
    Case("JSON is for names with spaces", 'COPY ["c d", "/x y/"]'),
    Case("quotes are part of a name", 'COPY "c d" /x/', refused=""),
    Case("a bracket alone is no JSON", "COPY [ab] /new/"),
    Case("one word is too few", "COPY a", refused="at least two arguments"),
    Case("one word of JSON is too few", 'COPY ["a"]', refused="at least two arguments"),
    Case("an unknown flag is refused", "COPY --bogus a /b", refused="unknown flag"),
    Case("a flag without its value is refused", "COPY --chown a /b", refused="chown"),
    # --chown
    Case("chown by name takes the user's group", "COPY --chown=student a /new"),
    Case("chown by two names", "COPY --chown=student:staff dir /new"),
    Case("chown by numbers", "COPY --chown=12:34 dir /new"),
    Case("chown by one number", "COPY --chown=55 a /new"),
    Case("chown by the number of a known user", "COPY --chown=99 a /new"),
    Case("chown by name and number", "COPY --chown=nobody:7 a /new"),
    Case("chown by number and name", "COPY --chown=7:staff a /new"),
    Case("chown to an unknown user is refused", "COPY --chown=stranger a /new", refused="stranger"),
    Case("chown to an unknown group is refused", "COPY --chown=student:strangers a /new", refused="strangers"),
    Case("chown expands variables", "ARG who=student\nCOPY --chown=$who:${who} a /new"),
    Case("parents that are made belong to the new owner", "COPY --chown=5:6 a /x/y/z"),
    Case("a folder that was there and chown", "COPY --chown=5:6 dir /old"),
    Case("chown of the set-id bit", "COPY --chown=5:6 x /new", {"x": file("x", 0o4755)}),
    Case("USER does not own what is copied", "USER student\nCOPY a /new/"),
    Case(
        "chown by name wants groups too",
        "FROM scratch\nCOPY passwd /etc/\nCOPY --chown=me a /a",
        {"passwd": "me:x:3:4::/:\n", "a": "a"},
        refused="me",
    ),
    Case(
        "chown reads the image's own users and groups",
        "FROM scratch\nCOPY etc /etc/\nCOPY --chown=me a /a",
        {"etc/passwd": "me:x:3:4::/:\n", "etc/group": "me:x:7:\n", "a": "a"},
    ),
]

MEMBERS = {
    "d": folder(0o710, (11, 12)),
    "d/file": file("unpacked\n", 0o640, owner=(13, 14)),
    "d/hard": hard_link("d/file", 0o640, (13, 14)),
    "link": symlink("d/file"),
}
TAR = archive(MEMBERS)
ODD = {
    "pipe": fifo(0o600),
    "null": device(1, 3),
    "setuid": file("x", 0o4755, owner=(5, 6)),
    "sticky": folder(0o1777),
    "capable": file("x", 0o755, xattrs=CAPABILITY),
    "noted": file("x", xattrs={"user.note": b"1"}),
}

ADD = [
    Case("ADD copies files as COPY does", "ADD a b /new/\nADD dir /old\nADD --chown=student link /c"),
    *(
        Case(f"an archive is unpacked: {kind or 'plain'}", "ADD x /new/", {"x": file(archive(MEMBERS, kind))})
        for kind in ("", "gz", "bz2", "xz")
    ),
    Case(
        "an archive is unpacked: zstd",
        "ADD x.tar.zst /new/",
        {"x.tar.zst": file(archive(MEMBERS, "zst"))},
        peer="reference",
        facts={"/new/d/file": "-rw-r----- 13:14 'unpacked\\n'", "/new/d": "drwx--x--- 11:12"},
    ),
    Case("a destination without a slash is a folder for an archive", "ADD x /new", {"x": file(TAR)}),
    Case("an archive joins what is there", "ADD x /old", {"x": file(TAR)}),
    Case("an archive goes to the root", "ADD x /", {"x": file(archive({"old/file": "new\n", "etc/added": "1\n"}))}),
    Case("an archive through a link", "ADD x /to-old/sub", {"x": file(TAR)}),
    Case("an archive to the working directory", "WORKDIR /srv\nADD x .\nADD x sub", {"x": file(TAR)}),
    Case("an archive to a file is refused", "ADD x /old/file", {"x": file(TAR)}, refused=""),
    Case("COPY unpacks nothing", "COPY x /new/", {"x": file(TAR)}),
    Case("the name makes no archive", "ADD x.tar /new/", {"x.tar": "text\n"}),
    Case("a name without a slash is a file's if it is no archive", "ADD x.tar /new", {"x.tar": "text\n"}),
    Case("an empty file is no archive", "ADD x.tar /new/", {"x.tar": ""}),
    Case("a compressed text is no archive", "ADD x.gz /new/", {"x.gz": file(gzip.compress(b"text\n", mtime=0))}),
    Case("an archive cut off is refused", "ADD x /new/", {"x": file(TAR[:1700])}, refused=""),
    Case("an archive in a folder is copied", "ADD . /new/", {"x/y.tar": file(TAR)}),
    Case(
        "archives of a pattern are unpacked",
        "ADD *.tar /new/",
        {"1.tar": file(TAR), "2.tar": file(archive({"2": "2"}))},
    ),
    Case("archives and files mix", "ADD x y /new/", {"x": file(TAR), "y": "y"}),
    Case("a link to an archive is followed", "ADD y /new/", {"x": file(TAR), "y": symlink("x")}),
    Case("an archive and chown", "ADD --chown=student:staff x /new/", {"x": file(TAR)}),
    Case("an archive of odd things", "ADD x /new/", {"x": file(archive(ODD))}),
    Case(
        "an archive of long names",
        "ADD x /new/",
        {"x": file(archive({f"{'d' * 150}/{'f' * 150}": "x", "l": symlink("t" * 200)}))},
    ),
    Case(
        "an archive whose names start with a dot",
        "ADD x /new/",
        {"x": file(archive({"./": folder(0o711), "./y": "y"}))},
    ),
    Case("an archive whose names start with a slash", "ADD x /new/", {"x": file(archive({"/y": "y"}))}),
    Case("an archive without the folders of its files", "ADD x /new/", {"x": file(archive({"p/q/r": "r"}))}),
    Case("an archive that climbs stays in the image", "ADD x /new/", {"x": file(archive({"../../../y": "y"}))}),
    Case(
        "an archive with a link that climbs", "ADD x /new/", {"x": file(archive({"l": symlink("../../../etc/passwd")}))}
    ),
    Case(
        "an archive with a folder behind a link",
        "ADD x /new/",
        {"x": file(archive({"l": symlink("d"), "d": folder(), "l/y": "y"}))},
    ),
    Case(
        "an archive's folder meets a link to a folder",
        "ADD x /",
        {"x": file(archive({"to-old": folder(0o711), "to-old/y": "y"}))},
    ),
    Case(
        "an archive's folder meets a file", "ADD x /", {"x": file(archive({"old/file": folder(), "old/file/y": "y"}))}
    ),
    Case("an archive's file meets a folder", "ADD x /", {"x": file(archive({"old": "a file\n"}))}),
    Case("an archive's link meets a folder", "ADD x /", {"x": file(archive({"old": symlink("etc")}))}),
    Case("an archive's file meets a link", "ADD x /", {"x": file(archive({"to-file": "a file\n"}))}),
    Case("an archive's folder changes a mode", "ADD x /", {"x": file(archive({"old": folder(0o700, (1, 2))}))}),
    Case("an archive of two with the same name", "ADD x /new/", {"x": file(archive({"y": "1", "./y": "2"}))}),
    Case(
        "an archive's hard link with another owner",
        "ADD x /new/",
        {"x": file(archive({"y": file("y", 0o600, owner=(1, 2)), "z": hard_link("y", 0o644, (3, 4))}))},
    ),
    Case("an archive with whiteouts", "ADD x /", {"x": file(archive({"old/.wh.file": "", "y": "y"}))}),
    Case(
        "an archive from the web is not unpacked", "ARG site\nADD $site/archive.tar /new/", buildargs={"site": "SITE"}
    ),
    Case("a file from the web has its time", "ARG site\nADD $site/dated /new", buildargs={"site": "SITE"}),
    Case("a file from the web without a time", "ARG site\nADD $site/plain /new", buildargs={"site": "SITE"}),
    Case(
        "a file from the web keeps its name", "ARG site\nADD $site/path/name?query=1 /new/", buildargs={"site": "SITE"}
    ),
    Case(
        "a file from the web goes into a folder",
        "ARG site\nADD $site/plain /old",
        buildargs={"site": "SITE"},
    ),
    Case("a file from the web and chown", "ARG site\nADD --chown=student $site/plain /new", buildargs={"site": "SITE"}),
    Case(
        "a page from the web without a name is refused",
        "ARG site\nADD $site/ /new/",
        buildargs={"site": "SITE"},
        refused="filename",
    ),
    Case(
        "a page that is not there is refused",
        "ARG site\nADD $site/missing /new",
        buildargs={"site": "SITE"},
        refused="404",
    ),
    Case("COPY has nothing from the web", "ARG site\nCOPY $site/plain /new", buildargs={"site": "SITE"}, refused=""),
]

SITE = {
    "/": (b"index\n", {}),
    "/plain": (b"plain\n", {}),
    "/dated": (b"dated\n", {"Last-Modified": "Sat, 03 Feb 2001 04:05:06 GMT"}),
    "/path/name": (b"name\n", {"Last-Modified": "Sat, 03 Feb 2001 04:05:06 GMT"}),
    "/archive.tar": (TAR, {}),
}


def ignoring(claim: str, patterns: str, dockerfile: str = "COPY . /new", **more: object) -> Case:
    """A case of a .dockerignore."""
    return Case(claim, dockerfile, {**IGNORABLE, ".dockerignore": patterns}, **more)  # type: ignore[arg-type]


IGNORABLE = {
    "a": "1",
    "ab": "2",
    "b.txt": "3",
    "dir/a": "4",
    "dir/b.txt": "5",
    "dir/sub/a": "6",
    "dir/sub/deep/c.txt": "7",
    "other/dir/a": "8",
    "empty": folder(),
    "link": symlink("a"),
    "#x": "9",
    "x y": "10",
}

IGNORE = [
    ignoring("a name is a path from the top", "a\n"),
    ignoring("a slash before changes nothing", "/a\n/dir/sub\n"),
    ignoring("a slash after changes nothing", "dir/\nab/\n"),
    ignoring("a dot before changes nothing", "./a\n./dir/./sub\n"),
    ignoring("patterns are cleaned", "dir/../a\ndir//sub\n"),
    ignoring("a folder goes with all below", "dir\n"),
    ignoring("contents go and the folder stays", "dir/*\n"),
    ignoring("an ignored star is one level", "*.txt\n"),
    ignoring("a star for a folder", "*/a\n"),
    ignoring("two stars are any depth", "**/a\n"),
    ignoring("two stars and a name at any depth", "**/*.txt\n"),
    ignoring("two stars after a folder", "dir/**\n"),
    ignoring("two stars in the middle", "dir/**/c.txt\n"),
    ignoring("two stars around", "**/sub/**\n"),
    ignoring("an exception brings one back", "*.txt\n!b.txt\n"),
    ignoring("everything but one", "*\n!a\n"),
    ignoring("everything but a folder", "*\n!dir/sub\n"),
    ignoring("everything at any depth but one", "**\n!dir/sub/a\n"),
    ignoring("a folder but one below", "dir\n!dir/sub/a\n"),
    ignoring("a folder's contents but one below", "dir/*\n!dir/a\n"),
    ignoring("an exception with stars", "dir\n!**/*.txt\n"),
    ignoring("the last pattern decides", "a\n!a\na\n"),
    ignoring("the last pattern decides for a folder", "!dir/sub\ndir\n!dir/a\ndir/sub\n"),
    ignoring("comments and blank lines are no patterns", "# comment\n\n  \na\n   # spaced\n"),
    ignoring("spaces around a pattern go", "  a  \n x y\n"),
    ignoring("a backslash before a hash", "\\#x\n"),
    ignoring("a class in a pattern", "[a-b]\n[!a]b\n"),
    ignoring("a class of others", "[^b]\n"),
    ignoring("an ignored question mark", "?\n??\n"),
    ignoring("lines may end as on Windows", "a\r\ndir\r\n"),
    ignoring("a byte order mark is skipped", "\ufeffa\nab\n"),
    ignoring("a link is ignored, not what it points to", "link\n"),
    ignoring("an empty folder is ignored", "empty\n"),
    ignoring("the Dockerfile is ignored and read all the same", "Dockerfile\n.dockerignore\n"),
    ignoring("a dot ignores nothing", ".\n"),
    ignoring("a slash ignores nothing", "/\n"),
    ignoring("an ignored source is refused", "a\n", "COPY a /new", refused="not found"),
    ignoring("an ignored source in a folder is refused", "dir\n", "COPY dir/a /new", refused="not found"),
    ignoring("an ignored folder is refused", "dir\n", "COPY dir /new", refused="not found"),
    ignoring("patterns of COPY see what is not ignored", "ab\n", "COPY * /new/"),
    ignoring("a bad pattern is refused", "[\n", refused=""),
    ignoring("a lone exclamation mark is refused", "!\n", refused=""),
    ignoring("a name with two stars inside", "d**\n"),
    Case(
        "a .dockerignore beside the Dockerfile comes first",
        "COPY . /new",
        {"a": "a", "b": "b", ".dockerignore": "a\n", "x.Dockerfile.dockerignore": "b\n"},
        path="x.Dockerfile",
        peer="reference",
        facts={"/new/a": "-rw-r--r-- 0:0 'a'", "/new/b": "nothing"},
    ),
]
