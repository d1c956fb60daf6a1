"""`docker build --check`: the linter, with the facts of stored base images."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from pylab_container.build.recipe import Recipe
from pylab_container.dockerfile.lint import linter
from pylab_container.dockerfile.warning import LintWarning
from pylab_container.errors import DockerfileError, LabError
from pylab_container.images import lookup
from pylab_container.store.data_root import DataRoot


def warnings(data: DataRoot, recipe: Recipe, target: str | None) -> tuple[LintWarning, ...]:
    """Return all warnings about a Dockerfile.

    target  only about the stages that this stage needs, "" for the last one; None: about all stages
    """
    return linter.lint(
        recipe.file,
        text=recipe.text,
        source=recipe.name,
        buildargs=recipe.options.buildargs,
        target=target,
        ignored=recipe.context.ignored,
        images=_base_images(data, recipe),
        platform=recipe.platform,
    )


def warnings_of_build(data: DataRoot, recipe: Recipe) -> tuple[LintWarning, ...]:
    """Return the warnings about the stages that a build needs.

    Raises DockerfileError if there are warnings, and the Dockerfile says that they are errors (check=error=true).
    """
    result = warnings(data, recipe, recipe.options.target)
    _refuse(recipe, result)
    return result


def _refuse(recipe: Recipe, warnings: Sequence[LintWarning]) -> None:
    options = linter.check_options(
        recipe.file, text=recipe.text, source=recipe.name, buildargs=recipe.options.buildargs
    )
    if warnings and options.error:
        first, rules = warnings[0], ", ".join(dict.fromkeys(warning.rule for warning in warnings))
        raise DockerfileError(
            f"lint violation found for rules: {rules}",
            hint=f"{first.rule}: {first.message}; {first.hint}",
            source=recipe.name,
            line=first.line,
            text=first.text,
        )


def _base_images(data: DataRoot, recipe: Recipe) -> dict[str, linter.BaseImage]:
    """Return the facts about stored base images that the linter needs, by the name in FROM."""
    images = {}
    with contextlib.suppress(DockerfileError):
        for stage in recipe.stages().stages:
            with contextlib.suppress(LabError):
                config = lookup.config(data, lookup.find(data, stage.base))
                images[stage.base] = linter.BaseImage(
                    environment=dict(entry.partition("=")[::2] for entry in config.config.get("Env") or ()),
                    own_shell=bool(config.config.get("Shell")),
                    triggers=tuple(config.config.get("OnBuild") or ()),
                    platform=f"{config.document.get('os') or 'linux'}/{config.architecture}",
                )
    return images
