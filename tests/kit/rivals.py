"""Two operators of one cluster, each behind a proxy of its own that tells what it writes."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.kit.client import Client
from tests.kit.control_plane import Cluster
from tests.kit.fleet import model, model_service
from tests.kit.operator import LEASE_NAMESPACE, Invocation, Operator
from tests.kit.proxy import FaultProxy, wait_for

LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{LEASE_NAMESPACE}/leases/conch-operator"
CONCH = "/apis/conch.dev/v1alpha1"


@dataclass(frozen=True)
class Rival:
    """One of the two."""

    operator: Operator
    proxy: FaultProxy

    @property
    def sent(self) -> int:
        """How many writes have left it, whatever became of them."""
        return sum(call.counts for call in self.proxy.calls)

    @property
    def decides(self) -> bool:
        """Whether it has decided since it started: it writes by then, or has nothing to write."""
        return self.sent > 0 or self.operator.ticks > 0


@contextlib.contextmanager
def rivals(cluster: Cluster, directory: Path) -> Iterator[tuple[Rival, Rival]]:
    """Start two operators; the first leads and the other watches. Neither is left running."""
    cluster.client.delete(LEASE)
    with (
        _rival(cluster, directory, "first") as first,
        _rival(cluster, directory, "second") as other,
    ):
        first.operator.launch()
        wait_for(lambda: first.decides, "the first operator's decision", timeout=60)
        other.operator.launch()
        wait_for(lambda: _waits(other), "the second operator watches and waits", timeout=60)
        yield first, other


@contextlib.contextmanager
def _rival(cluster: Cluster, directory: Path, name: str) -> Iterator[Rival]:
    with FaultProxy.before(cluster.kubeconfig) as proxy:
        kubeconfig = proxy.write_kubeconfig(directory / f"{name}.kubeconfig")
        operator = Operator(Invocation(kubeconfig, directory / f"{name}.log"), cluster.client)
        try:
            yield Rival(operator, proxy)
        finally:
            operator.kill()


def _waits(rival: Rival) -> bool:
    seen = {(call.verb, call.resource) for call in rival.proxy.calls}
    return ("watch", "pods") in seen and ("get", "leases") in seen


def first_decision(rival: Rival, *, timeout: float = 60) -> float:
    """Return how many seconds it takes from now until an operator decides for the first time."""
    started = time.monotonic()
    wait_for(lambda: rival.decides, "the other operator's first decision", timeout=timeout)
    return time.monotonic() - started


def services(client: Client, namespace: str, count: int) -> None:
    """Create so many services of one replica each; most have to wait for GPUs."""
    client.create(f"{CONCH}/namespaces/{namespace}/models", model())
    for number in range(count):
        body = model_service(f"digits-{number}", replicas=1)
        client.create(f"{CONCH}/namespaces/{namespace}/modelservices", body)


def served(client: Client, namespace: str) -> int:
    """Return how many services of a namespace have all their children, and say how they are."""
    sets = client.items(f"/apis/apps/v1/namespaces/{namespace}/replicasets")
    owners = {s["metadata"]["labels"]["conch.dev/service"] for s in sets}
    told = client.items(f"{CONCH}/namespaces/{namespace}/modelservices")
    return sum(
        s["metadata"]["name"] in owners or bool(s.get("status", {}).get("conditions")) for s in told
    )
