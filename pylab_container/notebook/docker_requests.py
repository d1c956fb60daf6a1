"""What the docker command asks a daemon for the commands of lab 00, for machines on which it is not installed.

Paths are written without the version of the API, ids as ID, and without parameters. Every version of the command from
20.10 on sends these. tests/root/test_services.py compares them with the requests of the one that is installed.
"""

from __future__ import annotations

Request = tuple[str, str]

# Before anything else the command asks which versions of the API the daemon speaks.
_NEGOTIATION: tuple[Request, ...] = (("HEAD /_ping", "200"),)
_RUN: tuple[Request, ...] = (
    ("POST /containers/create", "201"),
    ("POST /containers/ID/attach", "101"),
    ("POST /containers/ID/wait", "200"),
    ("POST /containers/ID/start", "204"),
)
_PULL: tuple[Request, ...] = (("POST /containers/create", "404"), ("POST /images/create", "200"))
_REQUESTS: dict[str, tuple[Request, ...]] = {
    "commit": (("POST /commit", "201"),),
    "image ls": (("GET /images/json", "200"),),
    "images": (("GET /images/json", "200"),),
    "import": (("POST /images/create", "200"),),
    "inspect": (("GET /containers/ID/json", "200"),),
    "ps": (("GET /containers/json", "200"),),
    "pull": (("POST /images/create", "200"),),
    "run": _RUN,
}


def expected(arguments: list[str], *, image_missing: bool = False) -> tuple[Request, ...] | None:
    """The requests of `docker ARGUMENTS` and their statuses, if the command succeeds; None for other commands.

    image_missing  the image of `docker run` is not on this machine, and must be pulled
    """
    requests = _REQUESTS.get(" ".join(arguments[:2])) or _REQUESTS.get(" ".join(arguments[:1]))
    if requests is None:
        return None
    return _NEGOTIATION + (_PULL if image_missing else ()) + requests
