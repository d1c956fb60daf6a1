"""Helpers that several test modules share. This package contains no tests.

waiting      eventually(): poll for a condition instead of sleeping for a fixed time
processes    fork an operation and kill it; find processes by their command line
fixtures     the pytest plugin with the fixtures of root and compat tests: engine, image, labctr, daemon …
isolation    a network and mount namespace for each test process
leftovers    resources of an engine that remain: mounts, monitors, files in /run, cgroups, interfaces
commands     labctr in this process, as a command line, and in a terminal
api          a client of the Engine API over a unix socket, and a `labctr daemon` to test with it
contexts     build contexts, and accessors for the report of a build
network      free ports, HTTP requests, interfaces and name lookups
registries   Debian's docker-registry on loopback
faults       a proxy in front of that registry that injects network and server faults
debian       packages of any Debian release, unpacked instead of installed
damage       random damage to the files of a data root, and manifests to compare before and after
disks        small file systems to fill, or to make read-only
dockerd      a real dockerd on a data root of the test's own
sides        a `labctr daemon` beside dockerd, for tests with the docker command
executions   the programs that the kit executes on a fresh system, for scripts/fresh
pair         send the same request to both daemons, and compare the answers
schema       the Engine API's Swagger description as JSON Schema
"""
