"""ModelMigration: one move of one replica, from where it answers to where another will."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from conch.api.base import Duration, KubeModel, Name, parse_duration, rule, rules
from conch.api.conditions import Condition


class Phase(StrEnum):
    """How far a move has come; the last two are its ends."""

    RESERVE = "Reserve"
    LOAD = "Load"
    WARM = "Warm"
    SHIFT = "Shift"
    DRAIN = "Drain"
    DONE = "Done"
    ROLLED_BACK = "RolledBack"

    @property
    def over(self) -> bool:
        """Whether nothing follows."""
        return self in (Phase.DONE, Phase.ROLLED_BACK)


class MoveReason(StrEnum):
    """Why a replica is moved."""

    REQUESTED = "Requested"
    """A person wants it."""
    NODE_FAILING = "NodeFailing"
    """Its node shows signs of failing."""
    DEFRAGMENTATION = "Defragmentation"
    """What waits gets a place, or a node becomes empty."""
    ACCELERATOR = "Accelerator"
    """Another pool is preferred, faster where that is needed, or cheaper where that is enough."""
    INTERFERENCE = "Interference"
    """It misses its objective beside busy neighbours, where others of its service meet it."""
    BALANCE = "Balance"
    """The loss of one node or zone would take too many replicas of a service."""
    RECLAIM = "Reclaim"
    """Others are entitled to its place."""


class MoveTarget(KubeModel):
    """Where to: a node, a pool, or neither for any other node."""

    model_config = {
        "json_schema_extra": rules(
            rule(
                "!(has(self.node) && has(self.pool))",
                "give a node or a pool, not both: a node's pool is known",
            )
        )
    }

    node: Name | None = None
    """name of the node"""
    pool: Name | None = None
    """name of the GPUPool"""


class Deadlines(KubeModel):
    """How long each phase may last until the move is taken back."""

    reserve: Duration = "2m"
    """until a place is booked for the other replica"""
    load: Duration = "15m"
    """until its model is loaded"""
    warm: Duration = "2m"
    """until it answers the warm-up's requests as fast as the one that leaves"""
    shift: Duration = "2m"
    """until it has the traffic"""
    drain: Duration = "10m"
    """until the old one is gone; after that the move counts as done, as another answers"""

    def seconds(self, phase: Phase) -> float:
        """Return the time of a phase that is not the end, in seconds."""
        return parse_duration(getattr(self, phase.value.lower()))


class ModelMigrationSpec(KubeModel):
    """One move; it can't be changed, delete it to take it back."""

    model_config = {
        "json_schema_extra": rules(
            rule("self == oldSelf", "a migration can't be changed: delete it and make another")
        )
    }

    service: Name
    """ModelService of the same namespace"""
    replica: Name | None = None
    """name of the pod that leaves; unset: Conch chooses, the oldest first"""
    to: MoveTarget = MoveTarget()
    reason: MoveReason = MoveReason.REQUESTED
    """why; Conch's own moves say which gain they promise"""
    because: Annotated[str | None, Field(max_length=1024)] = None
    """the reason in words, with its numbers"""
    deadlines: Deadlines = Deadlines()
    ttl: Annotated[Duration, Field(description="how long it stays once it is over")] = "24h"


class Seat(KubeModel):
    """A replica and its place."""

    pod: str | None = None
    """name of the pod"""
    uid: str | None = None
    """UID of the pod"""
    node: str | None = None
    """its node"""
    pool: str | None = None
    """its pool"""


class PhaseTime(KubeModel):
    """When a phase began."""

    phase: Phase
    """the phase"""
    at: str = Field(json_schema_extra={"format": "date-time"})
    """when it began"""


class ModelMigrationStatus(KubeModel):
    """Facts about a move; it goes on from these alone."""

    observed_generation: int | None = None
    """generation of the spec that the status is about"""
    phase: Phase | None = None
    """how far it has come"""
    source: Annotated[Seat | None, Field(alias="from", description="the replica that leaves")] = (
        None
    )
    target: Annotated[
        Seat | None, Field(alias="to", description="the replica that takes its place")
    ] = None
    phases: list[PhaseTime] = []
    """when each phase began"""
    warmth: str | None = None
    """what the warm-up's requests showed"""
    message: str | None = None
    """what is awaited, or how it ended"""
    conditions: list[Condition] = []
