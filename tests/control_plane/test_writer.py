"""Conch's writes on a real API server: only what differs, and never over a newer state."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from conch.api.names import GATE
from conch.clients.cluster import Cluster as Connection
from conch.clients.cluster import ClusterError, connect
from conch.decisions.fleet import Pod
from conch.decisions.steps import Admission
from conch.provisioning.children import revision_children, service_children
from conch.provisioning.metadata import Owner
from conch.provisioning.replica_set import replica_set
from conch.provisioning.service_account import service_account
from conch.reconcile.store import Store
from conch.reconcile.views import pod_view, seconds_of
from conch.reconcile.writer import Writer, size_of
from tests.kit.client import Object
from tests.kit.control_plane import Cluster
from tests.kit.rendering import OWNER, POOL, SERVICE, example


@pytest.fixture
async def connection(cluster: Cluster) -> AsyncIterator[Connection]:
    made = await connect(str(cluster.kubeconfig))
    yield made
    await made.close()


@dataclass
class Desk:
    """A writer with its store, in a namespace with a ModelService to own what is written."""

    cluster: Cluster
    namespace: str
    writer: Writer
    store: Store
    owner: Owner

    def path(self, kind: str, name: str) -> str:
        prefix = (
            "/apis/apps/v1"
            if kind.startswith(("replicasets", "controllerrevisions"))
            else "/api/v1"
        )
        return f"{prefix}/namespaces/{self.namespace}/{kind}/{name}"

    def service(self) -> Object:
        """The wish for the Service."""
        children = service_children(example(namespace=self.namespace), owner=self.owner)
        return next(c for c in children if c["kind"] == "Service")

    def replica_set(self, replicas: int, *, gated: bool = False) -> Object:
        """The wish for the ReplicaSet."""
        snapshot = example(namespace=self.namespace)
        return replica_set(snapshot, POOL, replicas=replicas, gated=gated, owner=self.owner)

    def pod(self, *, gates: tuple[str, ...] = (GATE,)) -> Pod:
        """Create a pod of the ReplicaSet's template with these gates, and return its view."""
        template = self.replica_set(1)["spec"]["template"]
        spec = {**template["spec"], "schedulingGates": [{"name": g} for g in gates]}
        metadata = {**template["metadata"], "name": "p"}
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
        made = self.cluster.client.create(self.path("pods", "").rstrip("/"), body)
        self.store.put("Pod", made)
        return pod_view(made, ())

    def live(self, kind: str, name: str) -> Object:
        return self.cluster.client.get(self.path(kind, name))


@pytest.fixture
def desk(cluster: Cluster, namespace: str, connection: Connection) -> Desk:
    body = {
        "apiVersion": OWNER.api_version,
        "kind": OWNER.kind,
        "metadata": {"name": OWNER.name, "namespace": namespace},
        "spec": SERVICE,
    }
    path = f"/apis/conch.dev/v1alpha1/namespaces/{namespace}/modelservices"
    uid = cluster.client.create(path, body)["metadata"]["uid"]
    owner = Owner(OWNER.api_version, OWNER.kind, OWNER.name, uid)
    account = service_account(example(namespace=namespace), owner=owner)
    cluster.client.create(f"/api/v1/namespaces/{namespace}/serviceaccounts", account)
    store = Store()
    return Desk(cluster, namespace, Writer(connection, store), store, owner)


class TestEnsuring:
    async def test_a_snapshot_can_be_labelled_once_it_is_made(self, desk: Desk) -> None:
        """Its data may not change: neither may the bytes that the API server keeps of them."""
        snapshot = example(namespace=desk.namespace)
        made = revision_children(snapshot, owner=desk.owner, number=1)
        (wish,) = (c for c in made if c["kind"] == "ControllerRevision")
        assert await desk.writer.ensure(wish) is True
        path = desk.path("controllerrevisions", wish["metadata"]["name"])
        changed = desk.cluster.client.merge(path, {"metadata": {"labels": {"x": "y"}}})
        assert changed["data"] == wish["data"]

    async def test_text_of_any_script_is_taken(self, desk: Desk) -> None:
        wish = desk.service()
        wish["metadata"]["annotations"] = {"note": "🚀 \\🚀 \x7f\x85 é"}
        assert await desk.writer.ensure(wish) is True
        live = desk.live("services", "digits")["metadata"]["annotations"]
        assert live["note"] == wish["metadata"]["annotations"]["note"]

    async def test_a_child_is_written_once(self, desk: Desk) -> None:
        wish = desk.service()
        assert await desk.writer.ensure(wish) is True
        version = desk.live("services", "digits")["metadata"]["resourceVersion"]
        assert await desk.writer.ensure(wish) is False
        assert desk.live("services", "digits")["metadata"]["resourceVersion"] == version

    @pytest.mark.parametrize("gated", [True, False])
    async def test_the_api_servers_defaults_are_no_difference(
        self, desk: Desk, gated: bool
    ) -> None:
        wish = desk.replica_set(2, gated=gated)
        await desk.writer.ensure(wish)
        assert await desk.writer.ensure(wish) is False

    async def test_an_edit_by_hand_is_put_right(self, desk: Desk) -> None:
        await desk.writer.ensure(desk.service())
        selector = {"spec": {"selector": {"conch.dev/serving": "off"}}}
        edited = desk.cluster.client.merge(desk.path("services", "digits"), selector)
        desk.store.put("Service", edited)
        assert await desk.writer.ensure(desk.service()) is True
        live = desk.live("services", "digits")
        assert live["spec"]["selector"]["conch.dev/serving"] == "on"

    async def test_what_others_add_is_left_alone(self, desk: Desk) -> None:
        await desk.writer.ensure(desk.service())
        added = {"metadata": {"annotations": {"team": "vision"}}}
        edited = desk.cluster.client.merge(desk.path("services", "digits"), added)
        desk.store.put("Service", edited)
        assert await desk.writer.ensure(desk.service()) is False
        await desk.writer.ensure({**desk.service(), "spec": {**desk.service()["spec"], "type": ""}})
        live = desk.live("services", "digits")
        assert live["metadata"]["annotations"]["team"] == "vision"

    async def test_a_field_that_is_wished_no_more_goes(self, desk: Desk) -> None:
        wish = desk.service()
        extra = {**wish, "metadata": {**wish["metadata"], "labels": {"old": "x"}}}
        await desk.writer.ensure(extra)
        assert await desk.writer.ensure(wish) is True
        assert "old" not in desk.live("services", "digits")["metadata"]["labels"]

    @pytest.mark.parametrize("kind", ["services", "serviceaccounts"])
    async def test_what_somebody_else_made_is_not_taken_over(self, desk: Desk, kind: str) -> None:
        """It would be deleted with the service. A ServiceAccount has no field to quarrel about."""
        wish = desk.service()
        if kind == "serviceaccounts":
            wish = service_account(example(namespace=desk.namespace), owner=desk.owner)
            desk.cluster.client.delete(desk.path(kind, wish["metadata"]["name"]))
        name = wish["metadata"]["name"]
        metadata = {"name": name, "labels": {"app": "x"}}
        theirs: Object = {"apiVersion": "v1", "kind": wish["kind"], "metadata": metadata}
        if kind == "services":
            theirs["spec"] = {"ports": [{"name": "http", "port": 8000}]}
        desk.cluster.client.apply(desk.path(kind, name), theirs, manager="them")
        with pytest.raises(ClusterError, match="is not Conch's") as refused:
            await desk.writer.ensure(wish)
        assert refused.value.status == 409
        live = desk.live(kind, name)["metadata"]
        assert live["labels"] == {"app": "x"}
        assert "ownerReferences" not in live

    async def test_what_was_detached_is_taken_up_again(self, desk: Desk) -> None:
        await desk.writer.ensure(desk.service())
        orphaned = {"metadata": {"ownerReferences": None}}
        desk.cluster.client.merge(desk.path("services", "digits"), orphaned)
        desk.writer = Writer(desk.writer._cluster, Store())
        assert await desk.writer.ensure(desk.service()) is True
        (owner,) = desk.live("services", "digits")["metadata"]["ownerReferences"]
        assert owner["uid"] == desk.owner.uid

    async def test_what_is_gone_unheard_is_made_anew_at_the_next_try(self, desk: Desk) -> None:
        """So the children of a namespace that was deleted and made again under the same name."""
        name = desk.replica_set(1)["metadata"]["name"]
        await desk.writer.ensure(desk.replica_set(1))
        desk.cluster.client.delete(desk.path("replicasets", name))
        with pytest.raises(ClusterError, match="is gone") as refused:
            await desk.writer.ensure(desk.replica_set(2))
        assert refused.value.status == 409
        assert await desk.writer.ensure(desk.replica_set(2)) is True
        assert desk.live("replicasets", name)["spec"]["replicas"] == 2

    async def test_an_answer_that_was_lost_costs_no_second_write(self, desk: Desk) -> None:
        await desk.writer.ensure(desk.service())
        desk.writer = Writer(desk.writer._cluster, Store())
        assert await desk.writer.ensure(desk.service()) is False

    @pytest.mark.parametrize("how", ["ensure", "ensure_set"])
    async def test_replicas_are_not_lowered_over_a_newer_state(self, desk: Desk, how: str) -> None:
        await desk.writer.ensure(desk.replica_set(3))
        name = desk.replica_set(3)["metadata"]["name"]
        status = {"status": {"replicas": 3, "readyReplicas": 2, "observedGeneration": 1}}
        desk.cluster.client.merge(desk.path("replicasets", f"{name}/status"), status)
        with pytest.raises(ClusterError) as refused:
            await getattr(desk.writer, how)(desk.replica_set(2), guarded=True)
        assert refused.value.status == 409
        assert desk.live("replicasets", name)["spec"]["replicas"] == 3

    async def test_size_and_gate_alone_are_patched_and_all_else_is_applied(
        self, desk: Desk
    ) -> None:
        name = desk.replica_set(1)["metadata"]["name"]
        assert await desk.writer.ensure_set(desk.replica_set(1, gated=True))
        for wish in (desk.replica_set(1), desk.replica_set(2, gated=True), desk.replica_set(3)):
            assert await desk.writer.ensure_set(wish)
            assert not await desk.writer.ensure_set(wish)
            live = desk.live("replicasets", name)
            assert size_of(live) == size_of(wish)
            managers = [m for m in live["metadata"]["managedFields"] if m["manager"] == "conch"]
            assert [m["operation"] for m in managers] == ["Update"]
        # What Conch leaves out of a template goes, whichever way it came there.
        more = desk.replica_set(3, gated=True)
        annotations = more["spec"]["template"]["metadata"].setdefault("annotations", {})
        annotations["more"] = "of it"
        assert await desk.writer.ensure_set(more)
        assert await desk.writer.ensure_set(desk.replica_set(4, gated=True))
        assert await desk.writer.ensure_set(desk.replica_set(4))
        live = desk.live("replicasets", name)
        assert size_of(live) == (4, False)
        assert "more" not in live["spec"]["template"]["metadata"].get("annotations", {})

    async def test_a_set_of_a_revision_that_is_gone_can_be_resized(self, desk: Desk) -> None:
        await desk.writer.ensure(desk.replica_set(2))
        name = desk.replica_set(2)["metadata"]["name"]
        for replicas, gated in ((2, True), (1, False)):
            live = desk.store.get("ReplicaSet", name, desk.namespace)
            assert live is not None
            await desk.writer.patch_set(live, replicas=replicas, gated=gated)
            found = desk.live("replicasets", name)["spec"]
            gates = found["template"]["spec"].get("schedulingGates", [])
            assert (found["replicas"], bool(gates)) == (replicas, gated)


class TestPods:
    async def test_admission_lifts_conchs_gate_only_and_pins(self, desk: Desk) -> None:
        pod = desk.pod(gates=("kueue.x-k8s.io/admission", GATE))
        await desk.writer.admit(Admission(pod, "node-1"), desk.namespace)
        live = desk.live("pods", "p")
        assert live["spec"]["schedulingGates"] == [{"name": "kueue.x-k8s.io/admission"}]
        found = pod_view(live, ())
        assert found.pinned == "node-1"
        assert not found.gated
        # The answer is in the store at once, so that the next tick doesn't admit it again.
        assert desk.store.get("Pod", "p", desk.namespace) is not None
        assert not pod_view(desk.store.get("Pod", "p", desk.namespace) or {}, ()).gated

    async def test_the_class_affinity_stays_beside_the_pin(self, desk: Desk) -> None:
        await desk.writer.admit(Admission(desk.pod(), "node-1"), desk.namespace)
        affinity = desk.live("pods", "p")["spec"]["affinity"]["nodeAffinity"]
        (term,) = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
        assert set(term) == {"matchExpressions", "matchFields"}

    async def test_a_drain_and_its_end(self, desk: Desk) -> None:
        pod = desk.pod()
        await desk.writer.drain(pod, desk.namespace, now=1_767_225_600.4)
        drained = pod_view(desk.live("pods", "p"), ())
        assert not drained.serving
        assert drained.draining_since == seconds_of("2026-01-01T00:00:01Z")  # never too early
        await desk.writer.restore(drained, desk.namespace)
        restored = pod_view(desk.live("pods", "p"), ())
        assert restored.serving
        assert restored.draining_since is None

    @pytest.mark.parametrize("act", ["admit", "drain", "restore", "delete"])
    async def test_nothing_is_done_to_a_pod_that_changed(self, desk: Desk, act: str) -> None:
        pod = desk.pod()
        desk.cluster.client.merge(desk.path("pods", "p"), {"metadata": {"labels": {"x": "y"}}})
        before = desk.live("pods", "p")
        with pytest.raises(ClusterError) as refused:
            await self.act(desk, act, pod)
        assert refused.value.status == 409
        assert desk.live("pods", "p") == before

    @pytest.mark.parametrize("act", ["admit", "drain", "restore", "delete"])
    async def test_nor_to_another_of_the_same_name(self, desk: Desk, act: str) -> None:
        old = desk.pod()
        desk.cluster.client.delete(desk.path("pods", "p"))
        desk.pod()
        before = desk.live("pods", "p")
        with pytest.raises(ClusterError) as refused:
            await self.act(desk, act, old)
        assert refused.value.status in (409, 422)
        assert desk.live("pods", "p") == before

    async def test_a_pod_that_is_gone_already_needs_no_deletion(self, desk: Desk) -> None:
        pod = desk.pod()
        desk.cluster.client.delete(desk.path("pods", "p"))
        await desk.writer.delete_pod(pod)
        assert desk.cluster.client.find(desk.path("pods", "p")) is None

    async def test_a_deletion(self, desk: Desk) -> None:
        await desk.writer.delete_pod(desk.pod())
        assert desk.cluster.client.find(desk.path("pods", "p")) is None

    async def act(self, desk: Desk, act: str, pod: Pod) -> None:
        if act == "admit":
            await desk.writer.admit(Admission(pod, "node-1"), desk.namespace)
        elif act == "drain":
            await desk.writer.drain(pod, desk.namespace, 0.0)
        elif act == "restore":
            await desk.writer.restore(pod, desk.namespace)
        else:
            await desk.writer.delete_pod(pod)


class TestNodes:
    async def test_one_that_the_store_does_not_know_is_asked_for(self, desk: Desk) -> None:
        """A watch of nodes that lags: the pod on it is not lost."""
        desk.cluster.client.create("/api/v1/nodes", {"metadata": {"name": desk.namespace}})
        assert await desk.writer.is_gone("Node", desk.namespace) is False
        assert desk.store.get("Node", desk.namespace) is not None
        desk.cluster.client.delete(f"/api/v1/nodes/{desk.namespace}")
        assert await desk.writer.is_gone("Node", desk.namespace) is True


class TestStatuses:
    async def test_a_status_is_written_once(self, desk: Desk) -> None:
        body: Any = desk.cluster.client.get(
            f"/apis/conch.dev/v1alpha1/namespaces/{desk.namespace}/modelservices/digits"
        )
        desk.store.put("ModelService", body)
        status = {"observedGeneration": 1, "replicas": 0, "readyReplicas": 0, "pools": []}
        status |= {"conditions": []}
        assert await desk.writer.status("ModelService", body, status) is True
        assert await desk.writer.status("ModelService", body, status) is False

    async def test_one_that_is_gone_meanwhile_gets_none(self, desk: Desk) -> None:
        body = {"metadata": {"name": "gone", "namespace": desk.namespace}}
        assert await desk.writer.status("ModelService", body, {"replicas": 1}) is False
