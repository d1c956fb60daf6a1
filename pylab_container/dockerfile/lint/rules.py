"""The linter's rules: each is a function from the facts to findings.

The docstring of a rule gives the reason for it. RULES at the end maps BuildKit's names to functions; the conditions
are those of BuildKit too ("Build checks" in Docker's documentation). Rules about FROM, comments and casing check the
whole file, the others only the stages that are built.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from msgspec import Struct

from pylab_container.dockerfile.expansion import WHITESPACE, expand_words
from pylab_container.dockerfile.instructions import Instruction
from pylab_container.dockerfile.lint.facts import Facts, LintStep, expanded, used_names, used_names_in_heredoc
from pylab_container.dockerfile.stages import find_base
from pylab_container.errors import InvalidInput
from pylab_container.oci import reference

_SCRATCH = "scratch"


class RuleFinding(NamedTuple):
    """A finding of a rule: position, problem, and what to write instead."""

    line: int
    end_line: int
    message: str
    hint: str


def _at(instruction: Instruction, message: str, hint: str) -> RuleFinding:
    return RuleFinding(instruction.line, instruction.end_line, message, hint)


def _written_name(origin: Instruction) -> str:
    """Return the name that a FROM gives to its stage, as written; "" without."""
    return origin.arguments[2] if len(origin.arguments) == 3 and origin.arguments[1].lower() == "as" else ""


def _written_base(origin: Instruction) -> str:
    return origin.arguments[0] if origin.arguments else ""


def stage_name_casing(facts: Facts) -> Iterator[RuleFinding]:
    """Names of stages are case-insensitive: capitals suggest a difference that does not exist."""
    for origin in facts.origins:
        name = _written_name(origin)
        if name != name.lower():
            yield _at(origin, f'the stage name "{name}" has capitals', f"call it {name.lower()}")


def from_as_casing(facts: Facts) -> Iterator[RuleFinding]:
    """FROM and AS are one instruction and should have the same case.

    ConsistentInstructionCasing covers `From`.
    """
    for origin in facts.origins:
        keyword = origin.written_keyword
        written = origin.arguments[1] if len(origin.arguments) > 2 else ""
        expected = written.lower() if keyword == keyword.lower() else written.upper()
        if _casing(keyword) != "mixed" and written != expected:
            yield _at(origin, f"{keyword} and {written} differ in case", f"write {keyword} … {expected}")


def no_empty_continuation(facts: Facts) -> Iterator[RuleFinding]:
    """An empty line inside an instruction looks like its end; Docker plans to refuse it."""
    for instruction in facts.instructions:
        last = instruction.origins[-1].line if instruction.heredocs else instruction.end_line
        if any(not line.strip(WHITESPACE) for line in facts.lines[instruction.line : last]):
            message = f"the {instruction.keyword} that ends here contains an empty line"
            yield RuleFinding(last, last, message, f"remove the empty line, or the {instruction.escape} above it")


def consistent_instruction_casing(facts: Facts) -> Iterator[RuleFinding]:
    """Keywords are case-insensitive, but easier to find if all have the same case."""
    casings = Counter(_casing(instruction.written_keyword) for instruction in facts.from_on)
    majority = "small letters" if casings["small letters"] > casings["capitals"] else "capitals"
    for instruction in facts.from_on:
        if _casing(instruction.written_keyword) != majority:
            expected = instruction.keyword.lower() if majority == "small letters" else instruction.keyword
            message = f"{instruction.written_keyword} is not in {majority}, as most instructions of this file are"
            yield _at(instruction, message, f"write {expected}")


def _casing(keyword: str) -> str:
    if keyword == keyword.lower():
        return "small letters"
    return "capitals" if keyword == keyword.upper() else "mixed"


def duplicate_stage_name(facts: Facts) -> Iterator[RuleFinding]:
    """A later stage hides an earlier one of the same name from COPY --from."""
    seen: set[str] = set()
    for origin in facts.origins:
        name = _written_name(origin).lower()
        if name in seen:
            yield _at(origin, f'an earlier stage has the name "{name}"', "give each stage its own name")
        seen |= {name} - {""}


def reserved_stage_name(facts: Facts) -> Iterator[RuleFinding]:
    """`scratch` is the empty image and `context` the build context: such a name is ambiguous."""
    for origin in facts.origins:
        name = _written_name(origin).lower()
        if name in (_SCRATCH, "context"):
            yield _at(origin, f'the stage name "{name}" is reserved', "rename the stage")


def undefined_arg_in_from(facts: Facts) -> Iterator[RuleFinding]:
    """FROM can use ARGs before the first FROM and predefined ones.

    Any other variable is silently empty there.
    """
    for origin in facts.origins:
        for word in (_written_base(origin), origin.flag("platform") or ""):
            for name in sorted(used_names(word, origin.escape) - facts.declared):
                similar = _similar(name, facts.declared)
                hint = f"did you mean {similar}?" if similar else f"declare it above the first FROM: ARG {name}=…"
                yield _at(origin, f"FROM uses ${name}, which no ARG above the first FROM declares", hint)


def invalid_default_arg_in_from(facts: Facts) -> Iterator[RuleFinding]:
    """A build without --build-arg should work too, so an ARG in FROM needs a default."""
    for origin in facts.origins:
        name = expanded(_written_base(origin), facts.defaults, origin.escape)
        if name is not None and not _is_image_name(name):
            message = f'without --build-arg, FROM {_written_base(origin)} is "{name}", which is not an image name'
            yield _at(origin, message, "give the ARG a default: ARG VERSION=12")


def _is_image_name(text: str) -> bool:
    try:
        reference.parse(text)
    except InvalidInput:
        return False
    return True


def redundant_target_platform(facts: Facts) -> Iterator[RuleFinding]:
    """The target's platform is FROM's default; --platform is for other platforms."""
    for origin in facts.origins:
        written = origin.flag("platform") or ""
        if used_names(written, origin.escape) != {"TARGETPLATFORM"}:
            continue
        if expanded(written, facts.arguments, origin.escape) == facts.arguments.get("TARGETPLATFORM", ""):
            yield _at(origin, f"--platform={written} is the default of FROM", "remove --platform")


def from_platform_flag_const_disallowed(facts: Facts) -> Iterator[RuleFinding]:
    """With a constant platform, the platform that the build requests has no effect.

    It is intended if the stage's name contains the system or the architecture.
    """
    for origin in facts.origins:
        written = origin.flag("platform") or ""
        constant = None if used_names(written, origin.escape) else expanded(written, {}, origin.escape)
        platform = _platform(constant or "", facts.platform)
        name = _written_name(origin).lower()
        if platform and not any(part in name for part in platform):
            hint = f"remove it, or name the stage for its platform: AS build-{platform[1]}"
            yield _at(origin, f"--platform={constant} is constant, whatever platform is requested", hint)


def invalid_base_image_platform(facts: Facts) -> Iterator[RuleFinding]:
    """Programs for another architecture fail with "exec format error" (ENOEXEC) in a RUN."""
    for position, stage in enumerate(facts.reached):
        image = facts.images.get(stage.base) if find_base(stage.base, facts.reached[:position]) is None else None
        requested = _platform(stage.platform or facts.platform.get("TARGETPLATFORM", ""), facts.platform)
        actual = _platform(image.platform, facts.platform) if image else None
        if requested and actual and requested != actual:
            message = f"the image {stage.base} is for {'/'.join(actual)}, this build for {'/'.join(requested)}"
            yield _at(stage.origin, message, "get the image for this platform")


_SYSTEMS = ("linux", "windows", "darwin", "freebsd", "netbsd", "openbsd", "solaris", "wasip1")
_ARCHITECTURES = (
    *("386", "amd64", "arm", "arm64", "loong64", "mips", "mipsle", "mips64", "mips64le", "ppc64", "ppc64le"),
    *("riscv64", "s390x", "wasm"),
)
_ALIASES = {
    "x86_64": "amd64",
    "x86-64": "amd64",
    "i386": "386",
    "aarch64": "arm64",
    "armhf": "arm",
    "armel": "arm",
    "macos": "darwin",
}


def _platform(text: str, defaults: Mapping[str, str]) -> tuple[str, str] | None:
    """Return system and architecture of "linux/arm64/v8", "arm64" or "linux"; None for other texts."""
    parts = [_ALIASES.get(part, part) for part in text.lower().split("/")]
    if len(parts) > 3 or not all(re.fullmatch(r"[a-z0-9_.-]+", part) for part in parts):
        return None
    if len(parts) > 1:
        return parts[0], parts[1]
    if parts[0] in _SYSTEMS:
        return parts[0], defaults.get("TARGETARCH", "amd64")
    return ("linux", parts[0]) if parts[0] in _ARCHITECTURES else None


def invalid_definition_description(facts: Facts) -> Iterator[RuleFinding]:
    """BuildKit shows a comment above FROM or ARG as its description if it begins with the name."""
    for instruction in facts.instructions:
        names = _defined_names(instruction)
        comment = _comment_above(instruction, facts)
        if names and comment and comment.split(" ")[0] not in names:
            name = names[0] if len(names) == 1 else "NAME"
            message = f"the comment above this {instruction.keyword} does not begin with the name that it defines"
            yield _at(instruction, message, f"write # {name} …, or add an empty line below the comment")


def _defined_names(instruction: Instruction) -> list[str]:
    if instruction.keyword == "ARG":
        return [name for name, _ in instruction.pairs()]
    name = _written_name(instruction).lower() if instruction.keyword == "FROM" else ""
    return [name] if name else []


def _comment_above(instruction: Instruction, facts: Facts) -> str:
    above = instruction.line - 1
    line = facts.lines[above - 1].strip(WHITESPACE) if above > facts.directives else ""
    return line[1:].strip(WHITESPACE) if line.startswith("#") else ""


def maintainer_deprecated(facts: Facts) -> Iterator[RuleFinding]:
    """MAINTAINER sets a field of its own, and filters do not search it.

    A label is the replacement.
    """
    for instruction in facts.instructions:
        if instruction.keyword == "MAINTAINER":
            name = "".join(instruction.arguments).strip("\"'")
            hint = f'write LABEL org.opencontainers.image.authors="{name}"'
            yield _at(instruction, "MAINTAINER is outdated", hint)


def json_args_recommended(facts: Facts) -> Iterator[RuleFinding]:
    """In shell form the shell is process 1, and does not forward signals to its child.

    So the program does not receive the SIGTERM of `docker stop`. After the timeout of ten seconds all processes get
    SIGKILL. The rule does not apply after a SHELL, which shows that the shell is intended.
    """
    for step in facts.steps:
        instruction = step.instruction
        if instruction.keyword in ("CMD", "ENTRYPOINT") and not instruction.exec_form and not step.state.own_shell:
            message = f"{instruction.keyword} is written in shell form: a shell becomes process 1 and gets the signals"
            yield _at(instruction, message, f"write {instruction.keyword} {_as_json(instruction)}")


def _as_json(instruction: Instruction) -> str:
    text = "".join(instruction.arguments)
    needs_shell = not re.fullmatch(r"[\w\s./:=@%,+-]+", text)
    return '["program", "argument"]' if needs_shell else json.dumps(text.split(), ensure_ascii=False)


def undefined_var(facts: Facts) -> Iterator[RuleFinding]:
    """An undefined variable is silently empty: `COPY $SOURCE/etc /` copies another directory."""
    hints = _MAXIMUM_HINTS
    for step in facts.steps:
        known = step.state.environment
        for name in sorted(_used_names(step, facts.buildargs) - known.keys() - step.state.declared.keys()):
            similar = _similar(name, known) if hints > 0 else ""
            hints -= 1
            hint = f"did you mean ${similar}?" if similar else f"define {name} above, with ARG or ENV"
            if step.image not in (_SCRATCH, *facts.images):
                hint += f" (the image {step.image} is not here; it may define {name})"
            yield _at(step.instruction, f"${name} is used, but nothing above defines it", hint)


# Similar names are searched for the first undefined variables only, and for short ones: each is compared with all
# defined variables, in time proportional to the product of both lengths.
_MAXIMUM_HINTS = 20
_LONGEST_NAME = 64
_EXPANDED = ("ENV", "LABEL", "USER", "WORKDIR", "VOLUME", "STOPSIGNAL")
_EXPANDED_FLAGS = {"ADD": ("chown", "chmod", "checksum"), "COPY": ("chown", "chmod"), "RUN": ("mount",)}


def _used_names(step: LintStep, buildargs: Mapping[str, str]) -> set[str]:
    """Return the variables in words that the build expands. For RUN, CMD and ENTRYPOINT the shell does."""
    instruction = step.instruction
    flags = _EXPANDED_FLAGS.get(instruction.keyword, ())
    words = [value for name, value in instruction.flags if name in flags and value]
    names: set[str] = set()
    if instruction.keyword in _EXPANDED:
        words += instruction.arguments
    elif instruction.keyword == "ARG":
        words += [value for name, value in instruction.pairs() if value and name not in buildargs]
    elif instruction.keyword in ("ADD", "COPY"):
        words += [argument for argument in instruction.arguments if not instruction.heredoc_for(argument)]
        names = names.union(*(used_names_in_heredoc(heredoc) for heredoc in instruction.heredocs))
    return names.union(*(used_names(word, instruction.escape) for word in words))


def workdir_relative_path(facts: Facts) -> Iterator[RuleFinding]:
    """A relative first WORKDIR depends on the working directory of the base image."""
    for step in facts.steps:
        if step.instruction.keyword == "WORKDIR" and not step.state.workdir:
            path = step.expanded("".join(step.instruction.arguments))
            if path is not None and not path.startswith("/"):
                message = f'where "{path}" lies depends on the base image'
                yield _at(step.instruction, message, f"write it from the root, as WORKDIR /{path}")


def multiple_instructions_disallowed(facts: Facts) -> Iterator[RuleFinding]:
    """A CMD, ENTRYPOINT or HEALTHCHECK replaces an earlier one of the stage."""
    last: dict[tuple[int, str], Instruction] = {}
    for step in facts.steps:
        keyword = step.instruction.keyword
        if keyword not in ("CMD", "ENTRYPOINT", "HEALTHCHECK"):
            continue
        if replaced := last.get((step.stage.index, keyword)):
            message = f"this {keyword} has no effect: the one in line {step.instruction.line} replaces it"
            yield _at(replaced, message, f"keep only the last {keyword} of a stage")
        last[step.stage.index, keyword] = step.instruction


def legacy_key_value_format(facts: Facts) -> Iterator[RuleFinding]:
    """`ENV A B=C` sets A to "B=C", and is easily misread as two variables.

    `ENV A="B=C"` is unambiguous.
    """
    for step in facts.steps:
        instruction = step.instruction
        if instruction.keyword not in ("ENV", "LABEL") or len(instruction.arguments) != 2:
            continue
        key, value = instruction.arguments
        rest = instruction.original[len(instruction.written_keyword) :].lstrip(WHITESPACE)
        if not rest.startswith(f"{key}="):
            quoted = f'"{value}"' if re.search(r"\s", value) and value[0] not in "'\"" else value
            message = f"{instruction.keyword} with a space between name and value is the old form"
            yield _at(instruction, message, f"write {instruction.keyword} {key}={quoted}")


_SECRET = re.compile(r"(?:_|^)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)(?:_|$)", re.I)
_NO_SECRET = re.compile(r"(?:_|^)(?:public|file|version)(?:_|$)", re.I)


def secrets_used_in_arg_or_env(facts: Facts) -> Iterator[RuleFinding]:
    """Every user of an image can read its ENV, and the ARGs of each RUN in its history."""
    for step in facts.steps:
        if step.instruction.keyword not in ("ARG", "ENV"):
            continue
        for written, _ in step.instruction.pairs():
            name = step.expanded(written) or ""
            if _SECRET.search(name) and not _NO_SECRET.search(name):
                message = f"{step.instruction.keyword} {name} looks like a secret, and would be readable in the image"
                hint = f"give it only to the step that needs it: RUN --mount=type=secret,id={name}"
                yield _at(step.instruction, message, hint)


def copy_ignored_file(facts: Facts) -> Iterator[RuleFinding]:
    """A file that .dockerignore excludes is not in the build context, so COPY fails."""
    patterns = facts.ignored.patterns if facts.ignored else ()
    if facts.ignored is None or any(pattern.is_exception for pattern in patterns):
        return  # which files an exception includes depends on the context, which the linter does not have
    for step in facts.steps:
        for path in _context_paths(step):
            # A pattern such as * also matches ".", the context's root, which excludes() never reports.
            if facts.ignored.excludes(path) or any(pattern.matches(path) for pattern in patterns):
                message = f'{step.instruction.keyword} copies "{path}", which .dockerignore excludes'
                yield _at(step.instruction, message, "remove its pattern from .dockerignore, or do not copy it")


def _context_paths(step: LintStep) -> Iterator[str]:
    """Yield the paths in the build context that COPY and ADD name."""
    instruction = step.instruction
    if instruction.keyword not in ("ADD", "COPY") or instruction.flag("from") is not None:
        return
    for argument in instruction.arguments[:-1]:
        path = None if instruction.heredoc_for(argument) else step.expanded(argument)
        if path and not re.match(r"(?:https?|git|ssh)://|git@", path):
            yield posixpath.normpath(path)


def expose_proto_casing(facts: Facts) -> Iterator[RuleFinding]:
    """Docker stores the protocol in lower case: `docker inspect` shows 80/tcp."""
    for instruction, port in _exposed(facts):
        protocol = port.rpartition(":")[2].partition("/")[2]
        if protocol != protocol.lower():
            yield _at(instruction, f'the protocol of "{port}" has capitals', f"write {port.lower()}")


def expose_invalid_format(facts: Facts) -> Iterator[RuleFinding]:
    """EXPOSE names the port that the program listens on.

    `docker run -p` chooses the port of the host.
    """
    for instruction, port in _exposed(facts):
        host, _, inside = port.rpartition(":")
        if host.strip(":"):
            message = f'"{port}" names an address or a port of the host, which EXPOSE cannot publish'
            yield _at(instruction, message, f"write EXPOSE {inside}, and -p {port} to docker run")


def _exposed(facts: Facts) -> Iterator[tuple[Instruction, str]]:
    """Yield each word of each EXPOSE, expanded."""
    for step in facts.steps:
        for argument in step.instruction.arguments if step.instruction.keyword == "EXPOSE" else ():
            try:
                ports = expand_words(
                    argument, step.state.environment, escape=step.instruction.escape, budget=step.budget
                )
            except InvalidInput:
                continue
            for port in ports:
                yield step.instruction, port


def _similar(name: str, known: Iterable[str]) -> str:
    """Return the nearest known name, at most two edits away; "" if none is."""
    # Names whose lengths differ by three or more need as many edits, so they are not compared.
    candidates = [other for other in known if abs(len(other) - len(name)) < 3 and len(name) < _LONGEST_NAME]
    near = [(distance, other) for other in candidates if (distance := _distance(name, other)) < 3]
    return min(near)[1] if near else ""


def _distance(left: str, right: str) -> int:
    """Return the Levenshtein distance: the number of characters to add, remove or replace."""
    # row[j] is the distance between the characters of left so far and the first j characters of right.
    row = list(range(len(right) + 1))
    for i, left_character in enumerate(left, start=1):
        diagonal, row[0] = row[0], i
        for j, right_character in enumerate(right, start=1):
            replaced = diagonal + (left_character != right_character)
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, replaced)
    return row[-1]


class Rule(Struct, frozen=True):
    """A row of RULES.

    name          BuildKit's name
    lab           section that explains the rule: "labs/<notebook>#<heading>"
    experimental  the rule is off unless `# check=experimental=` names it
    """

    name: str
    check: Callable[[Facts], Iterator[RuleFinding]]
    lab: str
    experimental: bool = False


_KEYWORDS = "labs/03_dockerfile_httpd.ipynb#1.-The-keywords"
_CONTEXT = "labs/03_dockerfile_httpd.ipynb#2.-Three-files"
_HISTORY = "labs/03_dockerfile_httpd.ipynb#3.-Build"
_RUNNING = "labs/04_nginx.ipynb#3.-Is-it-running?"
_STYLE = "labs/03_dockerfile_httpd.ipynb#What-a-careful-Dockerfile-looks-like"

RULES = (
    Rule("StageNameCasing", stage_name_casing, _STYLE),
    Rule("FromAsCasing", from_as_casing, _STYLE),
    Rule("NoEmptyContinuation", no_empty_continuation, _STYLE),
    Rule("ConsistentInstructionCasing", consistent_instruction_casing, _STYLE),
    Rule("DuplicateStageName", duplicate_stage_name, _STYLE),
    Rule("ReservedStageName", reserved_stage_name, _STYLE),
    Rule("JSONArgsRecommended", json_args_recommended, _RUNNING),
    Rule("MaintainerDeprecated", maintainer_deprecated, _KEYWORDS),
    Rule("UndefinedArgInFrom", undefined_arg_in_from, _STYLE),
    Rule("WorkdirRelativePath", workdir_relative_path, _STYLE),
    Rule("UndefinedVar", undefined_var, _STYLE),
    Rule("MultipleInstructionsDisallowed", multiple_instructions_disallowed, _STYLE),
    Rule("LegacyKeyValueFormat", legacy_key_value_format, _STYLE),
    Rule("InvalidBaseImagePlatform", invalid_base_image_platform, _STYLE),
    Rule("RedundantTargetPlatform", redundant_target_platform, _STYLE),
    Rule("SecretsUsedInArgOrEnv", secrets_used_in_arg_or_env, _HISTORY),
    Rule("InvalidDefaultArgInFrom", invalid_default_arg_in_from, _STYLE),
    Rule("FromPlatformFlagConstDisallowed", from_platform_flag_const_disallowed, _STYLE),
    Rule("CopyIgnoredFile", copy_ignored_file, _CONTEXT),
    Rule("InvalidDefinitionDescription", invalid_definition_description, _STYLE, experimental=True),
    Rule("ExposeProtoCasing", expose_proto_casing, _RUNNING),
    Rule("ExposeInvalidFormat", expose_invalid_format, _RUNNING),
)
