"""The name server of containers on users' networks: one process per data root, as Docker's 127.0.0.11.

    resolver.py   the process: listens in each container's network, answers, or forwards to upstream servers
    messages.py   DNS messages: the only module with dnslib
    zone.py       which names a container may look up
    service.py    starts the process and registers containers

    <run root>/names/
    ├── <container id>   a container's names, addresses and upstream servers (zone.py), as long as it runs
    ├── lock             the resolver holds a lock on it (flock(2)) as long as it runs
    └── socket           accepts requests to serve a container: its id

The resolver can be killed at any time: the next one reads the files and opens its sockets again. The process that
starts a container or connects it to a network writes the container's file. If the container has exited, the file is
stale. The resolver ignores it, because the container's network namespace no longer exists.
"""
