"""A service in a namespace of its own, with a watcher of its pods: what tests do and wait for."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from conch.api.names import GATE, GROUP, LABEL_REVISION, LABEL_SERVICE, LABEL_SERVING, SERVING
from tests.kit.apicalls import Call, Write
from tests.kit.client import Client, Object
from tests.kit.control_plane import condition
from tests.kit.fleet import BROKEN_URI, SHARED, Place, model, model_service
from tests.kit.normalise import state
from tests.kit.operator import Operator
from tests.kit.proxy import FaultProxy

EVENTUALLY_S = 20.0
"""On a busy machine the status of a pool may follow the last pod so much later."""
State = dict[str, list[Object]]
CONCH = f"/apis/{GROUP}/v1alpha1"
QUIET_S = 1.2
"""Without a write for so long (two ticks and more), the operator has come to rest."""


@dataclass
class PodsInUse:
    """Sees the pods of a namespace and keeps those that were deleted while they had traffic.

    A pod on one of ``lost_nodes`` has none, whatever it says.
    """

    victims: list[str] = field(default_factory=list)
    lost_nodes: set[str] = field(default_factory=set)
    _in_use: dict[str, bool] = field(default_factory=dict)

    def see(self, event: str, pod: Object) -> None:
        """Judge an event by the pod's state before it."""
        uid = pod["metadata"]["uid"]
        before = (
            self._in_use.get(uid, False)
            and pod.get("spec", {}).get("nodeName") not in self.lost_nodes
        )
        leaving = event == "DELETED" or "deletionTimestamp" in pod["metadata"]
        if leaving and before:
            self.victims.append(pod["metadata"]["name"])
        self._in_use[uid] = not leaving and in_use(pod)


def in_use(pod: Object) -> bool:
    """Tell whether requests go to a pod: the Service selects it and it is ready."""
    labels = pod["metadata"].get("labels", {})
    ready = condition(pod, "Ready").get("status") == "True"
    return labels.get(LABEL_SERVING) == SERVING and ready


@dataclass(frozen=True)
class Outcome:
    """Where a run ended: before the service's deletion, after it, and what went wrong on the way."""

    settled: State
    deleted: State
    victims: list[str]


@dataclass(frozen=True)
class Scenario:
    """A service in a namespace of its own; the operator is revived when it dies.

    ``place`` says which pools it may use; ``patience`` how many seconds a step may take, and
    ``poll_s`` how often to look.
    """

    client: Client
    proxy: FaultProxy
    operator: Operator
    namespace: str
    place: Place = SHARED
    patience: float = 60
    poll_s: float = 0.05
    watcher: PodsInUse = field(default_factory=PodsInUse)

    def run(
        self,
        life: "Life",
        *,
        then: Callable[[], object] = lambda: None,
        like: Outcome | None = None,
    ) -> Outcome:
        """Live it and return how it ended; ``then`` is called before the rest.

        Where it should end ``like`` another, it is given some seconds more to do so.
        AssertionError when a step does not get done.
        """
        with self.client.watching(self.pods, self.watcher.see):
            replicas = life(self)
            then()
            self.rest()
            self.wait(lambda: self.settled(replicas), f"{replicas} replicas after a rest")
            settled = self._state_like(like.settled if like else None)
        self.delete()
        self.rest()
        deleted = self._state_like(like.deleted if like else None)
        return Outcome(settled, deleted, self.watcher.victims)

    def _state_like(self, expected: State | None) -> State:
        """Return the state once it is as expected, or after some seconds as it is."""
        deadline = time.monotonic() + EVENTUALLY_S
        while (found := self.state()) != expected and expected is not None:
            if time.monotonic() > deadline:
                break
            self.operator.revive()
            time.sleep(0.5)
        return found

    def state(self) -> State:
        """What lasts of the namespace and of its pools."""
        return state(self.client, self.namespace, self.place)

    def owns(self, call: Call) -> bool:
        """Tell whether a call is about the namespace or the scenario's own pools."""
        return call.namespace == self.namespace or call.name in self.place.own

    @property
    def writes(self) -> list[Write]:
        """The operator's writes that are about this scenario."""
        places = (self.namespace, *self.place.own)
        return [w for place in places for w in self.proxy.writes_at(place)]

    @property
    def pods(self) -> str:
        """The path of the namespace's pods."""
        return f"/api/v1/namespaces/{self.namespace}/pods"

    @property
    def service(self) -> str:
        """The path of the service."""
        return f"{self._services}/digits"

    @property
    def _services(self) -> str:
        return f"{CONCH}/namespaces/{self.namespace}/modelservices"

    @property
    def model(self) -> Object:
        """The manifest of the model."""
        return model()

    def create(
        self, replicas: int | None, *, wait: bool = True, with_model: bool = True, **spec: Any
    ) -> None:
        """Create model and service, ``spec`` over its own; return once its replicas are there.

        None leaves the number of replicas to Conch.
        """
        if with_model:
            self.client.create(f"{CONCH}/namespaces/{self.namespace}/models", self.model)
        service = model_service(replicas=replicas)
        service["spec"] |= {"placement": self.place.wish} | spec
        self.client.create(self._services, service)
        if wait and replicas is not None:
            self.wait(lambda: self.settled(replicas), f"{replicas} replicas")

    def scale(self, replicas: int) -> None:
        """Ask for so many replicas; return once they are there."""
        self.client.merge(self.service, {"spec": {"replicas": replicas}})
        self.wait(lambda: self.settled(replicas), f"{replicas} replicas")

    def update(self, **variant: Any) -> None:
        """Change fields of the model's variant, which makes another revision."""
        path = f"{CONCH}/namespaces/{self.namespace}/models/digits"
        changed = self.model["spec"]["variants"][0] | variant
        self.client.merge(path, {"spec": {"variants": [changed]}})

    def await_update(self, replicas: int, *, past: str) -> None:
        """Return once another revision than ``past`` alone serves, with so many replicas."""

        def taken_over() -> bool:
            return self.settled(replicas) and past not in self.revisions()

        self.wait(taken_over, f"{replicas} replicas of another revision than {past}")

    def revisions(self) -> set[str]:
        """The revisions that the service's pods are of."""
        pods = self._owned("/api/v1", "pods")
        return {p["metadata"]["labels"][LABEL_REVISION] for p in pods}

    def only_revision(self) -> str:
        """The revision of all its pods."""
        (revision,) = self.revisions()
        return revision

    def serving(self) -> list[Object]:
        """The pods that have the traffic and answer."""
        lost = self.watcher.lost_nodes
        pods = self._owned("/api/v1", "pods")
        alive = (p for p in pods if p["spec"].get("nodeName") not in lost)
        return [p for p in alive if in_use(p) and "deletionTimestamp" not in p["metadata"]]

    def lose_node(self, name: str) -> None:
        """A node is gone, and the first of its pods with it; the others are as it left them."""
        self.watcher.lost_nodes.add(name)
        self.client.delete(f"/api/v1/nodes/{name}")
        self._bury(self._on(name)[:1])

    def return_node(self, name: str) -> None:
        """The node is back, empty, once the operator gave up every pod that was or would be on it."""

        def given_up() -> bool:
            left = self._on(name)
            self._bury([p for p in left if "deletionTimestamp" in p["metadata"]])
            pods = self._owned("/api/v1", "pods")
            return not left and all(p["spec"].get("nodeName") for p in pods)

        self.wait(given_up, f"no pod is left on {name}")
        self.watcher.lost_nodes.discard(name)
        self.client.create("/api/v1/nodes", self.place.node(name))

    def cordon(self, name: str, *, cordoned: bool = True) -> None:
        """Say that a node is to be left, or that it is not any more."""
        self.client.merge(f"/api/v1/nodes/{name}", {"spec": {"unschedulable": cordoned or None}})

    def _on(self, node_name: str) -> list[Object]:
        pods = self._owned("/api/v1", "pods")
        return [p for p in pods if p["spec"].get("nodeName") == node_name]

    def _bury(self, pods: Sequence[Object]) -> None:
        """Do what Kubernetes does 40 s after a node's end to pods that it can't tell to end."""
        for pod in pods:
            path = f"{self.pods}/{pod['metadata']['name']}"
            self.client.delete(path, grace_seconds=0)

    def delete(self) -> None:
        """Delete the service; return once nothing of it is left."""
        self.client.delete(self.service)
        self.wait(self.empty, "nothing left of the service")

    def abandon(self) -> None:
        """Leave the place to others, whatever went wrong here."""
        self.client.delete(self.service)
        for name in list(self.watcher.lost_nodes):
            self._bury(self._on(name))
            self.return_node(name)
        for pool in self.place.pools:
            self.cordon(f"node-{pool}", cordoned=False)
        self.wait(lambda: not self._owned("/api/v1", "pods"), "no pods")

    def settled(self, replicas: int) -> bool:
        """Tell whether the service has just so many replicas, all ready, and no work is open."""
        if not self.says_ready(replicas):
            return False
        pods = self._owned("/api/v1", "pods")
        sets = self._owned("/apis/apps/v1", "replicasets")
        service = self.client.get(self.service)
        return (
            condition(service, "Reconciling").get("status") == "False"
            and len(pods) == replicas
            and all(in_use(p) and "deletionTimestamp" not in p["metadata"] for p in pods)
            and not any(gated(s) for s in sets)
        )

    def says_ready(self, replicas: int) -> bool:
        """Tell whether the status, up to date, reports just so many ready replicas."""
        service = self.client.find(self.service)
        status = service.get("status", {}) if service else {}
        return (
            service is not None
            and status.get("observedGeneration") == service["metadata"]["generation"]
            and status.get("replicas") == status.get("readyReplicas") == replicas
            and condition(service, "Ready").get("status") == "True"
        )

    def empty(self) -> bool:
        """Tell whether no child of the service is left."""
        kinds = [
            ("/api/v1", "pods"),
            ("/api/v1", "services"),
            ("/api/v1", "configmaps"),
            ("/api/v1", "serviceaccounts"),
            ("/apis/apps/v1", "replicasets"),
            ("/apis/apps/v1", "controllerrevisions"),
            ("/apis/policy/v1", "poddisruptionbudgets"),
        ]
        return not any(self._owned(prefix, kind) for prefix, kind in kinds)

    def _owned(self, prefix: str, kind: str) -> list[Object]:
        query = f"?labelSelector={LABEL_SERVICE}=digits"
        return self.client.items(f"{prefix}/namespaces/{self.namespace}/{kind}{query}")

    def rest(self, quiet_s: float = QUIET_S) -> None:
        """Return once the operator wrote nothing for so many seconds, while it decided twice."""
        last, since, ticks = -1, 0.0, 0

        def quiet() -> bool:
            nonlocal last, since, ticks
            count = len(self.writes)
            if count != last or not self.operator.alive or self.operator.ticks < ticks:
                last, since, ticks = count, time.monotonic(), self.operator.ticks
            rested = time.monotonic() - since > quiet_s
            return rested and self.operator.ticks >= ticks + 2

        self.wait(quiet, "the operator at rest")

    def wait(
        self,
        condition: Callable[[], object],
        what: str,
        *,
        timeout: float | None = None,
        revive: bool = True,
    ) -> None:
        """Return once the condition holds; AssertionError with what was going on if it won't."""
        deadline = time.monotonic() + (timeout or self.patience)
        while not condition():
            if revive:
                self.operator.revive()
            assert time.monotonic() < deadline, self._stuck(what)
            time.sleep(self.poll_s)

    def _stuck(self, what: str) -> str:
        writes = "\n".join(map(str, self.writes[-20:]))
        return f"never reached: {what}\nlast writes:\n{writes}\nlog:\n{self.operator.tail()}"


def gated(replica_set: Object) -> bool:
    """Tell whether new pods of a ReplicaSet would wait for Conch."""
    gates = replica_set["spec"]["template"]["spec"].get("schedulingGates", [])
    return any(g["name"] == GATE for g in gates)


Life = Callable[[Scenario], int]
"""What befalls a service from its creation on; returns how many replicas it has in the end."""


def scaled(scenario: Scenario) -> int:
    """Created, grown into the second pool, shrunk."""
    scenario.create(2)
    scenario.scale(4)
    scenario.scale(1)
    return 1


def updated(scenario: Scenario) -> int:
    """Another revision takes over: two replicas find room beside the old, the others need a swap."""
    scenario.create(4)
    first = scenario.only_revision()
    scenario.update(maxBatchSize=8)
    scenario.await_update(4, past=first)
    return 4


def repaired(scenario: Scenario) -> int:
    """A revision that can't be loaded gets no traffic; another edit mends it."""
    scenario.create(2)
    first = scenario.only_revision()
    scenario.update(source={"uri": BROKEN_URI})

    def told() -> bool:
        return condition(scenario.client.get(scenario.service), "Loaded").get("status") == "False"

    scenario.wait(told, "Loaded is False")
    scenario.rest()
    served = scenario.serving()
    assert len(served) == 2, "the old revision lost replicas to one that never answered"
    assert {p["metadata"]["labels"][LABEL_REVISION] for p in served} == {first}
    scenario.update(source={"uri": "https://models.example/mended.tar"})
    scenario.await_update(2, past=first)
    return 2


def bereft(scenario: Scenario) -> int:
    """The node of both replicas vanishes, and comes back empty."""
    scenario.create(2)
    (lost,) = {p["spec"]["nodeName"] for p in scenario.serving()}
    scenario.lose_node(lost)
    scenario.wait(lambda: len(scenario.serving()) == 2, "2 replicas elsewhere")
    scenario.return_node(lost)
    scenario.wait(lambda: scenario.settled(2), "2 replicas")
    return 2


def emptied(scenario: Scenario) -> int:
    """The node of both replicas is cordoned, left and opened again."""
    scenario.create(2)
    (left,) = {p["spec"]["nodeName"] for p in scenario.serving()}
    scenario.cordon(left)

    def moved() -> bool:
        nodes = [p["spec"]["nodeName"] for p in scenario.serving()]
        return len(nodes) == 2 and left not in nodes and scenario.settled(2)

    scenario.wait(moved, "2 replicas elsewhere")
    scenario.cordon(left, cordoned=False)
    return 2


def migrated(scenario: Scenario) -> int:
    """One of two replicas is moved to the other pool; another move is refused."""
    scenario.create(2)
    there = f"node-{scenario.place.pools[1]}"
    moves = f"{CONCH}/namespaces/{scenario.namespace}/modelmigrations"
    for name, node in (("move", there), ("nowhere", "node-nowhere")):
        body = {
            "apiVersion": f"{GROUP}/v1alpha1",
            "kind": "ModelMigration",
            "metadata": {"name": name},
            "spec": {"service": "digits", "to": {"node": node}},
        }
        scenario.client.create(moves, body)

        def over(path: str = f"{moves}/{name}") -> bool:
            status = scenario.client.get(path).get("status") or {}
            return status.get("phase") in ("Done", "RolledBack")

        scenario.wait(over, f"the end of {name}")
    phases = {m["metadata"]["name"]: m["status"]["phase"] for m in scenario.client.items(moves)}
    assert phases == {"move": "Done", "nowhere": "RolledBack"}, phases
    scenario.wait(lambda: scenario.settled(2), "2 replicas")
    nodes = [p["spec"]["nodeName"] for p in scenario.serving()]
    assert nodes.count(there) == 1, nodes
    return 2


LIVES: dict[str, Life] = {
    "scaling": scaled,
    "update": updated,
    "failed load and repair": repaired,
    "node loss": bereft,
    "node drain": emptied,
    "migration": migrated,
}
