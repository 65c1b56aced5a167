"""The fleet as decisions see it: frozen facts, no client, no clock."""

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any, NamedTuple

from conch.api.pool import GPUPoolSpec, SharingMode
from conch.api.service import ModelServiceSpec, Placement

_SLACK = 1 + 1e-6


class ServiceKey(NamedTuple):
    """Namespace and name of a ModelService."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True)
class Amounts:
    """Quantities of one node or pod: GPUs (devices), CPU (cores), memory (bytes), pods."""

    gpus: int = 0
    cpu: float = 0.0
    memory: float = 0.0
    pods: int = 0

    def __add__(self, other: "Amounts") -> "Amounts":
        return Amounts(
            self.gpus + other.gpus,
            self.cpu + other.cpu,
            self.memory + other.memory,
            self.pods + other.pods,
        )

    def __sub__(self, other: "Amounts") -> "Amounts":
        return Amounts(
            self.gpus - other.gpus,
            self.cpu - other.cpu,
            self.memory - other.memory,
            self.pods - other.pods,
        )

    def covers(self, need: "Amounts") -> bool:
        """Tell whether ``need`` fits into these.

        CPU and memory carry a tolerance of one part in a million, since they are sums of floats.
        """
        return (
            need.gpus <= self.gpus
            and need.cpu <= max(0.0, self.cpu) * _SLACK
            and need.memory <= max(0.0, self.memory) * _SLACK
            and need.pods <= self.pods
        )

    def missing_for(self, need: "Amounts") -> tuple[str, ...]:
        """Return what is short of ``need``, with amounts; empty when it fits."""
        short = []
        if need.gpus > self.gpus:
            short.append(f"{max(0, self.gpus)} of {need.gpus} GPUs")
        if need.cpu > max(0.0, self.cpu) * _SLACK:
            short.append(f"{max(0.0, self.cpu):.2g} of {need.cpu:.2g} CPUs")
        if need.memory > max(0.0, self.memory) * _SLACK:
            gib = 2.0**30
            short.append(f"{max(0.0, self.memory) / gib:.2g} of {need.memory / gib:.2g} GiB")
        if need.pods > self.pods:
            short.append("no pod slot")
        return tuple(short)


@dataclass(frozen=True, slots=True)
class Sign:
    """A condition by which an agent on a node says that something is wrong with it."""

    kind: str
    """The condition's type."""
    text: str
    """In words: its type, reason and message, shortened."""
    since: float | None = None
    """Since when it has been so (seconds since the epoch); None: the agent does not say."""


@dataclass(frozen=True)
class Node:
    """One node: what is free is allocatable minus the requests of all pods bound to it."""

    name: str
    labels: Mapping[str, str]
    ready: bool
    schedulable: bool
    taints: tuple[Mapping[str, Any], ...]
    allocatable: Mapping[str, float]
    """Everything that the node offers, by resource name; extended resources too."""
    requested: Mapping[str, float]
    pods: int
    signs: tuple[Sign, ...] = ()
    """By which it seems to fail, though it may be ready; the oldest first."""

    @property
    def failing(self) -> str | None:
        """By what it seems to fail, in words; None: by nothing."""
        return "; ".join(s.text for s in self.signs) or None

    def free(self, gpu_resource: str) -> Amounts:
        """Return what new pods may still ask for, with GPUs counted under ``gpu_resource``."""

        def left(name: str) -> float:
            return self.allocatable.get(name, 0.0) - self.requested.get(name, 0.0)

        return Amounts(
            gpus=round(left(gpu_resource)),
            cpu=left("cpu"),
            memory=left("memory"),
            pods=int(self.allocatable.get("pods", 110)) - self.pods,
        )


@dataclass(frozen=True)
class Pool:
    """A GPUPool with the nodes that its selector matches, ordered by name."""

    name: str
    spec: GPUPoolSpec
    nodes: tuple[Node, ...]

    @property
    def nodes_key(self) -> tuple[str, ...]:
        """The names of its nodes."""
        return tuple(n.name for n in self.nodes)

    @cached_property
    def without_gpus(self) -> bool:
        """Whether replicas run on CPUs here."""
        return self.spec.sharing.mode is SharingMode.CPU

    def gpus_of(self, devices: int) -> float:
        """Return how many GPUs so many devices of the pool are; a part where GPUs are divided."""
        return devices * self._gpus_per_device

    @cached_property
    def _gpus_per_device(self) -> float:
        return 0.0 if self.without_gpus else 1.0 / self.spec.sharing.devices_per_gpu

    @property
    def device_speed(self) -> float:
        """What one device does against a GPU of speed 1: its part of the GPU's speed."""
        return self.spec.relative_speed / self.spec.sharing.devices_per_gpu

    @property
    def device_price(self) -> float:
        """Price of one device an hour; nothing where the pool names none."""
        return (self.spec.price_per_gpu_hour or 0.0) / self.spec.sharing.devices_per_gpu


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod of a service."""

    name: str
    uid: str
    resource_version: str
    revision: str
    pool: str
    created: float
    """Seconds since the epoch."""
    node: str | None
    gated: bool
    """Carries Conch's scheduling gate."""
    pinned: str | None
    """The node that its admission chose, when it did."""
    ready: bool
    serving: bool
    draining_since: float | None
    deleting: bool
    unschedulable: str | None
    """The scheduler's message when it found no node."""
    ready_at: float | None = None
    scheduled_at: float | None = None
    """When the scheduler gave it its node, where the API says so."""
    lost: bool = False
    """Bound to a node that is gone from the cluster."""
    over: bool = False
    """Its containers have ended for good: its node no longer counts what it asked for."""
    stranded: bool = False
    """Not answering, on a node that is not ready: Kubernetes evicts it soon, or the node returns."""
    in_flight: int | None = 0
    """Requests under way to it through the front door, of a pod that drains; None: not known. Where
    there is no front door nobody knows of any."""
    broken: str | None = None
    """How it showed that it takes requests and answers none, though it is ready; None: it did not."""
    replaced: bool = False
    """Another takes over, and this one leaves before all others."""
    leaves: str | None = None
    """Why it is to leave its node, once another answers; None: it may stay."""
    goes: bool = False
    """It is to go now: enough others answer, or it was to take a place that it no longer does."""
    moves: str | None = None
    """The migration that has begun another replica in its place; it stays until that one answers."""
    comes: str | None = None
    """The migration by which it takes another's place; no traffic goes to it before it is warm."""
    warm: bool = False
    """It may have its traffic now."""
    body: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def takes_place(self) -> bool:
        """Whether it has a node, or one is kept for it."""
        gone = self.lost or self.over or self.gated
        return not gone and (self.node or self.pinned) is not None


@dataclass(frozen=True)
class ReplicaSet:
    """One ReplicaSet of a service: a revision in a pool."""

    name: str
    uid: str
    revision: str
    pool: str
    replicas: int
    """spec.replicas"""
    gated: bool
    """Its template carries the scheduling gate."""
    observed: bool
    """Its controller has seen the newest spec, and made as many pods as that says."""
    refusal: str | None
    """Why the API server refuses its pods (quota, limits), when it does."""


@dataclass(frozen=True)
class Service:
    """A ModelService with what runs for it."""

    key: ServiceKey
    spec: ModelServiceSpec
    revision: str | None
    """The revision that is wanted; None when the model can't be resolved now."""
    serving_revision: str | None
    """The revision that the Service selects."""
    sets: tuple[ReplicaSet, ...] = ()
    pods: tuple[Pod, ...] = ()
    irreparable: bool = False
    """No replica answers, and replacing them has not helped."""
    trial: str | None = None
    """A revision that has to prove itself, or waits for a person, beside the one that is wanted."""

    @property
    def newer(self) -> str | None:
        """The revision that is to have all requests in the end."""
        return self.trial or self.revision

    def live_pods(self, revision: str, pool: str) -> tuple[Pod, ...]:
        """Return the pods of a ReplicaSet that are not on their way out."""
        return self._live.get((revision, pool), ())

    @cached_property
    def counted(self) -> str:
        """The revision whose replicas stand for the service.

        While another takes over, that of the traffic, unless the other has more by now.
        """
        wanted = self.revision or self.serving_revision or ""
        serving = self.serving_revision or wanted
        size = {r: sum(s.replicas for s in self.sets if s.revision == r) for r in (wanted, serving)}
        return wanted if size[wanted] > size[serving] else serving

    def tally(self, pool: str) -> tuple[int, int]:
        """Return the replicas that serve in a pool, and those that start; none that leave."""
        return self._tallies.get(pool, (0, 0))

    @cached_property
    def _tallies(self) -> Mapping[str, tuple[int, int]]:
        asked: dict[str, int] = {}
        for one in self.sets:
            if one.revision == self.counted:
                asked[one.pool] = asked.get(one.pool, 0) + one.replicas
        live = {pool: pods for (of, pool), pods in self._live.items() if of == self.counted}
        found = {}
        for pool in {*asked, *live}:
            pods = live.get(pool, ())
            ready = sum(p.ready and p.serving and not p.replaced for p in pods)
            leaving = sum(p.draining_since is not None or p.stranded or p.replaced for p in pods)
            found[pool] = ready, max(0, asked.get(pool, 0) - ready - leaving)
        return found

    @cached_property
    def admitted(self) -> tuple[Pod, ...]:
        """The pods that wait for the node that they were admitted to: no node counts them yet."""
        return tuple(
            p for p in self.pods if p.node is None and p.pinned and not p.gated and not p.deleting
        )

    @cached_property
    def leaving(self) -> tuple[Pod, ...]:
        """The pods on nodes that they give back soon."""
        return tuple(
            p
            for p in self.pods
            if p.node is not None and not p.over and (p.deleting or p.draining_since is not None)
        )

    @cached_property
    def placed(self) -> Mapping[str, int]:
        """By pool, the pods that take place on a node, while they start and drain too."""
        return Counter(p.pool for p in self.pods if p.takes_place)

    @cached_property
    def newest(self) -> float:
        """When the youngest of its pods was made, in seconds since the epoch."""
        return max((p.created for p in self.pods), default=0.0)

    @cached_property
    def _live(self) -> Mapping[tuple[str, str], tuple[Pod, ...]]:
        """By revision and pool: looked for once in each state of the service."""
        found: dict[tuple[str, str], tuple[Pod, ...]] = {}
        for pod in self.pods:
            if not pod.deleting:
                key = (pod.revision, pod.pool)
                found[key] = (*found.get(key, ()), pod)
        return found


@dataclass(frozen=True)
class Shape:
    """What one replica asks of a node of a pool, and which taints it tolerates."""

    need: Amounts
    tolerations: tuple[Mapping[str, Any], ...]
    node_selector: Mapping[str, str] = field(default_factory=dict)
    zones: tuple[str, ...] = ()
    """Those that nodes must be in (their label topology.kubernetes.io/zone); none: any will do."""

    @cached_property
    def suits(self) -> str:
        """What tells shapes apart that suit different nodes, however much is free there."""
        asked = [*map(dict, self.tolerations), dict(self.node_selector), sorted(self.zones)]
        # Few kinds for many shapes: each text is kept once.
        return sys.intern(json.dumps(asked, sort_keys=True))


def ordered(pools: Sequence[Pool], service: ModelServiceSpec, *, gpus: int = 1) -> tuple[Pool, ...]:
    """Return the pools that a service may use, the preferred first; a replica asks for ``gpus``.

    Earlier entries of placement.pools, then of placement.accelerators, come first. Pools without
    GPUs come after all others, but first for replicas that need none. Then count earlier entries of
    placement.sites, then what is no spot capacity, then speed, price and name.
    """
    wish = service.placement

    def rank(pool: Pool) -> tuple[int, int, bool, int, bool, float, float, str]:
        return (
            _turn(pool.name, wish.pools),
            _turn(pool.spec.accelerator, wish.accelerators),
            pool.without_gpus != (gpus == 0),
            _turn(pool.spec.site, wish.sites),
            pool.spec.spot,
            -pool.device_speed,
            pool.device_price,
            pool.name,
        )

    return tuple(sorted((p for p in pools if misfit(p, wish, gpus=gpus) is None), key=rank))


def _turn(name: str | None, wishes: Sequence[str]) -> int:
    """Return the place of a name among wishes; what is not named comes last."""
    return wishes.index(name) if name in wishes else len(wishes)


class Misfit(StrEnum):
    """Why a service may not use a pool."""

    NOT_NAMED = "not asked for"
    OTHER_SITE = "not at a site of placement.sites"
    EDGE = "an edge pool, which placement.pools or placement.sites must name"
    NO_GPUS = "without GPUs, which takes placement.cpu"


def misfit(pool: Pool, wish: Placement, *, gpus: int = 1) -> Misfit | None:
    """Return why a service may not use a pool, None where it may.

    placement.pools and placement.sites are bounds; placement.cpu adds the pools without GPUs to the
    accelerators that are asked for.
    """
    named = pool.name in wish.pools
    if wish.pools and not named:
        return Misfit.NOT_NAMED
    if wish.sites and pool.spec.site not in wish.sites:
        return Misfit.OTHER_SITE
    if pool.spec.edge and not (named or wish.sites):
        return Misfit.EDGE
    on_cpu = pool.without_gpus and wish.cpu
    asked = pool.spec.accelerator in wish.accelerators
    if wish.accelerators and not (asked or on_cpu):
        return Misfit.NOT_NAMED
    if pool.without_gpus and not (on_cpu or named or asked or gpus == 0):
        return Misfit.NO_GPUS
    return None
