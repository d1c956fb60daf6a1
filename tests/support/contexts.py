"""Build contexts for tests of the builder, and accessors for the images and reports of a build."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from pylab_container import Engine
from pylab_container.images.image import Image

Context = Callable[..., Path]
"""Write a Dockerfile and other files; return their directory. See write_context()."""


def write_context(directory: Path, text: str, files: Mapping[str, str | bytes] | None = None) -> Path:
    """Write a build context into directory. A Dockerfile without FROM begins with FROM busybox:1."""
    directory.mkdir(exist_ok=True)
    head = "" if "FROM" in text else "FROM busybox:1\n"
    (directory / "Dockerfile").write_text(head + text)
    for name, content in (files or {}).items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return directory


def run(engine: Engine, image: Image, command: str) -> str:
    """Return what a shell command prints in a fresh container of the image."""
    output: bytes = engine.containers.run(image, ["sh", "-c", command], remove=True, network_mode="none", entrypoint="")
    return output.decode()


def caches(image: Image) -> list[str]:
    """Return "hit" or "miss" for each step after FROM."""
    assert image.build_report is not None
    return [step.cache for step in image.build_report.steps if not step.instruction.startswith("FROM")]


def reasons(image: Image) -> list[str]:
    """Return for each step after FROM the reason of its cache miss, "" for a hit."""
    assert image.build_report is not None
    return [step.reason for step in image.build_report.steps if not step.instruction.startswith("FROM")]
