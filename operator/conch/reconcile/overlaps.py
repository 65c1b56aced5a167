"""Pools that count the same devices of a node. Pure."""

from collections.abc import Iterable, Mapping

from conch.decisions.fleet import Pool

_MOST = 3
"""So many nodes are named; the rest is a number."""


def overlaps(pools: Iterable[Pool]) -> Mapping[str, str]:
    """Return by pool, in words, which others count devices of its nodes too."""
    at: dict[tuple[str, str], list[Pool]] = {}
    for pool in pools:
        if pool.without_gpus:
            continue
        for node in pool.nodes:
            at.setdefault((node.name, pool.spec.resource_name), []).append(pool)
    shared: dict[str, dict[str, list[str]]] = {}
    for (name, _), together in at.items():
        for pool in together if len(together) > 1 else ():
            for other in together:
                if other.name != pool.name:
                    shared.setdefault(pool.name, {}).setdefault(other.name, []).append(name)
    return {pool: _words(others) for pool, others in shared.items()}


def _words(others: Mapping[str, list[str]]) -> str:
    parts = [f"pool {name} ({_named(nodes)})" for name, nodes in sorted(others.items())]
    return (
        f"nodes belong to {' and '.join(parts)} too, for the same resource: they count in each, and "
        "no device is given twice; narrow spec.nodeSelector of one of them"
    )


def _named(nodes: list[str]) -> str:
    named = ", ".join(sorted(nodes)[:_MOST])
    return named if len(nodes) <= _MOST else f"{named} and {len(nodes) - _MOST} more nodes"
