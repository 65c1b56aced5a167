"""GPUPool: which nodes form a class of equal accelerators, and what they are worth."""

from typing import Annotated

from pydantic import Field

from conch.api.base import KubeModel, Opaque, Quantity, Token, rule, rules
from conch.api.conditions import Condition
from conch.api.names import DEFAULT_GPU_RESOURCE


class PerGPU(KubeModel):
    """The share of a node that comes with each of its GPUs."""

    cpu: Quantity | None = None
    """cores that a replica gets for each GPU, where its variant says nothing"""
    memory: Quantity | None = None
    """bytes that a replica gets for each GPU, where its variant says nothing"""


class GPUPoolSpec(KubeModel):
    """The nodes of a pool and what a GPU there is."""

    accelerator: Token
    """a name of your choice for the kind of GPU; services and profiles refer to it"""
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
    """the extended resource that stands for one device"""
    per_gpu: Annotated[PerGPU, Field(alias="perGPU")] = PerGPU()
    tolerations: Annotated[list[Opaque], Field(max_length=32)] = []
    """given to the pods that run here, for taints of GPU nodes"""
    relative_speed: Annotated[float, Field(gt=0)] = 1.0
    """speed against a reference of 1; the faster of equally preferred pools comes first"""
    price_per_gpu_hour: Annotated[float | None, Field(ge=0, alias="pricePerGPUHour")] = None
    """price in any one currency; the cheaper of equally fast pools comes first"""
    spot: bool = False
    """nodes may be taken away at short notice; noted, not acted on yet"""
    edge: bool = False
    """nodes are away from the data centre; noted, not acted on yet"""
    elastic: Annotated[
        bool, Field(description="a cluster autoscaler adds nodes; pods are not pinned")
    ] = False


class GPUPoolStatus(KubeModel):
    """Facts about a pool."""

    observed_generation: int | None = None
    """generation of the spec that the status is about"""
    nodes: int = 0
    """nodes that the selector matches"""
    gpus: int = 0
    """GPUs that these nodes offer"""
    allocated: int = 0
    """GPUs that pods on these nodes ask for"""
    free: int = 0
    """GPUs that nobody holds"""
    conditions: list[Condition] = []
