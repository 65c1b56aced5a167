"""What the planner of migrations proposes, and what it refuses."""

from dataclasses import dataclass
from enum import StrEnum

from conch.api.migration import MoveReason
from conch.decisions.fleet import Amounts, ServiceKey


class Because(StrEnum):
    """Why a move that would have a reason is refused."""

    RESTING = "Resting"
    """It was moved or made a short while ago."""
    BUDGET = "Budget"
    """Enough of its pool move already."""
    HELD = "Held"
    """Its service is moving, being updated or paused, or it does not answer."""
    NO_PLACE = "NoPlace"
    """There is no other place for it that would do."""
    LITTLE_GAIN = "LittleGain"
    """It would gain too little for what it disturbs."""
    NO_DATA = "NoData"
    """What would have to be known is not."""
    DOUBTFUL = "Doubtful"
    """What speaks for it is too new, or seen in too many places at once, to be believed."""
    WAITING_FIRST = "WaitingFirst"
    """Others wait for room there."""


@dataclass(frozen=True, slots=True)
class Move:
    """One replica that leaves a node for another."""

    reason: MoveReason
    service: ServiceKey
    pod: str
    uid: str
    source_pool: str
    source_node: str
    target_pool: str
    target_node: str | None
    """Where it finds room in the books; None: an autoscaler brings a node. The pods of an elastic
    pool carry no pin: there it is enough to keep the new one off the source node."""
    gained: float
    """GPUs that are gained once it and those that go with it are through; replicas where there are
    no GPUs."""
    moved: float
    """GPUs, or replicas, that are moved for it in all."""
    text: str
    """What is gained for what, in words, with the numbers."""
    uids: tuple[str, ...] = ()
    """Those of the replicas that make the same gain together, in their order; this one too."""
    waiting: ServiceKey | None = None
    """Whose waiting replica gets the place, where one does."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A move that would have a reason and is not made."""

    reason: MoveReason
    because: Because
    service: ServiceKey
    """That of the replica, or of the one that waits."""
    pod: str | None
    node: str | None
    text: str


@dataclass(frozen=True, slots=True)
class Reserved:
    """Room of a node that is being made for a replica that waits: nobody else should get it."""

    node: str
    pool: str
    service: ServiceKey
    need: Amounts


@dataclass(frozen=True, slots=True)
class Plan:
    """What to move."""

    moves: tuple[Move, ...] = ()
    """Those that may start now."""
    later: tuple[Move, ...] = ()
    """Those that the same gains ask for once the ones before them are through. They are planned
    anew then."""
    refused: tuple[Refusal, ...] = ()
    reserved: tuple[Reserved, ...] = ()
