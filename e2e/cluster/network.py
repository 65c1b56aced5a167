"""The host's side of the cluster's network: one bridge that carries the cluster's addresses."""

import json
from pathlib import Path
from typing import Any

from e2e.cluster import firewall, host, programs, settings
from e2e.cluster.processes import wait_until

_ALIAS = "conch local cluster in "


def up(owner: Path) -> None:
    """Makes the bridge with all addresses, forwarding and the firewall's consent. Idempotent.

    `owner` is the cluster's folder; ClusterError if another cluster has the bridge.
    """
    check_owner(owner)
    if not exists():
        programs.run(["ip", "link", "add", settings.BRIDGE, "type", "bridge"])
    programs.run(["ip", "link", "set", settings.BRIDGE, "alias", f"{_ALIAS}{owner}"])
    programs.run(["ip", "link", "set", settings.BRIDGE, "up"])
    for address in _addresses():
        programs.run(["ip", "address", "replace", f"{address}/24", "dev", settings.BRIDGE])
    # So that the host reaches services also where it has no default route.
    route = [settings.SERVICE_NETWORK, "dev", settings.BRIDGE, "src", settings.ADDRESS]
    programs.run(["ip", "route", "replace", *route])
    host.set_sysctl("net/ipv4/ip_forward", "1")
    firewall.admit()


def is_up(owner: Path) -> bool:
    """Whether the bridge is there with all its addresses, and the firewall lets pods through."""
    link = _link()
    if link is None or _alias() != f"{_ALIAS}{owner}":
        return False
    present = {info["local"] for info in link["addr_info"] if info["family"] == "inet"}
    return present >= set(_addresses()) and firewall.admitted()


def exists() -> bool:
    """Whether there is a bridge of a cluster."""
    return Path(f"/sys/class/net/{settings.BRIDGE}").exists()


def check_owner(owner: Path) -> None:
    """Raises ClusterError if the bridge belongs to another cluster, or our addresses are taken."""
    # One without an alias comes from a run that was killed before it wrote it.
    if exists() and _alias() not in {"", f"{_ALIAS}{owner}"}:
        place = _alias().removeprefix(_ALIAS)
        raise settings.ClusterError(
            f"the network interface {settings.BRIDGE} belongs to a cluster in {place};"
            " take that one down first"
        )
    for other in _links():
        if other["ifname"] == settings.BRIDGE:
            continue
        if settings.ADDRESS in {info.get("local") for info in other["addr_info"]}:
            name = other["ifname"]
            raise settings.ClusterError(f"{settings.ADDRESS} is in use on interface {name}")


def down(owner: Path) -> None:
    """Removes the bridge, with its addresses and routes, and what is left of the pods' links."""
    # A pod's link goes with its network namespace, which the kernel removes in its own time.
    wait_until(lambda: not _pod_links(), timeout=5)
    for name in _pod_links():
        programs.attempt(["ip", "link", "delete", name])
    if exists():
        check_owner(owner)
        programs.run(["ip", "link", "delete", settings.BRIDGE])


def _addresses() -> list[str]:
    return [settings.ADDRESS, *(node.address for node in settings.NODES)]


def _pod_links() -> list[str]:
    """The host's ends of the pods' links: each carries the gateway address of its node."""
    gateways = {gateway(node) for node in settings.NODES}
    return [
        link["ifname"]
        for link in _links()
        if gateways & {info.get("local") for info in link["addr_info"]}
    ]


def gateway(node: settings.NodeSpec) -> str:
    """The host's address as this node's pods see it: the first of the node's network."""
    return node.pod_network.rpartition(".")[0] + ".1"


def _alias() -> str:
    """Says whose the bridge is."""
    return Path(f"/sys/class/net/{settings.BRIDGE}/ifalias").read_text().strip()


def _link() -> dict[str, Any] | None:
    return next((link for link in _links() if link["ifname"] == settings.BRIDGE), None)


def _links() -> list[dict[str, Any]]:
    links: list[dict[str, Any]] = json.loads(programs.run(["ip", "-json", "address", "show"]))
    return [link for link in links if link]
