"""A rollout as a service's status and annotations have it. Pure."""

from typing import Any

from conch.api.names import ANNOTATION_ROLLOUT
from conch.api.rollout import RolloutStatus
from conch.clients.clock import iso
from conch.decisions.rolling import Order, Rollout
from conch.reconcile.resolve import Fault, parsed
from conch.reconcile.views import seconds_of

Object = dict[str, Any]


def stored(body: Object) -> Rollout | None:
    """Return the rollout that a service's status tells of; None where it tells of none."""
    told = (body.get("status") or {}).get("rollout")
    if not isinstance(told, dict):
        return None
    status = parsed(RolloutStatus, told)
    if isinstance(status, Fault):
        return None
    return Rollout(
        revision=status.revision,
        stable=status.stable,
        phase=status.phase,
        began=seconds_of(status.began),
        since=seconds_of(status.since),
        step=None if status.step is None else status.step - 1,
        percent=status.percent,
        swaps=status.swaps,
        promoted=status.promoted,
        message=status.message,
    )


def status_of(rollout: Rollout) -> RolloutStatus:
    """Return what the status is to say of a rollout."""
    return RolloutStatus(
        revision=rollout.revision,
        stable=rollout.stable,
        phase=rollout.phase,
        step=None if rollout.step is None else rollout.step + 1,
        percent=rollout.percent,
        swaps=rollout.swaps,
        promoted=rollout.promoted,
        began=iso(rollout.began),
        since=iso(rollout.since),
        message=rollout.message,
    )


def order_of(body: Object, revision: str | None) -> Order | None:
    """Return what a person wants of a revision's rollout, if anything that can be read."""
    annotations = body["metadata"].get("annotations") or {}
    word, _, whose = str(annotations.get(ANNOTATION_ROLLOUT, "")).partition("/")
    if revision is None or whose != revision or word not in list(Order):
        return None
    return Order(word)
