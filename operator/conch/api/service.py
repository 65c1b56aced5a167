"""ModelService: a model offered as a service, with its objective and bounds."""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator

from conch.api.base import (
    Duration,
    KubeModel,
    Name,
    Opaque,
    Token,
    matching,
    matching_rules,
    parse_duration,
    rule,
    rules,
    within,
    within_rules,
)
from conch.api.conditions import Condition
from conch.api.endpoint import Endpoint
from conch.api.rollout import RolloutSpec, RolloutStatus
from conch.api.schedule import Schedule

_DAY = 86400.0
_WINDOW = (1.0, _DAY, "between 1s and 24h")
_COOLDOWN = (0.0, _DAY, "of at most 24h")
Window = Annotated[
    str, within(*_WINDOW), Field(max_length=32, json_schema_extra=within_rules(*_WINDOW))
]
Cooldown = Annotated[
    str, within(*_COOLDOWN), Field(max_length=32, json_schema_extra=within_rules(*_COOLDOWN))
]


# Triton does not start with one that can't hold its own books.
_CACHE = r"^[1-9][0-9]{0,5}(\.[0-9]{1,3})?(M|G|Mi|Gi)$"
_CACHE_WORDS = "must be a number of bytes, 1M at least, such as 64Mi or 2Gi"
CacheSize = Annotated[
    str,
    matching(_CACHE, _CACHE_WORDS),
    Field(max_length=32, json_schema_extra=matching_rules(_CACHE, _CACHE_WORDS)),
]


class ModelKind(StrEnum):
    """Which kind of model a service refers to."""

    MODEL = "Model"
    CLUSTER_MODEL = "ClusterModel"


class Disruption(StrEnum):
    """Whether evictions wait for Conch to bring up another replica first."""

    PROTECT = "Protect"
    ALLOW = "Allow"


class ModelRef(KubeModel):
    """The model that the service offers."""

    kind: ModelKind = ModelKind.MODEL
    """Model of the service's namespace, or ClusterModel"""
    name: Name
    """name of the Model or ClusterModel"""
    variant: Annotated[Name | None, Field(description="unset: Conch chooses")] = None


class Objective(KubeModel):
    """What callers are promised."""

    p99: Duration | None = None
    """latency of a request that callers are promised, 99 of 100 times"""
    min_accuracy: float | None = None
    """no variant below it is chosen"""


class Aggressiveness(StrEnum):
    """How many requests may be late for the sake of fewer GPUs."""

    ECONOMICAL = "Economical"
    BALANCED = "Balanced"
    CAUTIOUS = "Cautious"

    @property
    def allowed_late(self) -> float:
        """Share of the requests that may be late."""
        return _ALLOWED_LATE[self]


_ALLOWED_LATE = {
    Aggressiveness.ECONOMICAL: 1e-2,
    Aggressiveness.BALANCED: 1e-3,
    Aggressiveness.CAUTIOUS: 1e-4,
}
_MIN_OVER_MAX = "minReplicas may not exceed maxReplicas: lower the one or raise the other"
_PEAK_OVER_MAX = (
    "minReplicas of a schedule may not exceed maxReplicas (unset: minReplicas): raise maxReplicas"
)
_STANDBY_OVER_MAX = (
    "standby may not reach maxReplicas (unset: minReplicas), since one replica at least works: "
    "raise maxReplicas or lower standby"
)
_MOST = "has(self.maxReplicas) ? self.maxReplicas : self.minReplicas"


class Scaling(KubeModel):
    """Bounds and pace of scaling. Unset maxReplicas means minReplicas."""

    model_config = {
        "json_schema_extra": rules(
            rule("!has(self.maxReplicas) || self.minReplicas <= self.maxReplicas", _MIN_OVER_MAX),
            rule(
                f"!has(self.schedules) || self.schedules.all(s, s.minReplicas <= ({_MOST}))",
                _PEAK_OVER_MAX,
            ),
            rule(f"self.standby == 0 || self.standby < ({_MOST})", _STANDBY_OVER_MAX),
        )
    }

    min_replicas: Annotated[int, Field(ge=0, le=10000)] = 1
    """never fewer replicas than these, also without load or metrics"""
    max_replicas: Annotated[int | None, Field(ge=1, le=10000)] = None
    """never more replicas than these; unset: as many as minReplicas"""
    standby: Annotated[
        int,
        Field(
            ge=0,
            le=1000,
            description="replicas beyond what the load asks for, so that one may fail unnoticed; "
            "on other nodes and in other zones where there is room",
        ),
    ] = 0
    aggressiveness: Annotated[
        Aggressiveness,
        Field(
            description="how many requests may be late for the sake of fewer GPUs: Economical 1 in "
            "100, Balanced 1 in 1,000, Cautious 1 in 10,000"
        ),
    ] = Aggressiveness.BALANCED
    schedules: Annotated[list[Schedule], Field(max_length=16)] = []
    """floors for known peaks; where several hold, the highest counts"""
    paused: bool = False
    """true: replicas stay as many as they are, whatever load, bounds and schedules say"""
    window: Annotated[Window, Field(description="over which rates are measured")] = "60s"
    scale_down_window: Annotated[
        Window | None,
        Field(
            description="the way down follows the highest wish in this time, and in two load times; unset: 300s, and a part of it where the load is calm"
        ),
    ] = None
    scale_up_cooldown: Annotated[Cooldown, Field(description="least time between two steps up")] = (
        "0s"
    )
    scale_down_cooldown: Annotated[
        Cooldown, Field(description="least time between two steps down")
    ] = "0s"
    target_utilization: Annotated[
        float,
        Field(
            gt=0,
            le=1,
            description="share of a replica's capacity that is planned for at most; what bursts need comes on top",
        ),
    ] = 0.95
    drain_timeout: Annotated[
        Duration, Field(description="what requests in flight get before a replica goes")
    ] = "30s"
    pending_timeout: Annotated[
        Duration, Field(description="after which a replica that does not start is tried elsewhere")
    ] = "300s"

    @model_validator(mode="after")
    def _contradicts_nothing(self) -> Self:
        if self.min_replicas > self.most:
            raise ValueError(_MIN_OVER_MAX)
        if any(s.min_replicas > self.most for s in self.schedules):
            raise ValueError(_PEAK_OVER_MAX)
        if self.standby and self.standby >= self.most:
            raise ValueError(_STANDBY_OVER_MAX)
        return self

    @property
    def most(self) -> int:
        """The upper bound of replicas."""
        return self.min_replicas if self.max_replicas is None else self.max_replicas

    def seconds(self, field: str) -> float:
        """Return the duration in a field of this object, in seconds."""
        return parse_duration(getattr(self, field))


class Placement(KubeModel):
    """Where replicas may run; empty lists mean anywhere. Earlier entries are preferred."""

    accelerators: Annotated[list[Token], Field(max_length=32)] = []
    """names that GPUPools give their accelerator"""
    pools: Annotated[list[Name], Field(max_length=32)] = []
    """names of GPUPools"""
    zones: Annotated[list[Token], Field(max_length=32)] = []
    """zones (topology.kubernetes.io/zone of nodes) for new replicas; those that run elsewhere stay until they are moved"""
    sites: Annotated[list[Token], Field(max_length=32)] = []
    """sites of GPUPools that replicas may not leave; names edge pools too"""
    cpu: bool = False
    """whether pools without GPUs will do, where no GPU is to be had; besides the accelerators above"""


class PodTemplate(KubeModel):
    """What the pods of the service carry besides what Conch writes."""

    labels: dict[str, str] = {}
    """more labels of the pods; those of conch.dev are Conch's"""
    annotations: dict[str, str] = {}
    """more annotations of the pods"""
    tolerations: Annotated[list[Opaque], Field(max_length=64)] = []
    """tolerations besides the pool's"""
    env: Annotated[list[Opaque], Field(max_length=256)] = []
    """environment of Triton's container"""
    image_pull_secrets: Annotated[list[Opaque], Field(max_length=32)] = []
    """credentials for private registries"""
    node_selector: dict[str, str] = {}
    """labels that narrow the pool's nodes further"""
    runtime_class_name: str | None = None
    """RuntimeClass, such as nvidia"""
    priority_class_name: str | None = None
    """PriorityClass of the pods"""
    service_account_name: str | None = None
    """ServiceAccount; unset: one without rights, made for the service"""
    volumes: Annotated[list[Opaque], Field(max_length=64)] = []
    """more volumes"""
    volume_mounts: Annotated[list[Opaque], Field(max_length=64)] = []
    """more mounts of Triton's container"""


class Triton(KubeModel):
    """The server: image and arguments; the installation's default where unset."""

    image: Token | None = None
    """image of Triton; unset: the installation's, and a revision keeps the one that it began with"""
    args: Annotated[list[str], Field(max_length=64)] = []
    """arguments added to Triton's command line"""
    response_cache: Annotated[
        CacheSize | None,
        Field(
            description="memory of each replica in which Triton keeps answers, for models that always answer the same input alike; on top of the variant's resources.memory. Unset: none. A config.pbtxt of the model's own has to enable response_cache itself; Triton tells no p99 of a model with a cache"
        ),
    ] = None


class ModelServiceSpec(KubeModel):
    """What a user wishes of a service."""

    model: ModelRef
    objective: Objective = Objective()
    scaling: Scaling = Scaling()
    replicas: Annotated[
        int | None,
        Field(
            ge=0,
            le=10000,
            description="exactly this many, kept within scaling's bounds (0 stops the service); unset: Conch decides",
        ),
    ] = None
    priority: Annotated[int, Field(ge=-1000000, le=1000000)] = 0
    """where GPUs are short, the greater is served first"""
    placement: Placement = Placement()
    disruption: Disruption = Disruption.PROTECT
    """Protect: evictions wait for another replica; Allow: no PodDisruptionBudget"""
    pod_template: PodTemplate = PodTemplate()
    triton: Triton = Triton()
    endpoint: Endpoint = Endpoint()
    rollout: RolloutSpec = RolloutSpec()


class PoolReplicas(KubeModel):
    """Replicas of the service in one pool."""

    pool: str
    """name of the GPUPool"""
    accelerator: str
    """accelerator of the pool"""
    replicas: int
    """replicas placed there"""
    ready: int
    """replicas that are ready"""


class ModelServiceStatus(KubeModel):
    """Facts about a service."""

    observed_generation: int | None = None
    """generation of the spec that the status is about"""
    url: str | None = None
    """address of the KServe v2 protocol over HTTP; paths begin with /v2 behind it"""
    grpc: str | None = None
    """host and port of the same protocol over gRPC"""
    selector: str | None = None
    """labels of the pods, for the scale subresource"""
    replicas: int = 0
    """replicas that have a place"""
    ready_replicas: int = 0
    """replicas that get traffic and answer"""
    desired_replicas: int | None = None
    """replicas that Conch wants now"""
    variant: str | None = None
    """variant of the revision with the traffic"""
    revision: str | None = None
    """revision that has the traffic"""
    pools: list[PoolReplicas] = []
    """replicas by pool"""
    where: Annotated[
        str | None, Field(description="pools in one text, for kubectl get: a100 x 3, t4 x 1")
    ] = None
    rollout: RolloutStatus | None = None
    """the last rollout of a new revision"""
    conditions: list[Condition] = []
