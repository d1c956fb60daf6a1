"""Platforms: operating system, architecture and variant of the architecture.

Sources: OCI image-spec image-index.md, `platform`; containerd/platforms for the synonyms (database.go) and for
compatible variants (compare.go).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from pylab_container.errors import InvalidInput

# uname(2)'s and Debian's names -> Go's architecture and variant.
_SYNONYMS = {
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
_DEFAULT_VARIANTS = {"arm64": "v8", "arm": "v7", "amd64": "v1"}


class Platform(Struct, frozen=True):
    """A platform. os, architecture: GOOS and GOARCH of Go. variant: "v7", or ""."""

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str, *, architecture: str) -> Platform:
        """Parse "linux/amd64", "linux/arm/v7", or a system or an architecture alone.

        architecture  the default: this machine's

        Raises InvalidInput.
        """
        parts = text.lower().split("/")
        if not all(part.replace("_", "").replace("-", "").isalnum() for part in parts) or len(parts) > 3:
            raise InvalidInput(f'"{text}" is an invalid platform', hint="write linux/amd64 or linux/arm64")
        if len(parts) == 1:
            if parts[0] not in ("linux", *_SYNONYMS, *_ARCHITECTURES):
                hint = "write linux/amd64 or linux/arm64"
                raise InvalidInput(f'"{text}": unknown operating system or architecture: invalid argument', hint=hint)
            parts = ["linux", *parts] if parts[0] != "linux" else [*parts, architecture]
        name, variant = _SYNONYMS.get(parts[1], (parts[1], ""))
        return cls(parts[0], name, parts[2] if len(parts) == 3 else variant)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Platform:
        """Return the platform from the fields of an image index or an image config."""
        name, variant = str(document.get("architecture") or ""), str(document.get("variant") or "")
        architecture, implied_variant = _SYNONYMS.get(name, (name, ""))
        return cls(str(document.get("os") or "linux"), architecture, variant or implied_variant)

    def rank(self, machine: Platform) -> int | None:
        """Return how well an image for this platform suits a machine: 0 is best, None not at all."""
        if (self.os, self.architecture) != (machine.os, machine.architecture):
            return None
        default = _DEFAULT_VARIANTS.get(self.architecture, "")
        image_variant, machine_variant = self.variant or default, machine.variant or default
        if image_variant == machine_variant:
            return 0
        # A 32-bit ARM processor also executes code for the older variants; the nearest one performs best.
        if self.architecture != "arm" or not {image_variant, machine_variant} <= set(_ARM_VARIANTS):
            return None
        distance = _ARM_VARIANTS.index(image_variant) - _ARM_VARIANTS.index(machine_variant)
        return distance if distance > 0 else None

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)
