"""What a careful reader would say about a Dockerfile: the linter, told what is in the store."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pylab_container.build.recipe import Recipe
from pylab_container.dockerfile.lint import linter
from pylab_container.dockerfile.lint.linter import LintWarning
from pylab_container.errors import DockerfileError, LabError

if TYPE_CHECKING:
    from pylab_container.engine import Engine


def warnings(engine: Engine, recipe: Recipe, target: str | None) -> tuple[LintWarning, ...]:
    """All warnings. target: only of the stages that this one needs ("": the last one); None for all stages."""
    return linter.lint(
        recipe.file,
        text=recipe.text,
        source=recipe.name,
        buildargs=recipe.options.buildargs,
        target=target,
        ignored=recipe.context.ignored,
        images=_base_images(engine, recipe),
        platform=recipe.platform,
    )


def refuse(recipe: Recipe, found: Sequence[LintWarning]) -> None:
    """Raises DockerfileError where there are warnings, and the Dockerfile says that they are errors."""
    options = linter.check_options(
        recipe.file, text=recipe.text, source=recipe.name, buildargs=recipe.options.buildargs
    )
    if found and options.error:
        first, rules = found[0], ", ".join(dict.fromkeys(warning.rule for warning in found))
        raise DockerfileError(
            f"lint violation found for rules: {rules}",
            hint=f"{first.rule}: {first.message}; {first.hint}",
            source=recipe.name,
            line=first.line,
            text=first.text,
        )


def _base_images(engine: Engine, recipe: Recipe) -> dict[str, linter.BaseImage]:
    """What the linter wants to know of the base images that are here."""
    found = {}
    with contextlib.suppress(DockerfileError):
        for stage in recipe.stages().stages:
            with contextlib.suppress(LabError):
                config = engine.images.get(stage.base).config
                found[stage.base] = linter.BaseImage(
                    environment=dict(entry.partition("=")[::2] for entry in config.config.get("Env") or ()),
                    own_shell=bool(config.config.get("Shell")),
                    triggers=tuple(config.config.get("OnBuild") or ()),
                    platform=f"{config.document.get('os') or 'linux'}/{config.architecture}",
                )
    return found
