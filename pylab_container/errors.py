"""The errors of the kit, as one tree of exceptions.

    LabError                          exit  http
    ├── InvalidInput                   125   400   invalid name, option or value
    │   ├── InvalidReference           125   400   malformed image name
    │   ├── InvalidArchive             125   400   truncated, hostile or not a tar archive
    │   └── DockerfileError            125   400   error in a Dockerfile, with line, column and caret
    │       └── StepRefused            125   400   detected when the build reaches the step
    ├── NotFound                       125   404   the named object does not exist
    │   ├── ImageNotFound              125   404
    │   └── ContainerNotFound          125   404
    ├── Conflict                       125   409   the object exists, but its state forbids this
    │   ├── InUse                      125   409   another object still refers to it
    │   └── Forbidden                  125   403   never allowed on this object, in any state
    ├── ContainerFailed                  1   500   a container exited with a status other than 0
    │   └── BuildFailed                  1   500   the container of a RUN step did
    ├── CorruptStore                   125   500   a file of the data root is damaged
    ├── RegistryFailed                 125   500   a registry refused, or sent an invalid answer
    │   ├── Unauthorized               125   401   credentials are missing or not accepted
    │   └── Unreachable                125   500   no connection to the registry
    ├── Unavailable                    125   503   a part of Docker that this engine lacks
    │   └── Unimplemented              125   501   a feature that the part here lacks
    └── RuntimeFailed                  125   500   the kernel or a program failed
        ├── CommandNotFound            127   400   the image has no such program
        ├── CommandNotExecutable       126   400   the program exists but cannot be executed
        ├── MissingProgram             125   500   a Debian package is not installed
        ├── MissingExtra               125   500   an extra of this Python package is not installed
        └── NotRoot                    125   403   the operation needs root

Each error carries a `message` (what failed, on what) and a `hint` (what to do next).

exit   exit code of labctr, as the docker command's: 125 for an error of the engine, 126 and 127 as in a POSIX shell
       (XCU 2.8.2), 1 for a failed program in a container
http   status of the HTTP API, as dockerd's (moby, errdefs)

Both are part of a class's contract: the command line and the daemon read them from the class.
"""

from __future__ import annotations


class LabError(Exception):
    """Base of all errors of the kit.

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
    """A name, an option or a value is not valid."""

    http_status = 400


class InvalidReference(InvalidInput):
    """An image name does not match the grammar of references (oci/reference.py)."""


class InvalidArchive(InvalidInput):
    """A tar archive is truncated, is not a tar archive, or has a member that leaves its layer."""


class DockerfileError(InvalidInput):
    """A Dockerfile has an error at a line and column.

    source  name of the file, as the user wrote it
    line    counted from 1
    column  counted from 1; position of the caret
    text    the source line; "" prints no excerpt
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
        # The caret's line keeps the tabs before it: a terminal expands them to the same columns as in the line above.
        margin = "".join("\t" if character == "\t" else " " for character in self.text[: self.column - 1])
        shown = f"{place}\n    {self.text}\n    {margin}^" if self.text else place
        return f"{shown}\nHint: {self.hint}" if self.hint else shown


class StepRefused(DockerfileError):
    """A step is well-formed but not valid at its place. The steps before it have been executed."""


class NotFound(LabError):
    """The named object does not exist."""

    http_status = 404


class ImageNotFound(NotFound):
    """No image has this name or id. Docker's clients match on the words "No such image"."""


class ContainerNotFound(NotFound):
    """No container has this name or id."""


class Conflict(LabError):
    """The object exists, but its present state forbids the operation."""

    http_status = 409


class InUse(Conflict):
    """Another object still refers to it: a container to its image, an image to its layer."""


class Forbidden(Conflict):
    """The operation is never allowed on this object, such as a predefined network."""

    http_status = 403


class ContainerFailed(LabError):
    """A container exited with a status other than 0.

    status  exit status
    output  bytes that it wrote to standard output and standard error
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "", status: int, output: bytes = b"") -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.output = output


class BuildFailed(ContainerFailed):
    """The command of a RUN step exited with a status other than 0.

    output    last lines of its output
    image_id  untagged image of the root file system at the failure, until the next prune; "" if the container was kept
    place     position of the step: "Dockerfile:3: RUN make"
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
        shown = f"{self.message}\n    {self.place}" if self.place else self.message
        return f"{shown}\nHint: {self.hint}" if self.hint else shown


class CorruptStore(LabError):
    """Two files of the data root contradict each other, or one cannot be read.

    path  the damaged file or directory; "" if the damage is not in a single one
    """

    def __init__(self, message: str, *, hint: str = "", path: object = "") -> None:
        super().__init__(message, hint=hint)
        self.path = str(path)


class RegistryFailed(LabError):
    """A registry refused, broke the connection after all retries, or sent an invalid answer.

    code  code of the first error in the registry's answer: "DENIED" (distribution-spec, "Error Codes"); or ""
    """

    def __init__(self, message: str, *, hint: str = "", code: str = "") -> None:
        super().__init__(message, hint=hint)
        self.code = code


class Unauthorized(RegistryFailed):
    """The registry requires credentials, or does not accept those that it received."""

    http_status = 401


class Unreachable(RegistryFailed):
    """No connection to the registry's address."""


class Unavailable(LabError):
    """A part of Docker that this engine lacks, such as swarm mode."""

    http_status = 503


class Unimplemented(Unavailable):
    """A feature that is switched off, or that the driver or plug-in does not support."""

    http_status = 501


class RuntimeFailed(LabError):
    """The kernel or a program that the kit runs reported an error."""


class CommandNotFound(RuntimeFailed):
    """The image has no program of this name in its PATH."""

    exit_code = 127
    http_status = 400


class CommandNotExecutable(RuntimeFailed):
    """The file exists but cannot be executed: EACCES, ENOEXEC, or it is a directory."""

    exit_code = 126
    http_status = 400


class MissingProgram(RuntimeFailed):
    """A program that the kit runs is not installed."""


class MissingExtra(RuntimeFailed, ImportError):
    """A library that the feature needs is not installed. An extra of this package installs it.

    extra  name of the extra: "run", "registry", "cli", "daemon" or "labs"

    It is an ImportError too, because importing a module of the package may raise it.
    """

    def __init__(self, message: str, *, hint: str = "", extra: str) -> None:
        super().__init__(message, hint=hint)
        self.extra = extra


class NotRoot(RuntimeFailed):
    """The operation needs root: CAP_SYS_ADMIN for mounts and namespaces, CAP_MKNOD for devices."""

    http_status = 403
