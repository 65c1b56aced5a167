"""A fleet under contention, as its API server would tell of it: services, tenants, nodes, pods."""

import random
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from conch.api.model import ModelSpec
from conch.api.names import DEFAULT_GPU_RESOURCE
from conch.api.pool import GPUPoolSpec
from conch.api.service import ModelServiceSpec
from conch.decisions.fleet import ServiceKey
from conch.provisioning.snapshot import Images, Snapshot
from conch.reconcile.resolve import Fault, resolve

Object = dict[str, Any]
IMAGES = Images(triton="nvcr.io/nvidia/tritonserver:24.10-py3", conch="ghcr.io/conch-dev/conch:0.1")
PRODUCT = "nvidia.com/gpu.product"
GPUS_PER_NODE = 8
REPLICA_GPUS = {1: 0.6, 2: 0.25, 4: 0.1, 8: 0.05}
"""GPUs of a replica, and the part of the services whose replicas take so many."""
REPLICAS = {1: 0.25, 2: 0.28, 3: 0.22, 6: 0.25}
"""Replicas that a service wishes for, and the part of the services that do: together with the above
about a tenth more GPUs than there are."""
BY_LOAD = 0.7
"""Part of the services that scale by load; the others have a fixed number of replicas."""
ASLEEP = 0.04
"""Part of the tenants whose services wish for nothing until they wake."""


@dataclass(frozen=True)
class Kind:
    """A kind of node: its pool, its speed against a reference of 1, its price, its part of all."""

    pool: str
    accelerator: str
    speed: float
    price: float
    part: float


KINDS = (
    Kind("h100", "NVIDIA-H100", 3.0, 4.0, 0.25),
    Kind("a100", "NVIDIA-A100", 1.5, 2.0, 0.35),
    Kind("l4", "NVIDIA-L4", 0.5, 0.6, 0.4),
)
WISHES: tuple[tuple[tuple[str, ...], float], ...] = (
    ((), 0.5),
    (("NVIDIA-H100", "NVIDIA-A100"), 0.25),
    (("NVIDIA-A100", "NVIDIA-L4"), 0.15),
    (("NVIDIA-L4",), 0.1),
)
"""Accelerators that services name, and the part of the services that do; most do not care."""


@dataclass(frozen=True)
class Size:
    """How large a fleet is."""

    services: int

    @property
    def nodes(self) -> int:
        """Nodes, of 8 GPUs each."""
        return max(len(KINDS), round(self.services * 0.4))

    @property
    def tenants(self) -> int:
        """Tenants, of two namespaces each."""
        return max(2, self.services // 10)


@dataclass(frozen=True)
class Served:
    """A service of the fleet, and what it is for."""

    key: ServiceKey
    tenant: int
    gpus: int
    """Of a replica."""
    replicas: int
    by_load: bool
    accelerators: tuple[str, ...]
    """Where it may run, in the order in which its first replicas are placed."""


@dataclass
class Fleet:
    """Objects of a fleet; the same seed gives the same."""

    size: Size
    seed: int = 1
    chance: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)

    def identity(self) -> str:
        """Return a UID."""
        return str(uuid.UUID(int=self.chance.getrandbits(128)))

    def nodes(self) -> Iterator[Object]:
        """Yield the nodes, kind by kind."""
        left = self.size.nodes
        for place, kind in enumerate(KINDS):
            last = place == len(KINDS) - 1
            count = left if last else max(1, round(self.size.nodes * kind.part))
            left -= count
            yield from (node(f"{kind.pool}-{n:04d}", kind) for n in range(count))

    def pools(self) -> Iterator[Object]:
        """Yield the pools."""
        yield from map(gpu_pool, KINDS)

    def models(self) -> Iterator[Object]:
        """Yield models whose replicas take 1, 2, 4 and 8 GPUs."""
        yield from map(model, REPLICA_GPUS)

    def namespaces(self, tenant: int) -> tuple[str, ...]:
        """Return the namespaces of a tenant."""
        return f"team-{tenant:03d}-live", f"team-{tenant:03d}-try"

    def tenants(self) -> Iterator[Object]:
        """Yield the tenants: weights of 1, 2 and 4, a fifth with a quota, a tenth with a limit."""
        each = self.size.nodes * GPUS_PER_NODE / self.size.tenants
        for n in range(self.size.tenants):
            kind = KINDS[n % len(KINDS)]
            quota = {kind.accelerator: float(round(each / 3))} if n % 5 == 0 else {}
            limit = {k.accelerator: 2.0 * round(each) for k in KINDS} if n % 10 == 3 else {}
            spec = {
                "namespaces": list(self.namespaces(n)),
                "weight": float((1, 2, 4)[n % 3]),
                **({"quota": quota} if quota else {}),
                **({"limit": limit} if limit else {}),
            }
            yield {"kind": "Tenant", "metadata": {"name": f"team-{n:03d}"}, "spec": spec}

    def asleep(self) -> set[int]:
        """Return the tenants that wish for nothing at first."""
        count = max(1, round(self.size.tenants * ASLEEP))
        return set(range(self.size.tenants - count, self.size.tenants))

    def services(self) -> Iterator[tuple[Served, Object]]:
        """Yield the services with their objects."""
        asleep = self.asleep()
        for n in range(self.size.services):
            tenant = self.chance.randrange(self.size.tenants)
            gpus, replicas = self._one_of(REPLICA_GPUS), self._one_of(REPLICAS)
            key = ServiceKey(self.chance.choice(self.namespaces(tenant)), f"service-{n:05d}")
            named = self._one_of(dict(WISHES))
            by_load = self.chance.random() < BY_LOAD and tenant not in asleep
            body = model_service(key, gpus, named)
            body["spec"] |= wish(replicas, by_load=by_load, asleep=tenant in asleep)
            anywhere = tuple(k.accelerator for k in KINDS)
            yield Served(key, tenant, gpus, replicas, by_load, named or anywhere), body

    def _one_of(self, parts: Mapping[Any, float]) -> Any:
        return self.chance.choices(list(parts), list(parts.values()))[0]


def wish(replicas: int, *, by_load: bool, asleep: bool = False) -> Object:
    """Return the part of a service's spec that says how many replicas it wishes for."""
    if by_load:
        return {"scaling": {"minReplicas": 1, "maxReplicas": 2 * replicas + 1}}
    return {"replicas": 0 if asleep else replicas}


def snapshot_of(body: Object, models: Mapping[str, Object]) -> Snapshot:
    """Return the revision that a service asks for; models by name."""
    spec = ModelServiceSpec.model_validate(body["spec"])
    found = resolve(body, spec, models[spec.model.name], images=IMAGES, file_prefixes=())
    if isinstance(found, Fault):
        raise TypeError(found.message)
    return found.snapshot


def node(name: str, kind: Kind) -> Object:
    """Return a ready node."""
    size = {DEFAULT_GPU_RESOURCE: str(GPUS_PER_NODE), "cpu": "128", "memory": "1024Gi"}
    size |= {"pods": "110", "ephemeral-storage": "3000Gi"}
    beats = {"type": "Ready", "status": "True", "reason": "KubeletReady"}
    labels = {
        PRODUCT: kind.accelerator,
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
    }
    return {
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "spec": {},
        "status": {"capacity": size, "allocatable": size, "conditions": [beats]},
    }


def gpu_pool(kind: Kind) -> Object:
    """Return the pool of a kind of node."""
    spec = {
        "accelerator": kind.accelerator,
        "nodeSelector": {PRODUCT: kind.accelerator},
        "perGPU": {"cpu": "8", "memory": "64Gi"},
        "relativeSpeed": kind.speed,
        "pricePerGPUHour": kind.price,
    }
    GPUPoolSpec.model_validate(spec)
    return {"kind": "GPUPool", "metadata": {"name": kind.pool}, "spec": spec}


FIXED_MS, PER_ITEM_MS, MOST_ITEMS = 8.0, 2.0, 16
"""What a run takes at speed 1, and its largest batch."""


def model(gpus: int) -> Object:
    """Return a model whose replicas take so many GPUs."""
    profile = {
        k.accelerator: {"fixedMs": FIXED_MS / k.speed, "perItemMs": PER_ITEM_MS / k.speed}
        for k in KINDS
    }
    variant = {
        "name": "fp16",
        "source": {"uri": "https://models.example/large.tar", "sha256": "9f2c" * 16},
        "backend": "onnxruntime",
        "maxBatchSize": MOST_ITEMS,
        "resources": {"gpus": gpus},
        "profile": profile,
    }
    spec = {
        "inputs": [{"name": "image", "datatype": "FP32", "shape": [3, 224, 224]}],
        "outputs": [{"name": "label", "datatype": "FP32", "shape": [1000]}],
        "variants": [variant],
    }
    ModelSpec.model_validate(spec)
    return {"kind": "ClusterModel", "metadata": {"name": f"large-{gpus}"}, "spec": spec}


def model_service(key: ServiceKey, gpus: int, accelerators: tuple[str, ...]) -> Object:
    """Return a service, without a number of replicas."""
    placement = {"placement": {"accelerators": list(accelerators)}} if accelerators else {}
    model = {"kind": "ClusterModel", "name": f"large-{gpus}"}
    return {
        "apiVersion": "conch.dev/v1alpha1",
        "kind": "ModelService",
        "metadata": {"name": key.name, "namespace": key.namespace},
        "spec": {"model": model, **placement},
        "status": _status(key.name),
    }


def _status(name: str) -> Object:
    """Return a status as long as those are that the operator writes."""
    long = f"service {name}: 2 of 2 replicas answer; the load of the last minute needs 1.6 of them"
    told = {"status": "True", "reason": "AsWished", "message": long, "observedGeneration": 1}
    kinds = ("Ready", "Available", "Scaling", "Progressing")
    conditions = [{"type": kind, **told, "message": f"{kind}: {long}"} for kind in kinds]
    return {"observedGeneration": 1, "conditions": conditions}
