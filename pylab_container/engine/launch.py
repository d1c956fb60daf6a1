"""From a container's record to a process: who it is, what it sees, and the bundle that says so."""

from __future__ import annotations

import json
import os
import re
import shlex
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pylab_container.errors import CommandNotFound, InvalidInput, MissingProgram, RuntimeFailed
from pylab_container.formats import bundle
from pylab_container.formats.etc import container_resolv_conf, hosts_file
from pylab_container.host import linux, programs
from pylab_container.runtime.runc import cgroup_path, cgroup_version

if TYPE_CHECKING:
    from pylab_container.engine import Engine
    from pylab_container.store.records import ContainerRecord

DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SECCOMP_FILE = Path("/usr/share/containers/seccomp.json")
_VOLUME_NAME = r"[a-zA-Z0-9][a-zA-Z0-9_.-]*"
_SECCOMP_PACKAGE = "golang-github-containers-common"

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


# ---- configuration -------------------------------------------------------------------


def arguments(command: str | Sequence[str] | None) -> list[str] | None:
    """A command as a list of words; a string is split as a shell would."""
    if command is None:
        return None
    return shlex.split(command) if isinstance(command, str) else list(command)


def environment_list(environment: Mapping[str, str] | Sequence[str] | None) -> list[str]:
    """An environment as "NAME=value" entries. Raises InvalidInput for an entry without a name."""
    if isinstance(environment, Mapping):
        entries = [f"{name}={value}" for name, value in environment.items()]
    else:
        entries = list(environment or ())
    for entry in entries:
        if not entry.partition("=")[0]:
            raise InvalidInput(f'invalid environment variable: "{entry}"', hint="write NAME=value")
    return entries


def merge_environment(*lists: Sequence[str]) -> list[str]:
    """Environments on top of each other; a later value replaces an earlier one in its place."""
    merged: dict[str, str] = {}
    for entries in lists:
        for entry in entries:
            merged[entry.partition("=")[0]] = entry
    return list(merged.values())


def command_line(config: Mapping[str, Any]) -> list[str]:
    """ENTRYPOINT and CMD joined. Raises InvalidInput where both are empty."""
    words = [*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ())]
    if not words:
        raise InvalidInput(
            "No command specified", hint="give a command after the image's name: labctr run IMAGE /bin/bash"
        )
    if not words[0]:
        raise CommandNotFound('exec: "": the command is empty', hint="give a program's name or path")
    return words


def process(record: ContainerRecord, root: Path) -> bundle.Process:
    """The container's first process. root is its mounted file system, asked for users and groups."""
    user, home = find_user(str(record.config.get("User") or ""), root)
    config = record.config
    terminal = bool(config.get("Tty"))
    base = [DEFAULT_PATH, f"HOSTNAME={config.get('Hostname') or record.short_id}"]
    if terminal:
        base.append("TERM=xterm")
    environment = merge_environment(base, config.get("Env") or ())
    if not any(entry.startswith("HOME=") for entry in environment):
        environment.append(f"HOME={home}")
    return bundle.Process(
        argv=(record.path, *record.args),
        environment=tuple(environment),
        cwd=config.get("WorkingDir") or "/",
        user=user,
        terminal=terminal,
        console_size=_console_size(record.host_config),
    )


def _console_size(host_config: Mapping[str, Any]) -> tuple[int, int] | None:
    rows, columns = host_config.get("ConsoleSize") or (0, 0)
    return (rows, columns) if rows and columns else None


def find_user(user: str, root: Path) -> tuple[bundle.User, str]:
    """Who user is in the container whose file system is root, and its home directory."""
    return bundle.find_user(user, passwd=_read_inside(root, "etc/passwd"), group=_read_inside(root, "etc/group"))


def _read_inside(root: Path, path: str) -> str:
    """A text file of a container, "" where it has none; its links lead no further than its root."""
    base = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = linux.openat2(base, path, os.O_RDONLY | os.O_NONBLOCK, resolve=linux.RESOLVE_IN_ROOT)
    except OSError:
        return ""
    finally:
        os.close(base)
    with open(fd, errors="replace") as file:
        return file.read(1 << 20)


# ---- mounts --------------------------------------------------------------------------


def parse_volume(text: str) -> dict[str, Any]:
    """`-v SOURCE:DESTINATION[:ro]` or `-v DESTINATION` as one of Docker's Mounts entries.

    A source that starts with / is a directory or file of the host, another one names a
    volume, and none asks for a volume without a name. Raises InvalidInput.
    """
    parts = text.split(":")
    if not 1 <= len(parts) <= 3 or not all(parts):
        raise InvalidInput(
            f'invalid volume specification: "{text}"', hint="write -v /on/the/host:/in/the/container[:ro]"
        )
    mode = parts[2] if len(parts) == 3 else ""
    source, destination = ("", parts[0]) if len(parts) == 1 else (parts[0], parts[1])
    if source and not source.startswith("/") and not re.fullmatch(_VOLUME_NAME, source):
        raise InvalidInput(
            f'"{source}" includes invalid characters for a volume name, only {_VOLUME_NAME} are allowed',
            hint="a directory of the host is written with its whole path: /…",
        )
    if not set(mode.split(",")) <= {"", "ro", "rw"}:
        raise InvalidInput(f'invalid mode "{mode}" in volume specification "{text}"', hint="use ro or rw")
    if not destination.startswith("/"):
        raise InvalidInput(f'invalid volume specification: "{text}": the path in the container is not absolute')
    destination = os.path.normpath(destination)
    if destination == "/":
        raise InvalidInput(f'invalid volume specification: "{text}": the destination cannot be /')
    return {
        "Type": "bind" if source.startswith("/") else "volume",
        "Name": "" if source.startswith("/") else source,
        "Source": source,
        "Destination": destination,
        "Mode": mode,
        "RW": "ro" not in mode.split(","),
        "Propagation": "rprivate" if source.startswith("/") else "",
    }


def mounts(engine: Engine, record: ContainerRecord) -> list[bundle.Mount]:
    """All that is mounted into a container on top of Docker's defaults."""
    directory = engine.records.directory(record.id)
    own = [
        bundle.Mount(
            source=str(directory / name), destination=f"/etc/{name}", type="bind", options=("rbind", "rprivate")
        )
        for name in ("resolv.conf", "hostname", "hosts")
    ]
    return own + [_mount(mount) for mount in record.mounts]


def _mount(mount: Mapping[str, Any]) -> bundle.Mount:
    if mount["Type"] == "tmpfs":
        options = ("nosuid", "nodev", *([mount["Mode"]] if mount["Mode"] else []))
        return bundle.Mount(source="tmpfs", destination=mount["Destination"], type="tmpfs", options=options)
    options = ("rbind", "rprivate", "rw" if mount["RW"] else "ro")
    return bundle.Mount(source=mount["Source"], destination=mount["Destination"], type="bind", options=options)


def fill_volumes(record: ContainerRecord, root: Path) -> None:
    """Copy what the image has at a volume's place into the volume while that is empty."""
    for mount in record.mounts:
        source = Path(mount["Source"])
        if mount["Type"] != "volume" or any(source.iterdir()):
            continue
        base = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            inside = linux.openat2(
                base, mount["Destination"], os.O_RDONLY | os.O_DIRECTORY, resolve=linux.RESOLVE_IN_ROOT
            )
        except OSError:
            continue  # the image has nothing there
        finally:
            os.close(base)
        try:
            programs.run(["cp", "-a", "--", f"/proc/self/fd/{inside}/.", str(source)], pass_fds=(inside,))
            status = os.fstat(inside)
            os.chown(source, status.st_uid, status.st_gid)
            os.chmod(source, status.st_mode & 0o7777)
        finally:
            os.close(inside)


def write_network_files(engine: Engine, record: ContainerRecord, address: str | None) -> None:
    """Write hostname, hosts and resolv.conf. In place: they are mounted by their inode."""
    directory = engine.records.directory(record.id)
    hostname = record.config.get("Hostname") or record.short_id
    (directory / "hostname").write_text(f"{hostname}\n")
    (directory / "hosts").write_text(hosts_file(hostname, address, extra=_extra_hosts(record)))
    (directory / "resolv.conf").write_text(
        container_resolv_conf(_text(Path("/etc/resolv.conf")), fallback=_text(Path("/run/systemd/resolve/resolv.conf")))
    )


def _extra_hosts(record: ContainerRecord) -> list[tuple[str, str]]:
    """--add-host: (name, address) out of "name:address", where an address may hold colons itself."""
    entries = record.host_config.get("ExtraHosts") or ()
    return [(name, address.strip("[]")) for name, _, address in (entry.partition(":") for entry in entries)]


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
    first = process(record, root)
    host = record.host_config
    network = host.get("NetworkMode") or "bridge"
    config = bundle.runtime_config(
        first,
        root=str(root),
        hostname=record.config.get("Hostname") or record.short_id,
        mounts=mounts(engine, record),
        limits=limits(host),
        cgroups_path=cgroup_path(record.id),
        seccomp=_seccomp(first),
        network_namespace=None if network == "host" else "",
        cgroup_namespace=cgroup_version() == "2",
    )
    directory = engine.run_root / record.id
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    (directory / "config.json").write_text(json.dumps(config))
    return directory


def limits(host_config: Mapping[str, Any]) -> bundle.Limits:
    """The cgroup limits that a HostConfig asks for; 0 and null mean none."""
    return bundle.Limits(
        memory=host_config.get("Memory") or None,
        cpus=host_config["NanoCpus"] / 10**9 if host_config.get("NanoCpus") else None,
        pids=host_config.get("PidsLimit") or None,
    )


def _seccomp(first: bundle.Process) -> dict[str, Any]:
    try:
        document = json.loads(SECCOMP_FILE.read_bytes())
    except FileNotFoundError:
        raise MissingProgram(
            f"the seccomp profile {SECCOMP_FILE} is not installed", hint=f"apt-get install {_SECCOMP_PACKAGE}"
        ) from None
    machine = os.uname()
    return bundle.seccomp_profile(
        document, capabilities=first.capabilities, architecture=machine.machine, kernel=machine.release
    )
