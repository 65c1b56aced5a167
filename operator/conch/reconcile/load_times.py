"""What starts of replicas took, over all services of a model; none is counted twice. Pure."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from conch.decisions.fleet import Pod
from conch.decisions.scaling import load_time
from conch.reconcile.gather import ServiceFacts

Key = tuple[str, str]
"""Model's UID, and variant."""


class LoadTimes:
    """Learns the load time of each variant on each accelerator, online."""

    def __init__(self) -> None:
        self._starts: dict[Key, dict[str, deque[float]]] = {}
        """Seconds, by accelerator."""
        self._seen: set[str] = set()
        """UIDs of pods that were ready once."""
        self._counts: dict[Key, int] = {}

    def observe(self, services: Iterable[tuple[ServiceFacts, str]]) -> None:
        """Take over the replicas that became ready since; with each service its model's UID."""
        there = set[str]()
        for facts, model in services:
            there.update([p.uid for p in facts.service.pods])
            for pod in facts.service.pods:
                if pod.ready_at is not None and pod.uid not in self._seen:
                    self._take(facts, model, pod)
        self._seen &= there

    def _take(self, facts: ServiceFacts, model: str, pod: Pod) -> None:
        self._seen.add(pod.uid)
        snapshot = facts.snapshots.get(pod.revision)
        accelerator = next((p.spec.accelerator for p in facts.pools if p.name == pod.pool), None)
        seconds = start_seconds(pod)
        ref = facts.spec.model
        if snapshot is None or accelerator is None or seconds is None:
            return
        if (snapshot.model_kind, snapshot.model) != (ref.kind, ref.name):
            return
        found = self._starts.setdefault((model, snapshot.variant.name), {})
        key = (model, snapshot.variant.name)
        self._counts[key] = self._counts.get(key, 0) + 1
        found.setdefault(accelerator, deque(maxlen=load_time.REMEMBERED)).append(seconds)

    def count(self, model: str, variant: str) -> int:
        """Return how many starts were seen: with another one, other things may be learned."""
        return self._counts.get((model, variant), 0)

    def learned(
        self, model: str, variant: str, known: Mapping[str, float]
    ) -> Iterator[tuple[str, float]]:
        """Yield (accelerator, seconds); ``known`` is what the model's status says already."""
        own = self._starts.get((model, variant), {})
        for accelerator in sorted({*own, *known}):
            starts = tuple(own.get(accelerator, ()))
            found = load_time.p90(starts, known.get(accelerator))
            if found is not None:
                yield accelerator, found

    def forget(self, models: Iterable[str]) -> None:
        """Drop what is remembered of all models but these."""
        kept = set(models)
        for key in [k for k in self._starts if k[0] not in kept]:
            del self._starts[key]
            self._counts.pop(key, None)


def start_seconds(pod: Pod) -> float | None:
    """Return what a ready pod took from the node that it was given, None where that is not told.

    Waiting for a place is no load time: it begins where the scheduler ends, and includes pulling
    images and fetching the model. A pod whose containers began anew was ready before.
    """
    if pod.ready_at is None or _began_anew(pod):
        return None
    began = pod.created if pod.scheduled_at is None else pod.scheduled_at
    return max(0.0, pod.ready_at - began)


def _began_anew(pod: Pod) -> bool:
    status: Mapping[str, Any] = pod.body.get("status") or {}
    return any(c.get("restartCount") for c in status.get("containerStatuses") or ())
