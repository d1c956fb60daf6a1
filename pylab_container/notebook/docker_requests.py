"""The API requests of docker for the commands of lab 00, for machines without docker.

The paths have no API version and no parameters, and ID stands for an id. Every docker since 20.10 sends these requests.
tests/root/test_services.py compares them with the requests of the installed docker.
"""

from __future__ import annotations

Request = tuple[str, str]

# docker first negotiates the version of the API.
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
    """Return the requests and statuses of `docker ARGUMENTS`, None for an unknown command.

    image_missing  the image of `docker run` is missing and is pulled
    """
    requests = _REQUESTS.get(" ".join(arguments[:2])) or _REQUESTS.get(" ".join(arguments[:1]))
    if requests is None:
        return None
    return _NEGOTIATION + (_PULL if image_missing else ()) + requests
