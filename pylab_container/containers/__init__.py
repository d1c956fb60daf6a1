"""Containers: creation, start, exit, removal, and their files seen from the host. Core."""
