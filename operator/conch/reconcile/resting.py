"""Which services need nothing: what was decided on them holds until something changes.

In a large fleet most services rest while a few change; a decision on each of them at each event
would take the process's whole time.
"""

from collections.abc import Collection
from dataclasses import dataclass

from conch.decisions import replicas
from conch.decisions.fleet import ServiceKey
from conch.decisions.moving import leaving
from conch.decisions.shares import Grant
from conch.decisions.steps import Plan
from conch.reconcile.gather import ServiceFacts
from conch.reconcile.status import Outcome


@dataclass(frozen=True)
class _Rest:
    outcome: Outcome
    measured_at: float
    since: float


class Resting:
    """Remembers outcomes that needed no write."""

    def __init__(self, lasts: float) -> None:
        """``lasts``: seconds after which each is decided on anew, since time passes for it too."""
        self._lasts = lasts
        self._known: dict[ServiceKey, _Rest] = {}

    def outcome(self, facts: ServiceFacts, measured_at: float, now: float) -> Outcome | None:
        """Return what was decided, where facts and metrics are the same and it is not long ago.

        ``measured_at`` is when metrics last came; it and ``now`` are in monotonic seconds.
        """
        known = self._known.get(facts.key)
        if (
            known is None
            or known.measured_at != measured_at
            or now - known.since >= self._lasts
            or known.outcome.facts.versions != facts.versions
        ):
            return None
        return known.outcome

    def plan(self, facts: ServiceFacts, wanted: int, grant: Grant | None) -> Plan | None:
        """Return what was planned at rest, where facts, grant and wanted replicas are the same.

        Metrics that came since may have other reasons for the same number.
        """
        known = self._known.get(facts.key)
        if known is None or known.outcome.facts.versions != facts.versions:
            return None
        same = known.outcome.wanted == wanted and same_grant(known.outcome.grant, grant)
        return known.outcome.plan if same else None

    def note(self, outcome: Outcome, measured_at: float, now: float, *, busy: bool) -> None:
        """Take over what was decided just now; ``busy`` where it has to be written, or is."""
        key = outcome.facts.key
        if busy or not _rests(outcome):
            self._known.pop(key, None)
        elif key not in self._known or self._known[key].outcome is not outcome:
            self._known[key] = _Rest(outcome, measured_at, now)

    def forget(self, kept: Collection[ServiceKey]) -> None:
        """Drop what is remembered of all services but these."""
        for key in self._known.keys() - kept:
            del self._known[key]


def same_grant(one: Grant | None, other: Grant | None) -> bool:
    """Tell whether two grants differ in words alone."""
    if one is None or other is None:
        return one is other
    return (one.replicas, one.given_up, one.reason) == (
        other.replicas,
        other.given_up,
        other.reason,
    )


def _rests(outcome: Outcome) -> bool:
    """Tell whether only other facts or metrics can change what is decided on a service.

    One that waits for room is decided on at each tick: others may have made some.
    """
    plan = outcome.plan
    waits = plan.wake_after is not None or plan.shortage > 0 or outcome.error is not None
    service = outcome.facts.service
    moves = outcome.facts.migrations or leaving(service) or any(p.goes for p in service.pods)
    rolls = outcome.rollout is not None and not outcome.rollout.phase.over
    return not (waits or moves or rolls) and replicas.all_placed(service)
