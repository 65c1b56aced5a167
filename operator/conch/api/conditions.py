"""The closed vocabulary of conditions and reasons, and how a list of conditions is updated.

Types follow kstatus: Ready is the summary, Reconciling and Stalled are abnormal-true.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from pydantic import Field

from conch.api.base import KubeModel


class ConditionType(StrEnum):
    """All condition types that Conch writes; no more are added."""

    READY = "Ready"
    ADMITTED = "Admitted"
    LOADED = "Loaded"
    SCALING_ACTIVE = "ScalingActive"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"


class Reason(StrEnum):
    """Why a condition is as it is; docs/reference/conditions.md explains each."""

    # Ready
    SERVING = "Serving"
    NO_READY_REPLICA = "NoReadyReplica"
    SCALED_TO_ZERO = "ScaledToZero"
    # Admitted
    PLACED = "Placed"
    NO_POOL = "NoPool"
    POOL_WITHOUT_NODES = "PoolWithoutNodes"
    INSUFFICIENT_CAPACITY = "InsufficientCapacity"
    QUOTA_REFUSED = "QuotaRefused"
    AWAITING_SHARE = "AwaitingShare"
    TENANT_LIMIT = "TenantLimit"
    # Loaded
    MODEL_LOADED = "ModelLoaded"
    MODEL_LOADING = "ModelLoading"
    MODEL_NOT_FOUND = "ModelNotFound"
    MODEL_INVALID = "ModelInvalid"
    NO_VARIANT = "NoVariant"
    SOURCE_UNAVAILABLE = "SourceUnavailable"
    CHECKSUM_MISMATCH = "ChecksumMismatch"
    LOAD_FAILED = "LoadFailed"
    OUT_OF_MEMORY = "OutOfMemory"
    IMAGE_UNAVAILABLE = "ImageUnavailable"
    # ScalingActive
    SCALING = "Scaling"
    FIXED_REPLICAS = "FixedReplicas"
    NO_METRICS = "NoMetrics"
    PARTIAL_METRICS = "PartialMetrics"
    ABSURD_METRICS = "AbsurdMetrics"
    AT_MAXIMUM = "AtMaximum"
    LIMITED_BY_CAPACITY = "LimitedByCapacity"
    LIMITED_BY_SHARE = "LimitedByShare"
    PAUSED = "Paused"
    # Reconciling, Stalled
    PROGRESSING = "Progressing"
    MOVING = "Moving"
    MOVED = "Moved"
    ROLLED_BACK = "RolledBack"
    SETTLED = "Settled"
    REPLICA_NOT_ANSWERING = "ReplicaNotAnswering"
    INVALID_SPEC = "InvalidSpec"
    CONFLICT = "Conflict"
    # GPUPool
    NODES_READY = "NodesReady"
    POOLS_OVERLAP = "PoolsOverlap"
    # Tenant
    ACCEPTED = "Accepted"
    NAMESPACE_TAKEN = "NamespaceTaken"
    QUOTA_OVER_CAPACITY = "QuotaOverCapacity"
    QUOTAS_LEAVE_NO_FLOOR = "QuotasLeaveNoFloor"


class Condition(KubeModel):
    """One condition of an object, as Kubernetes spells it."""

    type: str = Field(max_length=64)
    status: str = Field(json_schema_extra={"enum": ["True", "False", "Unknown"]})
    reason: str = Field(max_length=128)
    message: str = Field(max_length=4096)
    last_transition_time: str = Field(json_schema_extra={"format": "date-time"})
    observed_generation: int | None = None


@dataclass(frozen=True)
class Wish:
    """A condition without its time: what holds now."""

    type: ConditionType
    status: bool | None
    """None stands for Unknown."""
    reason: Reason
    message: str


def updated(
    old: Sequence[Condition], wishes: Iterable[Wish], *, generation: int, now: str
) -> list[Condition]:
    """Return the conditions after ``wishes``; a time changes only where a status does.

    ``now`` is ISO 8601 in UTC. The order is that of ConditionType, so that equal facts give
    equal lists.
    """
    before = {c.type: c for c in old}
    after = {w.type: _condition(w, before.get(w.type), generation, now) for w in wishes}
    return [after[t] for t in ConditionType if t in after]


def _condition(wish: Wish, before: Condition | None, generation: int, now: str) -> Condition:
    status = {True: "True", False: "False", None: "Unknown"}[wish.status]
    unchanged = before is not None and before.status == status
    return Condition(
        type=wish.type,
        status=status,
        reason=wish.reason,
        message=wish.message[:4096],
        last_transition_time=before.last_transition_time if before and unchanged else now,
        observed_generation=generation,
    )
