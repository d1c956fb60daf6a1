"""Features of the Dockerfile language, each as a small build; test_builds_*.py compare the results.

The claims are ours; the facts come from the Dockerfile reference and from what the peers do.
"""

from __future__ import annotations

import hashlib

from tests.compat.build_context import BASE, Case, Files, archive, file, symlink
from tests.compat.copy_cases import MEMBERS, ODD, SITE, TAR
from tests.compat.instruction_cases import PATH

SYNTAX = [
    Case("instructions may be in any case", "from base\nEnv A=1\ncopy a /b\ncmd x", whole=True),
    Case("lines may be indented", "  FROM base\n\tENV A=1\n    COPY a /b", whole=True),
    Case(
        "comments and blank lines are skipped",
        "# one\n\n  # two\nFROM base\n\n#three\nENV A=1 # four",
        refused="",
        whole=True,
    ),
    Case("a hash in a line is a word", "CMD echo # no comment\nENV A=#1"),
    Case(
        "lines may end as on Windows, all of them",
        b"FROM base\r\nENV A=1 \\\r\n  B=2\r\nRUN echo a \\\r\n  b > /x\r\n",
        whole=True,
    ),
    Case("a byte order mark before the first line", b"\xef\xbb\xbfFROM base\nENV A=1\n", whole=True),
    Case("the last line needs no end", b"FROM base\nENV A=1", whole=True),
    Case("a continuation at the very end", b"FROM base\nENV A=1 \\", whole=True),
    Case("blanks after a continuation", "ENV A=1 \\  \n  B=2 \\\t\n C=3"),
    Case("two backslashes at the end of a line", "ENV A=1\\\\\nENV B=2"),
    Case("a continued word", "ENV A=on\\\ne B=two\nEN\\\nV C=3"),
    Case(
        "another escape character",
        "# escape=`\nFROM base\nENV A=1 `\n  B=c:\\ C=`$A D=$A\nCMD echo \\\nENV E=5",
        whole=True,
    ),
    Case("escape with spaces", "#  EsCaPe =  ` \nFROM base\nENV A=1 `\n B=2", whole=True),
    Case("a directive after a comment is one", "# a comment\n# escape=`\nFROM base\nENV A=1 \\\n B=2", whole=True),
    Case("a directive after a blank line is a comment", "\n# escape=`\nFROM base\nENV A=1 \\\n B=2", whole=True),
    Case("an unknown directive is a comment", "# bogus=1\n# escape=`\nFROM base\nENV A=1 \\\n B=2", whole=True),
    Case(
        "a directive twice is refused",
        "# escape=`\n# escape=`\nFROM base",
        whole=True,
        refused="only one escape parser directive",
    ),
    Case("an invalid escape character is refused", "# escape=x\nFROM base", whole=True, refused="invalid ESCAPE"),
    Case("a syntax line changes nothing", "# syntax=docker/dockerfile:1\nFROM base\nENV A=1", whole=True),
    Case("an unknown instruction is refused", "BOGUS x", refused="unknown instruction: BOGUS"),
    Case("a word alone is refused", "hello", refused="unknown instruction: HELLO"),
    Case("an empty Dockerfile is refused", b"", whole=True, refused=""),
    Case("a Dockerfile of comments is refused", "# nothing\n", whole=True, refused="no instructions"),
    Case("a Dockerfile without FROM is refused", "RUN true", whole=True, refused="no build stage in current context"),
    Case("a Dockerfile of ARG alone is refused", "ARG a=1", whole=True, peer="reference", refused="no build stage"),
    Case("ENV before FROM is refused", "ENV a=1\nFROM base", whole=True, refused="no build stage in current context"),
    Case("FROM of nothing is refused", "FROM", refused="FROM requires either one or three arguments"),
    Case("FROM of two words is refused", "FROM base x", refused="FROM requires either one or three arguments"),
    Case("FROM of an unknown image is refused", "FROM missing.invalid/image", refused="missing.invalid"),
    Case("FROM of no name is refused", "FROM Base", refused="must be lowercase"),
    Case("a mistake is found before anything is done", "RUN exit 7\nBOGUS", refused="unknown instruction"),
    Case("a Dockerfile with another name", "COPY sub/my.file /x", {"a": "a"}, path="sub/my.file"),
    Case(
        "a Dockerfile of many lines",
        "\n".join(["ENV \\", *(f"  A{number}={number} \\" for number in range(200)), "  Z=1"]),
    ),
    Case("tabs between words", "ENV\tA=1\tB=2\nCOPY\ta\t/b\nEXPOSE\t80\t81"),
    Case("utf-8 everywhere", "ENV Ä=ö\nLABEL ü=ß\nCOPY ä /ö/\nWORKDIR /é\nCMD echo 日本", {"ä": "ä\n"}),
    Case("ENV takes no flag", "ENV --x A=1", refused="unknown flag"),
    Case("a flag in capitals is refused", "COPY --CHOWN=1 a /b", refused="unknown flag"),
    Case("flags may end with two dashes", "COPY -- a /b"),
    Case(
        "RUN of a here-document",
        'RUN <<EOF\necho "$HOME" > /x\necho two >> /x\nEOF',
        peer="reference",
        facts={"/x": "-rw-r--r-- 0:0 '/root\\ntwo\\n'"},
    ),
    Case(
        "RUN of a here-document for a program",
        "RUN cat <<EOF > /x\na $A b\nEOF",
        peer="reference",
        facts={"/x": "-rw-r--r-- 0:0 'a  b\\n'"},
    ),
    Case(
        "RUN of a here-document with a program of its own",
        "RUN <<EOF\n#!/bin/sh -e\nfalse\ntrue\nEOF",
        peer="reference",
        refused="",
    ),
    Case(
        "COPY of here-documents",
        'ENV A=1\nCOPY <<one <<"two" <<-three /new/\na $A\none\nb $A\ntwo\n\t\tc\nthree',
        peer="reference",
        facts={
            "/new/one": "-rw-r--r-- 0:0 'a 1\\n'",
            "/new/two": "-rw-r--r-- 0:0 'b $A\\n'",
            "/new/three": "-rw-r--r-- 0:0 'c\\n'",
        },
    ),
    Case(
        "COPY of a here-document with a mode",
        "COPY --chmod=755 --chown=5:6 <<EOF /run\nx\nEOF",
        peer="reference",
        facts={"/run": "-rwxr-xr-x 5:6 'x\\n'"},
    ),
    Case("a here-document without an end is refused", "RUN <<EOF\necho\n", peer="reference", refused="heredoc"),
]

TRIGGERS = (
    "FROM base\nONBUILD ENV T=1\nONBUILD COPY a /from-child\nONBUILD RUN echo $T > /ran\n"
    "ONBUILD WORKDIR /on\nONBUILD CMD x"
)
ONBUILD = [
    Case("ONBUILD is only noted", "ONBUILD RUN exit 9\nONBUILD   COPY  a   /b\nonbuild env A=1"),
    Case("ONBUILD runs in the child", "FROM triggers1\nENV after=1", images={"triggers1": TRIGGERS}),
    Case("ONBUILD runs in a child of nothing else", "FROM triggers2", images={"triggers2": TRIGGERS}),
    Case(
        "ONBUILD does not run in the grandchild",
        "FROM child3\nENV x=1",
        images={"parent3": "FROM base\nONBUILD ENV T=1", "child3": "FROM parent3\nENV c=1"},
    ),
    Case("ONBUILD runs from a stage", "FROM base AS one\nONBUILD ENV T=1\nFROM one\nENV x=1"),
    Case(
        "ONBUILD of ARG",
        "FROM arg4\nENV x=$v",
        images={"arg4": "FROM base\nONBUILD ARG v=1\nONBUILD ENV y=$v"},
        buildargs={"v": "2"},
    ),
    Case(
        "ONBUILD of SHELL and ENTRYPOINT",
        "FROM shell5\nRUN echo $- > /x",
        images={"shell5": 'FROM base\nONBUILD SHELL ["/bin/sh", "-ec"]\nONBUILD ENTRYPOINT e'},
    ),
    Case(
        "ONBUILD that fails is refused",
        "FROM failing6",
        images={"failing6": "FROM base\nONBUILD RUN exit 5"},
        refused="non-zero code: 5",
    ),
    Case("ONBUILD of ONBUILD is refused", "ONBUILD ONBUILD ENV A=1", refused="chaining ONBUILD"),
    Case("ONBUILD of FROM is refused", "ONBUILD FROM base\nFROM base", whole=True, refused=""),
    Case(
        "ONBUILD of FROM after FROM is refused",
        "FROM base\nONBUILD FROM base",
        refused="FROM isn't allowed as an ONBUILD trigger",
    ),
    Case(
        "ONBUILD of MAINTAINER is refused",
        "ONBUILD MAINTAINER me",
        refused="MAINTAINER isn't allowed as an ONBUILD trigger",
    ),
    Case("ONBUILD of nothing is refused", "ONBUILD", refused="ONBUILD requires at least one argument"),
    Case("ONBUILD of something unknown", "ONBUILD BOGUS x", refused=None),
]

STAGE = "FROM base AS one\nCOPY dir /made\nCOPY --chown=5:6 run.sh /made/\n"
STAGES = [
    Case("COPY from a stage by name", f"{STAGE}FROM base\nCOPY --from=one /made /here"),
    Case("COPY from a stage by number", f"{STAGE}FROM base\nCOPY --from=0 /made/run.sh /here/"),
    Case("names of stages have no case", f"{STAGE}FROM base\nCOPY --from=ONE /made/one /here"),
    Case("AS may be in any case", "FROM base as One\nCOPY a /x\nFROM base\nCOPY --from=one /x /y"),
    Case(
        "COPY from a stage by a relative path",
        f"{STAGE}WORKDIR /made\nFROM base\nWORKDIR /w\nCOPY --from=one made/one ./there",
    ),
    Case("COPY from a stage with a pattern", f"{STAGE}FROM base\nCOPY --from=one /made/*n* /made/r?n.sh /here/"),
    Case("COPY from a stage to the root", f"{STAGE}FROM base\nCOPY --from=one / /all"),
    Case("COPY from a stage and chown", f"{STAGE}FROM base\nCOPY --from=one --chown=student /made /here"),
    Case("COPY from a stage takes owners", "FROM base AS one\nFROM base\nCOPY --from=one /old /here"),
    Case(
        "COPY from a stage follows links there",
        "FROM base AS one\nFROM base\nCOPY --from=one /to-file /absolute/dir /here/",
    ),
    Case("COPY from a stage of a link out of it", "FROM base AS one\nFROM base\nCOPY --from=one /escape /here"),
    Case(
        "COPY from a stage of a link to nothing is refused",
        "FROM base AS one\nFROM base\nCOPY --from=one /dangling /x",
        refused="",
    ),
    Case(
        "COPY from a stage of what is not there is refused",
        "FROM base AS one\nFROM base\nCOPY --from=one /missing /x",
        refused="missing",
    ),
    Case(
        "COPY from a stage of odd things",
        "FROM base AS one\nADD x /odd/\nFROM base\nCOPY --from=one /odd /here",
        {"x": file(archive(ODD))},
    ),
    Case(
        "COPY from a stage of hard links",
        "FROM base AS one\nADD x /d/\nFROM base\nCOPY --from=one /d /here",
        {"x": file(TAR)},
    ),
    Case(
        "COPY from a stage keeps times",
        "FROM base AS one\nRUN touch -d '2003-03-03 03:03:03' /old /old/file\nFROM base\nCOPY --from=one /old /here",
    ),
    Case("COPY from an image", "COPY --from=base /old/dir /here\nCOPY --from=base:latest /etc/passwd /p"),
    Case("COPY from an unknown image is refused", "COPY --from=missing.invalid/x /a /b", refused="missing.invalid"),
    Case(
        "COPY from a stage that is not before is refused",
        "FROM base AS one\nCOPY --from=1 /a /b\nFROM one",
        refused="invalid from flag value",
    ),
    Case(
        "COPY from the own stage is refused",
        "FROM base AS one\nCOPY --from=0 /etc/passwd /b",
        refused="invalid from flag value",
    ),
    Case("COPY from a stage on nothing", f"{STAGE}FROM scratch\nCOPY --from=one /made /\nCMD x"),
    Case("a stage on a stage", f"{STAGE}ENV A=1\nLABEL l=m\nFROM one AS two\nENV B=$A\nFROM two\nCOPY a /b"),
    Case("stages on the same image share nothing", "FROM base AS one\nENV A=1\nFROM base AS two\nENV B=x$A"),
    Case("a stage with the name of an image", "FROM base AS base\nENV A=1\nFROM base\nENV B=2"),
    Case("a stage may not begin with a digit", "FROM base AS 1a", refused="invalid name for build stage"),
    Case(
        "a stage's name may have dots and dashes",
        "FROM base AS a.b-c_d\nCOPY a /a\nFROM base\nCOPY --from=a.b-c_d /a /b",
    ),
    Case(
        "COPY from its own stage is refused", "FROM base\nCOPY --from=0 /a /b", refused="refers to current build stage"
    ),
    Case("COPY from a later stage is refused", "FROM base\nCOPY --from=1 /a /b", refused="index out of bounds"),
    Case("a target by name", "FROM base AS one\nENV A=1\nFROM base AS two\nENV B=2\nFROM base\nENV C=3", target="two"),
    Case(
        "a target by number",
        "FROM base AS one\nENV A=1\nFROM base\nRUN exit 1",
        target="0",
        peer="reference",
        facts={"config.Env": [PATH, "A=1"]},
    ),
    Case("a target in another case", "FROM base AS One\nENV A=1\nFROM base\nENV B=2", target="ONE"),
    Case("an unknown target is refused", "FROM base AS one", target="two", refused="target"),
    Case("stages after the target are not built", "FROM base AS one\nENV A=1\nFROM base\nRUN exit 1", target="one"),
    Case(
        "stages that the target does not need are not built",
        "FROM base AS one\nRUN exit 1\nFROM base\nENV A=1",
        peer="reference",
        facts={"config.Env": [PATH, "A=1"]},
    ),
    Case("FROM scratch and a file", "FROM scratch\nCOPY a /"),
    Case("FROM scratch and config", "FROM scratch\nENV A=1\nLABEL b=c"),
    Case("FROM scratch and a folder", "FROM scratch\nWORKDIR /x/y\nCOPY a ."),
    Case("FROM scratch and an archive", "FROM scratch\nADD x /", {"x": file(archive({**BASE, **MEMBERS}))}),
    Case("FROM scratch alone is refused", "FROM scratch", refused="no image was generated"),
    Case("FROM scratch has a name too", "FROM scratch AS one\nCOPY a /a\nFROM scratch\nCOPY --from=one /a /b"),
    Case(
        "--platform of this machine",
        "FROM --platform=linux/amd64 base\nENV A=1",
        peer="reference",
        facts={"config.Env": [PATH, "A=1"]},
    ),
]

MODERN = [
    Case("COPY with a mode", "COPY --chmod=604 a /x/y\nCOPY --chmod=0751 dir /new", peer="buildah"),
    Case("COPY with a mode and an owner", "COPY --chmod=4755 --chown=5:6 run.sh /x", peer="buildah"),
    Case("ADD with a mode", "ADD --chmod=640 --chown=student a b /new/", peer="buildah"),
    Case(
        "COPY with a mode in letters",
        "COPY --chmod=u=rwX,go=r a run.sh /new/",
        peer="reference",
        facts={"/new/a": "-rw-r--r-- 0:0 'a\\n'", "/new/run.sh": "-rwxr--r-- 0:0 '#!/bin/sh\\n'"},
    ),
    Case("COPY with an invalid mode is refused", "COPY --chmod=9 a /x", peer="reference", refused="chmod"),
    Case(
        "COPY as a layer of its own",
        "COPY --link a /to-old/x",
        peer="reference",
        facts={"/to-old": "drwxr-xr-x 0:0", "/to-old/x": "-rw-r--r-- 0:0 'a\\n'", "/old/x": "nothing"},
    ),
    Case(
        "COPY with parents",
        "COPY --parents dir/one dir/sub /new/",
        peer="reference",
        facts={
            "/new/dir/one": "-rw-r----- 0:0 'one\\n'",
            "/new/dir/sub/two": "-rw-r--r-- 0:0 'two\\n'",
            "/new/dir/.hidden": "nothing",
        },
    ),
    Case(
        "COPY with parents from a pivot",
        "COPY --parents ./dir/./sub/two /new/",
        peer="reference",
        facts={"/new/sub/two": "-rw-r--r-- 0:0 'two\\n'", "/new/dir": "nothing"},
    ),
    Case(
        "COPY with two stars and parents",
        "COPY --parents **/one /new/",
        peer="reference",
        facts={
            "/new/dir/one": "-rw-r----- 0:0 'one\\n'",
            "/new/other/one": "-rw-r--r-- 0:0 'another one\\n'",
            "/new/a": "nothing",
        },
    ),
    Case(
        "COPY without some",
        "COPY --exclude=*/one --exclude=b . /new/",
        peer="reference",
        facts={
            "/new/dir/one": "nothing",
            "/new/b": "nothing",
            "/new/a": "-rw-r--r-- 0:0 'a\\n'",
            "/new/dir/sub/two": "-rw-r--r-- 0:0 'two\\n'",
        },
    ),
    Case("RUN with a bind mount", "RUN --mount=type=bind,target=/ctx cp /ctx/a /x; ls /ctx > /y", peer="buildah"),
    Case(
        "RUN with a bind mount of one thing",
        "RUN --mount=type=bind,source=dir,target=/ctx cp /ctx/sub/two /x",
        peer="buildah",
    ),
    Case(
        "RUN with a bind mount of a stage",
        "FROM base AS one\nCOPY a /made/a\nFROM base\nRUN --mount=type=bind,from=one,source=/made,target=/m cp /m/a /x",
        peer="buildah",
    ),
    Case(
        "RUN with a bind mount writes nothing that stays",
        "RUN --mount=target=/ctx,rw touch /ctx/new; ls /ctx/new > /x\nCOPY . /all",
        peer="reference",
        facts={"/x": "-rw-r--r-- 0:0 '/ctx/new\\n'", "/ctx": "nothing", "/all/new": "nothing"},
    ),
    Case(
        "RUN may not write to a bind mount",
        "RUN --mount=type=bind,target=/ctx touch /ctx/new",
        peer="buildah",
        refused="",
    ),
    Case(
        "RUN with a cache",
        "RUN --mount=type=cache,target=/c,id=one echo 1 > /c/f\nRUN --mount=type=cache,target=/c,id=one cp /c/f /x",
        peer="buildah",
    ),
    Case(
        "RUN with a cache of a mode",
        "RUN --mount=type=cache,target=/c,id=two,mode=0710,uid=5,gid=6 stat -c '%a %u %g' /c > /x",
        peer="buildah",
    ),
    Case("RUN with a tmpfs", "RUN --mount=type=tmpfs,target=/t touch /t/x; ls /t > /x", peer="buildah"),
    Case(
        "RUN with a mount of an unknown kind is refused",
        "RUN --mount=type=bogus,target=/x true",
        peer="buildah",
        refused="bogus",
    ),
    Case(
        "RUN without a needed secret is refused",
        "RUN --mount=type=secret,id=none,required=true true",
        peer="buildah",
        refused="none",
    ),
    Case(
        "RUN without a secret that is not needed",
        "RUN --mount=type=secret,id=none ls /run/secrets > /x 2>&1; echo $? > /x",
        peer="reference",
        facts={"/x": "-rw-r--r-- 0:0 '1\\n'"},
    ),
    Case(
        "RUN without a network",
        "RUN --network=none ls /sys/class/net > /x",
        peer="reference",
        facts={"/x": "-rw-r--r-- 0:0 'lo\\n'"},
    ),
    Case("RUN with an unknown network is refused", "RUN --network=bogus true", peer="reference", refused="bogus"),
    Case(
        "ADD from the web with its digest",
        f"ARG site\nADD --checksum=sha256:{hashlib.sha256(SITE['/plain'][0]).hexdigest()} $site/plain /x",
        buildargs={"site": "SITE"},
        peer="reference",
        facts={"/x": "-rw------- 0:0 'plain\\n'"},
    ),
    Case(
        "ADD from the web with another digest is refused",
        f"ARG site\nADD --checksum=sha256:{'0' * 64} $site/plain /x",
        buildargs={"site": "SITE"},
        peer="reference",
        refused="digest",
    ),
]

SITE_FILES: Files = {
    "index.html": "<h1>hello</h1>\n",
    "site/a": "a",
    "site/below/script": file("#!/bin/sh\n", 0o750),
    "site/link": symlink("a"),
}
TUTORIAL = [
    Case(
        "httpd, as in the tutorial",
        "FROM base\nRUN mkdir -p /var/www && echo installed > /var/www/installed\nRUN rm /old/file\n"
        'COPY index.html /var/www/html/index.html\nEXPOSE 80\nCMD ["httpd", "-f", "-h", "/var/www/html"]',
        SITE_FILES,
    ),
    Case(
        "nginx, as in the tutorial",
        "FROM base\nMAINTAINER student <student@example.org>\nRUN echo nginx > /etc/nginx.conf \\\n"
        "    && ln -s /dev/stdout /tmp/access.log\nADD site /srv/\nEXPOSE 80 443\nCMD httpd -f",
        SITE_FILES,
    ),
]
