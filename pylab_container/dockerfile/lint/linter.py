"""Warnings about Dockerfiles that build, and yet hide a mistake: `docker build --check`.

    WARNING: JSONArgsRecommended - labs/04_nginx.ipynb#3.-Is-it-running?
    CMD is written in shell form: a shell becomes process 1 and gets the signals
    Hint: write CMD ["nginx"]
    Dockerfile:2
    --------------------
       1 |     FROM debian:12
       2 | >>> CMD nginx
    --------------------

The rules are in lint_rules.py. A file chooses among them at its top:

    # check=skip=StageNameCasing,FromAsCasing;error=true

Names and conditions are those of BuildKit's linter (frontend/dockerfile/linter; "Build
checks" in Docker's documentation); the words are ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from pylab_container.dockerfile.dockerignore import IgnorePatterns
from pylab_container.dockerfile.lint.facts import BaseImage, collect
from pylab_container.dockerfile.lint.rules import RULES, Finding, Rule
from pylab_container.dockerfile.parser import Dockerfile
from pylab_container.dockerfile.warning import CHECK_ARGUMENT, LintWarning
from pylab_container.errors import DockerfileError, InvalidInput

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
    """The value of `# check=`.

    skip, skip_all                  rules that say nothing
    experimental, experimental_all  experimental rules that may speak; they need to be asked, and `skip` is not for them
    error                           a warning shall fail the build
    """

    skip: frozenset[str] = frozenset()
    skip_all: bool = False
    experimental: frozenset[str] = frozenset()
    experimental_all: bool = False
    error: bool = False

    def wants(self, rule: Rule) -> bool:
        """Whether a rule may speak."""
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
    """What the rules find, sorted by line.

    text       the file that `dockerfile` was parsed from, for comments and neighbouring lines
    source     its name
    target     the stage to build, by name or number; "" is the last one, as for a build. Several rules look only at
               the stages that it needs. With None they look at all, as --check does without --target
    ignored    the patterns of .dockerignore; None where there is no such file
    images     images known here, by the name that FROM uses (its variables replaced). The variables of an image
               that is missing count as not defined; the hint says so
    platform   the arguments that FROM knows without ARG, as Stages.of() takes them

    Where a word cannot be expanded, or the stages make no sense, rules that depend on it say nothing: the build will.
    Raises DockerfileError or InvalidInput for options that make no sense, InvalidInput for an unknown target.
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
    found = [(rule, finding) for rule in RULES if options.wants(rule) for finding in rule.check(facts)]
    found.sort(key=lambda each: (each[1].line, each[1].end_line))
    return tuple(_warning(rule, finding, source, lines) for rule, finding in found)


def check_options(
    dockerfile: Dockerfile, *, text: bytes | str, source: str, buildargs: Mapping[str, str] | None = None
) -> CheckOptions:
    """What the file's `# check=` asks for; the build argument BUILDKIT_DOCKERFILE_CHECK takes its place.

    Raises DockerfileError for a directive that makes no sense, InvalidInput for such an argument.
    """
    if buildargs and CHECK_ARGUMENT in buildargs:
        return parse_check_options(buildargs[CHECK_ARGUMENT])
    try:
        return parse_check_options(dockerfile.directives.get("check", ""))
    except InvalidInput as error:
        directive = re.compile(r"\s*#\s*check\s*=", re.IGNORECASE)
        line, written = next((n, each) for n, each in enumerate(_lines(text), start=1) if directive.match(each))
        raise DockerfileError(error.message, hint=error.hint, source=source, line=line, text=written) from None


# What Go's strconv.ParseBool takes.
_BOOLEANS = {
    **dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True),
    **dict.fromkeys(("0", "f", "F", "false", "FALSE", "False"), False),
}


def parse_check_options(text: str) -> CheckOptions:
    """Options as "skip=RuleA,RuleB;error=true". A name need not be that of a rule. Raises InvalidInput."""
    options = CheckOptions()
    for part in text.strip().split(";", maxsplit=2) if text.strip() else ():
        key, equals, value = (each.strip() for each in part.partition("="))
        names = frozenset(name.strip() for name in value.split(","))
        if equals and key in ("skip", "experimental"):
            change = {f"{key}_all": True} if value == "all" else {key: names}
        elif equals and key == "error" and value in _BOOLEANS:
            change = {key: _BOOLEANS[value]}
        else:
            hint = "write skip=RuleA,RuleB or skip=all, error=true, experimental=RuleC, with ; between them"
            raise InvalidInput(f'invalid check option "{part.strip()}"', hint=hint)
        options = replace(options, **change)
    return options


def render(warning: LintWarning) -> str:
    """The warning in several lines, as `docker build --check` prints one."""
    hint = f"Hint: {warning.hint}\n" if warning.hint else ""
    border = "-" * 20
    return (
        f"WARNING: {warning.rule} - {warning.lab}\n{warning.message}\n{hint}"
        f"{warning.source}:{warning.line}\n{border}\n{warning.excerpt}\n{border}\n"
    )


def _lines(text: bytes | str) -> list[str]:
    decoded = text.decode(errors="replace") if isinstance(text, bytes) else text
    return [line.rstrip("\r") for line in decoded.removeprefix("\ufeff").removesuffix("\n").split("\n")]


def _warning(rule: Rule, finding: Finding, source: str, lines: Sequence[str]) -> LintWarning:
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
    around = 1 if last > first else 2  # as many as BuildKit shows
    shown = range(max(first - around, 1), min(last + around, len(lines)) + 1)
    marked = ((number, ">>>" if first <= number <= last else "   ") for number in shown)
    return "\n".join(f" {number:3} | {mark} {lines[number - 1]}".rstrip() for number, mark in marked)
