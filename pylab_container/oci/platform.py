"""Platforms: an operating system, a processor's architecture, and a variant of it.

Source: OCI image-spec image-index.md, `platform`; containerd's platforms package for other names
and for what runs on what.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from pylab_container.errors import InvalidInput

_OTHER_NAMES = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "i386": ("386", ""),
    "i686": ("386", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
}
_ARCHITECTURES = frozenset(
    "386 amd64 arm arm64 loong64 mips mips64 mips64le mipsle ppc64 ppc64le riscv64 s390x wasm".split()
)
_ARM_VARIANTS = ("v8", "v7", "v6", "v5")
_USUAL = {"arm64": "v8", "arm": "v7", "amd64": "v1"}
"""The variant that is meant where none is named."""


class Platform(Struct, frozen=True):
    """os and architecture as Go names them, and a variant ("v7", or "")."""

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str, *, architecture: str) -> Platform:
        """linux/amd64, linux/arm/v7, or one of the two words alone; architecture is this machine's.

        Raises InvalidInput.
        """
        parts = text.lower().split("/")
        if not all(part.replace("_", "").replace("-", "").isalnum() for part in parts) or len(parts) > 3:
            raise InvalidInput(f'"{text}" is an invalid platform', hint="write linux/amd64 or linux/arm64")
        if len(parts) == 1:
            if parts[0] not in ("linux", *_OTHER_NAMES, *_ARCHITECTURES):
                hint = "write linux/amd64 or linux/arm64"
                raise InvalidInput(f'"{text}": unknown operating system or architecture: invalid argument', hint=hint)
            parts = ["linux", *parts] if parts[0] != "linux" else [*parts, architecture]
        name, variant = _OTHER_NAMES.get(parts[1], (parts[1], ""))
        return cls(parts[0], name, parts[2] if len(parts) == 3 else variant)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Platform:
        """As an index, or an image's config, has it."""
        name, variant = str(document.get("architecture") or ""), str(document.get("variant") or "")
        other = _OTHER_NAMES.get(name, (name, ""))
        return cls(str(document.get("os") or "linux"), other[0], variant or other[1])

    def rank(self, wanted: Platform) -> int | None:
        """How well it suits the wanted one: 0 is best, None not at all. An arm runs what older ones run."""
        if (self.os, self.architecture) != (wanted.os, wanted.architecture):
            return None
        usual = _USUAL.get(self.architecture, "")
        has, wants = self.variant or usual, wanted.variant or usual
        if has == wants:
            return 0
        if self.architecture != "arm" or has not in _ARM_VARIANTS or wants not in _ARM_VARIANTS:
            return None
        distance = _ARM_VARIANTS.index(has) - _ARM_VARIANTS.index(wants)
        return distance if distance > 0 else None

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)
