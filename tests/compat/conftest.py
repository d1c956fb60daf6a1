"""A real dockerd and a docker-registry beside our engine, which the tests of one process share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path

import pytest

from pylab_container import Engine
from tests.compat.build_context import Case
from tests.compat.builders import Ours, Outcome, our_builder, peers_build, serving_site
from tests.support.api import Daemon, serving
from tests.support.dockerd import Docker, run_dockerd_with_bridge
from tests.support.fixtures import engine_on
from tests.support.network import forwarded
from tests.support.pair import Pair, clear, populate
from tests.support.registries import RunningRegistry, running
from tests.support.sides import IMAGE, docker, ours


@pytest.fixture(scope="session", autouse=True)
def _isolated(isolation: None) -> None:
    """Isolate tests that do not use an engine, too."""


@pytest.fixture(scope="session")
def _shared_dockerd(isolation: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    with run_dockerd_with_bridge(tmp_path_factory.mktemp("dockerd")) as docker:
        yield docker


@pytest.fixture(scope="module")
def dockerd(_shared_dockerd: Docker) -> Iterator[Docker]:
    """The dockerd of this process, in which each module begins with nothing."""
    yield _shared_dockerd
    clear(_shared_dockerd.api)


@pytest.fixture
def empty_dockerd(dockerd: Docker) -> Docker:
    """A dockerd on an empty data root, for a test that lists all of its objects."""
    clear(dockerd.api)
    return dockerd


@pytest.fixture(scope="module")
def sockets(dockerd: Docker, busybox_tar: Path, repository: Path) -> Iterator[tuple[Path, Path]]:
    """Docker's daemon and ours, with the image busybox:1 in both; a module's tests share them."""
    with ours(repository) as daemon:
        for socket in (dockerd.socket, daemon.socket):
            assert docker(socket, "import", str(busybox_tar), IMAGE).returncode == 0
        yield dockerd.socket, daemon.socket


@pytest.fixture(scope="module")
def populated(dockerd: Docker, busybox_tar: Path, repository: Path) -> Iterator[Pair]:
    """Our daemon and dockerd, with the same things in both; a module's tests share them."""
    with ours(repository) as daemon:
        pair = Pair(daemon.api, dockerd.api)
        pair.both(lambda api: populate(api, busybox_tar))
        yield pair


@pytest.fixture(scope="module")
def daemon_of_module(
    nothing_left_behind: None, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Engine, Daemon]]:
    """A `labctr daemon` for the tests of a module, and an engine on its data root."""
    with (
        engine_on(tmp_path_factory.mktemp("engine") / "root") as engine,
        serving(engine.data_root, repository) as daemon,
    ):
        yield engine, daemon


# -- builds, see builders.py ------------------------------------------------------------------


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """An HTTP server with the files of SITE, for ADD."""
    with serving_site() as address:
        yield address


@pytest.fixture(scope="module")
def our_builds(nothing_left_behind: None, tmp_path_factory: pytest.TempPathFactory, site: str) -> Iterator[Ours]:
    """Our engine with the base image of build cases."""
    with our_builder(tmp_path_factory.mktemp("ours"), site) as builder:
        yield builder


@pytest.fixture(scope="module")
def peer_builds(
    request: pytest.FixtureRequest, dockerd: Docker, tmp_path_factory: pytest.TempPathFactory, site: str
) -> Iterator[Mapping[str, Future[Outcome]]]:
    """Results of the peers for the selected cases of a module; they build ahead, concurrently with our engine."""
    items = [item for item in request.session.items if item.path == request.path and isinstance(item, pytest.Function)]
    cases = [case for item in items if isinstance(case := item.callspec.params["case"], Case)]
    directory = tmp_path_factory.mktemp("theirs")
    with forwarded(dockerd.pid, int(site.rpartition(":")[2])), peers_build(cases, dockerd, directory, site) as expected:
        yield expected


# -- registries -------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def registry(isolation: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    """A docker-registry for all clients. Each test has repositories of its own in it."""
    with running(tmp_path_factory.mktemp("registry")) as started:
        yield started


@pytest.fixture(scope="session")
def locked(isolation: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    """A docker-registry for the user USER alone."""
    with running(tmp_path_factory.mktemp("locked"), password=True) as started:
        yield started
