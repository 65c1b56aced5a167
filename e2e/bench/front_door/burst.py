"""A burst of requests on a service that sleeps: it wakes, and none is lost."""

from collections.abc import Callable
from dataclasses import replace
from time import monotonic
from typing import Any

from e2e.bench.front_door.door import Door
from e2e.bench.front_door.flow import Protocol, together
from e2e.bench.front_door.load import sent
from e2e.bench.front_door.models import POOL
from e2e.kubectl import wait_for
from e2e.scratch import READY_S, Object, Scratch, adding, python_model, service

Figures = dict[str, Any]
NAME = "sleeper"
REQUESTS = 500
PATIENCE_S = 120.0
CALM_S = 10.0
"""For which it must have slept: longer than a replica takes to come that nobody asked for."""
SHARES: dict[Protocol, int] = {"http": 250, "grpc": 250}


def measure(place: Scratch, door: Door, progress: Callable[[str, float], None]) -> Figures:
    """Return the figures; ``progress`` hears what is done, and which share of all."""
    progress("a service that sleeps", 0.0)
    place.apply(*python_model(NAME, adding(1)), sleeper(pools=(POOL,)))
    place.await_condition(NAME, "Admitted", status="True")
    await_sleep(place)
    progress(f"{REQUESTS} requests at once", 0.5)
    flows = [
        replace(
            door.flow(protocol, place.namespace, NAME, protocol),
            rate=1e6,
            most=count,
            seconds=10.0,
            timeout=PATIENCE_S,
            # Each is under way on a connection of its own over HTTP/1.1.
            connections=count if protocol == "http" else 8,
        )
        for protocol, count in SHARES.items()
    ]
    outcomes = sent(*flows)
    found = together("burst", outcomes)
    return {
        "cold_burst_lost": found.wrong,
        "cold_burst_requests": found.sent,
        "cold_burst": {o.name: o.summary() for o in outcomes},
    }


def sleeper(name: str = NAME, **spec: Any) -> Object:
    """Return a service that goes to sleep soon after nobody asks any more."""
    scaling = {
        "minReplicas": 0,
        "maxReplicas": 2,
        "window": "5s",
        "scaleDownWindow": "5s",
        "drainTimeout": "5s",
    }
    return service(name, scaling=scaling, **spec)


def await_sleep(place: Scratch, name: str = NAME) -> None:
    """Wait until a service sleeps, and has done so for a while."""
    since: list[float] = []

    def sleeps() -> bool:
        pods = place.all("pods", "-l", f"conch.dev/service={name}")
        status = place.there("modelservice", name).get("status") or {}
        if pods or status.get("desiredReplicas") != 0:
            since.clear()
        else:
            since.append(monotonic())
        return bool(since) and since[-1] - since[0] > CALM_S

    wait_for(
        f"{name} asleep",
        sleeps,
        timeout=READY_S,
        seen=lambda: str(place.condition(name, "ScalingActive").get("message")),
    )
