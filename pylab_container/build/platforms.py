"""Platforms: the value of FROM --platform, and the automatic arguments of a build.

Source: Dockerfile reference, "Automatic platform ARGs in the global scope"; OCI image index, `platform`.
"""

from __future__ import annotations

from collections.abc import Mapping

from pylab_container.errors import ImageNotFound
from pylab_container.images.image import machine_architecture
from pylab_container.oci.image import ImageConfig
from pylab_container.oci.platform import Platform


def this_machine() -> Platform:
    """Return this machine's platform."""
    return Platform("linux", machine_architecture())


def requested(text: str, buildargs: Mapping[str, str]) -> dict[str, str]:
    """Return the automatic arguments of a build; build arguments override them.

    text  the target platform; "" is this machine's

    Raises InvalidInput.
    """
    target = Platform.parse(text, architecture=machine_architecture()) if text else this_machine()
    return {name: buildargs.get(name, value) for name, value in arguments(target).items()}


def arguments(target: Platform) -> dict[str, str]:
    """Return the automatic arguments.

    FROM may use them; a stage may use those that it declares with ARG.
    """
    values = {}
    for prefix, platform in (("TARGET", target), ("BUILD", this_machine())):
        values[f"{prefix}PLATFORM"] = str(platform)
        values[f"{prefix}OS"] = platform.os
        values[f"{prefix}ARCH"] = platform.architecture
        values[f"{prefix}VARIANT"] = platform.variant
    return values


def check(image: ImageConfig, requested_platform: str, name: str) -> None:
    """Raise ImageNotFound if an image is not of the requested platform; "" accepts all."""
    if not requested_platform:
        return
    platform = Platform.parse(requested_platform, architecture=machine_architecture())
    actual = (str(image.document.get("os") or "linux"), image.architecture or machine_architecture())
    if actual != (platform.os, platform.architecture):
        raise ImageNotFound(
            f"image {name} is of platform {'/'.join(actual)}, not of {platform}",
            hint="import or load an image of that platform, or leave --platform out",
        )
