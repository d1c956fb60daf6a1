"""Platforms: what FROM --platform asks for, and the arguments that tell a Dockerfile where it is built.

Source: Dockerfile reference, "Automatic platform ARGs in the global scope"; OCI image index, `platform`.
"""

from __future__ import annotations

from collections.abc import Mapping

from pylab_container.errors import ImageNotFound
from pylab_container.images.image import machine_architecture
from pylab_container.oci.image import ImageConfig
from pylab_container.oci.platform import Platform


def here() -> Platform:
    """This machine's."""
    return Platform("linux", machine_architecture())


def requested(text: str, buildargs: Mapping[str, str]) -> dict[str, str]:
    """The arguments of a build for a platform ("": this machine's), where the user does not say otherwise."""
    target = Platform.parse(text, architecture=machine_architecture()) if text else here()
    return {name: buildargs.get(name, value) for name, value in arguments(target).items()}


def arguments(target: Platform) -> dict[str, str]:
    """What FROM knows without ARG; a stage knows them once it has declared them."""
    values = {}
    for prefix, platform in (("TARGET", target), ("BUILD", here())):
        values[f"{prefix}PLATFORM"] = str(platform)
        values[f"{prefix}OS"] = platform.os
        values[f"{prefix}ARCH"] = platform.architecture
        values[f"{prefix}VARIANT"] = platform.variant
    return values


def check(image: ImageConfig, wanted: str, name: str) -> None:
    """Raises ImageNotFound where an image is not of the platform that is asked for, "" asks for none."""
    if not wanted:
        return
    platform = Platform.parse(wanted, architecture=machine_architecture())
    has = (str(image.document.get("os") or "linux"), image.architecture or machine_architecture())
    if has != (platform.os, platform.architecture):
        raise ImageNotFound(
            f"image {name} is of platform {'/'.join(has)}, not of {platform}",
            hint="import or load an image of that platform, or leave --platform away",
        )
