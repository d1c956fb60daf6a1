"""networks/links.py: --link on the default bridge, and the links of an endpoint on a network of users."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pylab_container import Engine
from pylab_container.engine.containers import Container
from pylab_container.errors import Conflict, ContainerNotFound, InvalidInput, RuntimeFailed
from pylab_container.images.image import Image
from tests.support.api import Daemon
from tests.support.network import lookup

pytestmark = pytest.mark.shared_engine

Start = Callable[..., Container]


@pytest.fixture
def start(engine: Engine, image: Image) -> Iterator[Start]:
    """Start a container that sleeps; after the test, remove all containers and networks."""

    def run(name: str, **options: Any) -> Container:
        container: Container = engine.containers.run_detached(image, ["sleep", "600"], name=name, **options)
        return container

    yield run
    for container in engine.containers.list(all=True):
        container.remove(force=True)
    for network in engine.networks.list({"type": "custom"}):
        network.remove()


def lines(container: Container, name: str) -> list[list[str]]:
    """The lines of its /etc/hosts that say this name, in words."""
    text = container.exec_run(["cat", "/etc/hosts"]).output.decode()
    return [line.split() for line in text.splitlines() if name in line.split()]


def address(container: Container) -> str:
    return str(container.attrs["NetworkSettings"]["Networks"]["bridge"]["IPAddress"])


def test_a_linked_container_is_known_by_name_and_by_variables(start: Start) -> None:
    db = start("db", environment={"SECRET": "x"}, exposed_ports=["80/tcp"])
    web = start("web", links={"db": "sql"})
    assert lines(web, "sql") == [[address(db), "sql", db.short_id, "db"]]
    variables = web.exec_run(["env"]).output.decode().splitlines()
    expected = {f"SQL_PORT=tcp://{address(db)}:80", "SQL_NAME=/web/sql", "SQL_ENV_SECRET=x"}
    assert expected <= set(variables)
    assert web.exec_run(["ping", "-c", "1", "-W", "10", "sql"]).exit_code == 0
    assert web.attrs["HostConfig"]["Links"] == ["/db:/web/sql"]


def test_a_new_address_of_the_other_one_is_told(start: Start, engine: Engine) -> None:
    db = start("db")
    web = start("web", links=["db"])
    before = address(db)
    db.stop(timeout=0)
    start("between")  # which takes its address
    db.start()
    assert address(db) != before
    assert [line[0] for line in lines(web, "db")] == [address(db)]


def test_links_survive_new_names_and_go_with_the_other_one(start: Start, engine: Engine) -> None:
    db = start("db")
    web = start("web", links=["db:sql"])
    db.rename("database")
    web.rename("front")
    assert web.attrs["HostConfig"]["Links"] == ["/database:/front/sql"]
    assert engine.containers.get("front/sql").id == engine.containers.get("/front/sql").id == db.id
    assert [one.id for one in engine.containers.list(filters={"name": "front/sql"})] == [db.id]
    db.remove(force=True)
    assert web.attrs["HostConfig"]["Links"] is None
    web.restart(timeout=0)


def test_a_link_can_be_removed_alone(start: Start, engine: Engine) -> None:
    db = start("db")
    web = start("web", links=["db:sql"])
    engine.containers.remove_link("/web/sql")
    assert (lines(web, "sql"), web.attrs["HostConfig"]["Links"]) == ([], None)
    with pytest.raises(ContainerNotFound):
        engine.containers.remove_link("web/sql")
    with pytest.raises(Conflict, match="cannot remove the default link name"):
        engine.containers.remove_link("web")
    assert {db.status, web.status} == {"running"}


def test_who_is_linked_must_run_before(start: Start, engine: Engine, image: Image) -> None:
    db = start("db")
    web = engine.containers.create(image, ["sleep", "600"], name="web", links=["db:sql"])
    db.stop(timeout=0)
    with pytest.raises(RuntimeFailed, match="Cannot link to a non running container: /db AS /web/sql"):
        web.start()
    db.start()
    web.start()
    assert lines(web, "sql")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"links": ["nosuch"]}, "could not get container for nosuch"),
        ({"links": ["onhost"]}, "host type networking can't be used with links"),
        ({"links": ["onhost"], "network_mode": "host"}, "host type networking can't be used with links"),
        ({"links": ["onhost"], "network_mode": "container:onhost"}, "container type network can't be used with links"),
        ({"links": ["a:b:c"]}, "bad format for links"),
    ],
)
def test_what_cannot_be_linked_is_refused(start: Start, engine: Engine, image: Image, options: Any, words: str) -> None:
    start("onhost", network_mode="host")
    with pytest.raises(InvalidInput, match=words):
        engine.containers.create(image, ["true"], **options)


def test_on_a_network_of_users_a_link_is_a_name_and_the_other_one_may_come_later(start: Start, engine: Engine) -> None:
    net = engine.networks.create("net")
    web = start("web", network="net", links=["db:sql"])
    assert lookup(web, "sql.") == []
    db = start("db", network="net")
    own = db.attrs["NetworkSettings"]["Networks"]["net"]["IPAddress"]
    assert lookup(web, "sql.") == [own]
    assert lookup(db, "sql.") == []  # it is web's own word
    assert web.attrs["NetworkSettings"]["Networks"]["net"]["Links"] == ["db:sql"]
    net.disconnect(web)
    net.connect(web, links={"db": "other"})
    assert (lookup(web, "sql."), lookup(web, "other.")) == ([], [own])


def test_the_api_lists_links_as_names_and_removes_them(daemon: Daemon, start: Start) -> None:
    db = start("db")
    start("web", links=["db:sql"])
    listed = {one["Id"]: one["Names"] for one in daemon.api.get("/containers/json").document}
    assert listed[db.id] == ["/db", "/web/sql"]
    assert daemon.api.delete("/containers/web/sql", link=1).status == 204
    listed = {one["Id"]: one["Names"] for one in daemon.api.get("/containers/json").document}
    assert listed[db.id] == ["/db"]
    assert daemon.api.delete("/containers/web/sql", link=1).status == 404
