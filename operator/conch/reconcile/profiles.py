"""What was measured of models, kept in their status, so that a restart forgets nothing. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from conch.api.model import MeasuredProfile, ModelStatus
from conch.decisions.fleet import ServiceKey
from conch.decisions.scaling import ScalingState, measured, state_from_profiles
from conch.reconcile.gather import ServiceFacts
from conch.reconcile.load_times import LoadTimes
from conch.reconcile.store import Store, version_of

Object = dict[str, Any]

TELLING = 0.2
"""Relative change from which a measured time is written anew: noise writes nothing."""
LEAST_S = 2.0
"""Of a load time at least so much: the API tells whole seconds, at both of its ends."""


@dataclass(frozen=True)
class _Found:
    """What is known of a variant on an accelerator: a run's time in ms, and a start's in seconds."""

    fixed_ms: float | None = None
    per_item_ms: float | None = None
    load_seconds: float | None = None


class Profiles:
    """Reads and renders Model.status.profiles."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._load_times = LoadTimes()
        self._read: dict[str, tuple[object, tuple[MeasuredProfile, ...]]] = {}
        """By a model's UID, of its last version: what its status says."""
        self._seconds: dict[tuple[str, str], tuple[object, Mapping[str, float]]] = {}
        """By a model's UID and variant: load times, and what they were made from."""

    def _model(self, facts: ServiceFacts) -> Object | None:
        ref = facts.spec.model
        namespace = facts.key.namespace if ref.kind == "Model" else ""
        return self._store.get(ref.kind, ref.name, namespace)

    def observe(self, services: Iterable[ServiceFacts]) -> None:
        """Take over what replicas took to start."""
        models = [(f, m["metadata"]["uid"]) for f in services if (m := self._model(f)) is not None]
        self._load_times.observe(models)
        kept = {uid for _, uid in models}
        self._load_times.forget(kept)
        self._read = {uid: known for uid, known in self._read.items() if uid in kept}
        for key in [k for k in self._seconds if k[0] not in kept]:
            del self._seconds[key]

    def _profiles(self, model: Object | None) -> tuple[MeasuredProfile, ...]:
        if model is None:
            return ()
        uid, version = model["metadata"]["uid"], version_of(model)
        known = self._read.get(uid)
        if known is None or known[0] != version:
            known = self._read[uid] = version, tuple(_profiles(model))
        return known[1]

    def initial(self, facts: ServiceFacts) -> ScalingState:
        """Return the state to start a service with: what its model's status says."""
        model = self._model(facts)
        variant = facts.resolved.variant.name if facts.resolved else None
        return state_from_profiles(
            (p.accelerator, p.fixed_ms, p.per_item_ms)
            for p in self._profiles(model)
            if p.variant == variant and p.fixed_ms is not None and p.per_item_ms is not None
        )

    def load_seconds(self, facts: ServiceFacts) -> Mapping[str, float]:
        """Return how long a replica of the service takes to start, by accelerator."""
        model = self._model(facts)
        snapshot = facts.snapshots.get(
            facts.service.revision or facts.service.serving_revision or ""
        )
        if model is None or snapshot is None:
            return {}
        return self._learned(model, snapshot.variant.name)

    def _learned(self, model: Object, variant: str) -> Mapping[str, float]:
        """Return the load times of a variant by accelerator, worked out once for what is known."""
        uid = model["metadata"]["uid"]
        made_from = version_of(model), self._load_times.count(uid, variant)
        found = self._seconds.get((uid, variant))
        if found is None or found[0] != made_from:
            known = {
                p.accelerator: p.load_seconds
                for p in self._profiles(model)
                if p.variant == variant and p.load_seconds is not None
            }
            learned = dict(self._load_times.learned(uid, variant, known))
            found = self._seconds[uid, variant] = made_from, learned
        return found[1]

    def statuses(
        self,
        services: Iterable[ServiceFacts],
        states: Mapping[ServiceKey, ScalingState],
        now: str,
    ) -> Iterator[tuple[Object, Object]]:
        """Yield models with the status to write, where a measured time changed tellingly.

        Where several services run one model, the first by name speaks for what a run takes.
        """
        seen = set()
        for facts in sorted(services, key=lambda f: f.key):
            model = self._model(facts)
            if model is None or facts.resolved is None or facts.key not in states:
                continue
            variant = facts.resolved.variant.name
            if (model["metadata"]["uid"], variant) in seen:
                continue
            seen.add((model["metadata"]["uid"], variant))
            fresh = {a: _Found(f, i) for a, f, i in measured(states[facts.key])}
            for accelerator, seconds in self._learned(model, variant).items():
                found = fresh.get(accelerator, _Found())
                fresh[accelerator] = replace(found, load_seconds=seconds)
            wish = _updated(model, variant, fresh, now)
            if wish is not None:
                yield model, wish


def _profiles(model: Object | None) -> list[MeasuredProfile]:
    found = ((model or {}).get("status") or {}).get("profiles") or []
    return [MeasuredProfile.model_validate(p) for p in found]


def _updated(model: Object, variant: str, fresh: Mapping[str, _Found], now: str) -> Object | None:
    old = {(p.variant, p.accelerator): p for p in _profiles(model)}
    new = dict(old)
    for accelerator, found in fresh.items():
        empty = MeasuredProfile(variant=variant, accelerator=accelerator)
        before = old.get((variant, accelerator), empty)
        told = {n: round(v, 3) for n, v in _news(before, found).items()}
        if told:
            new[variant, accelerator] = before.model_copy(update={**told, "as_of": now})
    if new == old and not (old and _of_an_older_spec(model)):
        return None
    return ModelStatus(
        observed_generation=int(model["metadata"].get("generation", 0)),
        profiles=[new[key] for key in sorted(new)],
    ).to_dict()


def _of_an_older_spec(model: Object) -> bool:
    generation = model["metadata"].get("generation", 0)
    return bool((model.get("status") or {}).get("observedGeneration", generation) != generation)


def _news(before: MeasuredProfile, found: _Found) -> dict[str, float]:
    """Return the fields that are to be written; the two of a run's time go together."""
    news: dict[str, float] = {}
    fixed, item = found.fixed_ms, found.per_item_ms
    known = None
    if before.fixed_ms is not None and before.per_item_ms is not None:
        known = before.fixed_ms + before.per_item_ms
    if fixed is not None and item is not None and _differs(known, fixed + item, least=1e-9):
        news |= {"fixed_ms": fixed, "per_item_ms": item}
    seconds = found.load_seconds
    if seconds is not None and _differs(before.load_seconds, seconds, least=LEAST_S):
        news["load_seconds"] = seconds
    return news


def _differs(before: float | None, now: float, *, least: float) -> bool:
    return before is None or abs(now - before) > max(TELLING * before, least)
