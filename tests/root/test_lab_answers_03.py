"""Lab 03's checks against right, half-right and wrong answers; each states how many criteria it meets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pylab_container import Engine
from pylab_container.images.image import Image
from pylab_container.notebook.exercises import lab03
from pylab_container.notebook.lab import Lab
from tests.support.answers import MISUNDERSTOOD, answering, built, judged

START = "CMD . /etc/apache2/envvars && mkdir -p $APACHE_RUN_DIR && exec apache2 -D FOREGROUND"
LISTS = "head -c 2000000 /dev/urandom >/var/lib/apt/lists/all"


@pytest.fixture
def lab(module_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.setattr(lab03, "APACHE", "RUN touch /updated\nRUN touch /installed\n")
    monkeypatch.setattr(lab03, "BUDGET_BYTES", 1_000_000)
    with answering("03", module_engine, monkeypatch) as lab:
        yield lab
        for image in lab.engine.images.list("answer"):
            lab.engine.images.remove(image, force=True)


@pytest.mark.parametrize(
    ("answer", "met"),
    [
        (5, 1), ("5", 1), (" 5\n", 1),
        (4, 0), (6, 0), (10, 0), (3, 0), (0, 0), (-5, 0),
        ("five", MISUNDERSTOOD), (True, MISUNDERSTOOD), (5.0, MISUNDERSTOOD), ([5], MISUNDERSTOOD),
    ],
)  # fmt: skip
def test_03_1_wants_the_number_of_layers(lab: Lab, answer: object, met: int) -> None:
    assert judged(lab, "03.1", answer) == met


@pytest.mark.parametrize(
    ("lines", "met"),
    [
        (f"RUN touch /updated && touch /installed\n{START}", 3),
        ("RUN touch /installed\nCMD apachectl -D FOREGROUND", 3),
        ('RUN touch /installed\nCMD ["apachectl", "-D", "FOREGROUND"]', 3),
        ('RUN touch /installed\nENTRYPOINT ["apachectl"]\nCMD ["-D", "FOREGROUND"]', 3),
        ("RUN touch /1\nRUN touch /2\nRUN touch /3\nRUN touch /4\nRUN touch /5\nCMD apachectl -D FOREGROUND", 2),
        ("RUN touch /installed\nCMD nginx -g 'daemon off;'", 2),
        ("RUN rm -r /etc/apache2\nCMD sleep 1000", 2),  # nothing serves
        ("CMD apachectl -k start", 1),
        ('CMD ["/bin/bash", "/run-httpd.sh"]', 1),  # FROM and CMD, and no script
        ("CMD httpd -D FOREGROUND", 1),
        ('CMD ["apachectl -D FOREGROUND"]', 1),
    ],
)
def test_03_2_wants_the_same_server_in_fewer_layers(lab: Lab, lines: str, met: int) -> None:
    assert judged(lab, "03.2", built(lab, f"FROM debian12\n{lines}\n")) == met


@pytest.mark.parametrize("answer", ["answer:none", 3, [], True, "FROM debian12"])
def test_an_answer_that_is_no_image_is_named(lab: Lab, answer: object) -> None:
    for key in ("03.2", "03.3", "03.4"):
        assert judged(lab, key, answer) == MISUNDERSTOOD


@pytest.mark.parametrize(
    ("lines", "met"),
    [
        (f"RUN {LISTS} && rm /var/lib/apt/lists/all\n{START}", 5),
        (START, 5),
        (f"RUN {LISTS}\nRUN rm /var/lib/apt/lists/all\n{START}", 4),  # deleted in a layer above
        (f"RUN {LISTS}\n{START}", 4),
        (f"RUN {LISTS} && rm /var/lib/apt/lists/all\nCMD apachectl -D FOREGROUND", 3),  # a shell is process 1
        (f"RUN {LISTS}\nCMD apachectl -D FOREGROUND", 2),
        ("CMD sleep 1000", 2),  # small, and no server
        ("RUN rm /usr/sbin/apache2\nCMD sleep 1000", 2),
        ("CMD apachectl -k start", 1),
        (f"RUN {LISTS}\nCMD true", 0),
    ],
)
def test_03_3_wants_a_small_image_that_stops_soon(lab: Lab, lines: str, met: int) -> None:
    assert judged(lab, "03.3", built(lab, f"FROM debian12\n{lines}\n")) == met


@pytest.mark.parametrize(
    ("lines", "met"),
    [
        ('USER daemon\nENTRYPOINT ["echo", "Hello,"]\nCMD ["world"]', 3),
        ('ENTRYPOINT ["/bin/echo", "Hello,"]\nCMD ["world"]\nUSER daemon', 3),
        ('ENTRYPOINT ["sh", "-c", "echo Hello, $0"]\nCMD ["world"]\nUSER 1', 3),
        ('ENTRYPOINT ["echo", "Hello,"]\nCMD ["world"]', 2),  # as root
        ('ENTRYPOINT ["echo", "Hello,"]\nCMD ["world"]\nUSER nobody', 2),
        ('ENTRYPOINT ["echo", "Hello, world"]\nUSER daemon', 2),  # Ada comes behind
        ("ENTRYPOINT echo Hello,\nCMD world\nUSER daemon", 1),  # shell form takes no arguments
        ("ENTRYPOINT echo Hello, world\nUSER daemon", 2),
        ('CMD ["echo", "Hello,", "world"]\nUSER daemon', 2),  # Ada is no program
        ('ENTRYPOINT ["echo", "Hello"]\nCMD ["world"]\nUSER daemon', 1),  # without the comma
        ("ENV NAME=world\nCMD echo Hello, $NAME", 1),
        ('ENTRYPOINT ["hello"]\nCMD ["world"]', 0),
    ],
)
def test_03_4_wants_entrypoint_and_command(lab: Lab, lines: str, met: int) -> None:
    assert judged(lab, "03.4", built(lab, f"FROM debian12\n{lines}\n")) == met


RUN = "sh /download.sh"
MOUNT = "--mount=type=bind,source=token,target=/token"
REPORT = 'CMD ["cat", "/report.txt"]'


@pytest.mark.parametrize(
    ("dockerfile", "met"),
    [
        (lab03.REPAIR_DOCKERFILE.format(base="debian12"), 3),
        (f"FROM debian12\nCOPY download.sh /\nRUN {MOUNT} {RUN}\n{REPORT}", 4),
        (f"FROM debian12\nRUN {MOUNT} --mount=type=bind,source=download.sh,target=/download.sh {RUN}\n{REPORT}", 4),
        (f"FROM debian12 AS load\nCOPY . /\nRUN {RUN}\nFROM debian12\nCOPY --from=load /report.txt /\n{REPORT}", 4),
        ('FROM debian12\nRUN echo "12 rows" >/report.txt\n' + REPORT, 4),  # made without the download: no token, either
        (f"FROM debian12\nCOPY token /\nCOPY download.sh /\nRUN {RUN} && rm /token\n{REPORT}", 3),
        (f"FROM debian12\nCOPY download.sh /\nRUN {MOUNT} cp /token /t && {RUN}\n{REPORT}", 3),
        (f"FROM debian12\nCOPY download.sh /\nRUN echo {lab03.REPAIR_TOKEN.strip()} >/token; {RUN}; "
         f"rm /token\n{REPORT}", 3),  # in the history
        (f"FROM debian12\nCOPY download.sh /\n{REPORT}", 3),  # no report
        (f"FROM debian12\nCOPY download.sh /\nRUN {RUN}\n{REPORT}", 0),  # without the token
        ("FORM debian12", 0),
    ],
)  # fmt: skip
def test_03_r_wants_the_report_without_the_token(lab: Lab, dockerfile: str, met: int) -> None:
    lab.break_("03.r")
    (lab.directory / "repair/Dockerfile").write_text(f"{dockerfile}\n")
    assert judged(lab, "03.r", None) == met


def test_a_container_is_not_taken_for_an_image(lab: Lab) -> None:
    image: Image = lab.engine.images.get("debian12")
    container = lab.engine.containers.create(image, ["true"])
    assert judged(lab, "03.2", container) == MISUNDERSTOOD
    container.remove()
