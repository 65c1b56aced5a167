"""Devices that DRA drivers give, counted on nodes as if they were extended resources. Pure.

ResourceSlices tell what there is, allocated ResourceClaims what is taken, whoever took it.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from conch.api.pool import GPUPoolSpec, SharingMode, device_key
from conch.decisions.fleet import Node

Object = dict[str, Any]
PoolKey = tuple[str, str]
"""A driver, and the name of one of its pools of devices."""


def drivers(pools: Iterable[GPUPoolSpec]) -> frozenset[str]:
    """Return the drivers whose devices the pools are about."""
    found = (p.sharing for p in pools if p.sharing.mode is SharingMode.DRA)
    return frozenset(s.driver or s.device_class or "" for s in found)


def with_devices(
    nodes: Iterable[Node],
    wanted: Collection[str],
    *,
    slices: Iterable[Object],
    claims: Iterable[Object],
) -> list[Node]:
    """Return the nodes with the devices of the drivers that are wanted.

    What pods of Conch ask for is counted already; where claims tell of more, others hold it.
    """
    newest = _newest(s for s in slices if s["spec"].get("driver") in wanted)
    there = {key: node for key, parts in newest.items() if (node := _node(parts))}
    offered, taken = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for (driver, pool), node in there.items():
        offered[node, driver] += sum(
            len(s["spec"].get("devices") or ()) for s in newest[driver, pool]
        )
    for driver, pool, _ in {r for claim in claims for r in _results(claim)}:
        if node := there.get((driver, pool)):
            taken[node, driver] += 1
    return [_with(node, wanted, offered, taken) for node in nodes]


def _with(
    node: Node,
    wanted: Collection[str],
    offered: Mapping[tuple[str, str], int],
    taken: Mapping[tuple[str, str], int],
) -> Node:
    mine = [d for d in sorted(wanted) if (node.name, d) in offered]
    if not mine:
        return node
    more = {device_key(d): float(offered[node.name, d]) for d in mine}
    held = {
        key: max(node.requested.get(key, 0.0), float(taken.get((node.name, d), 0)))
        for d in mine
        for key in (device_key(d),)
    }
    return replace(
        node, allocatable={**node.allocatable, **more}, requested={**node.requested, **held}
    )


def _newest(slices: Iterable[Object]) -> dict[PoolKey, list[Object]]:
    """Return the slices by pool; those of an older generation no longer hold."""
    found: dict[PoolKey, list[Object]] = {}
    for body in slices:
        spec = body["spec"]
        known = found.setdefault((spec["driver"], spec["pool"]["name"]), [])
        if known and _generation(body) < _generation(known[0]):
            continue
        if known and _generation(body) > _generation(known[0]):
            known.clear()
        known.append(body)
    return found


def _generation(body: Object) -> int:
    return int(body["spec"]["pool"].get("generation", 0))


def _node(slices: Iterable[Object]) -> str | None:
    """Return the node that all of a pool's devices are at; None for devices of several nodes."""
    names = {s["spec"].get("nodeName") for s in slices}
    return names.pop() if len(names) == 1 else None


def _results(claim: Object) -> Iterator[tuple[str, str, str]]:
    """Yield driver, pool and device of what a claim got for itself."""
    allocation = (claim.get("status") or {}).get("allocation") or {}
    for result in (allocation.get("devices") or {}).get("results") or ():
        if not result.get("adminAccess"):
            yield result["driver"], result["pool"], result["device"]
