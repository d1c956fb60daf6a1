"""The name server of containers on users' networks: one process for all of a data root's.

    resolver.py   the process: listens in each container's network, answers or asks others
    messages.py   what it says: the only module with dnslib
    service.py    starts it, and tells it who is there

    <run root>/names/
    ├── <container id>   who it is and what it is called (runtime/dns/zone.py), as long as it runs
    ├── lock             locked (flock(2)) as long as the resolver runs
    └── socket           where it is told of new containers

It can be killed at any time: the next one reads those files, and opens the sockets anew. The files are written by
whoever starts or connects a container; those of containers that are gone are heeded by nobody.
"""
