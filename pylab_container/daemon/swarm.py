"""/swarm and /plugins: refusals, because the engine supports neither.

The statuses and messages are dockerd's on a machine outside a swarm. docker-py and docker check them.
"""

from __future__ import annotations

from typing import NoReturn

from aiohttp import web

from pylab_container.daemon.application import Route
from pylab_container.daemon.call import Call, answer
from pylab_container.docker.filters import refuse_unknown, truth, values
from pylab_container.errors import NotFound, Unavailable


async def refuse(call: Call) -> NoReturn:
    """Refuse a request to a swarm manager."""
    raise Unavailable(
        'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to '
        "swarm and try again.",
        hint="this engine cannot be in a swarm",
    )


async def leave(call: Call) -> NoReturn:
    """POST /swarm/leave: refuse, because the engine is not in a swarm."""
    raise Unavailable("This node is not part of a swarm", hint="there is nothing to leave")


async def begin(call: Call) -> NoReturn:
    """POST /swarm/init and /swarm/join: refuse."""
    raise Unavailable("This engine cannot be in a swarm", hint="it teaches what happens on one machine")


async def list_plugins(call: Call) -> web.Response:
    """GET /plugins: an empty list, after the check of the filters."""
    filters = call.filters()
    refuse_unknown(filters, ("enabled", "capability"))
    for text in values(filters, "enabled"):
        truth("enabled", text)
    return answer([])


async def refuse_plugin(call: Call) -> NoReturn:
    """Refuse a request about a plugin."""
    raise NotFound(f'plugin "{call.names.get("name", "")}" not found', hint="this engine takes no plugins")


async def refuse_install(call: Call) -> NoReturn:
    """Refuse to install a plugin."""
    raise Unavailable("This engine takes no plugins", hint="its functions are built in")


# The routes that dockerd has for each kind. All other paths are "page not found".
_LISTED = ("nodes", "services", "tasks", "secrets", "configs")
_CREATED = ("services", "secrets", "configs")
_PLUGIN_VERBS = ("enable", "disable", "set", "push", "upgrade")
_UPDATED = ("nodes", "services", "secrets", "configs")

ROUTES = (
    Route("POST", "/swarm/leave", leave),
    Route("POST", "/swarm/init", begin),
    Route("POST", "/swarm/join", begin),
    Route("POST", "/swarm/update", refuse),
    Route("POST", "/swarm/unlock", refuse),
    Route("GET", "/swarm/unlockkey", refuse),
    Route("GET", "/swarm", refuse),
    *(Route("GET", f"/{kind}", refuse) for kind in _LISTED),
    *(Route("POST", f"/{kind}/create", refuse) for kind in _CREATED),
    *(Route("GET", f"/{kind}/{{name}}/logs", refuse) for kind in ("services", "tasks")),
    *(Route("POST", f"/{kind}/{{name}}/update", refuse) for kind in _UPDATED),
    *(Route("GET", f"/{kind}/{{word}}", refuse) for kind in _LISTED),
    *(Route("DELETE", f"/{kind}/{{word}}", refuse) for kind in _UPDATED),
    Route("GET", "/plugins", list_plugins),
    Route("GET", "/plugins/privileges", list_plugins),
    Route("POST", "/plugins/pull", refuse_install),
    Route("POST", "/plugins/create", refuse_install),
    Route("GET", "/plugins/{name}/json", refuse_plugin),
    *(Route("POST", f"/plugins/{{name}}/{verb}", refuse_plugin) for verb in _PLUGIN_VERBS),
    Route("DELETE", "/plugins/{name}", refuse_plugin),
)
