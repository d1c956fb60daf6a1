"""Every error of the kit, as one tree.

    LabError                          exit  http
    ├── InvalidInput                   125   400   a name, an option or a value makes no sense
    │   ├── InvalidReference           125   400   an image name that cannot be one
    │   ├── InvalidArchive             125   400   a tar that is cut off, hostile or not a tar
    │   └── DockerfileError            125   400   file, line, column and a caret
    │       └── StepRefused            125   400   found out only when the step's turn came
    ├── NotFound                       125   404   the thing named does not exist
    │   ├── ImageNotFound              125   404
    │   └── ContainerNotFound          125   404
    ├── Conflict                       125   409   the thing exists, but its state forbids this
    │   ├── InUse                      125   409   somebody still needs it
    │   └── Forbidden                  125   403   no state of it allows this, or no other one's either
    ├── ContainerFailed                  1   500   a container ended with a status other than 0
    │   └── BuildFailed                  1   500   and it was a RUN step
    ├── CorruptStore                   125   500   what is on disk contradicts itself
    ├── RegistryFailed                 125   500   a registry refused, or could not be understood
    │   ├── Unauthorized               125   401   it wants other credentials, or some
    │   └── Unreachable                125   500   nobody answered there
    ├── Unavailable                    125   503   a part of Docker that this engine does not have
    │   └── Unimplemented              125   501   or has in a form that does not do this
    └── RuntimeFailed                  125   500   the machine or a program on it refused
        ├── CommandNotFound            127   400   the image has no such program
        ├── CommandNotExecutable       126   400   it has, but it cannot be executed
        ├── MissingProgram             125   500   a Debian package is not installed
        ├── MissingExtra               125   500   an extra of this Python package is not installed
        └── NotRoot                    125   403   the kernel wants root for this

Each error says *what* failed and on *what* (`message`) and what to do now (`hint`).
The exit codes are those of the docker command: 125 for the engine itself, 126 and 127
as in POSIX shells, 1 for anything a program inside decided. Which code and status a
class carries is part of its contract: the command line and the HTTP face read them here.
"""

from __future__ import annotations


class LabError(Exception):
    """Something the kit cannot do, told so that a student knows what to do next.

    message  one sentence without a final full stop: what failed, on what
    hint     one sentence: the next thing to try; may be empty
    """

    exit_code = 125
    http_status = 500

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\nHint: {self.hint}" if self.hint else self.message


class InvalidInput(LabError):
    """A name, an option or a value that cannot mean anything."""

    http_status = 400


class InvalidReference(InvalidInput):
    """An image name that the grammar of references does not allow."""


class InvalidArchive(InvalidInput):
    """A tar stream that is cut off, is no tar at all, or reaches outside its layer."""


class DockerfileError(InvalidInput):
    """A mistake in a Dockerfile, pointed at.

    source  the file's name as the user knows it
    line    counted from 1
    column  counted from 1; where the caret goes
    text    the source line itself
    """

    def __init__(
        self, message: str, *, hint: str = "", source: str, line: int, column: int = 1, text: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.source = source
        self.line = line
        self.column = column
        self.text = text

    def __str__(self) -> str:
        place = f"{self.source}:{self.line}:{self.column}: {self.message}"
        # Tabs before the caret stay tabs, so that it lands under the right character.
        margin = "".join("\t" if c == "\t" else " " for c in self.text[: self.column - 1])
        pointed = f"{place}\n    {self.text}\n    {margin}^" if self.text else place
        return f"{pointed}\nHint: {self.hint}" if self.hint else pointed


class StepRefused(DockerfileError):
    """A step that makes no sense where it stands, though its text does: the steps before it are done."""


class NotFound(LabError):
    """The thing named does not exist."""

    http_status = 404


class ImageNotFound(NotFound):
    """No image has this name or id. The words "No such image" are what Docker's clients look for."""


class ContainerNotFound(NotFound):
    """No container has this name or id."""


class Conflict(LabError):
    """The thing exists, but its present state forbids the operation."""

    http_status = 409


class InUse(Conflict):
    """Something else still needs it: a container its image, an image its layer."""


class Forbidden(Conflict):
    """What Docker's API answers with 403, as its networks do: what is built in stays, what is there is there."""

    http_status = 403


class ContainerFailed(LabError):
    """A container that was waited for ended with a status other than zero.

    status  its exit status
    output  what it printed
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "", status: int, output: bytes = b"") -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.output = output


class BuildFailed(ContainerFailed):
    """A RUN step ended with a status other than zero.

    output    its last lines
    image_id  an image without a name with the root as the step left it; the next prune takes it; "" where the
              container stays
    place     where the step stands: "Dockerfile:3: RUN make"
    """

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        status: int,
        output: bytes = b"",
        image_id: str = "",
        place: str = "",
    ) -> None:
        super().__init__(message, hint=hint, status=status, output=output)
        self.image_id = image_id
        self.place = place

    def __str__(self) -> str:
        pointed = f"{self.message}\n    {self.place}" if self.place else self.message
        return f"{pointed}\nHint: {self.hint}" if self.hint else pointed


class CorruptStore(LabError):
    """Two files of the data root contradict each other, or one cannot be read.

    path  the file or directory that is damaged; "" where no single one is
    """

    def __init__(self, message: str, *, hint: str = "", path: object = "") -> None:
        super().__init__(message, hint=hint)
        self.path = str(path)


class RegistryFailed(LabError):
    """A registry refused, broke off for good, or sent what cannot be understood.

    code  the registry's own, of the first error that it told: "DENIED" (distribution-spec, "Error Codes"); or ""
    """

    def __init__(self, message: str, *, hint: str = "", code: str = "") -> None:
        super().__init__(message, hint=hint)
        self.code = code


class Unauthorized(RegistryFailed):
    """The registry wants credentials, or does not accept those that it got."""

    http_status = 401


class Unreachable(RegistryFailed):
    """Nobody answers where the registry should be."""


class Unavailable(LabError):
    """Something that Docker has and this engine has not, as a swarm."""

    http_status = 503


class Unimplemented(Unavailable):
    """dockerd says it of what it has switched off, and of what one of its parts does not do."""

    http_status = 501


class RuntimeFailed(LabError):
    """The kernel or a program that the kit drives refused."""


class CommandNotFound(RuntimeFailed):
    """The image has no program of this name in its PATH."""

    exit_code = 127
    http_status = 400


class CommandNotExecutable(RuntimeFailed):
    """The file is there but cannot be executed: no x bit, a directory, a foreign format."""

    exit_code = 126
    http_status = 400


class MissingProgram(RuntimeFailed):
    """A program that the kit drives is not installed."""


class MissingExtra(RuntimeFailed, ImportError):
    """A library that the feature needs is not installed: an extra of this package installs it.

    extra  its name: "run", "registry", "cli", "daemon" or "labs"

    It is an ImportError, too, because importing a module of the package may raise it.
    """

    def __init__(self, message: str, *, hint: str = "", extra: str) -> None:
        super().__init__(message, hint=hint)
        self.extra = extra


class NotRoot(RuntimeFailed):
    """The kernel wants root for mounts, devices and namespaces."""

    http_status = 403
