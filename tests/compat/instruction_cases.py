"""Variables, what only the config knows, and RUN, each case a small build."""

from __future__ import annotations

from tests.compat.build_context import (
    SECOND,
    Case,
)

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
FULL = """\
FROM base
MAINTAINER me
ENV A=1
LABEL a=b
WORKDIR /work
USER student
VOLUME /v
EXPOSE 80
STOPSIGNAL SIGINT
SHELL ["/bin/sh", "-ec"]
HEALTHCHECK --retries=2 CMD true
ENTRYPOINT ["a"]
CMD ["b"]
"""

VARIABLES = [
    Case("ENV with equals signs", 'ENV A=1 B="two words" C=three\\ words D=\'single $A\' E= F="" G=a"b"c'),
    Case("ENV with a space takes the line", "ENV A  one  two # three\nENV B \"quoted\" 'too' $A"),
    Case("ENV over several lines", 'ENV A=1 \\\n    B="x \\\n  y" \\\n\n    # a comment\n    C=3'),
    Case("ENV replaces in place", "ENV A=1 B=2\nENV A=3\nENV PATH=/x:$PATH"),
    Case("a line of ENV sees what was before the line", "ENV A=1\nENV A=2 B=$A\nENV C=$A"),
    Case("names are case-sensitive", "ENV a=1 A=2 b=$a$A"),
    Case("ENV without a value is refused", "ENV A", refused="ENV must have two arguments"),
    Case("ENV with a name alone among pairs is refused", "ENV A=1 B", refused="syntax error"),
    Case("ENV without a name is refused", "ENV =1", refused="names can not be blank"),
    Case("ENV of nothing is refused", "ENV", refused="at least one argument"),
    Case("variables with and without braces", "ENV A=1 AB=2\nENV X=$A Y=${A}B Z=$AB W=$A-B V=a$A"),
    Case("a variable without a value is empty", 'ENV X=a${NONE}b Y=$NONE Z="$NONE"'),
    Case("defaults and alternatives", "ENV A=1 E=\nENV B=${A:-d} C=${E:-d} D=${N:-d} F=${A:+p} G=${E:+p} H=${N:+p}"),
    Case(
        "defaults and alternatives without a colon",
        "ENV A=1 E=\nENV B=${A-d} C=${E-d} D=${N-d} F=${A+p} G=${E+p} H=${N+p}",
        peer="reference",
        facts={"config.Env": [PATH, "A=1", "E=", "B=1", "C=", "D=d", "F=p", "G=p", "H="]},
    ),
    Case("defaults may hold variables", 'ENV A=1\nENV B=${N:-${A}} C=${N:-$A$A} D=${N:-"a b"} E=${M:-${N:-x}}'),
    Case("a needed variable that has a value", "ENV A=1\nENV B=${A:?needed}"),
    Case("a needed variable without one is refused", 'ENV B="${B:?it is needed}"', refused="it is needed"),
    Case("escapes and quotes keep a dollar", "ENV A=1\nENV B=\\$A C='$A' D=\"\\$A\" E=\\\\$A F=\"'$A'\" G='\"$A\"'"),
    Case("a dollar alone", 'ENV A=$ B=a$ C=$$ D="$" E=$1 F=$@ G=$- H=${1}'),
    Case("a brace that is not closed is refused", "ENV A=${B", refused=""),
    Case("a modifier that is unknown is refused", "ENV A=${B:x}", refused=""),
    Case("a quote that is not closed", 'ENV A="b c', refused=""),
    Case(
        "patterns cut the ends of a value",
        "ENV A=foobarbaz\nENV B=${A#f*b} C=${A##f*b} D=${A%b*} E=${A%%b*}",
        peer="reference",
        facts={"config.Env": [PATH, "A=foobarbaz", "B=arbaz", "C=az", "D=foobar", "E=foo"]},
    ),
    Case(
        "patterns replace in a value",
        "ENV A=foobarbaz\nENV B=${A/ba/BA} C=${A//ba/BA}",
        peer="reference",
        facts={"config.Env": [PATH, "A=foobarbaz", "B=fooBArbaz", "C=fooBArBAz"]},
    ),
    Case(
        "variables in most instructions",
        "ENV f=a d=/new n=81 u=student v='x y' s=SIGINT e=\nCOPY $f ${d}/\nADD $f $d/2\nWORKDIR $d\n"
        "EXPOSE $n ${n}2/udp\nLABEL $f=$v x=$d\nUSER $u:${u}\nVOLUME $d/v ${d}2\nSTOPSIGNAL $s\nWORKDIR $e/x",
    ),
    Case(
        "no variables in what the container runs",
        'ENV A=1\nCMD echo $A\nENTRYPOINT ["echo", "$A"]\nHEALTHCHECK CMD test $A\n'
        'SHELL ["/bin/$A"]\nMAINTAINER $A\nONBUILD RUN echo $A',
    ),
    Case("variables in JSON words", 'ENV f=a d=/new\nCOPY ["$f", "${d}/"]\nVOLUME ["$d", "/x$f"]'),
    # ARG
    Case("the default of an ARG", "ARG a=1\nENV b=$a\nLABEL c=${a}"),
    Case("a build argument is before the default", "ARG a=1\nENV b=$a", buildargs={"a": "2"}),
    Case("an empty build argument is before the default", "ARG a=1\nENV b=x$a", buildargs={"a": ""}),
    Case("an ARG without a value", "ARG a\nENV b=x$a c=${a:-d}"),
    Case("a build argument without ARG has no meaning", "ENV b=x$a", buildargs={"a": "2"}),
    Case("an ARG is known from its line on", "ENV b=x$a\nARG a=1\nENV c=x$a", buildargs={"a": "2"}),
    Case("ENV hides an ARG", "ARG a=1\nENV a=2\nENV b=$a\nARG a=3\nENV c=$a", buildargs={"a": "4"}),
    Case("an ARG's default may hold others", "ARG a=1\nARG b=${a}2 c='$a' d=\"$a\"\nENV x=$b y=$c z=$d"),
    Case("an ARG again takes the new default", "ARG a=1\nARG a=2\nENV b=$a\nARG a\nENV c=$a"),
    Case("many ARGs in a line", 'ARG a=1 b="2 3" c\nENV x=$a y=$b z=x$c', buildargs={"c": "4"}),
    Case("ARG without a name is refused", "ARG =1", refused="names can not be blank"),
    Case("ARG of nothing is refused", "ARG", refused="argument"),
    Case("an ARG before FROM", "ARG name=base\nARG tag\nFROM ${name}:${tag:-latest}\nENV b=x$name"),
    Case("an ARG before FROM, given", "ARG name=none\nFROM $name\nARG name\nENV b=x$name", buildargs={"name": "base"}),
    Case("an ARG before FROM is known again once named", "ARG a=1\nFROM base\nARG a\nENV b=$a\nARG a=2\nENV c=$a"),
    Case("an ARG before FROM may hold others", "ARG a=la\nARG b=${a}test\nFROM base:$b\nLABEL x=y"),
    Case("a blank name of an image is refused", "ARG a\nFROM $a", refused="should not be blank"),
    Case("ARGs end with their stage", "FROM base AS one\nARG a=1\nFROM base\nENV b=x$a"),
    Case("proxies need no ARG", "ENV b=x$HTTP_PROXY", buildargs={"HTTP_PROXY": "http://proxy:1"}),
    Case("RUN sees ARGs, sorted in the history", "ARG b=2\nARG a='1 1'\nRUN echo $a $b > /x"),
    Case("RUN sees what ENV hides once", "ARG a=1\nENV a=2\nARG c\nRUN echo $a ${c-none} > /x"),
    Case("RUN sees no ARG after it", "RUN echo x$a > /x\nARG a=1\nRUN echo x$a > /y", buildargs={"a": "2"}),
    Case(
        "proxies are not in the history",
        "RUN echo $HTTP_PROXY $no_proxy > /x",
        buildargs={"HTTP_PROXY": "p", "no_proxy": "n"},
    ),
    Case(
        "a proxy with ARG is in the history", "ARG HTTP_PROXY\nRUN echo $HTTP_PROXY > /x", buildargs={"HTTP_PROXY": "p"}
    ),
    Case(
        "the platform's ARGs",
        "ARG TARGETPLATFORM\nARG TARGETOS BUILDARCH\nRUN echo $TARGETPLATFORM $TARGETOS x$BUILDARCH x$TARGETARCH > /x",
        peer="reference",
        facts={"/x": "-rw-r--r-- 0:0 'linux/amd64 linux xamd64 x\\n'"},
    ),
]

CONFIG = [
    Case("LABEL forms", 'LABEL a=1 "b c"="d e" f=\'g h\' i=j\\ k l="\\\n m"\nLABEL a=2 empty= x.y/z=w'),
    Case("LABEL with a space", 'LABEL a  b c\nLABEL q "r s"'),
    Case("LABEL with variables and quotes", 'ENV A=1\nLABEL x=$A y=\'$A\' z="\\"$A\\""'),
    Case("LABEL without a value is refused", "LABEL a", refused="two arguments"),
    Case("LABEL without a name is refused", "LABEL =a", refused="names can not be blank"),
    Case("labels of the command line come last", "LABEL a=1 b=2", labels={"b": "3", "c": "x y", "a.b": ""}),
    Case("EXPOSE forms", "EXPOSE 80 443/tcp 53/udp 132/sctp\nEXPOSE 80/udp 7000-7003 8000-8001/udp"),
    Case("EXPOSE again is the same", "EXPOSE 80\nEXPOSE 80/tcp 79"),
    Case("EXPOSE in capitals", "EXPOSE 80/TCP", refused=None),
    Case("EXPOSE of no number is refused", "EXPOSE http", refused="http"),
    Case("EXPOSE of too large a number is refused", "EXPOSE 65536", refused="65536"),
    Case("EXPOSE of an unknown protocol is refused", "EXPOSE 80/bogus", refused="bogus"),
    Case("EXPOSE backwards is refused", "EXPOSE 9-8", refused="9-8"),
    Case("EXPOSE with the host's port", "EXPOSE 8080:80"),
    Case("EXPOSE of nothing is refused", "EXPOSE", refused="at least one argument"),
    Case("USER forms", "USER student\nUSER 1000:50\nUSER stranger\nUSER a b"),
    Case("USER need not exist", "USER stranger:strangers"),
    Case("WORKDIR makes its folders", "WORKDIR /x/y\nWORKDIR z\nWORKDIR ../w/./v"),
    Case("WORKDIR as it is written", "WORKDIR /tmp/\nWORKDIR bin/\nWORKDIR /tmp/./\nWORKDIR //a//b\nWORKDIR c/.."),
    Case("WORKDIR with a slash at its end", "WORKDIR /tmp/"),
    Case("RUN of nothing is the image's command", 'CMD ["touch", "/x"]\nRUN []'),
    Case("RUN of nothing is the image's program", 'ENTRYPOINT ["touch", "/x"]\nRUN []'),
    Case("WORKDIR that is there", "WORKDIR /old/dir\nWORKDIR /\nWORKDIR tmp/"),
    Case("WORKDIR after USER belongs to root", "USER student\nWORKDIR /home/student/new/er"),
    Case("WORKDIR through links", "WORKDIR /to-old/x\nWORKDIR /escape/y\nCOPY a ."),
    Case("WORKDIR at a file is refused", "WORKDIR /old/file", refused="not a directory"),
    Case("WORKDIR with spaces", 'WORKDIR /x y\nWORKDIR "q"\nCOPY a .'),
    Case("WORKDIR with variables", "ENV A=/v\nWORKDIR $A/${B:-b}\nENV A=c\nWORKDIR $A"),
    Case("WORKDIR of nothing is refused", "WORKDIR", refused="exactly one argument"),
    Case("WORKDIR in a folder of narrow modes", "WORKDIR /root/sub"),
    Case("VOLUME forms", 'VOLUME /a /b\nVOLUME ["/c d", "/e"]\nVOLUME f\nVOLUME /a'),
    Case("VOLUME of nothing is refused", "VOLUME", refused="at least one argument"),
    Case("VOLUME in a file's place is refused", "VOLUME /old/file", refused="cannot mount volume over existing file"),
    Case("VOLUME of an empty variable is refused", "VOLUME $nothing", refused="can not be an empty string"),
    Case("VOLUME is a path, whatever its colons", "VOLUME n:/foo\nRUN ls -d /foo > /x; ls -d /n:/foo > /y; true"),
    Case("VOLUME of an empty word is refused", 'VOLUME [""]', refused="can not be an empty string"),
    Case(
        "what RUN changes in a volume is lost",
        "RUN mkdir /v; echo 1 > /v/1\nVOLUME /v\nRUN echo 2 > /v/2; rm /v/1; echo 3 > /3",
    ),
    Case("files that COPY adds to a volume stay", "VOLUME /old\nCOPY a /old/\nWORKDIR /old/sub\nCOPY b ."),
    Case("a volume that is not there is no folder", "VOLUME /v\nRUN ls -d /v > /x"),
    Case("RUN finds a volume filled", "VOLUME /old\nRUN ls /old > /x; touch /old/x; stat -c '%a %u' /old >> /x"),
    Case("STOPSIGNAL forms", "STOPSIGNAL SIGTERM\nSTOPSIGNAL 9\nSTOPSIGNAL kill\nSTOPSIGNAL SIGRTMIN+3"),
    Case("an unknown STOPSIGNAL is refused", "STOPSIGNAL SIGBOGUS", refused="invalid signal"),
    Case("STOPSIGNAL zero is refused", "STOPSIGNAL 0", refused="invalid signal"),
    Case("STOPSIGNAL of two is refused", "STOPSIGNAL 1 2", refused="invalid signal: 1 2"),
    Case("HEALTHCHECK in shell form", "HEALTHCHECK CMD test  -f /x || exit 1"),
    Case("HEALTHCHECK in exec form", 'HEALTHCHECK CMD ["test", "-f", "/x"]'),
    Case(
        "HEALTHCHECK with options",
        "HEALTHCHECK --interval=5m --timeout=3s --start-period=1m30s --retries=4 \\\n  CMD true",
    ),
    Case(
        "HEALTHCHECK with fractions",
        "HEALTHCHECK --interval=1.5s --timeout=250ms --start-period=2ms --retries=1 cmd true",
    ),
    Case("HEALTHCHECK NONE", "HEALTHCHECK CMD true\nHEALTHCHECK NONE"),
    Case("the last HEALTHCHECK is the one", "HEALTHCHECK --retries=2 CMD true\nHEALTHCHECK CMD false"),
    Case("HEALTHCHECK NONE of something is refused", "HEALTHCHECK NONE x", refused="takes no arguments"),
    Case("HEALTHCHECK of nothing is refused", "HEALTHCHECK", refused="argument"),
    Case("HEALTHCHECK CMD of nothing is refused", "HEALTHCHECK CMD", refused="missing command"),
    Case("HEALTHCHECK of another kind is refused", "HEALTHCHECK PING x", refused="unknown type"),
    Case("HEALTHCHECK without a unit is refused", "HEALTHCHECK --interval=5 CMD true", refused=""),
    Case("HEALTHCHECK of no time is refused", "HEALTHCHECK --interval=1us CMD true", refused="cannot be less than"),
    Case("HEALTHCHECK of less than no retries is refused", "HEALTHCHECK --retries=-1 CMD true", refused="retries"),
    Case("HEALTHCHECK with an unknown option is refused", "HEALTHCHECK --bogus=1 CMD true", refused="unknown flag"),
    Case(
        "HEALTHCHECK with an interval at the start",
        "HEALTHCHECK --start-interval=2s --start-period=1m CMD true",
        peer="reference",
        facts={
            "config.Healthcheck": {
                "Test": ["CMD-SHELL", "true"],
                "StartPeriod": 60 * SECOND,
                "StartInterval": 2 * SECOND,
            }
        },
    ),
    Case("CMD forms", 'CMD echo  a   b\nCMD ["echo", "a b"]'),
    Case("CMD of JSON with spaces around", 'CMD   [ "a" , "b c" ]  '),
    Case("CMD of JSON escapes", 'CMD ["\\u0041\\n\\t\\"\\\\", "ü€", "\\ud83d\\ude00"]'),
    Case("CMD of an empty list", "CMD []"),
    Case("CMD of bad JSON is a shell's", "CMD ['a', 'b']\nENTRYPOINT [\"a\", \"b\""),
    Case("CMD of JSON with a comma too many is a shell's", 'CMD ["a", ]'),
    Case("CMD of JSON that holds a number is refused", 'CMD ["a", 1]', refused="strings only"),
    Case("CMD of JSON over lines", 'CMD ["a", \\\n  "b", \\\n  "c"]'),
    Case("CMD of nothing", "CMD"),
    Case("ENTRYPOINT of nothing", "ENTRYPOINT"),
    Case("ENTRYPOINT forms", 'ENTRYPOINT top -b\nENTRYPOINT ["top", "-b"]'),
    Case("ENTRYPOINT after CMD keeps it", "CMD a\nENTRYPOINT b"),
    Case("ENTRYPOINT forgets the CMD of the base", "FROM other\nENTRYPOINT b", images={"other": "FROM base\nCMD a"}),
    Case("ENTRYPOINT of an empty list", "ENTRYPOINT []\nCMD a"),
    Case(
        "SHELL is for all that follows",
        'SHELL ["/bin/sh", "-ec"]\nCMD a\nENTRYPOINT b\nHEALTHCHECK CMD c\nRUN echo $- > /x\nWORKDIR /y',
    ),
    Case("SHELL wants JSON", "SHELL /bin/sh -c", refused="JSON"),
    Case("SHELL of an empty list", "SHELL []", refused=""),
    Case("MAINTAINER is the author", 'MAINTAINER A Student <a@example.org>\nENV a=1\nMAINTAINER "quoted"'),
    Case("MAINTAINER of nothing is refused", "MAINTAINER", refused="exactly one argument"),
    Case("everything comes from the base", "FROM full\nLABEL c=d", images={"full": FULL}),
    Case("FROM alone is the base", "FROM full2", images={"full2": FULL}),
    Case("FROM alone with a label of the command line", "FROM base", labels={"a": "b"}),
]

RUN = [
    Case("RUN in shell form", "RUN echo '$HOME' \"$HOME\" `pwd` > /x"),
    Case("RUN in exec form has no shell", 'RUN ["touch", "/$HOME", "/a b"]'),
    Case(
        "RUN over several lines",
        "RUN echo a \\\n  b \\\n\n# a comment\n  # and one more\n  c > /x && \\\n    echo d >> /x",
    ),
    Case(
        "RUN in a folder as a user",
        "WORKDIR /tmp/w\nUSER student\nRUN id -u > /tmp/x; pwd >> /tmp/x; echo $HOME >> /tmp/x",
    ),
    Case("RUN as numbers", "USER 7:8\nRUN touch /tmp/x; id -u > /tmp/y; id -G >> /tmp/y; echo $HOME >> /tmp/y"),
    Case("RUN as a user of more groups", "USER student\nRUN id -G > /tmp/x"),
    Case("RUN as a user and a group", "USER student:staff\nRUN id -G > /tmp/x"),
    Case("RUN as a stranger is refused", "USER stranger\nRUN true", refused="unable to find user stranger"),
    Case("RUN that fails is refused", "RUN exit 3", refused="returned a non-zero code: 3"),
    Case("RUN of a program that is not there is refused", 'RUN ["/missing"]', refused="no such file or directory"),
    Case("RUN of nothing fails", "RUN", refused=""),
    Case("RUN of an empty list is refused", "RUN []", refused=""),
    Case("RUN with an empty base CMD", 'RUN ["sh", "-c", "echo $0 $1 > /x", "a", "b"]'),
    Case(
        "RUN makes things",
        "RUN umask > /x; mkdir -m 711 /d; mkfifo /p; ln -s x /l; ln /x /h; chmod 4755 /h; chown 5:6 /d",
    ),
    Case("RUN takes away", "RUN rm /old/file /to-file; rm -r /old/dir; ls -A /old > /x"),
    Case("RUN makes anew", "RUN rm -r /old; mkdir /old; touch /old/new; rm /etc/group; mkdir /etc/group"),
    Case("RUN makes and takes away", "RUN mkdir -p /t/u; touch /t/u/v\nRUN rm -r /t\nRUN mkdir /t"),
    Case("RUN renames", "RUN mv /old /older; mv /older/file /old"),
    Case("RUN changes a mode alone", "RUN chmod 600 /etc/passwd; chown 1:2 /to-file; chmod 700 /old"),
    Case("RUN keeps times", "RUN touch -d '2003-03-03 03:03:03' /x /old /old/file"),
    Case("RUN that changes nothing", "RUN true\nENV a=1"),
    Case("RUN appends to a file below", "RUN echo more >> /old/file"),
    Case("RUN sees the environment", "ENV A='1 2'\nRUN env | grep -v HOSTNAME | sort > /x"),
    Case(
        "RUN leaves nothing of the engine's",
        "RUN ls -A / > /x; ls -A /etc > /y; ls -A /dev | wc -l > /z",
    ),
    Case(
        "RUN may not keep what it writes to the engine's files",
        "RUN echo x > /etc/hosts; echo y > /etc/resolv.conf; echo z > /dev/null; touch /dev/shm/x",
    ),
    Case("RUN with a long line", f"RUN echo {'x' * 30_000} > /x"),
    Case("RUN without the entrypoint", 'ENTRYPOINT ["/missing"]\nCMD ["also"]\nRUN echo a > /x'),
    Case("RUN has no ENV of later", "ENV A=1\nRUN echo $A > /x\nENV A=2\nRUN echo $A >> /x"),
    Case("RUN writes a large file", "RUN for i in 1 2 3 4 5 6 7 8; do cat /bin/busybox; done > /x; chmod 755 /x"),
    Case("RUN deletes a file of a layer before", "COPY dir /new\nRUN rm /new/one; mv /new/sub /sub"),
    Case("COPY after RUN took away", "RUN rm -r /old\nCOPY dir /old\nCOPY a /old/file"),
]
