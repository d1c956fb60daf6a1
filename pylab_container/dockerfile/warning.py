"""A warning about a Dockerfile: the linter makes them (lint/), and a build reports them."""

from __future__ import annotations

from msgspec import Struct

CHECK_ARGUMENT = "BUILDKIT_DOCKERFILE_CHECK"
"""The build argument that replaces a file's `# check=`."""


class LintWarning(Struct, frozen=True):
    """One warning of one rule.

    rule            BuildKit's name of the rule, which `# check=skip=` takes
    message, hint   what is wrong, and what to write instead; without a final full stop
    lab             the section that explains it: "labs/<notebook>#<heading>"
    source          the Dockerfile's name
    line, end_line  the first and the last line that the warning is about, counted from 1
    text            these lines
    excerpt         these lines and their neighbours, numbered and marked with >>>
    """

    rule: str
    message: str
    hint: str
    lab: str
    source: str
    line: int
    end_line: int
    text: str
    excerpt: str
