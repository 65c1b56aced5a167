"""Pools as a tick sees them: overlaps, modes, and services that may or may not use them."""

from typing import Any

import pytest

from conch.api.conditions import Reason
from conch.provisioning.coexistence import Coexistence
from conch.reconcile.gather import FleetFacts, Gatherer, ServiceFacts, unknown_pools
from conch.reconcile.settings import Settings
from conch.reconcile.status import pool_status
from tests.kit.rendering import IMAGES
from tests.unit.reconcile import bodies
from tests.unit.reconcile.bodies import gathered, store

NOW = "2026-01-02T00:00:00Z"
CPU = {"sharing": {"mode": "CPU"}}


def fleet(*pools: Any, **objects: Any) -> FleetFacts:
    return gathered(store(GPUPool=list(pools), **objects))


class TestOverlap:
    def test_pools_of_the_same_resource_and_node_name_each_other(self) -> None:
        found = fleet(bodies.gpu_pool("a"), bodies.gpu_pool("b")).overlaps
        assert set(found) == {"a", "b"}
        assert found["a"].startswith("nodes belong to pool b (n1) too, for the same resource")

    def test_many_nodes_are_a_number(self) -> None:
        nodes = [bodies.node(f"n{i}") for i in range(5)]
        found = fleet(bodies.gpu_pool("a"), bodies.gpu_pool("b"), Node=nodes).overlaps
        assert "pool b (n0, n1, n2 and 2 more nodes)" in found["a"]

    def test_another_resource_of_the_same_node_is_another_thing(self) -> None:
        parts = bodies.gpu_pool("b", resourceName="nvidia.com/mig-1g.10gb")
        assert fleet(bodies.gpu_pool("a"), parts).overlaps == {}

    def test_cpus_of_a_node_with_gpus_are_no_overlap(self) -> None:
        pools = bodies.gpu_pool("a"), bodies.gpu_pool("b", **CPU), bodies.gpu_pool("c", **CPU)
        assert fleet(*pools).overlaps == {}

    def test_it_is_told_while_it_lasts(self) -> None:
        body = bodies.gpu_pool("a")
        found = fleet(body, bodies.gpu_pool("b"))
        status = pool_status(body, found.pools[0], NOW, overlap=found.overlaps["a"])
        kinds = {c["type"]: (c["status"], c["reason"]) for c in status["conditions"]}
        assert kinds == {"Ready": ("True", "NodesReady"), "Stalled": ("True", "PoolsOverlap")}
        after = pool_status({**body, "status": status}, found.pools[0], NOW)
        assert [c["type"] for c in after["conditions"]] == ["Ready"]

    def test_it_begins_with_a_label(self) -> None:
        here = store(GPUPool=[bodies.gpu_pool("a"), bodies.gpu_pool("b", nodeSelector={"x": "y"})])
        both = bodies.node(metadata={"resourceVersion": "2"})
        both["metadata"]["labels"]["x"] = "y"
        gatherer = Gatherer(here, Settings(images=IMAGES))
        assert gatherer.gather().overlaps == {}
        here.put("Node", both)
        assert set(gatherer.gather().overlaps) == {"a", "b"}


def test_a_pool_without_gpus_counts_none_even_if_its_nodes_have_some() -> None:
    body = bodies.gpu_pool("a", **CPU)
    (pool,) = fleet(body, Pod=bodies.pod()).pools
    status = pool_status(body, pool, NOW)
    assert [status[k] for k in ("nodes", "gpus", "allocated", "free")] == [1, 0, 0, 0]


def test_parts_of_gpus_are_counted_as_devices() -> None:
    part = "nvidia.com/mig-1g.10gb"
    sharing = {"mode": "MIG", "devicesPerGPU": 7}
    body = bodies.gpu_pool("a", resourceName=part, sharing=sharing)
    node = bodies.node(status={"allocatable": {part: "14", "pods": "110"}})
    (pool,) = fleet(body, Node=node).pools
    status = pool_status(body, pool, NOW)
    assert [status[k] for k in ("gpus", "free")] == [14, 14]


class TestWhoMayUseThem:
    def refusal(self, pool: Any, **placement: Any) -> str:
        service = bodies.model_service(placement=placement)
        found = fleet(pool, ModelService=service)
        fault = unknown_pools(found.services[0], found)
        assert fault is not None
        assert fault.reason is Reason.NO_POOL
        return fault.message

    def test_an_edge_pool_says_how_it_is_had(self) -> None:
        assert self.refusal(bodies.gpu_pool("kiosk", edge=True)) == (
            "no GPUPool suits; there are: kiosk (NVIDIA-A100; an edge pool, which placement.pools "
            "or placement.sites must name)"
        )

    def test_so_does_one_without_gpus(self) -> None:
        assert "cpu (NVIDIA-A100; without GPUs, which takes placement.cpu)" in self.refusal(
            bodies.gpu_pool("cpu", **CPU)
        )

    def test_and_one_of_another_site(self) -> None:
        text = self.refusal(bodies.gpu_pool("a", site="home"), sites=["shop"])
        assert text.startswith("no GPUPool suits: placement asks for site shop; there are: a (")
        assert "not at a site of placement.sites" in text

    def test_and_one_that_is_of_no_use(self) -> None:
        text = self.refusal(bodies.gpu_pool("a", relativeSpeed=-1))
        assert text.startswith("no GPUPool can be used: a: relativeSpeed")

    def test_a_model_that_needs_no_gpu_finds_cpus_by_itself(self) -> None:
        found = fleet(
            bodies.gpu_pool("a"),
            bodies.gpu_pool("cpu", **CPU),
            Model=bodies.model(resources={"gpus": 0}),
            ModelService=bodies.model_service(),
        )
        assert [p.name for p in found.services[0].pools] == ["cpu", "a"]
        again = Gatherer(
            store(
                GPUPool=[bodies.gpu_pool("a"), bodies.gpu_pool("cpu", **CPU)],
                Model=bodies.model(resources={"gpus": 0}),
                ModelService=bodies.model_service(),
            ),
            Settings(images=IMAGES),
        )
        again.gather()
        assert [p.name for p in again.gather().services[0].pools] == ["cpu", "a"]


def test_zones_are_part_of_what_a_replica_asks() -> None:
    here = store(ModelService=bodies.model_service())
    gatherer = Gatherer(here, Settings(images=IMAGES))
    assert gatherer.gather().services[0].shapes["a100"].zones == ()
    bound = bodies.model_service(placement={"zones": ["a"]})
    bound["metadata"] |= {"resourceVersion": "2", "generation": 2}
    here.put("ModelService", bound)
    (facts,) = gatherer.gather().services
    assert facts.shapes["a100"].zones == ("a",)
    assert {s.zones for s in facts.snapshots.values()} == {("a",)}


class TestBelonging:
    def tenant(self, name: str, created: str = bodies.EPOCH, **spec: Any) -> Any:
        body = bodies.meta(name, namespace=None, creationTimestamp=created)
        return {"metadata": body, "spec": {"namespaces": ["vision"], **spec}}

    def facts(self, others: Coexistence, *tenants: Any, **spec: Any) -> ServiceFacts:
        here = store(ModelService=bodies.model_service(**spec), Tenant=list(tenants))
        (found,) = Gatherer(here, Settings(images=IMAGES, others=others)).gather().services
        return found

    def only(self, *args: Any, **spec: Any) -> tuple[str | None, int]:
        (snapshot,) = self.facts(*args, **spec).snapshots.values()
        return snapshot.tenant, snapshot.priority

    def test_the_older_tenant_has_the_namespace(self) -> None:
        younger = self.tenant("a", created="2026-02-01T00:00:00Z")
        assert self.only(Coexistence(kueue=True), younger, self.tenant("b")) == ("b", 0)

    @pytest.mark.parametrize(("priority", "counts"), [(900, 10), (-900, -10), (3, 3)])
    def test_a_priority_beyond_the_tenants_counts_as_its_bound(
        self, priority: int, counts: int
    ) -> None:
        tenant = self.tenant("a", priorities={"min": -10, "max": 10})
        found = self.only(Coexistence(priority_classes=True), tenant, priority=priority)
        assert found == ("a", counts)

    def test_where_nobody_else_is_there_nobody_needs_to_know(self) -> None:
        assert self.only(Coexistence(), self.tenant("a")) == (None, 0)

    def test_a_tenant_that_comes_later_is_told_of(self) -> None:
        here = store(ModelService=bodies.model_service())
        gatherer = Gatherer(here, Settings(images=IMAGES, others=Coexistence(kueue=True)))
        first = gatherer.gather().services[0]
        here.put("Tenant", self.tenant("a"))
        (after,) = gatherer.gather().services
        assert after.versions != first.versions
        assert {s.tenant for s in after.snapshots.values()} == {"a"}
