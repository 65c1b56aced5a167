"""Rollouts of new revisions as services' statuses have them, and the evidence that they go on by."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from conch.api.base import parse_duration
from conch.api.model import Tensor
from conch.api.rollout import RolloutPhase
from conch.decisions import rolling
from conch.decisions.canary import Tally
from conch.decisions.fleet import ServiceKey
from conch.decisions.rolling import Evidence, Rollout
from conch.provisioning.snapshot import Snapshot
from conch.reconcile.front_door import Heard
from conch.reconcile.gather import ServiceFacts
from conch.reconcile.health import failure_of
from conch.reconcile.rollout_status import order_of


@dataclass
class Rollouts:
    """Remembers what was counted when each step began."""

    _bases: dict[ServiceKey, tuple[object, Mapping[str, Tally]]] = field(default_factory=dict)

    def look(
        self, facts: ServiceFacts, heard: Heard | None, now: float, *, room: bool
    ) -> Rollout | None:
        """Return a service's rollout at ``now`` (s since the epoch); ``room``: for one more replica."""
        known, spec = facts.rollout, facts.spec.rollout
        rollout = rolling.begun(known, facts.service, spec, now, undone=facts.choice.undone)
        if rollout is None or rollout.phase is RolloutPhase.DONE:
            self._bases.pop(facts.key, None)
            return rollout
        p99 = facts.spec.objective.p99
        evidence = Evidence(
            tallies=self._tallies(facts.key, rollout, heard),
            door=heard is not None,
            room=room,
            p99=None if p99 is None else parse_duration(p99),
            order=order_of(facts.body, rollout.revision),
            failure=_failure(facts, rollout.revision),
            came=_came(facts, rollout.revision),
            **_differences(facts, rollout),
        )
        return rolling.advanced(rollout, facts.service, spec, evidence, now)

    def forget(self, kept: set[ServiceKey]) -> None:
        """Drop what is remembered of all services but these."""
        for key in self._bases.keys() - kept:
            del self._bases[key]

    def _tallies(
        self, key: ServiceKey, rollout: Rollout, heard: Heard | None
    ) -> Mapping[str, Tally] | None:
        """Return what was counted since the rollout's step began."""
        told = heard.canary(key) if heard is not None and rollout.percent is not None else None
        if told is None:
            return None
        step = (rollout.revision, rollout.began, rollout.step, rollout.percent)
        known = self._bases.get(key)
        if known is None or known[0] != step:
            known = self._bases[key] = (step, dict(told))
        return {revision: tally.since(known[1].get(revision)) for revision, tally in told.items()}


def _differences(facts: ServiceFacts, rollout: Rollout) -> dict[str, Any]:
    """Return what makes the new revision another thing to callers, as far as both are described."""
    new, old = facts.snapshots.get(rollout.revision), facts.snapshots.get(rollout.stable or "")
    if new is None or old is None:
        return {}
    if new.model != old.model:
        return {"renamed": True}
    return {"breaks": breaks(old, new)}


def breaks(old: Snapshot, new: Snapshot) -> str | None:
    """Return what callers of one revision could not do with another, in words; None: nothing known.

    They send all inputs as they were, and read some of the outputs.
    """
    before, after = old.inputs, new.inputs
    if before and after and set(map(_shown, before)) != set(map(_shown, after)):
        return f"its inputs are {_listed(after)} where they were {_listed(before)}"
    there = set(map(_shown, new.outputs))
    if there and not set(map(_shown, old.outputs)) <= there:
        return f"its outputs are {_listed(new.outputs)} where they were {_listed(old.outputs)}"
    return None


def _shown(tensor: Tensor) -> str:
    return f"{tensor.name} {tensor.datatype}{list(tensor.shape)}"


def _listed(tensors: Iterable[Tensor]) -> str:
    return ", ".join(sorted(map(_shown, tensors)))


def _came(facts: ServiceFacts, revision: str) -> float | None:
    ready = (p.ready_at for p in facts.service.pods if p.revision == revision)
    return max((at for at in ready if at is not None), default=None)


def _failure(facts: ServiceFacts, revision: str) -> str | None:
    found = failure_of([p for p in facts.service.pods if p.revision == revision])
    return None if found is None else found.message
