"""Lab 02's checks against right, half-right and wrong answers; each states how many criteria it meets."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest

from pylab_container import Engine
from pylab_container.engine.containers import Container
from pylab_container.notebook import sandbox
from pylab_container.notebook.exercises import lab02
from pylab_container.notebook.lab import Lab
from tests.support.answers import MISUNDERSTOOD, answering, judged

SLEEP = ["sleep", "infinity"]


@pytest.fixture
def lab(module_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.setattr(lab02, "APACHE", "RUN echo more >>/var/lib/dpkg/status; echo new >/etc/apache2/new\n")
    monkeypatch.setattr(lab02, "BUDGET_BYTES", 1_000_000)
    with answering("02", module_engine, monkeypatch) as lab:
        yield lab
        for container in lab.engine.containers.list(all=True):
            container.remove(force=True, v=True)
        lab.reset("answer", "repair02")


@pytest.fixture
def container(lab: Lab) -> Container:
    return lab.engine.containers.run_detached("debian12", SLEEP)


@pytest.mark.parametrize(
    ("answer", "met"),
    [
        ("/var/lib/dpkg/status", 2), ("var/lib/dpkg/status", 2), (" /var/lib/dpkg/status\n", 2),
        ("$LABCTR_ROOT/overlay2/0123/diff/var/lib/dpkg/status", 2),  # as lab.tree shows it
        ("/etc/apache2/new", 1), ("/etc/apache2/apache2.conf", 1), ("/etc/passwd", 1), ("/usr/sbin/apache2", 1),
        ("/etc", 0), ("/", 0), ("/missing", 0), ("status", 0),
        (7, MISUNDERSTOOD), ([], MISUNDERSTOOD), ("", MISUNDERSTOOD),
    ],
)  # fmt: skip
def test_02_1_wants_a_file_that_was_copied_up(lab: Lab, answer: object, met: int) -> None:
    assert judged(lab, "02.1", answer) == met


def test_02_1_looks_at_the_image_of_the_lab_if_it_is_here(lab: Lab, container: Container) -> None:
    container.exec_run(["sh", "-c", "echo x >>/etc/group"])
    container.commit(lab02.APACHE_IMAGE)
    assert judged(lab, "02.1", "/etc/group") == 2
    assert judged(lab, "02.1", "/var/lib/dpkg/status") == 1
    lab.engine.images.remove(lab02.APACHE_IMAGE)


@pytest.mark.parametrize(
    ("conf", "met"),
    [
        ({"Cmd": ["apachectl", "-D", "FOREGROUND"]}, 3),
        ({"Cmd": ["sh", "-c", ". /etc/apache2/envvars; mkdir -p $APACHE_RUN_DIR; exec apache2 -D FOREGROUND"]}, 3),
        ({"Entrypoint": ["apachectl"], "Cmd": ["-D", "FOREGROUND"]}, 3),
        ({"Cmd": ["nginx", "-g", "daemon off;"]}, 2),  # another server
        ({}, 2),  # the container's own command: it sleeps
        ({"Cmd": ["apachectl", "-k", "start"]}, 1),  # into the background
        ({"Cmd": ["echo", "FOREGROUND"]}, 1),
        ({"Cmd": ["httpd", "-D", "FOREGROUND"]}, 1),  # CentOS's name
        ({"Cmd": ["apachectl -D FOREGROUND"]}, 1),  # one word
        ({"Cmd": ["apache2", "-D", "FOREGROUND"]}, 1),  # without its variables
    ],
)
def test_02_2_wants_an_image_that_starts_its_server(
    lab: Lab, container: Container, conf: dict[str, Any], met: int
) -> None:
    image = container.commit("answer:v2", conf=conf)
    assert judged(lab, "02.2", image) == met
    assert judged(lab, "02.2", "answer:v2") == met


def test_02_2_takes_an_image_by_its_names_and_nothing_else(lab: Lab, container: Container) -> None:
    image = container.commit("answer:v2", changes=["CMD apachectl -D FOREGROUND"])
    for answer in (image, image.id, image.short_id[7:], "answer:v2"):
        assert judged(lab, "02.2", answer) == 3
    for wrong in (container, "answer:v3", 2, ["answer:v2"], "An Image"):
        assert judged(lab, "02.2", wrong) == MISUNDERSTOOD


def test_02_2_wants_the_base_image_below(lab: Lab, container: Container) -> None:
    stream = io.BytesIO(b"".join(container.export()))
    flat = lab.engine.images.import_(stream, "answer:flat", changes=["CMD apachectl -D FOREGROUND"])
    assert judged(lab, "02.2", flat) == 2


def test_02_2_looks_long_enough_to_see_an_init_script_end(
    lab: Lab, container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "RUNS_S", 8.0)  # it ends after 1.3 s on a quiet machine
    image = container.commit("answer:v2", conf={"Cmd": ["service", "apache2", "start"]})
    assert judged(lab, "02.2", image) == 1


CACHE = "head -c 2000000 /dev/urandom >/var/lib/apt/lists/cache"


@pytest.mark.parametrize(
    ("commands", "met"),
    [
        ([f"{CACHE}; rm /var/lib/apt/lists/cache"], 3),
        (["true"], 3),
        ([CACHE], 2),  # not cleaned up
        ([CACHE, "rm /var/lib/apt/lists/cache"], 2),  # deleted in a container of the large image
        ([f"{CACHE}; mv /var/lib/apt/lists/cache /srv"], 2),
        ([f"{CACHE}; gzip /var/lib/apt/lists/cache"], 2),
        (["rm /usr/sbin/apache2"], 2),  # too much was deleted
        (["rm -r /etc/apache2"], 2),
        ([f"{CACHE}; rm /usr/sbin/apache2"], 1),
    ],
)
def test_02_3_wants_a_small_layer(lab: Lab, commands: list[str], met: int) -> None:
    image = lab.engine.images.get("debian12")
    for command in commands:
        container = lab.engine.containers.run_detached(image, SLEEP)
        container.exec_run(["sh", "-c", command])
        image = container.commit("answer:small")
    assert judged(lab, "02.3", image) == met


@pytest.mark.parametrize(
    ("answer", "met"),
    [
        (["/etc", "/tmp"], 4), (("/tmp/", "/etc/"), 4), ("/etc, /tmp", 4), ({"/etc", "/tmp"}, 4), ("/etc /tmp", 4),
        (["/etc"], 3), (["/etc", "/data", "/tmp"], 3), (["/etc", "/tmp", "/dev/shm"], 3),
        (["/etc", "/data", "/tmp", "/dev/shm"], 2), ([], 2), (["/data", "/etc"], 2), ("all", 2),
        (["/data", "/dev/shm"], 0),
        (4, MISUNDERSTOOD), ([1], MISUNDERSTOOD), (True, MISUNDERSTOOD),
    ],
)  # fmt: skip
def test_02_4_knows_what_a_commit_takes(lab: Lab, answer: object, met: int) -> None:
    assert judged(lab, "02.4", answer) == met


@pytest.mark.parametrize(
    ("command", "conf", "met"),
    [
        (f"echo {lab02.REPAIR_PAGE.strip()} >/var/www/html/index.html", {"Cmd": lab02.FOREGROUND}, 3),
        (f"echo '<p>{lab02.REPAIR_PAGE.strip()}</p>' >/var/www/html/index.html", {"Cmd": lab02.FOREGROUND}, 3),
        (f"echo {lab02.REPAIR_PAGE.strip()} >/srv/index.html", {"Cmd": lab02.FOREGROUND}, 2),
        ("true", {"Cmd": lab02.FOREGROUND}, 2),
        ("rm /var/www/html/index*", {"Cmd": lab02.FOREGROUND}, 2),  # a listing of the empty directory
        (f"echo {lab02.REPAIR_PAGE.strip()} >/var/www/html/index.html", {}, 1),  # it sleeps
        (f"echo {lab02.REPAIR_PAGE.strip()} >/var/www/html/index.html", {"Cmd": ["apachectl", "-k", "start"]}, 0),
        ("true", {"Cmd": ["httpd"]}, 0),
    ],
)
def test_02_r_wants_the_page_in_a_layer(
    lab: Lab, container: Container, command: str, conf: dict[str, Any], met: int
) -> None:
    container.exec_run(["sh", "-c", command])
    container.commit(lab02.REPAIR_IMAGE, conf=conf)
    assert judged(lab, "02.r", None) == met


def test_02_r_is_broken_and_serves_its_page_only_from_the_volume(lab: Lab) -> None:
    assert judged(lab, "02.r", None) == MISUNDERSTOOD  # there is no image yet
    lab.break_("02.r")
    lab.break_("02.r")  # again, over the first one
    assert judged(lab, "02.r", None) == 2
    container = lab.engine.containers.get("repair02")
    assert container.exec_run("cat /var/www/html/index.html").output.decode() == lab02.REPAIR_PAGE
    container.commit(lab02.REPAIR_IMAGE, conf={"Cmd": lab02.FOREGROUND})  # once more, and no better
    assert judged(lab, "02.r", None) == 2
    container.exec_run("cp /var/www/html/index.html /srv")
    container.remove(force=True)
    lab.engine.volumes.get(lab02.REPAIR_VOLUME).remove()
