"""What fails while replicas come and go, and while a replica of the front door is deleted.

All ways at once, under the same changes: the front door over HTTP, gRPC and its streams, and beside
it, more lightly, nginx and the bare Service.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import monotonic
from typing import Any

from e2e.bench.front_door import nginx
from e2e.bench.front_door.door import Door
from e2e.bench.front_door.flow import Flow, Outcomes, together
from e2e.bench.front_door.load import Load
from e2e.bench.front_door.models import FAST, fast, scale
from e2e.install import NAMESPACE
from e2e.kubectl import names
from e2e.scratch import Scratch

Figures = dict[str, Any]
MOST = 3
LONGEST_S = 1800.0


@dataclass(frozen=True)
class Pace:
    """How much is done."""

    changes: int = 50
    requests: int = 50_000
    """Through the front door, at least."""
    rate: float = 100.0
    """Requests a second through the front door, over each of HTTP and gRPC."""
    beside: float = 30.0
    """The same through nginx and the bare Service."""


QUICK = Pace(changes=6, requests=3_000)


def measure(
    place: Scratch, door: Door, pace: Pace, progress: Callable[[str, float], None]
) -> tuple[Figures, list[Outcomes]]:
    """Return the figures, and the outcomes of the front door's flows.

    ``progress`` hears what is done, and which share of all.
    """
    fast(place, replicas=1)
    door.await_ready()
    flows = [*_through(door, place, pace), *_beside(place, pace)]
    took: list[float] = []
    with Load(*flows) as load:
        for number, replicas in enumerate(steps(pace.changes, seed=1)):
            done = number / pace.changes
            progress(f"change {number + 1} of {pace.changes}; {load.tally.sent} asked", done)
            if number == pace.changes // 2:
                _delete_one(door)
            began = monotonic()
            scale(place, FAST, replicas)
            place.await_ready(FAST, replicas)
            took.append(monotonic() - began)
        while _asked(load, pace) < pace.requests:
            progress(f"{load.tally.sent} asked", 1.0)
            load.more_answers(200)
        load.more_answers(100)
    door.await_ready()
    return _figures(load.outcomes, took), load.outcomes[:3]


def _asked(load: Load, pace: Pace) -> float:
    """Return how many of those sent went through the front door, as the rates say."""
    mine, others = 2.2 * pace.rate, 4 * pace.beside
    return load.tally.sent * mine / (mine + others)


def _figures(outcomes: list[Outcomes], took: list[float]) -> Figures:
    mine, theirs = outcomes[:3], outcomes[3:]
    all_mine = together("front door", mine)
    beside: dict[str, list[Outcomes]] = {}
    for one in theirs:
        beside.setdefault(one.name.split()[0], []).append(one)
    return {
        "requests": all_mine.sent,
        "failed": all_mine.wrong,
        "changes": len(took),
        "change_s_median": round(sorted(took)[len(took) // 2], 1),
        "by_flow": {o.name: o.summary() for o in mine},
        **{way: {"under_changes": _beside_figures(way, each)} for way, each in beside.items()},
    }


def _beside_figures(way: str, each: list[Outcomes]) -> Figures:
    found = together(way, each)
    return {
        "requests": found.sent,
        "failed": found.wrong,
        "by_flow": {o.name: o.summary() for o in each},
    }


def _through(door: Door, place: Scratch, pace: Pace) -> Iterator[Flow]:
    common = {"seconds": LONGEST_S, "connections": 6}
    name = place.namespace
    yield door.flow("http", name, FAST, "http", rate=pace.rate, **common)
    yield door.flow("grpc", name, FAST, "grpc", rate=pace.rate, **common)
    streams = {**common, "connections": 3}
    yield door.flow("streams", name, FAST, "stream", rate=pace.rate / 5, **streams)


def _beside(place: Scratch, pace: Pace) -> Iterator[Flow]:
    common: dict[str, Any] = {"rate": pace.beside, "seconds": LONGEST_S, "connections": 4}
    bare, proxy = place.address(FAST), nginx.start(place, FAST)
    yield nginx.flow("nginx http", proxy, FAST, "http", **common)
    yield nginx.flow("nginx grpc", proxy, FAST, "grpc", **common)
    yield Flow("bare_service http", "http", f"{bare}:8000", FAST, **common)
    yield Flow("bare_service grpc", "grpc", f"{bare}:8001", FAST, **common)


def steps(count: int, *, seed: int) -> list[int]:
    """Return so many numbers of replicas, from 1 on, each other than the one before."""
    drawn = random.Random(seed)
    found, now = [], 1
    for _ in range(count):
        now = drawn.choice([n for n in range(1, MOST + 1) if n != now])
        found.append(now)
    return found


def _delete_one(door: Door) -> None:
    """Delete a replica of the front door, as a node's drain does; another comes meanwhile."""
    gone = names(door.await_ready())[0]
    door.stage.tools.kubectl("delete", "pod", gone, "-n", NAMESPACE, "--wait=false")
