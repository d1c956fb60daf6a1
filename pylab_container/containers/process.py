"""A container's process: its program, its user, its environment and its rights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from pylab_container.containers import sandbox
from pylab_container.host import inside
from pylab_container.oci import bundle, users
from pylab_container.oci.environment import DEFAULT_PATH, merge_environment
from pylab_container.oci.host_config import HostConfig
from pylab_container.store.container_store import ContainerRecord


def first_process(record: ContainerRecord, root: Path, *, linked: Sequence[str] = ()) -> bundle.Process:
    """Build the container's process from its record. Raises InvalidInput, RuntimeFailed.

    root    its mounted file system, in which users and groups are looked up
    linked  variables about the containers that it is linked to
    """
    user, home = find_user(record.config.user, root, record.host_config.group_add)
    config = record.config
    terminal = config.tty
    base = [DEFAULT_PATH, f"HOSTNAME={config.hostname or record.short_id}"]
    if terminal:
        base.append("TERM=xterm")
    environment = merge_environment(base, linked, config.env)
    environment = [entry for entry in environment if "=" in entry]  # an entry without a value removes the variable
    if not any(entry.startswith("HOME=") for entry in environment):
        environment.append(f"HOME={home}")
    process = bundle.Process(
        argv=(record.path, *record.args),
        environment=tuple(environment),
        cwd=config.working_dir or "/",
        user=user,
        terminal=terminal,
        console_size=_console_size(record.host_config),
    )
    return sandbox.with_rights(process, record)


def _console_size(host_config: HostConfig) -> tuple[int, int] | None:
    rows, columns = host_config.console_size
    return (rows, columns) if rows and columns else None


def find_user(user: str, root: Path, more_groups: Sequence[str] = ()) -> tuple[users.User, str]:
    """Look up a user and its home directory in the file system of a container.

    Raises InvalidInput.

    user         "NAME[:GROUP]" or "UID[:GID]", "" for root
    more_groups  names or numbers of supplementary groups (--group-add)
    """
    group = inside.read_text(root, "etc/group")
    found, home = users.find_user(user, passwd=inside.read_text(root, "etc/passwd"), group=group)
    more = [users.find_group(name, group) for name in more_groups]
    return replace(found, additional_gids=tuple(dict.fromkeys([*found.additional_gids, *more]))), home
