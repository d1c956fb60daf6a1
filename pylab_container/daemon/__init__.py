"""`labctr daemon`: Docker's Engine API over HTTP, on the same engine that notebooks use.

    docker, docker-py, skopeo …                      labctr, notebooks
             │  HTTP on a unix socket                       │
          server.py        sockets, signals                 │
        application.py     routes, versions, errors         │
     containers.py  images.py  networks.py  …               │
             └───────────────── engine ─────────────────────┘

Nothing is kept here but connections: what is asked is looked up in the data root at that moment, so both ways may
be used side by side, and a daemon that ends leaves its containers as they are. A handler parses, calls the engine
once, and renders the answer:

    routes.py      every path, and which module answers it
    call.py        one request: its parameters, its body, the engine
    shapes.py      documents that clients send, read as dockerd reads them; fields.py: what they say
    streams.py     what goes on for long: bodies, JSON lines, the output of blocking iterators
    connection.py  a connection while it speaks HTTP
    hijack.py      connections that stop being HTTP: attach and exec
    sharing.py     the streams of a process, which several clients may be attached to

Source: Docker Engine API, versions 1.12 to 1.47 (docs.docker.com/reference/api/engine).
"""

from __future__ import annotations

from pylab_container.host.extras import require

require("daemon")

MINIMUM_VERSION = "1.12"
"""The oldest version of the API that is answered, which is Debian's dockerd's, too."""
VERSION = "1.47"
"""The newest."""
DOCKER_RELEASE = "27.5.1"
"""The release of Docker with that API, which writes archives in the layout that `save` has (since 25.0, moby's
image/tarexport). Clients compare it to know what they get."""
