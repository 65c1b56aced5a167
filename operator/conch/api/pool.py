"""GPUPool: which nodes form a class of equal accelerators, and what they are worth."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from conch.api.base import KubeModel, Name, Opaque, Quantity, Token, rule, rules
from conch.api.conditions import Condition
from conch.api.names import DEFAULT_GPU_RESOURCE, GROUP

NO_DEVICE = f"{GROUP}/no-device"
"""What pools without GPUs count: nothing has it, and nobody asks for it."""


def device_key(driver: str) -> str:
    """Return the name by which devices of a DRA driver are counted, as if they were a resource."""
    return f"{GROUP}/dra-{driver}"


class PerGPU(KubeModel):
    """The share of a node that comes with each device; where there is none, with each replica."""

    cpu: Quantity | None = None
    """cores that a replica gets for each device, where its variant says nothing"""
    memory: Quantity | None = None
    """bytes that a replica gets for each device, where its variant says nothing"""


class SharingMode(StrEnum):
    """What one device of a pool is."""

    WHOLE = "Whole"
    MIG = "MIG"
    TIME_SLICE = "TimeSlice"
    DRA = "DRA"
    CPU = "CPU"


class Sharing(KubeModel):
    """How GPUs are divided: what a replica that asks for one GPU gets."""

    model_config = {
        "json_schema_extra": rules(
            rule(
                "self.mode == 'DRA' ? has(self.deviceClass) : !has(self.deviceClass)",
                "name a deviceClass where mode is DRA, and only there",
            ),
            rule(
                "self.mode == 'DRA' || !has(self.driver)",
                "driver is for mode DRA only",
            ),
            rule(
                "!(self.mode in ['Whole', 'CPU']) || self.devicesPerGPU == 1",
                "devicesPerGPU is for GPUs that are divided: set mode to MIG, TimeSlice or DRA",
            ),
        )
    }

    mode: SharingMode = SharingMode.WHOLE
    """Whole: GPUs; MIG, TimeSlice: parts, which the device plugin offers under resourceName; DRA: devices of a DeviceClass, where the operator runs with --dra; CPU: no GPU, for services that need none, ask for the pool or set placement.cpu"""
    devices_per_gpu: Annotated[int, Field(ge=1, le=64, alias="devicesPerGPU")] = 1
    """devices that one GPU is divided into: a device counts as that part of a GPU in quotas, shares and prices"""
    device_class: Name | None = None
    """DeviceClass that ResourceClaimTemplates ask for"""
    driver: Token | None = None
    """driver whose ResourceSlices tell the devices of nodes; unset: named like the deviceClass"""


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
    """the extended resource that stands for one device: a GPU, or a part of one such as nvidia.com/mig-1g.10gb; not looked at in modes DRA and CPU"""
    per_gpu: Annotated[PerGPU, Field(alias="perGPU")] = PerGPU()
    tolerations: Annotated[list[Opaque], Field(max_length=32)] = []
    """given to the pods that run here, for taints of GPU nodes"""
    relative_speed: Annotated[float, Field(gt=0)] = 1.0
    """speed of a whole GPU against a reference of 1, of which a device has its part; the pool with the faster devices comes first among equally preferred ones"""
    price_per_gpu_hour: Annotated[float | None, Field(ge=0, alias="pricePerGPUHour")] = None
    """price of a whole GPU in any one currency; the cheaper of equally fast pools comes first"""
    spot: bool = False
    """nodes may be taken away at short notice: used last among equally preferred pools"""
    edge: bool = False
    """nodes are away from the data centre: only for services that name the pool or its site"""
    site: Token | None = None
    """where the nodes are; services may be bound to it by placement.sites"""
    sharing: Sharing = Sharing()
    disruption_budget: Annotated[
        str,
        Field(
            min_length=1,
            max_length=8,
            pattern=r"^[0-9]+%?$",
            description="GPUs that Conch itself may take back or move at a time: a number, or a percentage of the pool's; always one replica",
        ),
    ] = "10%"
    elastic: Annotated[
        bool, Field(description="a cluster autoscaler adds nodes; pods are not pinned")
    ] = False

    @property
    def counted_as(self) -> str:
        """The name by which devices are counted on nodes: their resource, or one of Conch's own."""
        if self.sharing.mode is SharingMode.DRA:
            return device_key(self.sharing.driver or self.sharing.device_class or "")
        return NO_DEVICE if self.sharing.mode is SharingMode.CPU else self.resource_name


class GPUPoolStatus(KubeModel):
    """Facts about a pool."""

    observed_generation: int | None = None
    """generation of the spec that the status is about"""
    nodes: int = 0
    """nodes that the selector matches"""
    gpus: int = 0
    """devices that these nodes offer: GPUs, or parts of them where spec.sharing divides them"""
    allocated: int = 0
    """devices that pods on these nodes ask for"""
    free: int = 0
    """devices that nobody holds"""
    conditions: list[Condition] = []
