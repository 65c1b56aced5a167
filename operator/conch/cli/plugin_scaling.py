"""Why a service has this many replicas, in words and figures. Pure, but for asking the operator."""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

import requests

from conch.cli.plugin_read import FORBIDDEN, Leader
from conch.clients.cluster import Cluster, ClusterError, Object

PORT = 8081
"""Of the operator's metrics, as the chart sets it."""
_TIMEOUT_S = 5.0
_ALSO = (
    "The status has the same in short. To see the figures: kubectl port-forward to port 8081 of the "
    "operator, and --operator-url http://127.0.0.1:8081"
)
Account = Mapping[str, Any]


async def account_of(
    cluster: Cluster, leader: Leader | None, service: Object, url: str | None
) -> tuple[Account | None, str | None]:
    """Return what the operator says of a service's number of replicas, or a note why it doesn't.

    It is asked at ``url``, or through the API server where that is None.
    """
    metadata = service["metadata"]
    path = f"scaling/{metadata['namespace']}/{metadata['name']}"
    return await told_by_operator(cluster, leader, path, url)


async def told_by_operator(
    cluster: Cluster, leader: Leader | None, path: str, url: str | None
) -> tuple[Account | None, str | None]:
    """Return what the operator answers at a path of its metrics' port, or a note why it doesn't."""
    if url is not None:
        return await asyncio.to_thread(_ask, f"{url.rstrip('/')}/{path}")
    if leader is None or not leader.alive:
        return None, None
    try:
        return await cluster.through_pod(leader.namespace, leader.pod, PORT, path), None
    except ClusterError as error:
        if error.status == FORBIDDEN:
            why = f"you may not ask the operator (get pods/proxy in {leader.namespace})"
        else:
            why = f"the operator {leader.holder} can't be asked: {error!s:.200}"
        return None, f"{why}. {_ALSO}"


def _ask(url: str) -> tuple[Account | None, str | None]:
    try:
        answer = requests.get(url, timeout=_TIMEOUT_S)
        answer.raise_for_status()
        found: Account = answer.json()
    except (requests.RequestException, ValueError) as error:
        return None, f"no figures at {url}: {error!s:.200}"
    return found, None


def reasons(account: Account) -> Iterator[str]:
    """Yield sentences that lead from what is asked for to the number of replicas."""
    known = {name: value for name, value in account["figures"].items() if value is not None}
    account = {**account, "figures": known}
    yield _wanted(account)
    yield from _front_door(account)
    yield from _demand(account)
    yield from _capacity(account)
    yield from _reserve(account)
    yield f"9 of 10 replicas start within {_seconds(account['loadSeconds'])}."
    yield _allowed(account)
    yield from _held(account)
    yield from _bounds(account)


def _wanted(a: Account) -> str:
    count = "1 replica is" if a["wished"] == 1 else f"{a['wished']} replicas are"
    there = f"{a['held']} serve or start"
    fits = "" if a["replicas"] == a["wished"] else f", {a['replicas']} can be had now"
    return (
        f"{count} wanted, {there}{fits} ({a['reason']}, decided {_seconds(a['ageSeconds'])} ago)."
    )


def _front_door(a: Account) -> Iterator[str]:
    """Yield what the front door tells of a service that may sleep."""
    told = a.get("frontDoor")
    if told is None:
        return
    if told["waiting"]:
        count = round(told["waiting"])
        yield f"{count} {'request waits' if count == 1 else 'requests wait'} at the front door for a replica."
    if told["askedSecondsAgo"] is not None:
        yield f"A request last had to wait for a replica {_seconds(told['askedSecondsAgo'])} ago."
    if told["silentSeconds"] is not None:
        yield (
            f"Not every replica of the front door reports (for {_seconds(told['silentSeconds'])}): nothing "
            "falls asleep meanwhile, and after a minute what sleeps is woken where there is room."
        )
    elif a["held"] and told["idleSeconds"]:
        yield f"Nobody has asked for {_seconds(told['idleSeconds'])}; it sleeps once waking is cheaper."


_DEMAND = {
    "mean": "{:.3g} as the mean of the window",
    "recent": "{:.3g} lately",
    "work_off": "{:.3g} more to work off what waits",
    "backlog": "{:.3g} items wait",
}
_MARGIN = {
    "surprise": "within a load time it rose by {:.0%} at times",
    "beta": "times {:.3g}, which follows the late requests",
}


def _demand(a: Account) -> Iterator[str]:
    figures = a["figures"]
    served = [p["served"] for p in a["pools"] if p.get("served") is not None]
    if "demand" in figures:
        parts = [text.format(figures[n]) for n, text in _DEMAND.items() if n in figures]
        detail = f": {', '.join(parts)}" if parts else ""
        yield f"Asked for: {figures['demand']:.3g} items/s{detail}."
    if "margin" in figures:
        parts = [text.format(figures[n]) for n, text in _MARGIN.items() if n in figures]
        detail = f": {', '.join(parts)}" if parts else ""
        yield f"Kept above that: {figures['margin']:.0%}{detail}."
    if figures.get("season"):
        yield (
            f"At this time of day it has been {figures['season']:.3g} items/s before; other days tell "
            f"it {figures['skill']:.0%} better than the last quarter of an hour."
        )
    if figures.get("capacity"):
        yield f"So the replicas are to be able to serve {figures['capacity']:.3g} items/s."
    if served:
        yield f"Served in the last scrapes: {sum(served):.3g} items/s."
    for pool in a["pools"]:
        yield from _pressure(pool)


def _pressure(pool: Mapping[str, Any]) -> Iterator[str]:
    told = {
        "busyShare": "busy {:.0%}",
        "queueSeconds": "queue {:.3g} s",
        "pending": "{:.3g} requests wait",
        "p99Seconds": "p99 {:.3g} s",
    }
    parts = [text.format(pool[n]) for n, text in told.items() if pool.get(n) is not None]
    if parts:
        replicas = f"{pool['ready']} ready, {pool['starting']} starting"
        yield f"Pool {pool['pool']} ({replicas}): {', '.join(parts)}."


def _capacity(a: Account) -> Iterator[str]:
    objective = a.get("objectiveSeconds")
    within = f" within {_seconds(objective)}" if objective else ""
    seen = set()
    for pool in a["pools"]:
        if pool["accelerator"] in seen:
            continue
        seen.add(pool["accelerator"])
        rate = pool.get("itemsPerSecond")
        if rate is None:
            yield (
                f"What a replica serves on {pool['accelerator']} is not known yet: it is learned "
                "under load, or declared in the Model's variants[].profile."
            )
            continue
        planned = f"{a['plannedShare']:.0%} of it are planned for"
        yield (
            f"One replica serves {rate:.3g} items/s on {pool['accelerator']}{within}; {planned}. "
            f"That is {_source(pool)}."
        )


def _reserve(a: Account) -> Iterator[str]:
    figures = a["figures"]
    if "capacity" in figures and "margin" in figures:
        leapt = figures.get("surprise")
        surprise = (
            "" if leapt is None else f"; one load time later it was {leapt:.0%} more at times"
        )
        yield (
            f"Able to serve {figures['capacity']:.3g} items/s is what is wanted: "
            f"{figures['margin']:.0%} above the mean are kept ready for what comes{surprise}."
        )


def _source(pool: Mapping[str, Any]) -> str:
    declared, measured = pool.get("declared"), pool.get("measured")
    if measured and declared:
        return f"measured ({_line(measured)}), within bounds of the declared {_line(declared)}"
    if measured:
        return f"measured: {_line(measured)}"
    if declared:
        return f"declared: {_line(declared)}; nothing is measured yet"
    return "taken from another accelerator by the pools' relativeSpeed"


def _line(profile: Mapping[str, float]) -> str:
    return f"{profile['fixedMs']:.3g} ms + {profile['perItemMs']:.3g} ms an item"


def _allowed(a: Account) -> str:
    late = a["figures"].get("late")
    lately = "" if late is None else f"; lately {late:.2%} were, by their waits"
    return f"{a['allowedLate']:.2%} of the requests may be late (aggressiveness){lately}."


def _held(a: Account) -> Iterator[str]:
    figures = a["figures"]
    window = _seconds(a["scaleDownWindowSeconds"])
    if figures.get("window_left_s"):
        left = _seconds(figures["window_left_s"])
        yield f"Less would do, but was more within {window}: nothing goes for another {left}."
    if figures.get("cooldown_left_s"):
        yield f"A cool-down holds it for another {_seconds(figures['cooldown_left_s'])}."


def _bounds(a: Account) -> Iterator[str]:
    bounds = a["bounds"]
    fixed = "" if bounds["fixed"] is None else f"; spec.replicas asks for {bounds['fixed']}"
    writer = f", {a['writer']}" if fixed and a.get("writer") else ""
    yield f"Bounds: {bounds['minimum']} to {bounds['maximum']}{fixed}{writer}."
    if a.get("standby") and not fixed:
        yield f"Beyond what the load asks for, {a['standby']} stand by while the service has any."
    if a.get("floor"):
        yield f"The lower one is that of the {_without_article(a['floor'])}."


def _without_article(text: str) -> str:
    return text.removeprefix("the ")


def _seconds(seconds: float) -> str:
    """Return a time as people say it: 50 ms, 23 s, 5 min."""
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    return f"{seconds:.3g} s" if seconds < 600 else f"{seconds / 60:.3g} min"
