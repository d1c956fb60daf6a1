"""The instructions of a Dockerfile that change an image's configuration and no files.

build/stage.py executes them in a build. `commit --change` and `import --change` accept those in CHANGES and no others.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Mapping, Sequence

from msgspec import Struct, field

from pylab_container.dockerfile import expansion, parser
from pylab_container.dockerfile.instructions import Instruction, check, duration
from pylab_container.dockerfile.ports import exposed_ports
from pylab_container.errors import InvalidInput
from pylab_container.oci import config_shape
from pylab_container.oci.environment import merge_environment
from pylab_container.oci.image import EMPTY_CONFIG, Json
from pylab_container.oci.signals import signal_number
from pylab_container.text import golang

DEFAULT_SHELL = ("/bin/sh", "-c")

CHANGES = ("CMD", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "ONBUILD", "USER", "VOLUME", "WORKDIR")
"""The instructions that --change accepts, as in moby's builder/dockerfile."""


class Configuration(Struct):
    """A configuration that instructions change.

    config       Docker's Config: Env, Cmd, User, …
    arguments    the values of ARG, None for an argument without a value
    proxies      arguments that every build knows without ARG: http_proxy …
    has_command  one of the instructions was a CMD with arguments
    check        called before each expansion; may raise an error to cancel a build
    """

    config: Json
    arguments: dict[str, str | None] = field(default_factory=dict)
    has_command: bool = False
    proxies: Mapping[str, str] = field(default_factory=dict)
    check: Callable[[], object] = lambda: None

    @property
    def environment(self) -> dict[str, str]:
        """The variables of ENV, by name."""
        return dict(entry.partition("=")[::2] for entry in self.config.get("Env") or ())

    @property
    def variables(self) -> dict[str, str]:
        """The variables that $NAME expands to: those of ENV, then those of ARG."""
        declared = {name: value for name, value in self.arguments.items() if value is not None}
        return {**self.proxies, **declared, **self.environment}

    @property
    def shell(self) -> list[str]:
        """The command that executes instructions in shell form."""
        return list(self.config.get("Shell") or DEFAULT_SHELL)

    def command(self, instruction: Instruction) -> list[str]:
        """Return the words of RUN, CMD or ENTRYPOINT.

        They are unchanged in exec form; in shell form they are the shell's words and one argument.
        """
        if instruction.exec_form:
            return list(instruction.arguments)
        return [*self.shell, *instruction.arguments[:1]]

    def expand(self, word: str, instruction: Instruction) -> str:
        """Expand the variables of a word, and remove its quotes. Raises InvalidInput."""
        return self.expander(instruction)(word)

    def expand_all(self, words: Iterable[str], instruction: Instruction) -> list[str]:
        """Expand several words of one instruction. Raises InvalidInput."""
        return list(map(self.expander(instruction), words))

    def expander(self, instruction: Instruction) -> Callable[[str], str]:
        """Return a function that expands the words of one instruction.

        The words share a limit on their expanded size.
        """
        variables, budget = self.variables, expansion.Budget()

        def expand(word: str) -> str:
            self.check()
            return expansion.expand(word, variables, escape=instruction.escape, budget=budget)

        return expand

    def add(self, name: str, entries: Json) -> None:
        """Add entries to a field that is a mapping."""
        self.config[name] = {**(self.config.get(name) or {}), **entries}


_FIELDS_HINT = """changes=['CMD ["httpd"]'], or conf={"Cmd": ["httpd"]} for fields of the config"""


def apply(config: Mapping[str, object], changes: str | Sequence[str]) -> Json:
    """Return a configuration changed by Dockerfile instructions, one or several in a text.

    Raises DockerfileError, and InvalidInput for an instruction that --change does not accept, or for a configuration
    with other types than Docker's.
    """
    try:
        config_shape.check({"config": config})
    except ValueError as error:
        raise InvalidInput(str(error), hint="the fields and types are those of docker inspect's Config") from None
    if isinstance(changes, Mapping):  # iterating over it would take its keys as instructions
        raise InvalidInput("changes are Dockerfile instructions, and not a mapping", hint=_FIELDS_HINT)
    text = changes if isinstance(changes, str) else "\n".join(changes)
    if not text.strip():
        return dict(config)
    changed = Configuration({**EMPTY_CONFIG, **config})
    for instruction in parser.parse_syntax(text.encode(errors="surrogateescape"), name="--change").instructions:
        if instruction.keyword not in CHANGES:
            raise InvalidInput(
                f"{instruction.keyword.lower()} is not a valid change command",
                hint=f"--change takes {', '.join(CHANGES)}",
            )
        check(instruction, source="--change")
        INSTRUCTIONS[instruction.keyword](changed, instruction)
    if not changed.config["Entrypoint"] and not changed.config["Cmd"]:
        changed.config["Cmd"] = config.get("Cmd")  # moby merges with the old config: a command cannot be removed
    return changed.config


# -- the instructions: each changes the configuration and returns its line in the history -----------


def _env(target: Configuration, instruction: Instruction) -> str:
    # All values are expanded before the first is assigned (Dockerfile reference, "Environment replacement").
    new = [f"{name}={value}" for name, value in _pairs(target, instruction)]
    target.config["Env"] = merge_environment(target.config["Env"] or (), new)
    return f"ENV {' '.join(new)}"


def _label(target: Configuration, instruction: Instruction) -> str:
    return add_labels(target, dict(_pairs(target, instruction)))


def add_labels(target: Configuration, labels: Mapping[str, str]) -> str:
    """Add labels to the configuration, as LABEL does; returns the line in the history."""
    target.add("Labels", dict(labels))
    return label_text(labels)


def label_text(labels: Mapping[str, str]) -> str:
    """Return a LABEL instruction as the history shows it."""
    return "LABEL " + " ".join(f"{name}={value}" for name, value in labels.items())


def _cmd(target: Configuration, instruction: Instruction) -> str:
    target.config["Cmd"] = target.command(instruction)
    target.has_command = target.has_command or bool(instruction.arguments)
    return f"CMD {golang.quoted_words(target.config['Cmd'])}"


def _entrypoint(target: Configuration, instruction: Instruction) -> str:
    target.config["Entrypoint"] = target.command(instruction) if instruction.arguments else None
    if not target.has_command:
        target.config["Cmd"] = None  # the base image's CMD has the arguments for its own ENTRYPOINT
    return f"ENTRYPOINT {golang.quoted_words(target.config['Entrypoint'] or ())}"


def _user(target: Configuration, instruction: Instruction) -> str:
    target.config["User"] = target.expand(instruction.arguments[0], instruction)
    return f"USER {target.config['User']}"


def _workdir(target: Configuration, instruction: Instruction) -> str:
    path = target.expand(instruction.arguments[0], instruction)
    if not path.startswith("/"):  # an absolute path is not normalized
        path = "/" + posixpath.normpath(posixpath.join(target.config.get("WorkingDir") or "/", path)).lstrip("/")
    target.config["WorkingDir"] = path
    return f"WORKDIR {target.config['WorkingDir']}"


def _expose(target: Configuration, instruction: Instruction) -> str:
    variables, budget = target.variables, expansion.Budget()
    words = [
        word
        for argument in instruction.arguments
        for word in expansion.expand_words(argument, variables, escape=instruction.escape, budget=budget)
    ]
    target.add("ExposedPorts", {key: {} for key in exposed_ports(*words)})
    return f"EXPOSE {' '.join(sorted(words))}"


def _volume(target: Configuration, instruction: Instruction) -> str:
    paths = [path.strip() for path in target.expand_all(instruction.arguments, instruction)]
    if not all(paths):
        raise InvalidInput("VOLUME specified can not be an empty string", hint="give the variable a value")
    target.add("Volumes", {path: {} for path in paths})
    return f"VOLUME [{' '.join(paths)}]"


def _stopsignal(target: Configuration, instruction: Instruction) -> str:
    target.config["StopSignal"] = target.expand(instruction.arguments[0], instruction)
    signal_number(target.config["StopSignal"])
    return f"STOPSIGNAL {target.config['StopSignal']}"


def _shell(target: Configuration, instruction: Instruction) -> str:
    target.config["Shell"] = list(instruction.arguments)
    return f"SHELL [{' '.join(instruction.arguments)}]"


def _onbuild(target: Configuration, instruction: Instruction) -> str:
    trigger = instruction.trigger_text
    target.config["OnBuild"] = [*(target.config.get("OnBuild") or ()), trigger]
    return f"ONBUILD {trigger}"


def _healthcheck(target: Configuration, instruction: Instruction) -> str:
    kind, *words = instruction.arguments
    flags = {name: value or "" for name, value in instruction.flags}
    check: Json = {"Test": ["NONE"]}
    if kind.upper() == "CMD":
        check = {"Test": ["CMD", *words] if instruction.exec_form else ["CMD-SHELL", *words]}
        durations = {
            "Interval": "interval",
            "Timeout": "timeout",
            "StartPeriod": "start-period",
            "StartInterval": "start-interval",
        }
        check.update({field: duration(flags[flag]) for field, flag in durations.items() if flags.get(flag)})
        check.update({"Retries": int(flags["retries"])} if flags.get("retries") else {})
    # moby merges with the previous health check: a field that is not set keeps its value.
    target.config["Healthcheck"] = {**(target.config.get("Healthcheck") or {}), **check}
    return f"HEALTHCHECK {_go_healthcheck(check)}"


def _go_healthcheck(check: Json) -> str:
    """Return a health check as Go's %q prints the structure: moby writes it so into the history."""
    durations = [f'"{golang.duration(check.get(name, 0))}"' for name in ("Interval", "Timeout", "StartPeriod")]
    return (
        f"&{{{golang.quoted_words(check['Test'])} {' '.join(durations)} {golang.quoted_rune(check.get('Retries', 0))}}}"
    )


INSTRUCTIONS: Mapping[str, Callable[[Configuration, Instruction], str]] = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "ONBUILD": _onbuild,
    "SHELL": _shell,
    "STOPSIGNAL": _stopsignal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}


def _pairs(target: Configuration, instruction: Instruction) -> list[tuple[str, str]]:
    words = target.expand_all([word or "" for pair in instruction.pairs() for word in pair], instruction)
    return list(zip(words[::2], words[1::2], strict=True))
