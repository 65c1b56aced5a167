"""What a plan says: the next step of one service's ReplicaSets and pods."""

from dataclasses import dataclass

from conch.decisions.fleet import Pod, ReplicaSet


@dataclass(frozen=True)
class SetPlan:
    """What a ReplicaSet should say now."""

    revision: str
    pool: str
    replicas: int
    gated: bool
    target: int
    """Where it is heading; differs from replicas while it shrinks."""


@dataclass(frozen=True)
class Admission:
    """Lift the gate of a pod; pin it unless the pool is elastic."""

    pod: Pod
    node: str | None
    migration: str | None = None
    """By which it takes another's place: it gets no traffic before it is warm."""
    avoid: tuple[str, ...] = ()
    """Nodes that it is kept off where the scheduler chooses."""
    disturbed: bool = False
    """That other one was disturbed by neighbours."""


@dataclass(frozen=True)
class Plan:
    """The next step of one service."""

    sets: tuple[SetPlan, ...] = ()
    retired: tuple[ReplicaSet, ...] = ()
    """ReplicaSets of revisions that are over, empty by now."""
    admissions: tuple[Admission, ...] = ()
    drains: tuple[Pod, ...] = ()
    restores: tuple[Pod, ...] = ()
    deletions: tuple[Pod, ...] = ()
    serving_revision: str | None = None
    shortage: int = 0
    """Replicas that are wished for but fit nowhere."""
    obstacles: tuple[str, ...] = ()
    """Why, pool by pool, where there is a shortage."""
    stuck: tuple[str, ...] = ()
    """Why, pool by pool, a replica that is to leave its node has no other place."""
    canary: tuple[str, float] | None = None
    """A revision that gets a share of the requests beside the one with the traffic, in percent."""
    wake_after: float | None = None
    """Seconds after which the next step is due, when time alone makes it due."""
