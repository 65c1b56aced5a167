"""Which pod has which of a service's places in HAProxy, so that few changes need a reload. Pure."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from conch.frontdoor.routes import PLAIN, Replica

FEWEST = 2
"""Places of a service that has no pod."""
SPARE = 1
"""Places beyond the pods that there are, so that one more needs no reload."""


class State(StrEnum):
    """What a place does, in the words of HAProxy's ``set server``."""

    READY = "ready"
    DRAIN = "drain"
    FREE = "maint"


@dataclass(frozen=True, slots=True)
class Slot:
    """One place: the pod that has it, where it is asked, and whether it gets requests."""

    uid: str | None = None
    address: str = ""
    weight: int = PLAIN
    state: State = State.FREE


Slots = tuple[Slot, ...]


def places(count: int) -> int:
    """Return how many places a service with so many pods gets: powers of two, so that few sizes do."""
    return max(FEWEST, 1 << (count + SPARE - 1).bit_length())


def assigned(
    old: Slots, replicas: Sequence[Replica], broken: Collection[str] = frozenset()
) -> Slots:
    """Return the places as they should be now; more of them only where those there are won't do.

    A pod keeps its place while it is known. One that takes nothing any more is drained there, and
    one that never took anything gets none; in a ``broken`` one (UIDs) nothing is waited for. A place
    is free once its pod is gone. A canary has no weight, which leaves it what is drawn for it, unless
    there is nobody else.
    """
    others = any(r.takes and not r.canary and r.uid not in broken for r in replicas)
    known = {r.uid: _weighed(r, aside=others) for r in replicas}
    slots = [_kept(slot, known, broken) for slot in old]
    placed = {s.uid for s in slots}
    waiting = [r for r in known.values() if r.takes and r.uid not in {*placed, *broken}]
    free = [i for i, s in enumerate(slots) if s.uid is None]
    if len(free) < len(waiting):
        more = places(len(placed - {None}) + len(waiting)) - len(slots)
        free += range(len(slots), len(slots) + more)
        slots += [Slot()] * more
    for index, replica in zip(free, waiting, strict=False):
        slots[index] = Slot(replica.uid, replica.address, replica.weight, State.READY)
    return tuple(slots) if slots else (Slot(),) * FEWEST


def _weighed(replica: Replica, *, aside: bool) -> Replica:
    return replace(replica, weight=0) if replica.canary and aside else replica


def _kept(slot: Slot, known: Mapping[str, Replica], broken: Collection[str]) -> Slot:
    replica = known.get(slot.uid or "")
    if replica is None:
        return Slot()
    if replica.uid in broken:
        return replace(slot, state=State.FREE)
    # An address never changes while a pod lives: an empty one is of a pod that has ended.
    state = State.READY if replica.takes else State.DRAIN
    return replace(slot, weight=replica.weight, state=state)
