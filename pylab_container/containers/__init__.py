"""The life of a container: launch, run, exit, removal, and its files seen from the host.

Core.
"""
