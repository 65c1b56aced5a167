"""ModelService: a model offered as a service, with its objective and bounds."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from conch.api.base import Duration, KubeModel, Name, Opaque, Token, parse_duration, rule, rules
from conch.api.conditions import Condition


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
    name: Name
    variant: Annotated[Name | None, Field(description="unset: Conch chooses")] = None


class Objective(KubeModel):
    """What callers are promised."""

    p99: Duration | None = None
    min_accuracy: float | None = None


class Scaling(KubeModel):
    """Bounds and pace of scaling. Unset maxReplicas means minReplicas."""

    model_config = {
        "json_schema_extra": rules(
            rule(
                "!has(self.maxReplicas) || self.minReplicas <= self.maxReplicas",
                "minReplicas may not exceed maxReplicas",
            )
        )
    }

    min_replicas: Annotated[int, Field(ge=0, le=10000)] = 1
    max_replicas: Annotated[int | None, Field(ge=1, le=10000)] = None
    window: Annotated[Duration, Field(description="over which rates are measured")] = "60s"
    scale_down_window: Annotated[
        Duration, Field(description="the way down follows the highest wish in this time")
    ] = "300s"
    target_utilization: Annotated[
        float, Field(gt=0, le=1, description="share of a replica's capacity that is planned for")
    ] = 0.7
    drain_timeout: Annotated[
        Duration, Field(description="what requests in flight get before a replica goes")
    ] = "30s"
    pending_timeout: Annotated[
        Duration, Field(description="after which a replica that does not start is tried elsewhere")
    ] = "300s"

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
    pools: Annotated[list[Name], Field(max_length=32)] = []


class PodTemplate(KubeModel):
    """What the pods of the service carry besides what Conch writes."""

    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    tolerations: Annotated[list[Opaque], Field(max_length=64)] = []
    env: Annotated[list[Opaque], Field(max_length=256)] = []
    image_pull_secrets: Annotated[list[Opaque], Field(max_length=32)] = []
    node_selector: dict[str, str] = {}
    runtime_class_name: str | None = None
    priority_class_name: str | None = None
    service_account_name: str | None = None
    volumes: Annotated[list[Opaque], Field(max_length=64)] = []
    volume_mounts: Annotated[list[Opaque], Field(max_length=64)] = []


class Triton(KubeModel):
    """The server: image and arguments; the installation's default where unset."""

    image: Token | None = None
    args: Annotated[list[str], Field(max_length=64)] = []


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
    placement: Placement = Placement()
    disruption: Disruption = Disruption.PROTECT
    pod_template: PodTemplate = PodTemplate()
    triton: Triton = Triton()


class PoolReplicas(KubeModel):
    """Replicas of the service in one pool."""

    pool: str
    accelerator: str
    replicas: int
    ready: int


class ModelServiceStatus(KubeModel):
    """Facts about a service."""

    observed_generation: int | None = None
    url: str | None = None
    selector: str | None = None
    replicas: int = 0
    ready_replicas: int = 0
    desired_replicas: int | None = None
    variant: str | None = None
    revision: str | None = None
    pools: list[PoolReplicas] = []
    conditions: list[Condition] = []
