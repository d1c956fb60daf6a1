"""Mounts of containers: binds, volumes and tmpfs; and the volume commands."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pylab_container import Engine
from pylab_container.errors import ContainerFailed, InUse, InvalidInput, NotFound
from pylab_container.host import linux
from pylab_container.images.image import Image
from pylab_container.oci.mounts import parse_mount, parse_volume

pytestmark = pytest.mark.shared_engine

FOREVER = ["sleep", "1000"]


def output(engine: Engine, image: Image | str, script: str, **options: Any) -> str:
    text: bytes = engine.containers.run(image, ["sh", "-c", script], remove=True, network_mode="none", **options)
    return text.decode()


@pytest.fixture
def furnished(engine: Engine, image: Image) -> Image:
    """An image with a directory /data of user 7, mode 750, that holds a file, a link and a directory."""
    script = (
        "mkdir -p /data/sub; echo hi > /data/sub/file; ln -s sub/file /data/link; chown -R 7:8 /data; chmod 750 /data"
    )
    container = engine.containers.create(image, ["sh", "-c", script], network_mode="none")
    container.start()
    container.wait()
    return container.commit("furnished")


# -- binds -------------------------------------------------------------------------------------


def test_a_bind_shows_the_hosts_directory_and_ro_keeps_it(engine: Engine, image: Image, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    output(engine, image, "echo hi > /there/x", volumes=[f"{tmp_path}/here:/there"])
    assert (tmp_path / "here/x").read_text() == "hi\n"
    with pytest.raises(ContainerFailed, match="status 1"):
        output(engine, image, "echo ho > /there/x", volumes=[f"{tmp_path}/here:/there:ro"])
    mapping = {f"{tmp_path}/here": {"bind": "/there", "mode": "ro"}}
    container = engine.containers.create(image, FOREVER, volumes=mapping)
    assert container.attrs["HostConfig"]["Binds"] == [f"{tmp_path}/here:/there:ro"]
    assert container.attrs["Mounts"] == [
        {
            "Type": "bind",
            "Source": f"{tmp_path}/here",
            "Destination": "/there",
            "Mode": "ro",
            "RW": False,
            "Propagation": "rprivate",
        }
    ]


def test_a_bind_can_be_a_file_and_v_makes_a_missing_directory(engine: Engine, image: Image, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    assert output(engine, image, "cat /etc/motd", volumes=[f"{tmp_path}/file:/etc/motd"]) == "text"
    engine.containers.create(image, FOREVER, volumes=[f"{tmp_path}/new/deep:/x"])
    assert (tmp_path / "new/deep").is_dir()


def test_mount_makes_the_same_binds_and_refuses_what_is_missing(engine: Engine, image: Image, tmp_path: Path) -> None:
    mount = {"Type": "bind", "Source": str(tmp_path), "Target": "/there", "ReadOnly": True}
    with pytest.raises(ContainerFailed):
        output(engine, image, "touch /there/x", mounts=[mount])
    container = engine.containers.create(image, FOREVER, mounts=[mount])
    assert container.attrs["HostConfig"]["Mounts"] == [mount]
    assert container.attrs["Mounts"][0]["RW"] is False
    with pytest.raises(InvalidInput, match="bind source path does not exist"):
        engine.containers.create(image, FOREVER, mounts=[{**mount, "Source": f"{tmp_path}/no"}])


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Path]:
    """A directory with shared mount propagation."""
    directory = tmp_path / "shared"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", str(directory)], check=True)
    subprocess.run(["mount", "--make-shared", str(directory)], check=True)
    yield directory
    subprocess.run(["umount", "-R", str(directory)], check=True)


def test_mounts_travel_only_over_a_bind_that_lets_them(
    engine: Engine, image: Image, shared: Path, tmp_path: Path
) -> None:
    for name, seen in (("rslave", b"later\n"), ("rprivate", b"")):
        container = engine.containers.run_detached(
            image, FOREVER, network_mode="none", volumes=[f"{shared}:/there:{name}"]
        )
        (shared / "later").mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "none", str(shared / "later")], check=True)
        (shared / "later/later").touch()
        assert container.exec_run(["ls", "/there/later"]).output == seen
        subprocess.run(["umount", str(shared / "later")], check=True)
        assert container.attrs["Mounts"][0]["Propagation"] == name
        container.remove(force=True)
    (tmp_path / "private").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", str(tmp_path / "private")], check=True)
    subprocess.run(["mount", "--make-private", str(tmp_path / "private")], check=True)
    try:
        with pytest.raises(InvalidInput, match="is not a shared mount"):
            output(engine, image, "true", volumes=[f"{tmp_path}/private:/x:rshared"])
    finally:
        subprocess.run(["umount", str(tmp_path / "private")], check=True)


@pytest.mark.parametrize("place", [".", "..", "containers"])
def test_what_is_unmounted_in_the_data_root_does_not_stay_mounted_in_a_container(
    engine: Engine, image: Image, place: str
) -> None:
    source = (engine.data_root / place).resolve()
    for asked, recorded in (("", "rslave"), (":rslave", "rslave"), (":rshared", "rshared")):
        made = engine.containers.create(image, FOREVER, volumes=[f"{source}:/x{asked}"])
        assert made.attrs["Mounts"][0]["Propagation"] == recorded
    with pytest.raises(InvalidInput, match="must use either propagation mode"):
        engine.containers.create(image, FOREVER, volumes=[f"{source}:/x:rprivate"])
    assert output(engine, image, "echo hi", volumes=[f"{source}:/x"]) == "hi\n"  # also where nothing is shared


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("../x:/y", "If you intended to pass a host directory, use absolute path"),
        ("a/b:/y", "includes invalid characters for a local volume name"),
        ("..:/y", "includes invalid characters"),
        ("/x:y", "mount path must be absolute"),
        ("/x:/", "destination can't be '/'"),
        ("/x:/..", "destination can't be '/'"),
        ("/x:/y:rw,ro", "invalid mode: rw,ro"),
        ("/x:/y:wr", "invalid mode: wr"),
        ("/x:/y:nocopy", "invalid mode: nocopy"),
        ("v:/y:rshared", "field BindOptions must not be specified"),
        ("/x:/y:ro:z", "invalid volume specification"),
        (":", "invalid volume specification"),
        ("", "invalid volume specification"),
    ],
)
def test_a_volume_that_cannot_be_is_refused_in_dockers_words(text: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as caught:
        parse_volume(text)
    assert caught.value.hint


def test_a_path_with_dots_is_the_path_it_means() -> None:
    entry = parse_volume("/a/../b/./c:/d/../e//f")
    assert (entry.source, entry.destination) == ("/b/c", "/e/f")


@pytest.mark.parametrize(
    "document",
    [
        {"Type": "bind", "Source": "here", "Target": "/x"},
        {"Type": "bind", "Source": "/here", "Target": ""},
        {"Type": "bind", "Target": "/x"},
        {"Type": "tmpfs", "Source": "/here", "Target": "/x"},
        {"Type": "volume", "Source": "v", "Target": "/x", "BindOptions": {"Propagation": "rshared"}},
        {"Type": "volume", "Source": "v", "Target": "/x", "BindOptions": {}},
        {"Type": "bind", "Source": "/here", "Target": "/x", "VolumeOptions": {}},
        {"Type": "bind", "Source": "/here", "Target": "/x", "BindOptions": {"Propagation": "far"}},
        {"Type": "volume", "Source": "a/b", "Target": "/x"},
    ],
)
def test_a_mount_that_cannot_be_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_mount(document)
    assert caught.value.hint


# -- volumes of containers ---------------------------------------------------------------------


@pytest.mark.smoke
def test_a_named_volume_keeps_its_files_from_container_to_container(engine: Engine, image: Image) -> None:
    output(engine, image, "echo hi > /data/x", volumes=["store:/data"])
    assert output(engine, image, "cat /elsewhere/x", volumes=["store:/elsewhere:ro"]) == "hi\n"
    container = engine.containers.create(image, FOREVER, volumes=["store:/data"])
    (mount,) = container.attrs["Mounts"]
    volume = engine.volumes.get("store")
    assert (mount["Type"], mount["Name"], mount["Driver"]) == ("volume", "store", "local")
    assert mount["Source"] == str(volume.path)


def test_an_empty_volume_gets_the_images_files_with_owner_and_mode(engine: Engine, furnished: Image) -> None:
    script = "cat /data/link; stat -c '%u:%g %a' /data /data/sub/file"
    assert output(engine, furnished, script, volumes=["store:/data"]).split() == ["hi", "7:8", "750", "7:8", "644"]
    output(engine, furnished, "echo changed > /data/sub/file", volumes=["store:/data"])
    assert output(engine, furnished, "cat /data/link", volumes=["store:/data"]) == "changed\n"


def test_what_was_deleted_from_a_volume_does_not_come_back(engine: Engine, furnished: Image) -> None:
    container = engine.containers.create(
        furnished, ["sh", "-c", "ls /data; rm -rf /data/*"], volumes=["store:/data"], network_mode="none"
    )
    for _ in range(2):
        container.start()
        container.wait()
    assert container.logs() == b"link\nsub\n"


def test_nocopy_and_a_bind_get_nothing(engine: Engine, furnished: Image, tmp_path: Path) -> None:
    mount = {"Type": "volume", "Source": "other", "Target": "/data", "VolumeOptions": {"NoCopy": True}}
    assert output(engine, furnished, "ls /data", volumes=["store:/data:nocopy"]) == ""
    assert output(engine, furnished, "ls /data", mounts=[mount]) == ""
    assert output(engine, furnished, "ls /data", volumes=[f"{tmp_path}/empty:/data"]) == ""


def test_an_images_volume_is_made_for_each_container_and_goes_with_rm_v(engine: Engine, furnished: Image) -> None:
    declaring = engine.containers.create(furnished, FOREVER, network_mode="none").commit(
        "declaring", changes=["VOLUME /data"]
    )
    first, second = (engine.containers.create(declaring, FOREVER, network_mode="none") for _ in range(2))
    names = [container.attrs["Mounts"][0]["Name"] for container in (first, second)]
    assert names[0] != names[1]
    assert all(engine.volumes.get(name).labels == {"com.docker.volume.anonymous": ""} for name in names)
    first.remove()
    second.remove(v=True)
    assert [volume.name for volume in engine.volumes.list()] == [names[0]]
    named = engine.containers.create(declaring, FOREVER, volumes=["store:/data"], network_mode="none")
    assert [mount["Name"] for mount in named.attrs["Mounts"]] == ["store"]
    named.remove(v=True)
    assert engine.volumes.get("store")


def test_volumes_from_takes_over_the_mounts_of_another_container(
    engine: Engine, furnished: Image, tmp_path: Path
) -> None:
    first = engine.containers.create(
        furnished, FOREVER, volumes=["/anonymous", f"{tmp_path}:/bound"], network_mode="none", name="first"
    )
    second = engine.containers.create(furnished, FOREVER, volumes_from=["first:ro"], network_mode="none")
    assert second.attrs["HostConfig"]["VolumesFrom"] == ["first:ro"]
    assert {mount["Destination"]: mount["RW"] for mount in second.attrs["Mounts"]} == {
        "/anonymous": False,
        "/bound": False,
    }
    (tmp_path / "x").write_text("hi")
    assert output(engine, furnished, "cat /bound/x; touch /bound/y", volumes_from=["first"]) == "hi"
    first.remove(v=True)  # the second one still mounts it
    assert len(engine.volumes.list()) == 1
    second.remove(v=True)
    assert engine.volumes.list() == []


def test_of_two_containers_that_mount_at_one_place_the_last_one_lends(engine: Engine, image: Image) -> None:
    for name in ("first", "second"):
        engine.containers.create(image, FOREVER, volumes=[f"{name}-data:/data"], name=name)
    borrower = engine.containers.create(image, FOREVER, volumes_from=["first", "second"])
    assert [mount["Name"] for mount in borrower.attrs["Mounts"]] == ["second-data"]


def test_mount_makes_volumes_with_labels_and_tmpfs_with_a_size(engine: Engine, image: Image) -> None:
    volume = {"Type": "volume", "Source": "store", "Target": "/v", "VolumeOptions": {"Labels": {"a": "b"}}}
    tmpfs = {"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 65536, "Mode": 0o700}}
    text = output(engine, image, "grep ' /t ' /proc/mounts; stat -c %a /t", mounts=[volume, tmpfs])
    assert "size=64k" in text
    assert text.split()[-1] == "700"
    assert engine.volumes.get("store").labels == {"a": "b"}
    container = engine.containers.create(image, FOREVER, mounts=[tmpfs])
    assert container.attrs["Mounts"][0]["Type"] == "tmpfs"


# -- volumes for themselves --------------------------------------------------------------------


def test_a_volume_is_made_found_listed_and_removed(engine: Engine) -> None:
    volume = engine.volumes.create("store", labels={"tier": "db"})
    attrs = volume.attrs
    assert (attrs["Name"], attrs["Driver"], attrs["Scope"], attrs["Labels"]) == (
        "store",
        "local",
        "local",
        {"tier": "db"},
    )
    assert attrs["Mountpoint"] == str(engine.data_root / "volumes/store/_data")
    assert attrs["CreatedAt"] > "2020"
    (volume.path / "x").touch()
    assert engine.volumes.create("store").labels == {"tier": "db"}  # it is there already
    assert (engine.volumes.get("store").path / "x").exists()
    nameless = engine.volumes.create()
    assert nameless.anonymous
    assert nameless.labels == {"com.docker.volume.anonymous": ""}
    assert not engine.volumes.create("a" * 64).anonymous  # a name of the user's own
    engine.volumes.get("a" * 64).remove()
    assert {one.name for one in engine.volumes.list()} == {"store", nameless.name}
    volume.remove()
    with pytest.raises(NotFound, match="get store: no such volume"):
        engine.volumes.get("store")
    with pytest.raises(NotFound):
        volume.remove()
    volume.remove(force=True)


def test_a_volume_that_a_container_mounts_stays(engine: Engine, image: Image) -> None:
    container = engine.containers.create(image, FOREVER, volumes=["store:/x"])
    with pytest.raises(InUse, match=rf"remove store: volume is in use - \[{container.id}\]"):
        engine.volumes.get("store").remove()
    with pytest.raises(InUse):
        engine.volumes.get("store").remove(force=True)
    container.remove()
    engine.volumes.get("store").remove()


def test_lists_are_filtered(engine: Engine, image: Image) -> None:
    engine.volumes.create("web-data", labels={"tier": "web"})
    engine.volumes.create("db-data", labels={"tier": "db", "old": ""})
    engine.containers.create(image, FOREVER, volumes=["db-data:/x"])

    def listed(**filters: Any) -> list[str]:
        return [
            volume.name
            for volume in engine.volumes.list(
                {k.replace("no_", "") + "!" * k.startswith("no_"): v for k, v in filters.items()}
            )
        ]

    assert listed(name="web") == ["web-data"]
    assert listed(label="tier") == ["db-data", "web-data"]
    assert listed(label=["tier=db", "old"]) == ["db-data"]
    assert listed(no_label="old") == ["web-data"]
    assert listed(dangling=True) == ["web-data"]
    assert listed(dangling="false") == ["db-data"]
    assert listed(driver="nfs") == []
    with pytest.raises(InvalidInput, match=r"Invalid filter 'dangling=\[maybe\]'"):
        engine.volumes.list({"name": "nosuch", "dangling": "maybe"})
    with pytest.raises(InvalidInput, match="Invalid filter 'colour'"):
        engine.volumes.list({"colour": "red"})


def test_prune_takes_what_nobody_mounts_and_named_ones_only_when_told(engine: Engine, image: Image) -> None:
    engine.volumes.create("kept")
    anonymous = engine.volumes.create()
    (anonymous.path / "x").write_bytes(b"x" * 100_000)
    pruned = engine.volumes.prune()
    assert [removal.name for removal in pruned.deleted] == [anonymous.name]
    engine.volumes.create("labelled", labels={"keep": "yes"})
    pruned = engine.volumes.prune({"all": "true", "label!": "keep"})
    assert [removal.name for removal in pruned.deleted] == ["kept"]
    assert [volume.name for volume in engine.volumes.list()] == ["labelled"]


@pytest.mark.parametrize("name", ["../x", "a/b", "x", "..", ".hidden", "a b"])
def test_a_name_that_leaves_the_directory_of_volumes_is_refused(engine: Engine, name: str) -> None:
    with pytest.raises(InvalidInput, match=r"includes invalid characters for a local volume name|name is too short"):
        engine.volumes.create(name)
    with pytest.raises(NotFound):
        engine.volumes.get(name)
    assert not list(engine.data_root.glob("volumes/*"))


def test_drivers_and_their_options_are_refused(engine: Engine) -> None:
    with pytest.raises(NotFound, match='plugin "nfs" not found'):
        engine.volumes.create("store", driver="nfs")
    with pytest.raises(InvalidInput, match="invalid option"):
        engine.volumes.create("store", driver_opts={"kind": "tmpfs"})


def test_a_link_in_the_image_at_a_volumes_place_does_not_lead_out(engine: Engine, image: Image, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    container = engine.containers.create(image, ["ln", "-s", str(tmp_path), "/data"], network_mode="none")
    container.start()
    container.wait()
    hostile = container.commit("hostile")
    assert output(engine, hostile, "ls /data/", volumes=["store:/data"]) == ""
    assert not (engine.volumes.get("store").path / "secret").exists()
    assert os.listdir(engine.data_root / "volumes") == ["store"]


def test_a_volume_is_filled_when_its_container_is_made_and_not_by_one_that_borrows_it(
    engine: Engine, image: Image, furnished: Image
) -> None:
    engine.containers.create(furnished, FOREVER, name="owner", volumes=["/data"], network_mode="none")
    assert output(engine, image, "cat /data/link", volumes_from=["owner"]) == "hi\n"
    engine.containers.create(image, FOREVER, name="empty", volumes=["/data"], network_mode="none")
    assert output(engine, furnished, "ls -A /data", volumes_from=["empty"]) == ""


# -- parts of volumes, and mounts below a source -------------------------------------------------


def part(path: str, **fields: Any) -> dict[str, Any]:
    return {"Type": "volume", "Source": "store", "Target": "/part", "VolumeOptions": {"Subpath": path}, **fields}


@pytest.fixture
def store(engine: Engine, tmp_path: Path) -> Path:
    """The directory of the volume "store", with a directory, a file, and links in it and out of it."""
    path = engine.volumes.create("store").path
    (path / "a/b").mkdir(parents=True)
    (path / "a/b/file").write_text("inside\n")
    (path / "a/link").symlink_to("b")
    (path / "out").symlink_to(tmp_path)
    (path / "up").symlink_to("../..")
    (tmp_path / "canary").write_text("of the host\n")
    return path


@pytest.mark.parametrize("path", ["a/b", "a/link", "a/./b/", "a/b/../b"])
def test_a_part_of_a_volume_is_mounted_alone(engine: Engine, image: Image, store: Path, path: str) -> None:
    made = output(engine, image, "ls /part; cat /part/file; echo new > /part/new", mounts=[part(path)])
    assert made == "file\ninside\n"
    assert (store / "a/b/new").read_text() == "new\n"
    assert output(engine, image, "cat /part", mounts=[part(f"{path}/file")]) == "inside\n"
    with pytest.raises(ContainerFailed):
        output(engine, image, "echo x > /part/x", mounts=[part(path, ReadOnly=True)])


def test_files_of_a_part_of_a_volume_are_copied_from_there(engine: Engine, image: Image, store: Path) -> None:
    container = engine.containers.create(image, FOREVER, mounts=[part("a/b")], network_mode="none")
    assert container.path_status("/part/file").size == 7
    assert b"inside\n" in b"".join(container.get_archive("/part")[0])
    container.put_archive("/part", b"".join(container.get_archive("/etc/passwd")[0]))
    assert (store / "a/b/passwd").exists()
    one = engine.containers.create(image, FOREVER, mounts=[part("a/b/file")], network_mode="none")
    assert one.path_status("/part").size == 7


@pytest.mark.parametrize("path", ["out", "out/canary", "up", "missing", "a/b/file/x"])
def test_a_part_that_a_volume_does_not_have_is_refused(engine: Engine, image: Image, store: Path, path: str) -> None:
    container = engine.containers.create(image, FOREVER, mounts=[part(path)], network_mode="none")
    for use in (container.start, lambda: container.path_status("/part")):
        with pytest.raises(InvalidInput, match=f"cannot access path .*/{path}"):
            use()
    assert container.status == "created"
    assert (store / "a/b/file").exists()


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (part("/a"), "subpath must be a relative path within the volume"),
        (part("a/../.."), "subpath must be a relative path within the volume"),
        (part("a", Source=""), "must not set Subpath when using anonymous volumes"),
    ],
)
def test_a_subpath_that_cannot_be_one_is_refused(document: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        parse_mount(document)


@pytest.mark.parametrize(("options", "written"), [({}, ["flat"]), ({"readonly_recursive": False}, ["v", "m", "flat"])])
def test_what_is_mounted_below_a_source_can_only_be_read_if_that_can(
    engine: Engine, image: Image, tmp_path: Path, options: dict[str, Any], written: list[str]
) -> None:
    below = tmp_path / "host/below"
    below.mkdir(parents=True)
    mount = {"Type": "bind", "Source": f"{tmp_path}/host", "Target": "/m", "ReadOnly": True}
    flat = {**mount, "Target": "/flat", "BindOptions": {"ReadOnlyNonRecursive": True}}
    script = "for place in v m flat; do echo x 2> /dev/null > /$place/below/$place && echo $place; done; true"
    linux.mount("tmpfs", str(below), "tmpfs")
    try:
        volumes = [f"{tmp_path}/host:/v:ro"]
        printed = output(engine, image, script, volumes=volumes, mounts=[mount, flat], **options).split()
    finally:
        linux.umount(str(below))
    assert printed == written
