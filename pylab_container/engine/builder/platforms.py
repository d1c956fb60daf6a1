"""Platforms: what FROM --platform asks for, and the arguments that tell a Dockerfile where it is built.

Source: Dockerfile reference, "Automatic platform ARGs in the global scope"; OCI image index, `platform`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pylab_container.engine.image import machine_architecture
from pylab_container.errors import ImageNotFound, InvalidInput
from pylab_container.formats.image import ImageConfig

_OTHER_NAMES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "i386": "386", "i686": "386", "armhf": "arm"}


@dataclass(frozen=True)
class Platform:
    """An operating system, an architecture as Go names it, and a variant ("v7", or "")."""

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> Platform:
        """linux/amd64, linux/arm/v7, or an architecture alone. Raises InvalidInput."""
        parts = text.lower().split("/")
        if not all(parts) or len(parts) > 3:
            raise InvalidInput(f'"{text}" is an invalid platform', hint="write linux/amd64 or linux/arm64")
        if len(parts) == 1:
            parts = ["linux", *parts] if parts[0] != "linux" else [*parts, machine_architecture()]
        system, architecture, *variant = parts
        return cls(system, _OTHER_NAMES.get(architecture, architecture), "".join(variant))

    @classmethod
    def here(cls) -> Platform:
        """This machine's."""
        return cls("linux", machine_architecture())

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


def requested(text: str, buildargs: Mapping[str, str]) -> dict[str, str]:
    """The arguments of a build for a platform ("": this machine's), where the user does not say otherwise."""
    target = Platform.parse(text) if text else Platform.here()
    return {name: buildargs.get(name, value) for name, value in arguments(target).items()}


def arguments(target: Platform) -> dict[str, str]:
    """What FROM knows without ARG; a stage knows them once it has declared them."""
    values = {}
    for prefix, platform in (("TARGET", target), ("BUILD", Platform.here())):
        values[f"{prefix}PLATFORM"] = str(platform)
        values[f"{prefix}OS"] = platform.os
        values[f"{prefix}ARCH"] = platform.architecture
        values[f"{prefix}VARIANT"] = platform.variant
    return values


def check(image: ImageConfig, wanted: str, name: str) -> None:
    """Raises ImageNotFound where an image is not of the platform that is asked for, "" asks for none."""
    if not wanted:
        return
    platform = Platform.parse(wanted)
    has = (str(image.document.get("os") or "linux"), image.architecture or machine_architecture())
    if has != (platform.os, platform.architecture):
        raise ImageNotFound(
            f"image {name} is of platform {'/'.join(has)}, not of {platform}",
            hint="import or load an image of that platform, or leave --platform away",
        )
