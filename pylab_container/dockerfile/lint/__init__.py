"""Warnings about Dockerfiles that build, but probably not as intended: `docker build --check`. Pure, periphery."""
