"""Who fails where something is killed: a replica of the front door, or a pod of the service.

At most those may fail that were under way through it. Where the service opted in to replay, none.
"""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from e2e.bench.front_door.door import Door, kill
from e2e.bench.front_door.flow import Killed, at_kill, together
from e2e.bench.front_door.load import Load
from e2e.bench.front_door.models import SLOW, slow
from e2e.kubectl import wait_for
from e2e.scratch import Object, Scratch

Figures = dict[str, Any]
REPLAYED = "replayed"
RATE = 60.0
"""Requests a second over each of HTTP and gRPC: with the model's time, several are under way."""
BEFORE, AFTER = 150, 400
"""Answers before and after a kill, over both protocols."""


def measure(place: Scratch, door: Door, progress: Callable[[str, float], None]) -> Figures:
    """Return the figures; ``progress`` hears what is done, and which share of all."""
    progress("two services", 0.0)
    slow(place, replicas=2)
    slow(place, replicas=2, name=REPLAYED, endpoint={"replay": True})
    door.await_ready()
    progress("a replica of the front door", 0.25)
    front = _killed(place, door, SLOW, lambda: kill(door.await_ready()[0], "haproxy"))
    door.await_ready()
    progress("a pod of the service", 0.5)
    pod = _killed(place, door, SLOW, lambda: kill(_pod(place, SLOW), "tritonserver"))
    progress("a pod of a service with replay", 0.75)
    replay = _killed(place, door, REPLAYED, lambda: kill(_pod(place, REPLAYED), "tritonserver"))
    for name in (SLOW, REPLAYED):
        _restarted(place, name)
    return {
        "front_door_kill_failed": front.failed,
        "pod_kill_failed": pod.failed,
        "replay_kill_failed": replay.failed,
        "in_flight_at_kill": {
            "front_door": front.in_flight,
            "pod": pod.in_flight,
            "replay": replay.in_flight,
        },
        "kills": {"front_door": asdict(front), "pod": asdict(pod), "replay": asdict(replay)},
    }


def _killed(
    place: Scratch, door: Door, service: str, kills: Callable[[], tuple[float, float]]
) -> Killed:
    flows = [
        door.flow(p, place.namespace, service, p, rate=RATE, seconds=300, connections=16)
        for p in ("http", "grpc")
    ]
    with Load(*flows) as load:
        load.more_answers(BEFORE)
        before, after = kills()
        _go_on(load)
    return at_kill(together(service, load.outcomes), before, after)


def _go_on(load: Load) -> None:
    """Wait for more answers, whatever fails meanwhile."""
    right = load.tally.right
    wait_for(
        f"{AFTER} more answers",
        lambda: load.tally.right >= right + AFTER,
        timeout=120,
        seen=lambda: str(load.tally),
    )


def _pod(place: Scratch, service: str) -> Object:
    return place.await_ready(service, 2)[0]


def _restarted(place: Scratch, service: str) -> None:
    place.await_ready(service, 2)
