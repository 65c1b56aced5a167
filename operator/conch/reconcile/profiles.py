"""What was measured of models, kept in their status, so that a restart forgets nothing. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from conch.api.model import MeasuredProfile, ModelStatus
from conch.decisions.fleet import ServiceKey
from conch.decisions.scaling import ScalingState, measured, state_from_profiles
from conch.reconcile.gather import ServiceFacts
from conch.reconcile.store import Store

Object = dict[str, Any]

TELLING = 0.2
"""Relative change from which a measured time is written anew: noise writes nothing."""


class Profiles:
    """Reads and renders Model.status.profiles."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def _model(self, facts: ServiceFacts) -> Object | None:
        ref = facts.spec.model
        namespace = facts.key.namespace if ref.kind == "Model" else ""
        return self._store.get(ref.kind, ref.name, namespace)

    def initial(self, facts: ServiceFacts) -> ScalingState:
        """Return the state to start a service with: what its model's status says."""
        model = self._model(facts)
        variant = facts.resolved.variant.name if facts.resolved else None
        return state_from_profiles(
            (p.accelerator, p.fixed_ms, p.per_item_ms)
            for p in _profiles(model)
            if p.variant == variant
        )

    def statuses(
        self,
        services: Iterable[ServiceFacts],
        states: Mapping[ServiceKey, ScalingState],
        now: str,
    ) -> Iterator[tuple[Object, Object]]:
        """Yield models with the status to write, where a measured time changed tellingly.

        Where several services run one model, the first by name speaks for it.
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
            wish = _updated(model, variant, measured(states[facts.key]), now)
            if wish is not None:
                yield model, wish


def _profiles(model: Object | None) -> list[MeasuredProfile]:
    found = ((model or {}).get("status") or {}).get("profiles") or []
    return [MeasuredProfile.model_validate(p) for p in found]


def _updated(
    model: Object, variant: str, fresh: list[tuple[str, float, float]], now: str
) -> Object | None:
    old = {(p.variant, p.accelerator): p for p in _profiles(model)}
    new = dict(old)
    for accelerator, fixed, per_item in fresh:
        before = old.get((variant, accelerator))
        if before is None or _differs(before, fixed, per_item):
            new[variant, accelerator] = MeasuredProfile(
                variant=variant,
                accelerator=accelerator,
                fixed_ms=round(fixed, 3),
                per_item_ms=round(per_item, 3),
                as_of=now,
            )
    if new == old:
        return None
    return ModelStatus(
        observed_generation=int(model["metadata"].get("generation", 0)),
        profiles=[new[key] for key in sorted(new)],
    ).to_dict()


def _differs(before: MeasuredProfile, fixed: float, per_item: float) -> bool:
    was, now = before.fixed_ms + before.per_item_ms, fixed + per_item
    return abs(now - was) > TELLING * max(was, 1e-9)
