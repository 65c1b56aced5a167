"""Which of a service's revisions is the one that is wanted: not always the one that is asked for. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from conch.api.names import ANNOTATION_UNDO
from conch.api.rollout import RolloutPhase
from conch.api.service import ModelServiceSpec
from conch.decisions import rolling, rollout
from conch.decisions.fleet import Pod, ReplicaSet
from conch.decisions.rolling import Order, Rollout
from conch.reconcile.rollout_status import order_of

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Choice:
    """The revisions of one service, by the part that each has."""

    revision: str | None
    """The one that is wanted; None: nobody knows which."""
    serving: str | None = None
    """The one that has the traffic."""
    trial: str | None = None
    """One that is on trial beside it."""
    rejected: str | None = None
    """The one that is asked for, and was taken back."""
    undone: str | None = None
    """The one that is asked for, and that a person has undone."""


@dataclass(frozen=True, slots=True)
class Runs:
    """What there is of a service in the cluster."""

    selector: str | None
    """The revision that its Service selects; None: there is no Service."""
    sets: Sequence[ReplicaSet]
    pods: Sequence[Pod]
    rollout: Rollout | None = None
    """The last one, as the status tells it."""

    def there(self, revision: str) -> bool:
        """Tell whether anything of a revision runs, or is to."""
        asked = any(s.revision == revision and s.replicas for s in self.sets)
        return asked or any(p.revision == revision and not p.deleting for p in self.pods)


def chosen(
    body: Object,
    spec: ModelServiceSpec,
    asked: str | None,
    kept: Mapping[str, object],
    runs: Runs,
) -> Choice:
    """Return which revision is wanted, where ``asked`` follows from the specs that are applied.

    ``kept``: the revisions that pods can be made from.
    """
    stayed = rejected(body, asked, kept, runs.rollout)
    back = undone(body, asked, kept, runs.rollout)
    wanted = back or stayed or asked
    serving = rollout.selected(runs.selector, wanted, runs.sets, runs.pods)
    if back:
        return Choice(wanted, serving, undone=asked)
    if stayed:
        return Choice(wanted, serving, rejected=asked)
    if wanted is None or serving is None or serving == wanted:
        return Choice(wanted, serving)
    if runs.there(serving) and rolling.on_trial(runs.rollout, wanted, spec.rollout):
        return Choice(serving, serving, trial=wanted)
    return Choice(wanted, serving)


def rejected(
    body: Object, asked: str | None, kept: Mapping[str, object], known: Rollout | None
) -> str | None:
    """Return the revision to stay with where ``asked`` was taken back, else None.

    ``known`` is the last rollout. Unless a person wants it all the same, or what it was to replace is
    there no more.
    """
    if known is None or known.phase is not RolloutPhase.ROLLED_BACK or known.revision != asked:
        return None
    if order_of(body, asked) is Order.PROMOTE or known.stable not in kept:
        return None
    return known.stable


def undone(
    body: Object, asked: str | None, kept: Mapping[str, object], known: Rollout | None
) -> str | None:
    """Return the revision that a person goes back to where ``asked`` is undone, else None.

    It holds for this one alone: what is applied later is no longer undone. One that did not come up
    is not tried again and again.
    """
    annotations = body["metadata"].get("annotations") or {}
    whose, _, back = str(annotations.get(ANNOTATION_UNDO, "")).partition("/")
    if asked is None or whose != asked or back not in kept or back == asked:
        return None
    if known is None or known.phase is not RolloutPhase.ROLLED_BACK:
        return back
    return None if known.revision == back else back
