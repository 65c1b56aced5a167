"""A service's life — created, grown, shrunk, deleted — with a watcher of its pods."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from conch.api.names import GATE, GROUP, LABEL_SERVICE, LABEL_SERVING, SERVING
from tests.kit.client import Client, Object
from tests.kit.control_plane import condition
from tests.kit.fleet import model, model_service
from tests.kit.normalise import state
from tests.kit.operator import Operator
from tests.kit.proxy import FaultProxy

State = dict[str, list[Object]]
CONCH = f"/apis/{GROUP}/v1alpha1"
QUIET_S = 1.2
"""Without a write for so long (two ticks and more), the operator has come to rest."""


@dataclass
class PodsInUse:
    """Sees the pods of a namespace and keeps those that were deleted while they had traffic."""

    victims: list[str] = field(default_factory=list)
    _in_use: dict[str, bool] = field(default_factory=dict)

    def see(self, event: str, pod: Object) -> None:
        """Judge an event by the pod's state before it."""
        uid = pod["metadata"]["uid"]
        before = self._in_use.get(uid, False)
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
    """The life of a service in a namespace of its own; the operator is revived when it dies."""

    client: Client
    proxy: FaultProxy
    operator: Operator
    namespace: str

    def run(self) -> Outcome:
        """Live it and return how it ended. AssertionError when a step does not get done."""
        watcher = PodsInUse()
        with self.client.watching(self.pods, watcher.see):
            self.create(2)
            self.scale(4)
            self.scale(1)
            self.rest()
            self.wait(lambda: self.settled(1), "1 replica after a rest")
            settled = state(self.client, self.namespace)
        self.delete()
        self.rest()
        return Outcome(settled, state(self.client, self.namespace), watcher.victims)

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
        service["spec"] |= spec
        self.client.create(self._services, service)
        if wait and replicas is not None:
            self.wait(lambda: self.settled(replicas), f"{replicas} replicas")

    def scale(self, replicas: int) -> None:
        """Ask for so many replicas; return once they are there."""
        self.client.merge(self.service, {"spec": {"replicas": replicas}})
        self.wait(lambda: self.settled(replicas), f"{replicas} replicas")

    def delete(self) -> None:
        """Delete the service; return once nothing of it is left."""
        self.client.delete(self.service)
        self.wait(self.empty, "nothing left of the service")

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
            if len(self.proxy.writes) != last or not self.operator.alive:
                last, since, ticks = len(self.proxy.writes), time.monotonic(), self.operator.ticks
            rested = time.monotonic() - since > quiet_s
            return rested and self.operator.ticks >= ticks + 2

        self.wait(quiet, "the operator at rest")

    def wait(
        self,
        condition: Callable[[], object],
        what: str,
        *,
        timeout: float = 60,
        revive: bool = True,
    ) -> None:
        """Return once the condition holds; AssertionError with what was going on if it won't."""
        deadline = time.monotonic() + timeout
        while not condition():
            if revive and not self.operator.alive:
                self.operator.start()
            assert time.monotonic() < deadline, self._stuck(what)
            time.sleep(0.05)

    def _stuck(self, what: str) -> str:
        writes = "\n".join(map(str, self.proxy.writes[-20:]))
        return f"never reached: {what}\nlast writes:\n{writes}\nlog:\n{self.operator.tail()}"


def gated(replica_set: Object) -> bool:
    """Tell whether new pods of a ReplicaSet would wait for Conch."""
    gates = replica_set["spec"]["template"]["spec"].get("schedulingGates", [])
    return any(g["name"] == GATE for g in gates)
