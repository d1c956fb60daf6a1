"""Containers: the collection, one container, what can be asked for, and how it comes and goes."""
