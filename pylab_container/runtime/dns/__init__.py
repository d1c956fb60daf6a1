"""The name server of containers on users' networks: one process per data root, as Docker's 127.0.0.11.

    resolver.py   the process: listens in each container's network, answers, or forwards to upstream servers
    messages.py   DNS messages: the only module with dnslib
    zone.py       which names a container may look up
    service.py    starts the process and registers containers

    <run root>/names/
    ├── <container id>   a container's names, addresses and upstream servers (zone.py), as long as it runs
    ├── lock             locked (flock(2)) by the process as long as it runs
    └── socket           takes the ids of containers that are to be served

The process can be killed at any time: the next one reads the files and opens its sockets again. The files are written
by the process that starts a container or connects it to a network. A file whose container has ended is stale; the
resolver ignores it, because the container's network namespace does not exist any more.
"""
