"""The Config of a container: what the image and the options say of its process, as a Struct.

Field names, order and types are those of Docker's Config (moby api/types/container/config.go, 20.10). An image's
config has the same fields, and may have more, which a container made from it keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from pylab_container.oci.document import Document, field_names


class Healthcheck(Document, frozen=True):
    """How the health of a container is checked; times are in nanoseconds.

    test  () inherits the image's, ("NONE",) checks nothing, ("CMD", …) and ("CMD-SHELL", text) run a command
    """

    test: tuple[str, ...] = ()
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0

    missing: frozenset[str] = field_names("Test Interval Timeout StartPeriod StartInterval Retries")


class ContainerConfig(Document, frozen=True):
    """A container's process and what the image says of it.

    env      "NAME=value" entries
    volumes  {path: {}}, exposed_ports {"80/tcp": {}}: sets, as Go writes them
    stop_timeout  seconds
    """

    PARTS: ClassVar[Mapping[str, Callable[[Any], Any]]] = {"Healthcheck": Healthcheck.parse}

    hostname: str = ""
    domainname: str = ""
    user: str = ""
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    exposed_ports: Mapping[str, Any] = {}
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    env: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    healthcheck: Healthcheck | None = None
    args_escaped: bool = False
    image: str = ""
    volumes: Mapping[str, Any] = {}
    working_dir: str = ""
    entrypoint: tuple[str, ...] = ()
    network_disabled: bool = False
    mac_address: str = ""
    on_build: tuple[str, ...] = ()
    labels: Mapping[str, str] = {}
    stop_signal: str = ""
    stop_timeout: int | None = None
    shell: tuple[str, ...] = ()

    nulls: frozenset[str] = field_names("Env Cmd Volumes Entrypoint OnBuild Labels")
    missing: frozenset[str] = field_names(
        "ExposedPorts Healthcheck ArgsEscaped NetworkDisabled MacAddress StopSignal StopTimeout Shell"
    )
