"""What the front door must reach."""

from collections.abc import Iterator, Mapping
from typing import Any

from e2e.bench.report import Unmet

DIRECT_RPS = 1000.0
ADDED_MS, RATIO = 0.3, 0.95
REQUESTS, CHANGES = 50_000, 50
CHANGE_S, NEW_S = 1.0, 3.0


def unmet(figures: Mapping[str, Any]) -> list[Unmet]:
    """Return the goals that were not reached, of those that were measured."""
    return [*_compared(figures), *_changed(figures), *_killed(figures), *_many(figures)]


def _compared(figures: Mapping[str, Any]) -> Iterator[Unmet]:
    if "direct_rps" not in figures:
        return
    if figures["direct_rps"] < DIRECT_RPS:
        yield Unmet(f"a model that answers {DIRECT_RPS:g}/s", f"{figures['direct_rps']:g}/s")
    if figures["added_ms_p50"] > ADDED_MS:
        goal = f"median added latency of at most {ADDED_MS:g} ms"
        yield Unmet(goal, f"{figures['added_ms_p50']:g} ms")
    if figures["throughput_ratio"] < RATIO:
        goal = f"throughput of at least {RATIO:g} of direct"
        yield Unmet(goal, f"{figures['throughput_ratio']:g}")


def _changed(figures: Mapping[str, Any]) -> Iterator[Unmet]:
    if "requests" not in figures:
        return
    if figures["failed"]:
        yield Unmet("none fails", f"{figures['failed']} of {figures['requests']}")
    if figures["requests"] < REQUESTS or figures["changes"] < CHANGES:
        goal = f"{REQUESTS} requests under {CHANGES} changes"
        yield Unmet(goal, f"{figures['requests']} under {figures['changes']}")


def _killed(figures: Mapping[str, Any]) -> Iterator[Unmet]:
    for what, killed in figures.get("kills", {}).items():
        if killed["failed_not_in_flight"]:
            goal = f"{what} killed: only who was under way fails"
            yield Unmet(goal, f"{killed['failed_not_in_flight']} more")
    if figures.get("replay_kill_failed"):
        yield Unmet("with replay none fails", str(figures["replay_kill_failed"]))
    if figures.get("cold_burst_lost"):
        yield Unmet("none of a burst is lost", str(figures["cold_burst_lost"]))


def _many(figures: Mapping[str, Any]) -> Iterator[Unmet]:
    if "endpoint_change_s_at_2000" not in figures:
        return
    bounds = (("endpoint_change_s_at_2000", CHANGE_S), ("new_service_s_at_2000", NEW_S))
    for name, bound in bounds:
        if figures[name] >= bound:
            yield Unmet(f"{name} under {bound:g} s", f"{figures[name]:g} s")
    if figures["disturbed_at_2000"]:
        yield Unmet("nothing else disturbed", f"{figures['disturbed_at_2000']} failed")
