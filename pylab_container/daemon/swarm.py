"""What only several machines together have, and plugins: clients ask for them, and hear that there are none.

Statuses and words are dockerd's on a machine that is in no swarm; docker-py and the docker command look at them.
"""

from __future__ import annotations

from typing import NoReturn

from aiohttp import web

from pylab_container.daemon.application import Route
from pylab_container.daemon.call import Call, answer
from pylab_container.errors import NotFound, Unavailable


async def refuse(call: Call) -> NoReturn:
    """A swarm is a machine with a manager; this engine has one machine, and none."""
    raise Unavailable(
        'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to '
        "swarm and try again.",
        hint="this engine cannot be in a swarm",
    )


async def leave(call: Call) -> NoReturn:
    """Nothing to leave."""
    raise Unavailable("This node is not part of a swarm", hint="there is nothing to leave")


async def begin(call: Call) -> NoReturn:
    """No swarm can be made of this engine."""
    raise Unavailable("This engine cannot be in a swarm", hint="it teaches what happens on one machine")


async def list_plugins(call: Call) -> web.Response:
    """None."""
    return answer([])


async def refuse_plugin(call: Call) -> NoReturn:
    """There are no plugins."""
    raise NotFound(f'plugin "{call.names.get("name", "")}" not found', hint="this engine takes no plugins")


_KINDS = ("nodes", "services", "secrets", "configs", "tasks")
_METHODS = ("GET", "POST", "DELETE")

ROUTES = (
    Route("POST", "/swarm/leave", leave),
    Route("POST", "/swarm/init", begin),
    Route("POST", "/swarm/join", begin),
    Route("GET", "/swarm", refuse),
    Route("GET", "/swarm/{name}", refuse),
    Route("POST", "/swarm/{name}", refuse),
    *(Route(method, f"/{kind}", refuse) for kind in _KINDS for method in _METHODS),
    *(Route(method, f"/{kind}/{{name}}", refuse) for kind in _KINDS for method in _METHODS),
    Route("GET", "/plugins", list_plugins),
    Route("GET", "/plugins/privileges", list_plugins),
    Route("GET", "/plugins/{name}/json", refuse_plugin),
    Route("POST", "/plugins/{name}/{action}", refuse_plugin),
    *(Route(method, "/plugins/{name}", refuse_plugin) for method in _METHODS),
)
