"""Volumes: the collection, and the mounts that some of them are."""
