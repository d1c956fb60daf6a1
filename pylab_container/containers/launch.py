"""From a container's record to a process: who it is, what it sees, and the bundle that says so."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import stat
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from pylab_container.containers import remap, sandbox
from pylab_container.docker.options import merge_environment
from pylab_container.errors import ContainerNotFound, InvalidInput, RuntimeFailed
from pylab_container.host import linux, programs
from pylab_container.host.removal import remove_below
from pylab_container.networks import dns_records, links
from pylab_container.oci import bundle, users
from pylab_container.oci.host_config import DEFAULT_SHM_SIZE, HostConfig
from pylab_container.oci.ids import EntryName
from pylab_container.oci.mounts import MountPoint
from pylab_container.runtime.etc import hosts_file, hosts_line
from pylab_container.runtime.runc import cgroup_path, cgroup_version
from pylab_container.text.timestamps import NEVER
from pylab_container.volumes import mounting as volume_mounts

if TYPE_CHECKING:
    from pylab_container.engine import Engine
    from pylab_container.store.container_store import ContainerRecord

DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

NETWORK_FILES = ("resolv.conf", "hostname", "hosts")
"""Files of /etc that the engine keeps for each container."""

# What the kernel or the engine mounts over: (path, kind or target of a link). moby's setupInitLayer.
_INIT_FILES = (
    ("dev/pts", "directory"),
    ("dev/shm", "directory"),
    ("proc", "directory"),
    ("sys", "directory"),
    (".dockerenv", "file"),
    ("etc/resolv.conf", "file"),
    ("etc/hosts", "file"),
    ("etc/hostname", "file"),
    ("dev/console", "file"),
    ("etc/mtab", "/proc/mounts"),
)


def fill_init_layer(root: Path) -> None:
    """Make the files that are mounted over in every container, so that commits do not contain them.

    root is the mounted init layer. Existing directories stay; an existing file or link
    is replaced by an empty file. No link of the image is followed.
    """
    base = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for path, kind in _INIT_FILES:
            _fill(base, path, kind)
    finally:
        os.close(base)


def _fill(base: int, path: str, kind: str) -> None:
    directory, _, name = path.rpartition("/")
    if directory:
        _make_directory(base, directory)
    parent = linux.openat2(base, directory or ".", os.O_PATH | os.O_DIRECTORY, resolve=linux.RESOLVE_NO_SYMLINKS)
    try:
        if kind == "directory":
            _make_directory(parent, name)
            return
        try:
            os.unlink(name, dir_fd=parent)
        except FileNotFoundError:
            pass
        except (IsADirectoryError, PermissionError):
            return  # a directory in this place is the image's own idea; mounting will say so
        if kind == "file":
            os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o755, dir_fd=parent))
        else:
            os.symlink(kind, name, dir_fd=parent)
    finally:
        os.close(parent)


def _make_directory(parent: int, name: str) -> None:
    """Make sure that name is a real directory; a file or link in its place goes."""
    try:
        if stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            return
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        pass
    os.mkdir(name, 0o755, dir_fd=parent)


def is_bare(record: ContainerRecord, root: Path) -> bool:
    """Whether furnish() has something to do for a container of an image; root is that one's file system, mounted."""
    base = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        wanted = record.config.get("WorkingDir") or "/"
        return not _has_directory(base, wanted) or any(
            _has_directory(base, mount.destination)
            for mount in record.mounts
            if mount.type == "volume" and not mount.no_copy
        )
    finally:
        os.close(base)


def _has_directory(base: int, path: str) -> bool:
    try:
        os.close(linux.openat2(base, path, os.O_PATH | os.O_DIRECTORY, resolve=linux.RESOLVE_IN_ROOT))
    except OSError:
        return False
    return True


def furnish(engine: Engine, record: ContainerRecord) -> None:
    """Make a new container's working directory, and fill its volumes: others may look into them before its start.

    Volumes with a file system of their own wait for the start, which mounts it. Raises InvalidInput.
    """
    plain = [mount for mount in record.mounts if mount.type == "volume" and not _has_options(engine, mount)]
    with engine.data.records.lock(record.id):
        mount_id = engine.data.layers.own(record.id).mount_id
        root = engine.data.driver.mount(mount_id)
        try:
            make_directory(root, record.config.get("WorkingDir") or "/")
            fill_volumes(replace(record, mounts=tuple(plain)), root)
        finally:
            engine.data.driver.unmount(mount_id)


def _has_options(engine: Engine, mount: MountPoint) -> bool:
    return bool(engine.volumes.get(mount.name).options)


def make_directory(root: Path, path: str) -> None:
    """Make a directory, and what is missing above it, inside of a mounted file system. Raises InvalidInput."""
    base = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    place, directory = ".", os.O_PATH | os.O_DIRECTORY
    try:
        for name in filter(None, path.split("/")):
            parent = linux.openat2(base, place, directory, resolve=linux.RESOLVE_IN_ROOT)
            try:
                os.mkdir(name, dir_fd=parent)
                os.chmod(name, 0o755, dir_fd=parent)  # whatever the umask
            except FileExistsError:
                pass
            finally:
                os.close(parent)
            place = f"{place}/{name}"
        os.close(linux.openat2(base, place, directory, resolve=linux.RESOLVE_IN_ROOT))
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ENOENT, errno.ELOOP):
            raise
        raise InvalidInput(
            f"Cannot mkdir: {path} is not a directory", hint="choose another working directory"
        ) from None
    finally:
        os.close(base)


# ---- the first process -----------------------------------------------------------------


def process(record: ContainerRecord, root: Path, *, linked: Sequence[str] = ()) -> bundle.Process:
    """The container's first process. root is its mounted file system, asked for users and groups.

    linked  variables about containers that it is linked to
    """
    user, home = find_user(str(record.config.get("User") or ""), root, record.host_config.get("GroupAdd") or ())
    config = record.config
    terminal = bool(config.get("Tty"))
    base = [DEFAULT_PATH, f"HOSTNAME={config.get('Hostname') or record.short_id}"]
    if terminal:
        base.append("TERM=xterm")
    environment = merge_environment(base, linked, config.get("Env") or ())
    environment = [entry for entry in environment if "=" in entry]  # a name alone takes a variable away
    if not any(entry.startswith("HOME=") for entry in environment):
        environment.append(f"HOME={home}")
    plain = bundle.Process(
        argv=(record.path, *record.args),
        environment=tuple(environment),
        cwd=config.get("WorkingDir") or "/",
        user=user,
        terminal=terminal,
        console_size=_console_size(record.host_config),
    )
    return sandbox.with_rights(plain, record)


def _console_size(host_config: HostConfig) -> tuple[int, int] | None:
    rows, columns = host_config.console_size
    return (rows, columns) if rows and columns else None


def find_user(user: str, root: Path, more_groups: Sequence[str] = ()) -> tuple[users.User, str]:
    """Who user is in the container whose file system is root, and its home directory.

    more_groups  names or numbers of groups that the user is in besides (--group-add)
    """
    group = _read_inside(root, "etc/group")
    found, home = users.find_user(user, passwd=_read_inside(root, "etc/passwd"), group=group)
    more = [users.find_group(name, group) for name in more_groups]
    return replace(found, additional_gids=tuple(dict.fromkeys([*found.additional_gids, *more]))), home


def _read_inside(root: Path, path: str) -> str:
    """A text file of a container, "" where it has none; its links lead no further than its root.

    Raises InvalidInput where something else than a file has its name: the runtime reads it too, and a
    FIFO would make it wait for ever.
    """
    base = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return linux.read_regular(base, path, 1 << 20).decode(errors="replace")
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise InvalidInput(f"/{path} in the container is not a file", hint="put a text file there") from error
        return ""
    finally:
        os.close(base)


# ---- mounts --------------------------------------------------------------------------


def mounts(engine: Engine, record: ContainerRecord) -> list[bundle.Mount]:
    """All that is mounted into a container on top of Docker's defaults."""
    directory = engine.data.records.directory(files_of(engine, record))
    options = ("rbind", "rprivate", *(["ro"] if record.host_config.get("ReadonlyRootfs") else []))
    own = [
        bundle.Mount(source=str(directory / name), destination=f"/etc/{name}", type="bind", options=options)
        for name in NETWORK_FILES
    ]
    given = [_mount(mount, _source(engine, record, mount)) for mount in record.mounts]
    taken = {mount.destination for mount in given}
    defaults = [*own, *_shared_memory(engine, record), *sandbox.init_mount(record)]
    return [mount for mount in defaults if mount.destination not in taken] + given


def files_of(engine: Engine, record: ContainerRecord) -> str:
    """Whose hosts, hostname and resolv.conf the container has: with the network of another one, that one's."""
    mode = str(record.host_config.get("NetworkMode") or "")
    if mode.startswith("container:"):
        with contextlib.suppress(ContainerNotFound):  # it has gone, or is not there yet
            return engine.containers.get(mode.removeprefix("container:")).id
    return record.id


def _shared_memory(engine: Engine, record: ContainerRecord) -> list[bundle.Mount]:
    """/dev/shm: its own, none, the host's, or one that containers share as they share an IPC namespace."""
    mode, size = str(record.host_config.get("IpcMode") or "private"), record.host_config.get("ShmSize")
    bind = ("rbind", "rprivate", "nosuid", "noexec", "nodev")
    if mode == "none":
        return []
    if mode == "host":
        return [bundle.Mount(source="/dev/shm", destination="/dev/shm", type="bind", options=bind)]
    if mode == "shareable" or mode.startswith("container:"):
        owner = sandbox.joined(engine, "ipc", mode) if mode.startswith("container:") else record
        source = "/dev/shm" if owner.host_config.get("IpcMode") == "host" else str(shared_memory(engine, owner.id))
        return [bundle.Mount(source=source, destination="/dev/shm", type="bind", options=bind)]
    options = ("nosuid", "noexec", "nodev", "mode=1777", f"size={size or DEFAULT_SHM_SIZE}")
    return [bundle.Mount(source="shm", destination="/dev/shm", type="tmpfs", options=options)] if size else []


def shared_memory(engine: Engine, container_id: str) -> Path:
    """Where the /dev/shm of a container with --ipc shareable is mounted on the host while it runs."""
    return engine.runtime.path / container_id / "shm"


def mount_shared_memory(engine: Engine, record: ContainerRecord) -> None:
    """Mount the /dev/shm that other containers may join; unmount_shared_memory() takes it away."""
    if record.host_config.get("IpcMode") != "shareable":
        return
    directory = shared_memory(engine, record.id)
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    flags = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
    size = record.host_config.get("ShmSize") or DEFAULT_SHM_SIZE
    linux.mount("shm", str(directory), "tmpfs", flags, f"mode=1777,size={size}")


def unmount_shared_memory(engine: Engine, container_id: str) -> None:
    """Take the shared /dev/shm away; a container that joined it keeps it as long as it runs."""
    theirs = (
        engine.data.records.directory(container_id) / "mounts/shm"
    )  # dockerd's: it was killed while the container ran
    for directory in (shared_memory(engine, container_id), theirs):
        if directory.is_dir():
            with contextlib.suppress(OSError):  # it was not mounted any more
                linux.umount(str(directory), linux.MNT_DETACH)


def _source(engine: Engine, record: ContainerRecord, mount: MountPoint) -> str:
    """Where a mount's files are on the host: of a part of a volume, a mount of that part.

    The part is mounted by its descriptor, because another container with the volume may put a link in its path.
    Raises InvalidInput if the volume has no such part.
    """
    if not mount.subpath:
        return mount.source
    if record.host_config.get("UsernsMode") == "remap":
        raise InvalidInput("--userns=remap cannot map a part of a volume", hint="mount the whole volume")
    part = volume_mounts.open_part(mount)
    try:
        place = _parts(engine, record.id) / hashlib.sha256(mount.destination.encode()).hexdigest()
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if stat.S_ISDIR(os.fstat(part).st_mode):
            place.mkdir()
        else:
            place.touch(exist_ok=False)
        linux.mount(f"/proc/self/fd/{part}", str(place), "", linux.MS_BIND)
    finally:
        os.close(part)
    return str(place)


def _parts(engine: Engine, container_id: str) -> Path:
    return engine.runtime.path / container_id / "parts"


def unmount_parts(engine: Engine, container_id: str) -> None:
    """Take the mounts of parts of volumes away; the container that runs has its own."""
    places = _parts(engine, container_id)
    for place in list(places.iterdir()) if places.is_dir() else ():
        with contextlib.suppress(OSError):  # it is not mounted
            linux.umount(str(place), linux.MNT_DETACH)
        if place.is_dir():
            place.rmdir()
        else:
            place.unlink()


def _mount(mount: MountPoint, source: str) -> bundle.Mount:
    if mount.type == "tmpfs":
        words = [mount.mode] if mount.mode else []
        options = _tmpfs_options(mount.options) if mount.options is not None else ("nosuid", "nodev", *words)
        return bundle.Mount(source="tmpfs", destination=mount.destination, type="tmpfs", options=options)
    propagation = mount.propagation or "rprivate"
    if propagation.removeprefix("r") in ("shared", "slave"):
        try:
            _refuse_private_source(mount.source, propagation.removeprefix("r"))
        except InvalidInput:
            if not mount.may_be_private:
                raise
            propagation = "rprivate"
    flat = bool(mount.non_recursive or mount.read_only_non_recursive)
    # rro: with all that is mounted below, by mount_setattr(2).
    recursive = mount.read_only_force_recursive or (not flat and linux.has_mount_setattr())
    reading = "rro" if recursive else "ro"
    options = ("bind" if mount.non_recursive else "rbind", propagation, "rw" if mount.writable else reading)
    return bundle.Mount(source=source, destination=mount.destination, type="bind", options=options)


def _tmpfs_options(text: str) -> tuple[str, ...]:
    """Docker's options of a tmpfs with the user's on top: exec takes noexec away."""
    chosen: dict[str, str] = {}
    for word in ("noexec", "nosuid", "nodev", *filter(None, text.split(","))):
        key = word.partition("=")[0]
        opposite = {"rw": "ro", "ro": "ro"}.get(key, key.removeprefix("no"))
        chosen[opposite] = word
    chosen.pop("defaults", None)
    return tuple(chosen.values())


def _refuse_private_source(source: str, wanted: str) -> None:
    """Mounts travel over a bind only where they travel on the host already (mount_namespaces(7))."""
    point, fields = "", ""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        words = line.split()
        inside = source == words[4] or source.startswith(words[4].rstrip("/") + "/")
        if inside and len(words[4]) >= len(point):
            point, fields = words[4], line.partition(" - ")[0]
    if "shared:" not in fields and (wanted == "shared" or "master:" not in fields):
        raise InvalidInput(
            f"path {source} is mounted on {point} but it is not a {wanted} mount", hint=f"mount --make-shared {point}"
        )


def fill_volumes(record: ContainerRecord, root: Path, *, mounted: Collection[str] = ()) -> None:
    """Copy what the image has at a volume's place into the volume, if that is empty; at the first start only.

    mounted  names of volumes with a file system of their own that this start has mounted
    """
    if record.started_at != NEVER:
        return
    for mount in record.mounts:
        source = Path(mount.source)
        if mount.type != "volume" or mount.no_copy or any(source.iterdir()):
            continue
        base = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            inside = linux.openat2(base, mount.destination, os.O_RDONLY | os.O_DIRECTORY, resolve=linux.RESOLVE_IN_ROOT)
        except OSError:
            continue  # the image has nothing there
        finally:
            os.close(base)
        try:
            if mount.name in mounted:
                _copy(inside, source)  # nobody else is in there
            elif not volume_mounts.is_mounted(source):
                _fill_volume(source, inside)
        finally:
            os.close(inside)


def _copy(inside: int, directory: Path) -> None:
    programs.run(["cp", "-a", "--", f"/proc/self/fd/{inside}/.", str(directory)], pass_fds=(inside,))


def _fill_volume(volume: Path, inside: int) -> None:
    """Copy the directory behind a descriptor into an empty volume, beside it first.

    A container that has the volume already could put a link in the way of a copy. A rename(2) within two
    directories follows none.
    """
    staging = volume.parent / f"filling-{secrets.token_hex(8)}"
    staging.mkdir(mode=0o700)
    try:
        _copy(inside, staging)
        for name in os.listdir(staging):
            with contextlib.suppress(FileExistsError, IsADirectoryError, NotADirectoryError):
                os.rename(staging / name, volume / name)
        status = os.fstat(inside)
        os.chown(volume, status.st_uid, status.st_gid)
        os.chmod(volume, status.st_mode & 0o7777)
    finally:
        remove_below(volume.parent, EntryName(staging.name))


def write_network_files(
    engine: Engine,
    record: ContainerRecord,
    addresses: Sequence[str] = (),
    *,
    gateway: str = "",
    linked: Sequence[tuple[str, str]] = (),
) -> None:
    """Write hostname, hosts and resolv.conf. In place: they are mounted by their inode.

    addresses  the container's own; gateway is what host-gateway stands for
    linked     (names, address) of containers that it is linked to
    """
    directory, host = engine.data.records.directory(record.id), record.host_config
    hostname = record.config.get("Hostname") or record.short_id
    (directory / "hostname").write_text(f"{hostname}\n")
    hosts = hosts_file(own_name(record), addresses, extra=[*_extra_hosts(record, gateway), *linked])
    if host.get("NetworkMode") == "host":  # as in Docker: its names are the host's, too
        extra = "".join(hosts_line(number, name) for name, number in _extra_hosts(record, "127.0.0.1"))
        hosts = _text(Path("/etc/hosts")) + extra
    (directory / "hosts").write_text(hosts)
    (directory / "resolv.conf").write_text(dns_records.resolv_conf(record))


def own_name(record: ContainerRecord) -> str:
    """What a container's hosts file calls itself: its whole name, and its first part, wherever the rest was given."""
    hostname, domain = str(record.config.get("Hostname") or record.short_id), record.config.get("Domainname")
    whole = f"{hostname}.{domain}" if domain else hostname
    return f"{whole} {whole.partition('.')[0]}" if "." in whole else whole


def _extra_hosts(record: ContainerRecord, gateway: str) -> list[tuple[str, str]]:
    """--add-host: (name, address) out of "name:address", where an address may hold colons itself."""
    entries = record.host_config.get("ExtraHosts") or ()
    pairs = [(name, address.strip("[]")) for name, _, address in (entry.partition(":") for entry in entries)]
    known = [(name, gateway if address == "host-gateway" else address) for name, address in pairs]
    return [(name, address) for name, address in known if address]


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


# ---- the bundle ----------------------------------------------------------------------


def refuse_chroot() -> None:
    """Raises RuntimeFailed in a chroot(2).

    runc's exec enters the container's mount namespace, whose root then lies outside of the
    chroot: a command meant for the container would run on the machine itself.
    """
    if linux.is_chrooted():
        hint = "use a machine, a VM or pivot_root(8) instead of chroot(8)"
        raise RuntimeFailed("containers cannot be started from inside a chroot", hint=hint)


def write_bundle(engine: Engine, record: ContainerRecord, root: Path) -> Path:
    """Write config.json for a container whose file system is mounted at root; returns the bundle directory."""
    refuse_chroot()
    first = process(record, root, linked=links.environment(engine, record))
    spaces = sandbox.namespaces(engine, record)
    mount_shared_memory(engine, record)
    config = bundle.runtime_config(
        sandbox.init_command(record, first),
        root=str(root),
        hostname=record.config.get("Hostname") or record.short_id,
        domainname=record.config.get("Domainname") or "",
        mounts=mounts(engine, record),
        shared_memory=record.host_config.get("IpcMode") != "none",
        limits=sandbox.limits(record.host_config),
        devices=sandbox.devices(record),
        cgroups_path=cgroup_path(record.id, parent=record.host_config.get("CgroupParent") or ""),
        seccomp=sandbox.seccomp_profile(record, first),
        network_namespace=spaces.network,
        pid_namespace=spaces.pid,
        ipc_namespace=spaces.ipc,
        uts_namespace=spaces.uts,
        cgroup_namespace=cgroup_version() == "2" or record.host_config.get("CgroupnsMode") == "private",
        readonly_root=bool(record.host_config.get("ReadonlyRootfs")),
        privileged=sandbox.privileged(record),
        masked_paths=record.host_config.get("MaskedPaths") or (),
        readonly_paths=record.host_config.get("ReadonlyPaths") or (),
        sysctls=record.host_config.get("Sysctls"),
        device_rules=record.host_config.get("DeviceCgroupRules") or (),
        annotations=record.host_config.get("Annotations"),
    )
    remap.apply(engine, record, config)
    directory = engine.runtime.path / record.id
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    (directory / "config.json").write_text(json.dumps(config))
    return directory
