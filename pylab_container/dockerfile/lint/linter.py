"""Linter for Dockerfiles: `docker build --check`.

    WARNING: JSONArgsRecommended - labs/04_nginx.ipynb#3.-Is-it-running?
    CMD is written in shell form: a shell becomes process 1 and gets the signals
    Hint: write CMD ["nginx"]
    Dockerfile:2
    --------------------
       1 |     FROM debian:12
       2 | >>> CMD nginx
    --------------------

The rules are in rules.py. A parser directive selects among them:

    # check=skip=StageNameCasing,FromAsCasing;error=true

Names and conditions of the rules are those of BuildKit (frontend/dockerfile/linter; "Build checks" in Docker's
documentation). The messages are ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from pylab_container.dockerfile.dockerignore import IgnorePatterns
from pylab_container.dockerfile.lint.facts import BaseImage, collect
from pylab_container.dockerfile.lint.rules import RULES, Rule, RuleFinding
from pylab_container.dockerfile.parser import Dockerfile
from pylab_container.dockerfile.warning import CHECK_ARGUMENT, LintWarning
from pylab_container.errors import DockerfileError, InvalidInput
from pylab_container.text.golang import truth

__all__ = [
    "CHECK_ARGUMENT",
    "BaseImage",
    "CheckOptions",
    "LintWarning",
    "check_options",
    "lint",
    "parse_check_options",
    "render",
]


class CheckOptions(Struct, frozen=True):
    """The parsed value of `# check=`.

    skip, skip_all                  rules that are off
    experimental, experimental_all  experimental rules that are on; `skip` does not apply to them
    error                           a warning fails the build
    """

    skip: frozenset[str] = frozenset()
    skip_all: bool = False
    experimental: frozenset[str] = frozenset()
    experimental_all: bool = False
    error: bool = False

    def enables(self, rule: Rule) -> bool:
        """Report whether a rule is on."""
        if rule.experimental:
            return self.experimental_all or rule.name in self.experimental
        return not (self.skip_all or rule.name in self.skip)


def lint(
    dockerfile: Dockerfile,
    *,
    text: bytes | str,
    source: str,
    buildargs: Mapping[str, str] | None = None,
    target: str | None = None,
    ignored: IgnorePatterns | None = None,
    images: Mapping[str, BaseImage] | None = None,
    platform: Mapping[str, str] | None = None,
) -> tuple[LintWarning, ...]:
    """Apply the enabled rules. Returns the warnings, sorted by line.

    text       the file that `dockerfile` was parsed from, for its comments and excerpts
    source     name of the file
    target     stage to build, by name or number; "" is the last one. Rules about the content of stages check only the
               stages that it depends on; None checks all stages, as --check does without --target
    ignored    patterns of .dockerignore; None without such a file
    images     properties of local images, by the name in FROM with its variables expanded. Variables of a missing
               image count as not defined, and the hint mentions it
    platform   predefined arguments, as for Stages.of()

    A rule skips a word that cannot be expanded, and stages that are not valid: the build reports these errors.
    Raises DockerfileError or InvalidInput for invalid options, InvalidInput for an unknown target.
    """
    options = check_options(dockerfile, text=text, source=source, buildargs=buildargs)
    lines = _lines(text)
    facts = collect(
        dockerfile,
        lines,
        source=source,
        buildargs=buildargs or {},
        target=target,
        ignored=ignored,
        images=images or {},
        platform=platform or {},
    )
    findings = [(rule, finding) for rule in RULES if options.enables(rule) for finding in rule.check(facts)]
    findings.sort(key=lambda pair: (pair[1].line, pair[1].end_line))
    return tuple(_warning(rule, finding, source, lines) for rule, finding in findings)


def check_options(
    dockerfile: Dockerfile, *, text: bytes | str, source: str, buildargs: Mapping[str, str] | None = None
) -> CheckOptions:
    """Return the options of the file's `# check=`, or of the build argument that overrides it.

    Raises DockerfileError for an invalid directive, InvalidInput for an invalid build argument.
    """
    if buildargs and CHECK_ARGUMENT in buildargs:
        return parse_check_options(buildargs[CHECK_ARGUMENT])
    try:
        return parse_check_options(dockerfile.directives.get("check", ""))
    except InvalidInput as error:
        directive = re.compile(r"\s*#\s*check\s*=", re.IGNORECASE)
        number, line = next(pair for pair in enumerate(_lines(text), start=1) if directive.match(pair[1]))
        raise DockerfileError(error.message, hint=error.hint, source=source, line=number, text=line) from None


def parse_check_options(text: str) -> CheckOptions:
    """Parse options such as "skip=RuleA,RuleB;error=true". Raises InvalidInput.

    Unknown rule names are accepted, so that a file can also name rules of a newer version.
    """
    options = CheckOptions()
    for part in text.strip().split(";", maxsplit=2) if text.strip() else ():
        key, equals, value = (piece.strip() for piece in part.partition("="))
        names = frozenset(name.strip() for name in value.split(","))
        if equals and key in ("skip", "experimental"):
            change = {f"{key}_all": True} if value == "all" else {key: names}
        elif equals and key == "error" and (fails := truth(value)) is not None:
            change = {key: fails}
        else:
            hint = "write skip=RuleA,RuleB or skip=all, error=true, experimental=RuleC, with ; between them"
            raise InvalidInput(f'invalid check option "{part.strip()}"', hint=hint)
        options = replace(options, **change)
    return options


def render(warning: LintWarning) -> str:
    """Format a warning in several lines, as `docker build --check` does."""
    hint = f"Hint: {warning.hint}\n" if warning.hint else ""
    border = "-" * 20
    return (
        f"WARNING: {warning.rule} - {warning.lab}\n{warning.message}\n{hint}"
        f"{warning.source}:{warning.line}\n{border}\n{warning.excerpt}\n{border}\n"
    )


def _lines(text: bytes | str) -> list[str]:
    decoded = text.decode(errors="replace") if isinstance(text, bytes) else text
    return [line.rstrip("\r") for line in decoded.removeprefix("\ufeff").removesuffix("\n").split("\n")]


def _warning(rule: Rule, finding: RuleFinding, source: str, lines: Sequence[str]) -> LintWarning:
    return LintWarning(
        rule=rule.name,
        message=finding.message,
        hint=finding.hint,
        lab=rule.lab,
        source=source,
        line=finding.line,
        end_line=finding.end_line,
        text="\n".join(lines[finding.line - 1 : finding.end_line]),
        excerpt=_excerpt(lines, finding.line, finding.end_line),
    )


def _excerpt(lines: Sequence[str], first: int, last: int) -> str:
    around = 1 if last > first else 2  # neighbouring lines, as in BuildKit
    shown = range(max(first - around, 1), min(last + around, len(lines)) + 1)
    marked = ((number, ">>>" if first <= number <= last else "   ") for number in shown)
    return "\n".join(f" {number:3} | {mark} {lines[number - 1]}".rstrip() for number, mark in marked)
