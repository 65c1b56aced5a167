"""A small model of Kubernetes: ReplicaSet controller, kube-scheduler and kubelets.

Deletion ranks are those of k8s.io/kubernetes pkg/controller.ActivePodsWithRanks. The controller
asserts that no ready pod leaves when a ReplicaSet is lowered.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

EVICTION_S = 15.0
"""After which Kubernetes deletes the pods of a silent node: their toleration."""
SetKey = tuple[str, str, str]
"""Service, revision, pool."""


@dataclass
class ModelPod:
    uid: str
    key: SetKey
    gpus: int
    created: float
    gated: bool
    node: str | None = None
    pinned: str | None = None
    ready: bool = False
    ready_at: float = 0.0
    serving: bool = True
    draining_since: float | None = None
    deleting: bool = False
    unschedulable: bool = False
    version: int = 1
    requests: int = 0
    """Under way to it through the front door."""
    broken: bool = False
    """It takes requests and answers none, though it is ready."""

    @property
    def traffic(self) -> bool:
        return self.ready and self.serving and not self.deleting


@dataclass
class ModelSet:
    key: SetKey
    replicas: int
    gated: bool
    version: int = 1
    generation: int = 1
    observed: int = 0
    refusal: str | None = None
    status: tuple[int, int] = (0, 0)


@dataclass
class ModelNode:
    name: str
    pool: str
    gpus: int
    cordoned: bool = False
    silent_since: float | None = None

    @property
    def ready(self) -> bool:
        return self.silent_since is None

    def silent_for(self, now: float) -> float:
        return 0.0 if self.silent_since is None else now - self.silent_since


@dataclass
class ModelService:
    name: str
    wanted: int
    gpus: int = 1
    revision: str = "r1"
    serving: str | None = None
    allowed: tuple[str, ...] = ("a", "b")
    trial: str | None = None
    """A revision on trial."""
    few: int | None = None
    """As many of it; None: as many as are wanted, for which nothing is given up."""

    @property
    def tried(self) -> int:
        """Replicas of the revision on trial."""
        return self.wanted if self.few is None else min(self.few, self.wanted)

    def another(self) -> str:
        """Return a revision that was not there before."""
        known = (self.revision, self.serving or "r0", self.trial or "r0")
        return f"r{1 + max(int(r[1:]) for r in known)}"


@dataclass
class Kubernetes:
    services: dict[str, ModelService]
    nodes: dict[str, ModelNode]
    pods: dict[str, ModelPod] = field(default_factory=dict)
    sets: dict[SetKey, ModelSet] = field(default_factory=dict)
    unseen: dict[str, ModelPod] = field(default_factory=dict)
    """Pods that are deleted, but not yet in the cache of the ReplicaSet controller."""
    quota: int | None = None
    """Pods that a service may have."""
    now: float = 1000.0
    count: int = 0

    def sync(self, key: SetKey, *, sees: bool = True) -> None:
        """The ReplicaSet controller acts once; without ``sees`` it missed recent deletions."""
        found = self.sets[key]
        if sees:
            self.unseen = {u: p for u, p in self.unseen.items() if p.key != key}
        live = [p for p in self.pods.values() if p.key == key and not p.deleting]
        active = live + [p for p in self.unseen.values() if p.key == key]
        surplus = len(active) - found.replicas
        for pod in sorted(active, key=self._leaves_first(active))[: max(0, surplus)]:
            self._controller_deletes(pod)
        refused = False
        for _ in range(max(0, -surplus)):
            refused = refused or self._quota_is_full(key[0])
            if not refused:
                self._create(key, gated=found.gated)
        found.refusal = "exceeded quota" if refused else None
        status = (len(active), sum(p.ready for p in active))
        if status != found.status or found.observed != found.generation:
            found.version += 1
        found.status, found.observed = status, found.generation

    def _quota_is_full(self, service: str) -> bool:
        mine = sum(p.key[0] == service for p in self.pods.values())
        return self.quota is not None and mine >= self.quota

    @staticmethod
    def _leaves_first(
        active: list[ModelPod],
    ) -> Callable[[ModelPod], tuple[bool, bool, int, float, float]]:
        def rank(pod: ModelPod) -> tuple[bool, bool, int, float, float]:
            crowd = sum(p.node == pod.node for p in active)
            return (pod.node is not None, pod.ready, -crowd, -pod.ready_at, -pod.created)

        return rank

    def _controller_deletes(self, pod: ModelPod) -> None:
        if pod.uid in self.unseen:
            return  # deleting it again changes nothing
        alive = pod.node in self.nodes
        assert not (pod.ready and alive), f"the controller took a ready pod: {pod}"
        self._end(pod)

    def _create(self, key: SetKey, *, gated: bool) -> None:
        self.count += 1
        uid = f"p{self.count:03d}"
        gpus = self.services[key[0]].gpus
        self.pods[uid] = ModelPod(uid, key, gpus, created=self.now, gated=gated)

    def _end(self, pod: ModelPod) -> None:
        if pod.node is None:
            del self.pods[pod.uid]
        else:
            pod.deleting = True
            pod.version += 1

    def schedule(self, *, last_first: bool = False) -> None:
        """kube-scheduler binds what it can, and says so of what it can't."""
        for pod in list(self.pods.values()):
            if pod.gated or pod.node is not None or pod.deleting:
                continue
            fits = sorted(n.name for n in self.nodes.values() if self._takes(n, pod))
            if fits:
                pod.node = fits[-1 if last_first else 0]
                pod.unschedulable = False
                pod.version += 1
            elif not pod.unschedulable:
                pod.unschedulable = True
                pod.version += 1

    def _takes(self, node: ModelNode, pod: ModelPod) -> bool:
        used = sum(p.gpus for p in self.pods.values() if p.node == node.name)
        return (
            node.pool == pod.key[2]
            and not node.cordoned
            and node.ready
            and pod.pinned in (None, node.name)
            and used + pod.gpus <= node.gpus
        )

    def start(self, index: int = 0, *, most: int = 100) -> None:
        """Up to ``most`` bound pods become ready."""
        starting = [
            p for p in self.pods.values() if self._runs(p) and not p.ready and not p.deleting
        ]
        for pod in starting[index : index + most]:
            pod.ready, pod.ready_at = True, self.now
            pod.version += 1

    def finish(self) -> None:
        """Pods that were told to end do so; those of vanished and of silent nodes are deleted."""
        for pod in list(self.pods.values()):
            node = self.nodes.get(pod.node or "")
            if pod.deleting:
                if node is None or node.ready:
                    del self.pods[pod.uid]
            elif pod.node and (node is None or node.silent_for(self.now) >= EVICTION_S):
                self.lose(pod)

    def lose(self, pod: ModelPod) -> None:
        """Somebody else deletes a pod."""
        if not pod.deleting:
            self.unseen[pod.uid] = pod
            self._end(pod)

    def blip(self, pod: ModelPod) -> None:
        """A pod stops to answer for a while."""
        if pod.ready:
            pod.ready = False
            pod.version += 1

    def _runs(self, pod: ModelPod) -> bool:
        """Tell whether a pod is on a node whose kubelet works."""
        node = self.nodes.get(pod.node or "")
        return node is not None and node.ready

    def silence(self, name: str) -> None:
        """A kubelet says nothing any more; the node controller takes its pods out of traffic."""
        node = self.nodes.get(name)
        if node is not None and node.ready:
            node.silent_since = self.now
            for pod in self.pods.values():
                if pod.node == name:
                    self.blip(pod)

    def hear(self, name: str) -> None:
        """It is back."""
        if name in self.nodes:
            self.nodes[name].silent_since = None

    def remove_node(self, name: str) -> None:
        self.nodes.pop(name, None)
