"""Rules of others that are in our containers' way; rules.py tells why only the administrator can change that."""

from __future__ import annotations

import json

from pylab_container.host import programs


def chains_that_drop() -> list[str]:
    """The chains through which forwarded packets go and whose policy is drop: "ip filter FORWARD", as Docker makes it.

    Raises MissingProgram or RuntimeFailed where nft cannot be asked.
    """
    return parse_chains(programs.run(["nft", "-j", "list", "chains"]).output)


def parse_chains(listing: str) -> list[str]:
    """The same, out of what `nft -j list chains` prints."""
    chains = [item["chain"] for item in json.loads(listing)["nftables"] if "chain" in item]
    dropping = [chain for chain in chains if chain.get("hook") == "forward" and chain.get("policy") == "drop"]
    return [f"{chain['family']} {chain['table']} {chain['name']}" for chain in dropping if chain["family"] != "bridge"]
