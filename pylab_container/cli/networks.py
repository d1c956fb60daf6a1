"""Commands on networks: create, ls, connect, disconnect, rm, prune."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pylab_container.cli import arguments, listing, tables
from pylab_container.cli.command import Command, each, open_engine
from pylab_container.cli.confirming import confirmed, show_deleted
from pylab_container.cli.entries import pair
from pylab_container.cli.printing import say
from pylab_container.cli.ps import moment_text
from pylab_container.docker.template_values import Row

if TYPE_CHECKING:
    from pylab_container.engine.networks import Network

_HEADINGS = {
    "ID": "NETWORK ID",
    "Name": "NAME",
    "Driver": "DRIVER",
    "Scope": "SCOPE",
    "IPv4": "IPV4",
    "IPv6": "IPV6",
    "Internal": "INTERNAL",
    "Labels": "LABELS",
    "CreatedAt": "CREATED AT",
}
_LISTING = listing.Listing(_HEADINGS, ("ID", "Name", "Driver", "Scope"), "ID")


@click.command(cls=Command)
@click.argument("name", metavar="NETWORK")
@click.option("-d", "--driver", default="bridge", metavar="NAME", help="The network driver.  [default: bridge]")
@click.option("--subnet", multiple=True, metavar="CIDR", help="Subnet in CIDR form: 10.1.0.0/24.")
@click.option("--gateway", multiple=True, metavar="ADDRESS", help="Address of the bridge.")
@click.option("--ip-range", multiple=True, metavar="CIDR", help="Allocate addresses of containers from this range.")
@click.option("--aux-address", multiple=True, metavar="NAME=ADDRESS", help="Reserve an address.")
@click.option("--ipam-driver", default="default", hidden=True)
@click.option(
    "--ipam-opt", multiple=True, metavar="NAME=VALUE", help="Recorded; the default IPAM driver has no options."
)
@click.option("--internal", is_flag=True, help="Restrict external access to the network.")
@click.option("--attachable", is_flag=True, help="Recorded; every network here is attachable.")
@click.option("--ipv6", is_flag=True, help="Enable IPv6.")
@click.option("--label", "labels", multiple=True, metavar="NAME[=VALUE]", help="A label. Repeatable.")
@click.option(
    "-o",
    "--opt",
    "options",
    multiple=True,
    metavar="NAME=VALUE",
    help="Driver option: com.docker.network.driver.mtu=1400.",
)
def create_network(
    *,
    name: str,
    driver: str,
    subnet: tuple[str, ...],
    gateway: tuple[str, ...],
    ip_range: tuple[str, ...],
    aux_address: tuple[str, ...],
    ipam_driver: str,
    ipam_opt: tuple[str, ...],
    internal: bool,
    attachable: bool,
    ipv6: bool,
    labels: tuple[str, ...],
    options: tuple[str, ...],
) -> None:
    """Create a network.

    Containers on it reach each other by name.
    """
    network = open_engine().networks.create(
        name,
        driver,
        subnet=subnet,
        gateway=gateway,
        ip_range=ip_range,
        aux_addresses=dict(pair(text) for text in aux_address),
        ipam={"Driver": ipam_driver, "Options": dict(pair(text) for text in ipam_opt)},
        internal=internal,
        attachable=attachable,
        enable_ipv6=ipv6,
        labels=dict(pair(label) for label in labels),
        options=dict(pair(option) for option in options),
    )
    say(network.id)


@click.command(cls=Command)
@listing.filter_option
@listing.format_option
@listing.full_option
@listing.quiet_option
def list_networks(*, conditions: tuple[str, ...], format_: str | None, full: bool, quiet: bool) -> None:
    """List networks.

    Filters: id, name, driver, label, scope, type, dangling.
    """
    networks = open_engine().networks.list(listing.filters(conditions))
    _LISTING.show([_row(network, full=full) for network in networks], format_, quiet=quiet)


def _row(network: Network, *, full: bool) -> Row:
    document = network.document
    labels = document.get("Labels") or {}
    columns = {
        "ID": network.id if full else tables.short_id(network.id),
        "Name": network.name,
        "Driver": network.driver,
        "Scope": document["Scope"],
        "IPv4": str(network.driver == "bridge").lower(),
        "IPv6": str(bool(document.get("EnableIPv6"))).lower(),
        "Internal": str(network.internal).lower(),
        "Labels": listing.labels_text(labels),
        "CreatedAt": moment_text(document["Created"], exact=True),
    }
    return Row(columns, {"Label": lambda name: str(labels.get(name, ""))})


@click.command(cls=Command)
@click.argument("network", shell_complete=arguments.networks)
@click.argument("container", shell_complete=arguments.containers)
@click.option(
    "--alias",
    "aliases",
    multiple=True,
    metavar="NAME",
    help="Another name of the container on the network. Repeatable.",
)
@click.option("--ip", "ipv4_address", default="", metavar="ADDRESS", help="IPv4 address of the container.")
@click.option("--ip6", "ipv6_address", default="", metavar="ADDRESS", help="IPv6 address of the container.")
@click.option(
    "--link",
    "links",
    multiple=True,
    metavar="CONTAINER[:ALIAS]",
    shell_complete=arguments.containers,
    help="Add a link to another container. Repeatable.",
)
@click.option("--link-local-ip", "link_local_ips", multiple=True, metavar="ADDRESS", help="Another link-local address.")
@click.option(
    "--driver-opt", multiple=True, metavar="NAME=VALUE", help="Recorded; the driver bridge has no such options."
)
def connect(
    *,
    network: str,
    container: str,
    aliases: tuple[str, ...],
    ipv4_address: str,
    ipv6_address: str,
    links: tuple[str, ...],
    link_local_ips: tuple[str, ...],
    driver_opt: tuple[str, ...],
) -> None:
    """Connect a container to a network."""
    engine = open_engine()
    engine.networks.get(network).connect(
        engine.containers.get(container),
        aliases=aliases,
        ipv4_address=ipv4_address,
        ipv6_address=ipv6_address,
        links=links,
        link_local_ips=link_local_ips,
        driver_opt=dict(pair(text) for text in driver_opt),
    )


@click.command(cls=Command)
@click.argument("network", shell_complete=arguments.networks)
@click.argument("container", shell_complete=arguments.containers)
@click.option("-f", "--force", is_flag=True, help="Ignore a container that is not connected.")
def disconnect(*, network: str, container: str, force: bool) -> None:
    """Disconnect a container from a network."""
    engine = open_engine()
    engine.networks.get(network).disconnect(engine.containers.get(container), force=force)


@click.command(cls=Command)
@click.argument("names", metavar="NETWORK...", nargs=-1, required=True, shell_complete=arguments.networks)
@click.option("-f", "--force", is_flag=True, help="Ignore a missing network.")
def remove_networks(*, names: tuple[str, ...], force: bool) -> int:
    """Remove one or more networks.

    A network with containers is not removed.
    """
    from pylab_container.errors import NotFound

    engine = open_engine()

    def remove(name: str) -> str:
        try:
            engine.networks.get(name).remove()
        except NotFound:
            if not force:
                raise
            return ""
        return name

    return each(names, remove)


@click.command(cls=Command)
@click.option("-f", "--force", is_flag=True, help="Do not prompt for confirmation.")
@click.option(
    "--filter", "conditions", multiple=True, metavar="NAME=VALUE", help="until=24h, label=NAME[=VALUE], label!=…"
)
def prune_networks(*, force: bool, conditions: tuple[str, ...]) -> None:
    """Remove all unused networks."""
    filters = listing.filters(conditions)
    if force or confirmed("This will remove all custom networks not used by at least one container."):
        pruned = open_engine().networks.prune(filters)
        show_deleted("Deleted Networks", [removal.name for removal in pruned.deleted])
