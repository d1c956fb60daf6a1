"""Find rules of other programs that drop the containers' packets; rules.py says what the administrator can do."""

from __future__ import annotations

import json

from pylab_container.host import programs


def chains_that_drop() -> list[str]:
    """The chains that drop forwarded packets by default (policy drop), such as Docker's "ip filter FORWARD".

    Raises MissingProgram or RuntimeFailed if nft cannot list the chains.
    """
    return parse_chains(programs.run(["nft", "-j", "list", "chains"]).output)


def parse_chains(listing: str) -> list[str]:
    """Parse the output of `nft -j list chains` (libnftables-json(5)) for chains_that_drop()."""
    chains = [item["chain"] for item in json.loads(listing)["nftables"] if "chain" in item]
    dropping = [chain for chain in chains if chain.get("hook") == "forward" and chain.get("policy") == "drop"]
    # A bridge's chains see frames within a bridge, which the engine's rules do not accept or drop.
    return [f"{chain['family']} {chain['table']} {chain['name']}" for chain in dropping if chain["family"] != "bridge"]
