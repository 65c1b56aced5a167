"""What a policy sees of the simulated fleet, and what it answers: frozen facts."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

GPUS_PER_NODE = 8
LOAD_SECONDS = 42.0
"""L, from a grant to a replica that works: the 90th percentile of a production fleet."""


@dataclass(frozen=True, slots=True)
class Work:
    """A job or a service of a tenant: replicas of equal size, each on one node."""

    name: str
    tenant: str
    gpus: int
    """Of one replica."""
    arrived: float
    """Seconds since the start; below 0 where it came before."""
    seconds: float | None = None
    """A job: what its replicas have to run, added up (s), once loaded. None: a service."""
    wishes: tuple[tuple[float, int], ...] = ()
    """(time, replicas) from that time on, rising: a job has one, a service follows its load."""


@dataclass(frozen=True, slots=True)
class Workload:
    """What tenants ask of a fleet for so long."""

    name: str
    weights: Mapping[str, float]
    """By tenant."""
    works: tuple[Work, ...]
    span: float
    """Seconds."""


@dataclass(frozen=True, slots=True)
class Replica:
    """A replica that holds GPUs of a node."""

    id: str
    work: str
    tenant: str
    gpus: int
    node: int
    started: float
    """When it was granted its GPUs."""
    ready: float
    """When it has loaded."""
    again: bool = False
    """It takes the place of one that was preempted: its loading is no service."""


@dataclass(frozen=True, slots=True)
class Wish:
    """One work that is there: what it holds, and what it wishes for."""

    work: Work
    wished: int
    held: tuple[Replica, ...] = ()

    @property
    def waiting(self) -> int:
        """Replicas that it lacks."""
        return max(0, self.wished - len(self.held))


@dataclass(frozen=True, slots=True)
class Scene:
    """The fleet at a time. Wishes are in the order in which they came."""

    now: float
    weights: Mapping[str, float]
    nodes: int
    wishes: tuple[Wish, ...]

    @property
    def capacity(self) -> int:
        """GPUs."""
        return self.nodes * GPUS_PER_NODE

    def replicas(self) -> list[Replica]:
        """Return all that hold GPUs, those that began first in front."""
        return sorted((r for w in self.wishes for r in w.held), key=lambda r: (r.started, r.id))

    def free(self, without: Iterable[Replica] = ()) -> "Nodes":
        """Return what is free on each node, were some replicas gone."""
        nodes = Nodes([GPUS_PER_NODE] * self.nodes)
        for wish in self.wishes:
            for replica in wish.held:
                nodes.free[replica.node] -= replica.gpus
        for replica in without:
            nodes.free[replica.node] += replica.gpus
        return nodes


@dataclass(slots=True)
class Nodes:
    """Free GPUs by node, while one pass hands them out."""

    free: list[int]

    def fit(self, gpus: int) -> int | None:
        """Return the node that fits most tightly, the first among equals; None where none does."""
        best, left = None, GPUS_PER_NODE + 1
        for node, free in enumerate(self.free):
            if gpus <= free < left:
                best, left = node, free
        return best

    def take(self, gpus: int) -> int | None:
        """Take GPUs of the node that fits most tightly, and return it."""
        node = self.fit(gpus)
        if node is not None:
            self.free[node] -= gpus
        return node


@dataclass(frozen=True, slots=True)
class Start:
    """One more replica of a work, on a node."""

    work: str
    node: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What a policy decides: who leaves, and who comes into the room that is there then."""

    starts: Sequence[Start] = ()
    stops: frozenset[str] = field(default_factory=frozenset)
    """IDs of replicas that are preempted."""
