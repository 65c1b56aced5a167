"""Claims and volumes of nodes' caches on a real API server, and the pods that use them."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from conch.clients.clock import SystemClock
from conch.clients.cluster import Cluster as Connection
from conch.clients.cluster import connect
from conch.provisioning.metadata import Owner
from conch.provisioning.pod import pod_template
from conch.provisioning.replica_set import replica_set
from conch.provisioning.service_account import service_account
from conch.provisioning.snapshot import Snapshot
from conch.reconcile.node_cache import PAUSE_S, NodeCaches
from conch.reconcile.store import Store
from conch.reconcile.writer import Writer
from tests.kit.client import ApiError, Object
from tests.kit.control_plane import Cluster
from tests.kit.rendering import OWNER, POOL, example

PATH = "/srv/cache"
CLAIM = "conch-cache"


class Clock(SystemClock):
    """Can be put forward."""

    ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


@dataclass
class Desk:
    """What the operator keeps of caches, in a namespace of its own."""

    cluster: Cluster
    connection: Connection
    namespace: str
    store: Store
    clock: Clock
    writes: list[str]

    def caches(self, path: str | None = PATH) -> NodeCaches:
        """Return the part of an operator that has just started with what the store knows."""
        writer = Writer(self.connection, self.store, lambda kind, _: self.writes.append(kind))
        return NodeCaches(self.connection, self.store, writer, self.clock, path)

    def snapshot(self, uri: str = "https://models.example/m.tar") -> Snapshot:
        return example(variant={"source": {"uri": uri}}, namespace=self.namespace)

    async def ensure(self, caches: NodeCaches | None = None) -> bool:
        return await (caches or self.caches()).ensure(self.namespace, [self.snapshot()])

    @property
    def claims(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/persistentvolumeclaims"

    def claim(self) -> Object | None:
        return self.cluster.client.find(f"{self.claims}/{CLAIM}")

    def volumes(self) -> list[Object]:
        selector = f"conch.dev/cache=true,conch.dev/namespace={self.namespace}"
        return self.cluster.client.items(f"/api/v1/persistentvolumes?labelSelector={selector}")

    def set_phase(self, phase: str) -> None:
        """Do as the controller of volumes does."""
        (volume,) = self.volumes()
        path = f"/api/v1/persistentvolumes/{volume['metadata']['name']}"
        told = self.cluster.client.merge(f"{path}/status", {"status": {"phase": phase}})
        self.store.put("PersistentVolume", told)


@pytest.fixture
async def desk(cluster: Cluster, namespace: str) -> AsyncIterator[Desk]:
    connection = await connect(str(cluster.kubeconfig))
    yield Desk(cluster, connection, namespace, Store(), Clock(), [])
    await connection.close()


async def test_a_namespace_gets_one_claim_with_one_volume_of_its_own(desk: Desk) -> None:
    assert await desk.ensure() is True
    claim, (volume,) = desk.claim(), desk.volumes()
    assert claim is not None
    uid = desk.cluster.client.get(f"/api/v1/namespaces/{desk.namespace}")["metadata"]["uid"]
    assert volume["spec"]["hostPath"] == {
        "path": f"{PATH}/{desk.namespace}_{uid}",
        "type": "DirectoryOrCreate",
    }
    assert "nodeAffinity" not in volume["spec"]
    assert volume["spec"]["claimRef"]["uid"] == claim["metadata"]["uid"]
    assert volume["spec"]["claimRef"]["namespace"] == desk.namespace
    (owner,) = volume["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("Namespace", uid)


async def test_what_is_there_is_not_written_again(desk: Desk) -> None:
    await desk.ensure()
    assert desk.writes == ["PersistentVolumeClaim", "PersistentVolume"]
    assert await desk.ensure() is False
    assert len(desk.writes) == 2


async def test_an_operator_that_ended_between_the_two_goes_on(desk: Desk) -> None:
    await desk.ensure()
    (first,) = desk.volumes()
    path = f"/api/v1/persistentvolumes/{first['metadata']['name']}"
    desk.cluster.client.merge(path, {"metadata": {"finalizers": None}})
    desk.cluster.client.delete(path)
    desk.store.drop("PersistentVolume", first)
    assert await desk.ensure() is True


async def test_only_downloads_get_a_claim(desk: Desk) -> None:
    caches = desk.caches()
    snapshot = desk.snapshot("pvc://models/m")
    assert await caches.ensure(desk.namespace, [snapshot]) is False
    await desk.ensure()
    assert caches.applied(snapshot) == snapshot
    assert caches.applied(desk.snapshot()).cache is True


async def test_without_a_cache_nothing_is_made_and_pods_get_none(desk: Desk) -> None:
    await desk.ensure()
    off = desk.caches(None)
    assert off.applied(desk.snapshot()).cache is False
    assert await off.ensure(desk.namespace, [desk.snapshot()]) is False


async def test_a_quota_that_allows_no_claim_stops_no_service(desk: Desk) -> None:
    none = {"hard": {"persistentvolumeclaims": "0"}}
    path = f"/api/v1/namespaces/{desk.namespace}/resourcequotas"
    desk.cluster.client.create(path, {"metadata": {"name": "none"}, "spec": none})
    used = {"status": {**none, "used": {"persistentvolumeclaims": "0"}}}
    desk.cluster.client.merge(f"{path}/none/status", used)
    caches = desk.caches()
    assert await desk.ensure(caches) is False
    assert caches.applied(desk.snapshot()).cache is False
    assert (desk.claim(), desk.volumes()) == (None, [])
    desk.cluster.client.delete(f"{path}/none")
    assert await desk.ensure(caches) is False
    desk.clock.ahead = PAUSE_S
    assert await desk.ensure(caches) is True
    assert caches.applied(desk.snapshot()).cache is True


async def test_a_claim_of_somebody_else_is_not_taken_over(desk: Desk) -> None:
    spec = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
    }
    desk.cluster.client.create(desk.claims, {"metadata": {"name": CLAIM}, "spec": spec})
    caches = desk.caches()
    assert await desk.ensure(caches) is False
    assert caches.applied(desk.snapshot()).cache is False
    assert desk.volumes() == []


@pytest.mark.parametrize(
    "change",
    [{"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}, {"status": {"phase": "Lost"}}],
    ids=["leaving", "lost"],
)
async def test_pods_don_t_wait_for_a_claim_that_will_not_be_bound(
    desk: Desk, change: Object
) -> None:
    await desk.ensure()
    claim = desk.store.get("PersistentVolumeClaim", CLAIM, desk.namespace)
    assert claim is not None
    newer = {**claim["metadata"], "resourceVersion": "999999999"}
    metadata = {**newer, **change.get("metadata", {})}
    desk.store.put("PersistentVolumeClaim", {**claim, **change, "metadata": metadata})
    caches = desk.caches()
    assert caches.applied(desk.snapshot()).cache is False
    assert await desk.ensure(caches) is False


def mounting(desk: Desk, *, cache: bool) -> Object:
    """Return a ReplicaSet, as the store holds it, whose pods use the cache or not."""
    snapshot = replace(desk.snapshot(), cache=cache)
    made = replica_set(snapshot, POOL, replicas=1, gated=False, owner=OWNER)
    return {**made, "metadata": {**made["metadata"], "uid": "set", "resourceVersion": "1"}}


async def test_a_claim_goes_once_nothing_needs_it_and_then_its_volume(desk: Desk) -> None:
    await desk.ensure()
    replicas = mounting(desk, cache=True)
    desk.store.put("ReplicaSet", replicas)
    caches = desk.caches()
    await caches.sweep([desk.snapshot()])
    await caches.sweep([])  # a ReplicaSet that was detached lives on
    assert desk.claim() is not None
    desk.store.drop("ReplicaSet", replicas)
    await caches.sweep([])
    claim = desk.claim()
    assert claim is None or "deletionTimestamp" in claim["metadata"]
    await caches.sweep([])
    assert len(desk.volumes()) == 1
    desk.set_phase("Released")
    await caches.sweep([])
    assert all("deletionTimestamp" in v["metadata"] for v in desk.volumes())


async def test_turned_off_the_claim_goes_once_no_template_names_it(desk: Desk) -> None:
    await desk.ensure()
    desk.store.put("ReplicaSet", mounting(desk, cache=False))
    await desk.caches(None).sweep([desk.snapshot()])
    claim = desk.claim()
    assert claim is None or "deletionTimestamp" in claim["metadata"]


def restricted(desk: Desk) -> None:
    """Have the namespace take restricted pods only, with the service's account."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    client, path = desk.cluster.client, f"/api/v1/namespaces/{desk.namespace}"
    client.merge(path, {"metadata": {"labels": labels}})
    owner = Owner("v1", "Namespace", desk.namespace, client.get(path)["metadata"]["uid"])
    account = service_account(desk.snapshot(), owner=owner)
    del account["metadata"]["ownerReferences"]
    client.create(f"{path}/serviceaccounts", account)


def pod(desk: Desk) -> Any:
    made = pod_template(replace(desk.snapshot(), cache=True), POOL, gated=False)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        **made,
        "metadata": {**made["metadata"], "name": "p"},
    }


async def test_pods_with_the_cache_are_let_into_a_restricted_namespace(desk: Desk) -> None:
    restricted(desk)
    await desk.ensure()
    path = f"/api/v1/namespaces/{desk.namespace}/pods"
    made = desk.cluster.client.create(path, pod(desk))
    mounts = {
        c["name"]: next(m for m in c["volumeMounts"] if m["name"] == CLAIM)
        for c in (*made["spec"]["initContainers"], *made["spec"]["containers"])
    }
    assert mounts == {
        "fetch": {"name": CLAIM, "mountPath": "/cache"},
        "triton": {"name": CLAIM, "mountPath": "/cache", "readOnly": True},
    }


async def test_the_same_directory_by_hostpath_is_refused_there(desk: Desk) -> None:
    restricted(desk)
    forbidden = pod(desk)
    forbidden["spec"]["volumes"] = [
        {"name": v["name"], "hostPath": {"path": PATH}} if v["name"] == CLAIM else v
        for v in forbidden["spec"]["volumes"]
    ]
    with pytest.raises(ApiError, match="violates PodSecurity"):
        desk.cluster.client.create(f"/api/v1/namespaces/{desk.namespace}/pods", forbidden)
