"""Warnings about a Dockerfile. The linter (lint/) creates them, a build reports them."""

from __future__ import annotations

from msgspec import Struct

CHECK_ARGUMENT = "BUILDKIT_DOCKERFILE_CHECK"
"""The build argument that replaces a file's `# check=`."""


class LintWarning(Struct, frozen=True):
    """A finding of a rule.

    rule            BuildKit's name of the rule, which `# check=skip=` takes
    message, hint   what is wrong, and what to write instead; without a final full stop
    lab             section that explains the rule: "labs/<notebook>#<heading>"
    source          name of the Dockerfile
    line, end_line  first and last line of the finding, counted from 1
    text            these lines
    excerpt         these lines, marked with >>>, and their neighbours, all numbered
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
