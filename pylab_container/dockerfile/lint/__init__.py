"""Warnings about Dockerfiles that build and still hide a mistake: `docker build --check`. Pure, periphery."""
