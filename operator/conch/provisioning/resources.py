"""What a replica takes of a node: its GPUs, and the CPU and memory that come with them."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from conch.api.model import Variant
from conch.api.pool import GPUPoolSpec


@dataclass(frozen=True)
class Pool:
    """A GPUPool by name."""

    name: str
    spec: GPUPoolSpec


def times(quantity: str, count: int) -> str:
    """Return a quantity taken ``count`` times, in the same unit: 3 x 500m is 1500m."""
    number = quantity.rstrip("numkKMGTPEi")
    unit = quantity[len(number) :]
    return f"{_plain(Decimal(number) * count)}{unit}" if count != 1 else quantity


def _plain(number: Decimal) -> str:
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def host_share(variant: Variant, pool: Pool) -> dict[str, str]:
    """Return CPU and memory of a replica: the variant's own, else what the pool gives a GPU."""
    gpus, per_gpu = variant.resources.gpus, pool.spec.per_gpu
    given = {
        "cpu": per_gpu.cpu and gpus and times(per_gpu.cpu, gpus),
        "memory": per_gpu.memory and gpus and times(per_gpu.memory, gpus),
    }
    own = {"cpu": variant.resources.cpu, "memory": variant.resources.memory}
    return {k: str(own[k] or given[k]) for k in own if own[k] or given[k]}


def requirements(share: dict[str, str]) -> dict[str, Any]:
    """Return resources whose requests equal their limits, so that replicas are alike."""
    return {"requests": dict(share), "limits": dict(share)} if share else {}


def triton_requirements(variant: Variant, pool: Pool) -> dict[str, Any]:
    """Return the resources of Triton's container in a pool."""
    gpus = variant.resources.gpus
    asked = {pool.spec.resource_name: str(gpus)} if gpus else {}
    return requirements({**host_share(variant, pool), **asked})
