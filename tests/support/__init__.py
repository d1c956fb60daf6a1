"""What the tests share; nothing here is a test.

waiting      eventually(): wait for an event, never for a time
processes    fork an operation and kill it; find processes by their command line
fixtures     the pytest plugin with the fixtures of root and compat tests: engine, image, labctr, daemon …
isolation    a network and mount namespace for each test process
leftovers    what an engine left in the kernel
commands     labctr in this process, as a command line, and in a terminal
api          the Engine API over a unix socket, and a `labctr daemon` to answer it
contexts     build contexts, and what a build did
network      ports, pages, addresses and names as clients see them
registries   Debian's docker-registry on loopback
faults       a proxy in front of it that fails as networks do
debian       packages of any Debian release, unpacked instead of installed
damage       what is done to the files of a data root, and what must be left of them
disks        small file systems to fill, or to make read-only
dockerd      a real dockerd on data roots of the tests' own
sides        dockerd and our daemon side by side, for the docker command
executions   which programs of a fresh system the kit starts, for scripts/fresh
pair         the same request to both, and the difference between the answers
schema       Docker's own description of its API
"""
