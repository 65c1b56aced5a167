"""What a replica takes of a node: its GPUs, and the CPU and memory that come with them."""

import math
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from conch.api.base import parse_quantity
from conch.api.model import Variant
from conch.api.pool import GPUPoolSpec, SharingMode

DEVICES_CLAIM = "devices"
"""What a pod calls the claim of its devices, where a DRA driver gives them."""


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


def _bytes(*quantities: str) -> str:
    """Return the sum of quantities in whole bytes."""
    return str(math.ceil(sum(map(parse_quantity, quantities))))


def devices(variant: Variant, pool: Pool) -> int:
    """Return how many devices of the pool a replica takes: none where there are no GPUs."""
    return 0 if pool.spec.sharing.mode is SharingMode.CPU else variant.resources.gpus


def host_share(variant: Variant, pool: Pool) -> dict[str, str]:
    """Return CPU and memory of a replica: the variant's own, else what the pool gives a GPU.

    In a pool without GPUs it gets as much as it would with its GPUs, and that of one at least.
    """
    gpus, per_gpu = variant.resources.gpus, pool.spec.per_gpu
    if pool.spec.sharing.mode is SharingMode.CPU:
        gpus = max(1, gpus)
    given = {
        "cpu": per_gpu.cpu and gpus and times(per_gpu.cpu, gpus),
        "memory": per_gpu.memory and gpus and times(per_gpu.memory, gpus),
    }
    own = {"cpu": variant.resources.cpu, "memory": variant.resources.memory}
    return {k: str(own[k] or given[k]) for k in own if own[k] or given[k]}


def requirements(share: dict[str, str]) -> dict[str, Any]:
    """Return resources whose requests equal their limits, so that replicas are alike."""
    return {"requests": dict(share), "limits": dict(share)} if share else {}


def triton_requirements(
    variant: Variant, pool: Pool, *, response_cache: str | None = None
) -> dict[str, Any]:
    """Return the resources of Triton's container in a pool; ``response_cache`` is a quantity.

    What a variant says of memory is what the model needs, so a cache comes on top; a GPU's share of
    its node holds both.
    """
    count, share = devices(variant, pool), host_share(variant, pool)
    if response_cache and variant.resources.memory:
        share["memory"] = _bytes(variant.resources.memory, response_cache)
    if count and pool.spec.sharing.mode is SharingMode.DRA:
        return {**requirements(share), "claims": [{"name": DEVICES_CLAIM}]}
    asked = {pool.spec.resource_name: str(count)} if count else {}
    return requirements({**share, **asked})
