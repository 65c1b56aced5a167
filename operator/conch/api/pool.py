"""GPUPool: which nodes form a class of equal accelerators, and what they are worth."""

from typing import Annotated

from pydantic import Field

from conch.api.base import KubeModel, Opaque, Quantity, Token, rule, rules
from conch.api.conditions import Condition
from conch.api.names import DEFAULT_GPU_RESOURCE


class PerGPU(KubeModel):
    """The share of a node that comes with each of its GPUs."""

    cpu: Quantity | None = None
    memory: Quantity | None = None


class GPUPoolSpec(KubeModel):
    """The nodes of a pool and what a GPU there is."""

    accelerator: Token
    node_selector: Annotated[
        dict[str, str],
        Field(
            min_length=1,
            description="labels that all nodes of the pool carry",
            json_schema_extra=rules(
                rule("size(self) > 0", "name at least one label that the pool's nodes carry")
            ),
        ),
    ]
    resource_name: Token = DEFAULT_GPU_RESOURCE
    per_gpu: Annotated[PerGPU, Field(alias="perGPU")] = PerGPU()
    tolerations: Annotated[list[Opaque], Field(max_length=32)] = []
    relative_speed: Annotated[float, Field(gt=0)] = 1.0
    price_per_gpu_hour: Annotated[float | None, Field(ge=0, alias="pricePerGPUHour")] = None
    spot: bool = False
    edge: bool = False
    elastic: Annotated[
        bool, Field(description="a cluster autoscaler adds nodes; pods are not pinned")
    ] = False


class GPUPoolStatus(KubeModel):
    """Facts about a pool."""

    observed_generation: int | None = None
    nodes: int = 0
    gpus: int = 0
    allocated: int = 0
    free: int = 0
    conditions: list[Condition] = []
