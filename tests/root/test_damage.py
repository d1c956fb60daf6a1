"""A damaged file of a data root disables only the object that it describes, with each storage driver."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pylab_container import Engine
from pylab_container.host import programs
from pylab_container.oci.ids import ContainerId
from pylab_container.store.drivers import DRIVERS
from tests.support import damage
from tests.support.api import serving
from tests.support.commands import Labctr, run_in_process
from tests.support.contexts import write_context
from tests.support.fixtures import engine_on

OTHER = "f" * 64
"""The id of nothing."""


@pytest.fixture(scope="module")
def template(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    nothing_left_behind: None,
) -> Path:
    """A data root with two images, three containers that have never run, two volumes and a network; on overlay2."""
    top = tmp_path_factory.mktemp("template")
    engine = Engine(top / "root", storage_driver=getattr(request, "param", DRIVERS[0]))
    (top / "base.tar").write_bytes(damage.small_archive())
    damage.fill(engine, top / "base.tar", write_context(top / "context", "FROM base:1\nCOPY Dockerfile /\n"))
    return engine.data_root


@pytest.fixture
def root(template: Path, tmp_path: Path) -> Path:
    """A copy of the template, beside a directory that no operation may change."""
    programs.run(["cp", "-a", "--reflink=auto", str(template), str(tmp_path / "top")])
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/precious").write_text("x")
    return tmp_path / "top"


@pytest.fixture
def engine(root: Path) -> Engine:
    """An engine on that copy."""
    return Engine(root, recover=False)


@pytest.fixture
def cli(root: Path, repository: Path) -> Labctr:
    """Run a command on that copy; it may fail, but not with a traceback."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        done = run_in_process(["--root", str(root), *arguments], cwd=repository)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    return run


def mount_record(engine: Engine, name: str = "victim") -> Path:
    return engine.data.layers.root / "mounts" / engine.containers.get(name).id


def lost(before: damage.Manifest, root: Path, *without: Path) -> list[str]:
    """Return the changed paths, without the given files and directories and the event log, which always grows."""
    left_out = ["events.log", *(str(path.relative_to(root)) for path in without)]
    changed = damage.changed(before, damage.manifest(root))
    return [path for path in changed if not any(f"{path}/".startswith(f"{one}/") for one in left_out)]


def of_container(engine: Engine, name: str) -> list[Path]:
    """The directories of a container."""
    writable = engine.data.layers.writable(engine.containers.get(name).id)
    places = [engine.data.driver.diff_path(one) for one in (writable.mount_id, writable.init_id)]
    own = places if engine.data.driver.name == "vfs" else [place.parent for place in places]
    links = [path for path in engine.data.driver.root.glob("l/*") if path.resolve().parent in own]
    return [*own, *links, mount_record(engine, name), engine.data.records.directory(writable.container_id)]


EACH_DRIVER = pytest.mark.parametrize("template", DRIVERS, indirect=True)


# -- ids ---------------------------------------------------------------------------------------

FOREIGN = {
    "empty": b"",
    "blank": b" \n",
    "root": b".",
    "above": b"..",
    "outside": b"../../outside",
    "containers": b"../containers",
    "list": b"[]",
    "bytes": b"\xff\xfe\x80",
    "nothing": OTHER.encode(),
    "short": b"abc",
}


@EACH_DRIVER
@pytest.mark.parametrize("file", ["mount-id", "init-id", "parent"])
def test_rm_of_a_container_with_a_damaged_id_names_the_file_and_removes_nothing(
    root: Path, engine: Engine, cli: Labctr, file: str
) -> None:
    path = mount_record(engine) / file
    for content in FOREIGN.values() if file != "parent" else [text for text in FOREIGN.values() if len(text) != 64]:
        path.write_bytes(content)
        before = damage.manifest(root)
        done = cli("rm", "victim")
        assert done.returncode == 1
        assert str(path.parent) in done.stderr
        assert "labctr system fsck" in done.stderr
        assert lost(before, root) == []
    assert (root.parent / "outside/precious").exists()


@EACH_DRIVER
@pytest.mark.parametrize("text", ["empty", "root", "outside", "nothing"])
def test_rm_by_force_takes_the_container_and_nothing_else(root: Path, engine: Engine, cli: Labctr, text: str) -> None:
    own = of_container(engine, "victim")
    for file in ("mount-id", "init-id"):
        (mount_record(engine) / file).write_bytes(FOREIGN[text])
    before = damage.manifest(root)
    assert cli("rm", "-f", "victim").returncode == 0
    assert lost(before, root, *own) == []
    assert (root.parent / "outside/precious").exists()
    assert "victim" not in cli("ps", "-a").stdout


@EACH_DRIVER
@pytest.mark.parametrize("of", ["another container", "a layer"])
def test_an_id_of_another_owner_does_not_delete_that(root: Path, engine: Engine, cli: Labctr, of: str) -> None:
    other = engine.data.layers.writable(engine.containers.get("other").id)
    cache_id = other.mount_id if of == "another container" else engine.images.get("base:1").layers[0].cache_id
    own = of_container(engine, "victim")
    (mount_record(engine) / "mount-id").write_text(cache_id)
    (mount_record(engine) / "init-id").write_text(f"{cache_id}-init")
    before = damage.manifest(root)
    for line in (["rm", "victim"], ["rm", "-f", "victim"]):
        cli(*line)
    assert lost(before, root, *own) == []


@EACH_DRIVER
@pytest.mark.parametrize("text", ["empty", "root", "outside", "nothing"])
def test_repair_finds_the_directories_of_a_container_again(root: Path, engine: Engine, cli: Labctr, text: str) -> None:
    record, written = mount_record(engine), engine.containers.get("victim").upper / "file"
    for file in ("mount-id", "init-id"):
        (record / file).write_bytes(FOREIGN[text])
    before = damage.manifest(root)
    assert cli("system", "fsck").returncode == 1
    assert lost(before, root) == []
    done = cli("system", "fsck", "--repair")
    assert done.returncode == 0, done.stdout
    assert lost(before, root, record / "mount-id", record / "init-id") == []
    assert written.read_text() == "victim"
    assert (record / "mount-id.damaged").read_bytes() == FOREIGN[text]
    assert cli("system", "fsck").stdout == "nothing found\n"
    assert cli("rm", "victim").returncode == 0


@EACH_DRIVER
@pytest.mark.parametrize("text", ["empty", "root", "outside", "nothing"])
def test_removing_an_image_with_a_damaged_cache_id_deletes_no_other_layer(
    root: Path, engine: Engine, cli: Labctr, text: str
) -> None:
    for name in ("mine", "victim"):
        engine.containers.get(name).remove()
    top = engine.images.get("built:1").layers[-1]
    directory = engine.data.driver.diff_path(top.cache_id)
    record = engine.data.layers.root / "sha256" / top.chain_id.hex
    before = damage.manifest(root)
    (record / "cache-id").write_bytes(FOREIGN[text])
    assert cli("rmi", "-f", "built:1", "spare:1").returncode == 0
    own = directory if engine.data.driver.name == "vfs" else directory.parent
    image = engine.data.images.root / "imagedb"
    names = engine.data.images.root / "repositories.json"
    assert lost(before, root, own, record, image, names) == []
    assert directory.exists()


def test_a_damaged_record_hides_what_volumes_and_images_it_needs_so_that_prune_keeps_them(
    root: Path, engine: Engine, cli: Labctr
) -> None:
    path = engine.data.records.directory(engine.containers.get("mine").id) / "config.v2.json"
    path.write_bytes(path.read_bytes()[:-20])
    before = damage.manifest(root)
    for line in ("volume prune -f --filter all=true", "image prune -af", "builder prune -af"):
        done = cli(*line.split())
        assert done.returncode == 0
        assert str(path) in done.stderr
    assert lost(before, root) == []
    for line in ("volume rm data", "rmi built:1 spare:1"):
        assert str(path) in cli(*line.split()).stderr
    assert lost(before, root, engine.data.images.root / "repositories.json") == []


# -- leases ------------------------------------------------------------------------------------

LINES = (
    *("writable ", "writable", "writable .", "writable ..", "writable ../../x", "writable ../../../outside"),
    *("container ", "container ..", "container ../../outside", "volume ", "volume ..", "volume ../../outside"),
    *("layer ..", "layer sha256:../../..", "frozen ../..", "not writable ", "nonsense", "", "\xff"),
)


def test_a_line_of_a_lease_that_is_no_claim_deletes_nothing_and_is_kept_by_a_repair(
    root: Path, engine: Engine, cli: Labctr
) -> None:
    (root / "x").mkdir()
    for number, line in enumerate(LINES):
        lease = engine.data.layers.root / f"tmp/lease-{number}"
        content = f"maker 1999999999\n{line}\n".encode("latin-1")
        lease.write_bytes(content)
        before = damage.manifest(root)
        for words in ("ps -a", "volume ls"):
            done = cli(*words.split())
            assert done.returncode == 0
            assert str(lease) in done.stderr
            assert "labctr system fsck" in done.stderr
        assert lost(before, root) == []
        assert str(lease) in cli("system", "fsck").stdout
        assert cli("system", "fsck", "--repair").returncode == 0
        assert lost(before, root, lease) == []
        assert lease.with_name(f"damaged-{lease.name}").read_bytes() == content
        assert (root.parent / "outside/precious").exists()
        assert cli("system", "fsck").stdout == "nothing found\n"


def test_half_a_line_is_no_claim_and_the_lease_ends(root: Path, engine: Engine, cli: Labctr) -> None:
    lease = engine.data.layers.root / "tmp/lease-1"
    lease.write_text(f"maker 1999999999\nwritable {'a' * 20}")
    before = damage.manifest(root)
    assert cli("ps", "-a").stderr == ""
    assert lost(before, root, lease) == []
    assert not lease.exists()


# -- listings ----------------------------------------------------------------------------------


def _container(engine: Engine) -> Path:
    return engine.data.records.directory(engine.containers.get("mine").id) / "config.v2.json"


def _host_config(engine: Engine) -> Path:
    return _container(engine).with_name("hostconfig.json")


def _network(engine: Engine) -> Path:
    return engine.data.networks.path(engine.networks.get("lab").id)


def _volume(engine: Engine) -> Path:
    return engine.volumes.get("data").path.parent / "volume.json"


def _image(engine: Engine) -> Path:
    return engine.data.images.content_path(engine.images.get("built:1").id)


OBJECTS: dict[str, tuple[Callable[[Engine], Path], str, str]] = {
    "container": (_container, "ps -a --format {{.Names}}", "mine"),
    "host configuration": (_host_config, "ps -a --format {{.Names}}", "mine"),
    "network": (_network, "network ls --format {{.Name}}", "lab"),
    "volume": (_volume, "volume ls --format {{.Name}}", "data"),
    "image": (_image, "images --format {{.Repository}}:{{.Tag}}", "built:1"),
}
CONTENTS = (b"", b"{", b"[]", b"{}", b"null", b'"text"', b"\xff\xfe", b"../../outside")


@pytest.mark.parametrize("kind", OBJECTS)
def test_a_listing_leaves_a_damaged_object_out_and_names_its_file(engine: Engine, cli: Labctr, kind: str) -> None:
    place, listing, name = OBJECTS[kind]
    path, before = place(engine), set(cli(*listing.split()).stdout.split())
    for content in CONTENTS if kind != "volume" else [one for one in CONTENTS if one != b"{}"]:  # {} is a valid volume
        path.write_bytes(content)
        done = cli(*listing.split())
        assert done.returncode == 0
        assert set(done.stdout.split()) == before - ({name, "spare:1"} if kind == "image" else {name})
        [warning] = done.stderr.splitlines()
        assert str(path) in warning
        assert "labctr system fsck" in warning
        assert cli("system", "df").returncode == 0
        assert str(path) in cli("system", "fsck").stdout
    assert cli("create", "base:1", "sh").returncode == 0


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff\xfe"], ids=["empty", "list", "bytes"])
@pytest.mark.parametrize("kind", [kind for kind in OBJECTS if kind != "image"])
def test_repair_keeps_a_copy_of_the_file_and_the_object_is_listed_again(
    root: Path, engine: Engine, cli: Labctr, kind: str, content: bytes
) -> None:
    place, listing, _ = OBJECTS[kind]
    path, before = place(engine), len(cli(*listing.split()).stdout.split())
    path.write_bytes(content)
    files = damage.manifest(root)
    assert cli("system", "fsck", "--repair").returncode == 0
    kept = path.with_name(f"{path.name}.damaged")
    assert kept.read_bytes() == content
    assert lost(files, root, path.parent if "containers" in str(path) else path) == []
    done = cli(*listing.split())
    assert (len(done.stdout.split()), done.stderr) == (before, "")
    assert cli("system", "fsck").stdout == "nothing found\n"


def test_repair_takes_over_what_is_whole_of_a_container_s_record(engine: Engine, cli: Labctr) -> None:
    path, record = _container(engine), engine.containers.get("mine").record
    text = path.read_text()
    path.write_text(text[: text.index('"MountPoints"')] + "\x00" + text[text.index('"MountPoints"') :])
    assert cli("system", "fsck", "--repair").returncode == 0
    again = engine.containers.get("mine").record
    assert (again.config, again.image, again.args, again.mounts) == (
        record.config,
        record.image,
        record.args,
        record.mounts,
    )
    assert again.host_config == record.host_config


def test_repair_keeps_the_names_that_can_be_read(engine: Engine, cli: Labctr) -> None:
    path = engine.data.images.root / "repositories.json"
    text = path.read_text()
    path.write_text(text[: text.index('"spare:1"') + 30])
    assert cli("system", "fsck", "--repair").returncode == 0
    assert {tag.reference.familiar for tag in engine.data.images.names()} == {"base:1", "built:1"}


def test_a_command_on_a_damaged_container_names_its_file(engine: Engine, cli: Labctr) -> None:
    path, container_id = _container(engine), engine.containers.get("mine").id
    text = path.read_text()
    path.write_text(text[:-20])
    for name in (container_id, container_id[:12], "mine"):
        for command in ("inspect", "start", "rm", "diff", "logs"):
            done = cli("container", command, name)
            assert done.returncode == 1
            assert str(path) in done.stderr
            assert "labctr system fsck" in done.stderr


# -- half-written files, and a data root that was moved ----------------------------------------


def test_the_next_command_clears_half_written_files_but_not_those_that_are_being_written(
    root: Path, engine: Engine, cli: Labctr
) -> None:
    image = engine.images.get("built:1").id[7:]
    places = (
        *(engine.data.images.root, engine.data.images.root / "imagedb/content/sha256", root / "volumes/data"),
        *(_container(engine).parent, _network(engine).parent),
        engine.data.images.root / "imagedb/metadata/sha256" / image,
    )
    files = [place / ".tmp-file123" for place in places]
    for file in files:
        file.write_text("half")
    being_written = places[0] / ".tmp-file124"
    being_written.write_text("half")
    descriptor = os.open(being_written, os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    before = damage.manifest(root)
    assert cli("ps", "-a").stderr == ""
    assert lost(before, root, *files) == []
    assert not any(file.exists() for file in files)
    os.close(descriptor)


def test_a_layer_that_a_killed_removal_left_half_is_removed(root: Path, engine: Engine, cli: Labctr) -> None:
    (mount_record(engine) / "mount-id").unlink()
    assert cli("rm", "victim").returncode == 0
    assert not (engine.data.layers.root / "mounts" / ContainerId(OTHER)).exists()
    assert "victim" not in cli("ps", "-a").stdout


def test_containers_start_after_their_data_root_was_moved(
    tmp_path: Path, nothing_left_behind: None, busybox_tar: Path
) -> None:
    old = Engine(tmp_path / "old")
    image = old.images.import_(busybox_tar, "busybox:1")
    network = old.networks.create("lab")
    for name, chosen in (("plain", "bridge"), ("named", network.name)):
        container = old.containers.create(
            image, ["sh", "-c", "cat /d/file; echo more >> /d/file"], name=name, volumes=["data:/d"], network=chosen
        )
        with container.start_attached() as attachment:
            while attachment.receive():
                pass
        container.wait()
    old.data_root.rename(tmp_path / "new")
    with engine_on(tmp_path / "new") as new:
        assert new.fsck(deep=True) == []
        assert new.containers.get("plain").mounts[0]["Source"] == str(tmp_path / "new/volumes/data/_data")
        for number, name in enumerate(("plain", "named"), 2):
            container = new.containers.get(name)
            with container.start_attached() as attachment:
                assert attachment.receive() == ("stdout", b"more\n" * number)
            container.wait()
        assert new.volumes.users(new.volumes.get("data")) != []
    assert not old.data_root.exists()


@pytest.mark.parametrize("part", ["", "diff", "work", "lower layer"])
def test_a_link_in_the_place_of_a_layers_directory_is_not_followed(
    engine: Engine, root: Path, cli: Labctr, tmp_path: Path, part: str
) -> None:
    writable = engine.data.layers.writable(engine.containers.get("victim").id)
    if part == "lower layer":
        path = engine.data.driver.root / engine.data.layers.get(writable.parent).cache_id / "diff"
    else:
        path = engine.data.driver.root / writable.mount_id / part
    path.rename(tmp_path / "moved")
    path.symlink_to(tmp_path / "outside")
    assert f"{path} is damaged" in cli("start", "victim").stderr
    assert cli("system", "df").returncode == 0
    assert cli("ps", "-as").returncode == 0
    assert str(path.relative_to(root)) in cli("system", "fsck").stdout
    cli("system", "fsck", "--repair")
    assert path.with_name(f"{path.name}.damaged").is_symlink()
    assert [entry.name for entry in (tmp_path / "outside").iterdir()] == ["precious"]


@pytest.mark.parametrize("file", ["config.v2.json", "hostconfig.json"])
def test_a_container_whose_record_was_deleted_keeps_its_files(
    root: Path, engine: Engine, cli: Labctr, file: str
) -> None:
    container = engine.containers.get("mine")
    written = container.upper / "file"
    (engine.data.records.directory(container.id) / file).unlink()
    before = damage.manifest(root)
    assert container.short_id in cli("system", "fsck").stdout
    assert cli("system", "fsck", "--repair").returncode == 0
    assert lost(before, root, engine.data.records.directory(container.id)) == []
    assert written.read_text() == "mine"
    assert container.id in cli("ps", "-aq", "--no-trunc").stdout
    assert cli("system", "fsck").stdout == "nothing found\n"


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


KINDS_OF_FILES: dict[str, Callable[[Path], object]] = {
    "directory": Path.mkdir,
    "link": lambda path: path.symlink_to("/etc/hostname"),
    "FIFO": os.mkfifo,
    "huge": _sparse,
}
LISTINGS = ("ps -a", "images", "network ls", "volume ls", "system df", "inspect mine")


@pytest.mark.parametrize("kind", KINDS_OF_FILES)
def test_another_kind_of_file_in_a_record_s_place_is_damage(engine: Engine, cli: Labctr, kind: str) -> None:
    """The engine must not follow a symlink, block on a FIFO, or read an endless file."""
    places = [place(engine) for place in (_container, _host_config, _network, _volume, _image)]
    for path in [*places, mount_record(engine, "mine") / "mount-id"]:
        content = path.read_bytes()
        path.unlink()
        KINDS_OF_FILES[kind](path)
        assert any(str(path) in cli(*line.split()).stderr for line in LISTINGS)
        assert str(path) in cli("system", "fsck").stdout
        path.rmdir() if kind == "directory" else path.unlink()
        path.write_bytes(content)
    assert cli("system", "fsck").stdout == "nothing found\n"


# -- the daemon, and containers that run -------------------------------------------------------


def test_the_daemon_logs_each_damaged_file_once_and_lists_the_other_objects(
    root: Path, engine: Engine, repository: Path
) -> None:
    container_id = engine.containers.get("mine").id
    paths = [place(engine) for place in (_container, _network, _volume, _image)]
    for path in paths:
        path.write_bytes(b"[]")
    with serving(root, repository) as daemon:
        for _ in range(2):
            assert len(daemon.api.get("/containers/json", all=1).document) == 2
            assert [one["Name"] for one in daemon.api.get("/networks").document] == ["bridge", "host", "none"]
            assert "second" in [one["Name"] for one in daemon.api.get("/volumes").document["Volumes"]]
            assert [one["RepoTags"] for one in daemon.api.get("/images/json").document] == [["base:1"]]
            assert daemon.api.get("/system/df").status == 200
        logged = daemon.complaints()
        assert [sum(str(path) in line for line in logged) for path in paths] == [1] * len(paths)
        assert all("labctr system fsck" in line for line in logged)
        answer = daemon.api.get(f"/containers/{container_id}/json")
        assert (answer.status, str(paths[0]) in answer.message) == (500, True)
        daemon.log.write_text("")


@pytest.mark.parametrize("file", ["config.v2.json", "hostconfig.json"])
def test_a_running_container_whose_record_is_damaged_runs_on_and_is_repaired(
    tmp_path: Path, nothing_left_behind: None, busybox_tar: Path, file: str
) -> None:
    with engine_on(tmp_path / "root") as engine:
        image = engine.images.import_(busybox_tar, "busybox:1")
        running = engine.containers.run_detached(image, ["sleep", "600"], name="running", network_mode="none")
        pid = running.pid
        path = engine.data.records.directory(running.id) / file
        path.write_bytes(path.read_bytes()[:-2])
        assert engine.containers.list(all=True) == []
        assert engine.containers.run(image, ["echo", "x"], remove=True, network_mode="none") == b"x\n"
        assert [finding.path for finding in engine.fsck()] == [path]
        assert all(finding.repaired for finding in engine.fsck(repair=True))
        again = engine.containers.get("running")
        assert (again.id, again.pid, again.status) == (running.id, pid, "running")
        assert again.exec_run(["echo", "y"]).output == b"y\n"
        assert engine.fsck() == []


@pytest.mark.parametrize("file", ["mount-id", "init-id", "parent", "lower", "link"])
def test_zeros_in_a_record_s_place_are_found_and_mended(engine: Engine, cli: Labctr, file: str) -> None:
    """After a power failure, a file may consist of blocks that were never written: zeros."""
    writable = engine.data.layers.writable(engine.containers.get("victim").id)
    path = (
        engine.data.driver.root / writable.init_id / file if file in ("lower", "link") else mount_record(engine) / file
    )
    path.write_bytes(bytes(64))
    assert cli("system", "fsck").returncode == 1
    cli("system", "fsck", "--repair")
    assert cli("system", "fsck").stdout == "nothing found\n"
    assert cli("diff", "victim").returncode == 0


def test_a_name_that_points_to_no_image_is_damage_of_the_names(engine: Engine, root: Path, cli: Labctr) -> None:
    names = root / "image/overlay2/repositories.json"
    image_id = engine.images.get("base:1").id
    names.write_text(names.read_text().replace(image_id, f"sha256:{OTHER}"))
    assert f"{names} is damaged: base:1 points to sha256:{OTHER[:12]}" in cli("inspect", "base:1").stderr
    assert image_id.removeprefix("sha256:")[:12] in cli("images", "-a").stdout
    assert cli("rmi", "base:1").stdout == "Untagged: base:1\n"
    names.write_text(names.read_text().replace(image_id, f"sha256:{OTHER}"))
    cli("system", "fsck", "--repair")
    assert "No such image: base:1" in cli("image", "inspect", "base:1").stderr


def test_a_lower_file_that_names_another_short_name_is_the_damaged_one(engine: Engine, cli: Labctr) -> None:
    path = engine.data.driver.root / engine.data.layers.writable(engine.containers.get("victim").id).mount_id / "lower"
    path.write_text("l/" + "A" * 26)
    assert str(path) in cli("start", "victim").stderr
    below = (
        engine.data.driver.root
        / engine.data.layers.get(engine.images.get("built:1").config.chain_id).cache_id
        / "lower"
    )
    below.write_text("l/" + "A" * 26)
    assert str(below) in cli("create", "built:1", "sh").stderr  # and not the copy in the new layer
    cli("system", "fsck", "--repair")
    assert cli("system", "fsck").stdout == "nothing found\n"


def test_a_volume_whose_name_is_damaged_in_a_record_is_not_pruned(engine: Engine, cli: Labctr) -> None:
    path = _container(engine)
    (volume,) = [mount["Name"] for mount in engine.containers.get("mine").mounts if mount["Name"] != "data"]
    path.write_text(path.read_text().replace(volume, OTHER))
    assert f"{path} is damaged: it names the volume {OTHER[:12]}" in cli("volume", "prune", "-af").stderr
    assert engine.volumes.get(volume).path.is_dir()
    assert str(path) in cli("system", "fsck").stdout
    cli("rm", "mine")
    assert cli("system", "fsck").stdout == "nothing found\n"
