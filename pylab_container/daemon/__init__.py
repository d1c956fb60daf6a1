"""`labctr daemon`: the Docker Engine API over HTTP, on the same engine that notebooks use.

    docker, docker-py, skopeo …                      labctr, notebooks
             │  HTTP on a unix socket                       │
          server.py        sockets, signals                 │
        application.py     routes, versions, errors         │
     containers.py  images.py  networks.py  …               │
             └───────────────── engine ─────────────────────┘

The daemon keeps no state but connections: each request reads the data root. So the daemon, labctr and notebooks work on
the same data root concurrently, and containers survive the end of the daemon. A handler parses the request, calls the
engine once, and renders the answer:

    routes.py      every path, and which module answers it
    call.py        one request: its parameters, its body, the engine
    shapes.py      documents of clients, parsed as dockerd parses them; fields.py: their fields
    streams.py     bodies as files, and streamed answers: bytes, JSON lines
    connection.py  half-closed HTTP connections
    hijack.py      hijacked connections: attach and exec
    sharing.py     fan-out of a process's streams to several attached clients

Source: Docker Engine API, versions 1.12 to 1.47 (docs.docker.com/reference/api/engine).
"""

from __future__ import annotations

from pylab_container.host.extras import require

require("daemon")

MINIMUM_VERSION = "1.12"
"""The oldest supported version of the API, the same as that of Debian's dockerd."""
VERSION = "1.47"
"""The newest supported version of the API."""
DOCKER_RELEASE = "27.5.1"
"""The release of Docker that has this API and the same layout of archives (since 25.0, moby's image/tarexport). Clients
compare it to choose features."""
