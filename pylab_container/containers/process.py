"""A container's process: its program, its user, its environment and its rights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from pylab_container.containers import rights
from pylab_container.host import inside
from pylab_container.oci import bundle, users
from pylab_container.oci.environment import DEFAULT_PATH, merge_environment
from pylab_container.oci.host_config import HostConfig
from pylab_container.store.container_store import ContainerRecord


def first_process(record: ContainerRecord, root: Path, *, linked: Sequence[str] = ()) -> bundle.Process:
    """Build the container's first process from its record. Raises InvalidInput, RuntimeFailed.

    root    the container's mounted file system, in which users and groups are looked up
    linked  environment entries about the containers that it is linked to
    """
    config = record.config
    user, home = find_user(config.user, root, record.host_config.group_add)
    defaults = [DEFAULT_PATH, f"HOSTNAME={config.hostname or record.short_id}"]
    if config.tty:
        defaults.append("TERM=xterm")
    # Later entries replace earlier ones of the same name: those of the user replace those of links, and both replace
    # the defaults (moby, container/container.go, CreateDaemonEnvironment).
    environment = merge_environment(defaults, linked, config.env)
    environment = [entry for entry in environment if "=" in entry]  # an entry without a value removes the variable
    # From /etc/passwd, as runc sets a missing HOME (libcontainer/init_linux.go, setupUser).
    if not any(entry.startswith("HOME=") for entry in environment):
        environment.append(f"HOME={home}")
    process = bundle.Process(
        argv=(record.path, *record.args),
        environment=tuple(environment),
        cwd=config.working_dir or "/",
        user=user,
        terminal=config.tty,
        console_size=_console_size(record.host_config),
    )
    return rights.with_rights(process, record)


def _console_size(host_config: HostConfig) -> tuple[int, int] | None:
    """The (rows, columns) that the client sent, None for Docker's [0, 0]."""
    rows, columns = host_config.console_size
    return (rows, columns) if rows and columns else None


def find_user(user: str, root: Path, more_groups: Sequence[str] = ()) -> tuple[users.User, str]:
    """Look up a user and its home directory in the file system of a container.

    user         "NAME[:GROUP]" or "UID[:GID]", "" for root
    more_groups  names or numbers of supplementary groups (--group-add)

    Raises InvalidInput.
    """
    # config.json has numbers only (OCI config.md, "POSIX-platform User"). The image's files give the names their
    # numbers; on the host the same names may have others.
    group_file = inside.read_text(root, "etc/group")
    account, home = users.find_user(user, passwd=inside.read_text(root, "etc/passwd"), group=group_file)
    more_gids = [users.find_group(name, group_file) for name in more_groups]
    return replace(account, additional_gids=tuple(dict.fromkeys([*account.additional_gids, *more_gids]))), home
