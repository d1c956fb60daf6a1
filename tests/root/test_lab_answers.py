"""The checks of the labs' exercises against right, half-right and wrong answers, such as students give.

Each answer states how many criteria it meets. The servers are Debian's; a grace period of ten seconds is shortened.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pylab_container import Engine
from pylab_container.errors import InvalidInput
from pylab_container.notebook import exercises, sandbox
from pylab_container.notebook.exercises import lab04
from pylab_container.notebook.lab import Lab
from tests.support.answers import MISUNDERSTOOD, answering, built, contents, judged

FOREGROUND = 'nginx -g "daemon off;"'
OWN_PAGE = "echo I am $HOSTNAME >/var/www/html/index.html"
PAGES = 'RUN for n in 1 2 3; do echo "page $n"; done >/index.html'
SCRIPT = "RUN echo 'for n in 1 2 3; do echo \"page $n\"; done' >/page.sh"


@pytest.fixture
def lab(module_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.setattr(lab04, "NGINX", "")
    with answering("04", module_engine, monkeypatch) as lab:
        yield lab


@pytest.mark.parametrize(
    ("answer", "met"),
    [
        ("sh", 1), ("/bin/sh", 1), ("dash", 1), (" sh\n", 1),
        ("nginx", 0), ("/usr/sbin/nginx", 0), ("bash", 0), ("systemd", 0), ("1", 0),
        (True, MISUNDERSTOOD), (["sh"], MISUNDERSTOOD), ("", MISUNDERSTOOD),
    ],
)  # fmt: skip
def test_04_1_wants_the_shell(lab: Lab, answer: object, met: int) -> None:
    assert judged(lab, "04.1", answer) == met


@pytest.mark.parametrize(
    ("answer", "met"),
    [
        (["nginx", "-g", "daemon off;"], 4),
        (("/usr/sbin/nginx", "-g", "daemon off;"), 4),
        (["nginx", "-g", "daemon off; timer_resolution 100ms;"], 4),
        (["sh", "-c", f"exec {FOREGROUND}"], 4),
        (["sh", "-c", FOREGROUND], 2),  # the shell stays process 1
        (["apachectl", "-D", "FOREGROUND"], 1),  # another server, and a shell as process 1
        (["nginx", "-g", '"daemon off;"'], 0),  # inner quotation marks, which no shell removes
        (["nginx", "-g", "daemon off"], 0),
        (["nginx", "-g daemon off;"], 4),  # getopt takes the value from the same word
        (["nginx"], 0),
        (["nginx", "-x"], 0),
        (["nginx -g 'daemon off;'"], 0),  # one word
        (["engine-x", "-g", "daemon off;"], 0),
        ('nginx -g "daemon off;"', MISUNDERSTOOD),
        ([], MISUNDERSTOOD),
        (["nginx", 1], MISUNDERSTOOD),
    ],
)
def test_04_2_wants_nginx_in_the_foreground(lab: Lab, answer: object, met: int) -> None:
    assert judged(lab, "04.2", answer) == met


@pytest.mark.parametrize(
    ("lines", "met"),
    [
        (f"CMD {OWN_PAGE} && exec {FOREGROUND}", 4),
        (f"CMD {OWN_PAGE}; exec {FOREGROUND}", 4),
        (f"CMD {OWN_PAGE} && {FOREGROUND}", 2),  # without exec
        (f"RUN {OWN_PAGE}\nCMD exec {FOREGROUND}", 3),  # the host name of the container that built the step
        (f'CMD ["{OWN_PAGE}", "&&", "exec", "nginx"]', 0),  # && in exec form
        (f"CMD {OWN_PAGE} && exec nginx", 0),  # in the background
        (f"CMD {OWN_PAGE}", 0),
        (f"CMD exec {FOREGROUND}", 3),
        ("CMD sleep 1000", 1),
    ],
)
def test_04_3_wants_a_shell_that_gives_way(lab: Lab, lines: str, met: int) -> None:
    answer = built(lab, f"FROM debian12\n{lines}\n")
    assert judged(lab, "04.3", answer) == met
    lab.engine.images.remove(answer)


@pytest.mark.parametrize(
    ("dockerfile", "met"),
    [
        (f"FROM debian12 AS page\n{SCRIPT}\nRUN sh /page.sh >/index.html\nFROM debian12\n"
         f"COPY --from=page /index.html /var/www/html/\nCMD exec {FOREGROUND}", 5),
        (f"FROM debian12 AS page\n{PAGES}\nFROM debian12\nCOPY --from=page /index.html /var/www/html/\n"
         f'CMD ["nginx", "-g", "daemon off;"]', 5),
        (f"FROM debian12\n{SCRIPT}\nRUN sh /page.sh >/var/www/html/index.html\nCMD exec {FOREGROUND}", 4),
        (f"FROM debian12\n{SCRIPT}\nRUN sh /page.sh >/var/www/html/index.html; rm /page.sh\nCMD exec {FOREGROUND}", 4),
        (f"FROM debian12 AS page\n{PAGES}\nFROM debian12\nCOPY --from=page /index.html /usr/share/nginx/html/\n"
         f"CMD exec {FOREGROUND}", 4),
        (f"FROM debian12 AS page\n{PAGES}\nFROM debian12\nCOPY --from=page /index.html /var/www/html/\n"
         f"CMD {FOREGROUND}", 3),
        ("FROM debian12 AS page\nRUN echo page 1 >/index.html\nFROM debian12\n"
         f"COPY --from=page /index.html /var/www/html/\nCMD exec {FOREGROUND}", 4),
        (f"FROM debian12 AS page\n{PAGES}\nFROM debian12\nCOPY --from=page /index.html /var/www/html/", 0),
    ],
)  # fmt: skip
def test_04_4_wants_the_page_without_what_made_it(lab: Lab, dockerfile: str, met: int) -> None:
    answer = built(lab, dockerfile)
    assert judged(lab, "04.4", answer) == met
    lab.engine.images.remove(answer)


@pytest.mark.parametrize(
    ("dockerfile", "met"),
    [
        (lab04.REPAIR_DOCKERFILE, 1),
        (f"FROM debian12\nCOPY index.html /var/www/html/\nCMD exec {FOREGROUND}\n", 5),
        ('FROM debian12\nCOPY index.html /var/www/html/\nCMD ["nginx", "-g", "daemon off;"]\n', 5),
        (f"FROM debian12\nCOPY index.html /usr/share/nginx/html/\nCMD exec {FOREGROUND}\n", 4),
        (f"FROM debian12\nCOPY index.html /var/www/html/\nCMD {FOREGROUND}\n", 3),
        ("FROM debian12\nCOPY index.html /var/www/html/\nCMD service nginx start && sleep infinity\n", 3),
        ("FROM debian12\nCOPY index.html /var/www/html/\nCMD service nginx start && tail -f /dev/null\n", 3),
        ("FROM debian12\nCOPY missing.html /var/www/html/\n", 0),
        ("FORM debian12\n", 0),
    ],
)
def test_04_r_wants_a_container_that_serves(lab: Lab, dockerfile: str, met: int) -> None:
    lab.break_("04.r")
    text = dockerfile.replace("RUN apt-get update\nRUN apt-get install -y --no-install-recommends nginx\n", "")
    (lab.directory / "repair/Dockerfile").write_text(text.replace("{base}", "debian12"))
    assert judged(lab, "04.r", None) == met


# -- the frame ---------------------------------------------------------------------------------


def test_every_exercise_has_three_hints_and_every_lab_ends_with_a_repair() -> None:
    for key, exercise in exercises.EXERCISES.items():
        assert len(set(exercise.hints)) == 3, key
    assert all(exercises.EXERCISES[f"{lab}.r"].prepare for lab in {key[:2] for key in exercises.EXERCISES})


def test_a_hint_comes_after_an_attempt_and_the_last_one_is_repeated(lab: Lab) -> None:
    assert "first try it" in lab.hint("04.2").text
    lab.check("04.2", [])  # not understood: no attempt
    assert "first try it" in lab.hint("04.2").text
    lab.check("04.2", ["nginx"])
    assert [lab.hint("04.2").text[:11] for _ in range(4)] == [
        "hint 1 of 3",
        "hint 2 of 3",
        "hint 3 of 3",
        "hint 3 of 3",
    ]


def test_the_best_attempt_is_kept(lab: Lab) -> None:
    for answer in (["nginx"], ["nginx", "-g", "daemon off;"], ["nginx"]):
        lab.check("04.2", answer)
    work = lab.progress.read().exercises["04.2"]
    assert (work.attempts, work.met, work.of, work.solved) == (3, 4, 4, True)


def test_none_is_not_an_attempt(lab: Lab) -> None:
    assert "not tried yet" in repr(lab.check("04.2", None))
    assert lab.progress.read().exercises == {}


def test_an_interrupted_check_leaves_nothing(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(sandbox.Sandbox, "process_one", interrupt)
    before = contents(lab.engine)
    with pytest.raises(KeyboardInterrupt):
        lab.check("04.1", "sh")
    assert contents(lab.engine) == before


def test_what_a_killed_kernel_left_goes_with_the_next_check(lab: Lab) -> None:
    before = contents(lab.engine)
    left = lab._sandbox()
    left.start(left.build("FROM debian12\nCMD sleep 1000\n"))
    lab.check("04.1", "sh")
    assert contents(lab.engine) == before


def test_a_repair_that_was_not_set_up_says_so(lab: Lab) -> None:
    for file in Path(lab.directory).glob("repair/*"):
        file.unlink()
    assert "lab.break_" in repr(lab.check("04.r"))


def test_an_unknown_exercise_and_a_repair_that_is_none_are_errors(lab: Lab) -> None:
    with pytest.raises(InvalidInput, match="no exercise 04"):
        lab.check("04.9", 1)
    with pytest.raises(InvalidInput, match="is not a repair"):
        lab.break_("04.2")
