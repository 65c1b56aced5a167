"""From the store to the facts of a tick."""

from typing import Any

import pytest

from conch.api.conditions import Reason
from conch.provisioning import resources
from conch.provisioning.controller_revision import controller_revision
from conch.provisioning.replica_set import replica_set
from conch.reconcile.gather import Gatherer, ServiceFacts, unknown_pools
from conch.reconcile.resolve import Fault
from conch.reconcile.settings import Settings
from tests.kit.rendering import IMAGES, OWNER
from tests.unit.reconcile import bodies
from tests.unit.reconcile.bodies import current_revision, gathered, of_revision, store


def one(**objects: Any) -> ServiceFacts:
    (facts,) = gathered(store(**{"ModelService": bodies.model_service(), **objects})).services
    return facts


def test_a_service_with_its_model_has_a_revision_and_shapes() -> None:
    facts = one()
    assert facts.fault is None
    assert facts.service.revision in facts.snapshots
    assert facts.shapes["a100"].need.gpus == 1
    assert [p.name for p in facts.pools] == ["a100"]


def test_a_model_that_is_not_there_is_a_fault_of_this_service_only() -> None:
    other = bodies.model_service("other", model={"name": "missing"})
    fleet = gathered(store(ModelService=[bodies.model_service(), other]))
    faults = {f.key.name: f.fault for f in fleet.services}
    assert faults["digits"] is None
    assert isinstance(faults["other"], Fault)
    assert faults["other"].reason is Reason.MODEL_NOT_FOUND


def test_a_spec_that_can_not_be_read_is_set_aside() -> None:
    broken = bodies.model_service("broken", scaling={"minReplicas": -1})
    fleet = gathered(store(ModelService=[broken, bodies.model_service()]))
    assert [f.key.name for f in fleet.services] == ["digits"]
    ((body, fault),) = fleet.broken
    assert body["metadata"]["name"] == "broken"
    assert fault.reason is Reason.INVALID_SPEC
    assert "minReplicas" in fault.message


def test_one_that_is_being_deleted_is_left_alone() -> None:
    leaving = bodies.model_service()
    leaving["metadata"]["deletionTimestamp"] = bodies.EPOCH
    assert gathered(store(ModelService=leaving)).services == ()


def test_a_mirror_that_moves_counts_for_old_revisions_too() -> None:
    def through(mirror: str, *kept: dict[str, Any]) -> ServiceFacts:
        settings = Settings(images=IMAGES, endpoints={"s3": mirror})
        here = store(
            Model=bodies.model(source={"uri": "s3://models/digits"}),
            ModelService=bodies.model_service(),
            ControllerRevision=list(kept),
        )
        (facts,) = Gatherer(here, settings).gather().services
        return facts

    first = through("http://old")
    (snapshot,) = first.snapshots.values()
    assert snapshot.endpoint == "http://old"
    kept = controller_revision(snapshot, owner=OWNER)
    kept["metadata"] |= {"uid": "r", "resourceVersion": "1"}
    moved = through("http://new", kept)
    assert {s.endpoint for s in moved.snapshots.values()} == {"http://new"}
    assert moved.service.revision == first.service.revision


def test_children_are_those_of_the_service_and_namespace() -> None:
    strange = bodies.pod("strange")
    strange["metadata"]["labels"] = {"conch.dev/service": "digits"}  # not managed by Conch
    elsewhere = bodies.pod("elsewhere", metadata={"namespace": "other"})
    others = bodies.pod("others")
    others["metadata"]["labels"] = bodies.labels(service="other")
    facts = one(Pod=[bodies.pod("mine"), strange, elsewhere, others])
    assert [p.name for p in facts.service.pods] == ["mine"]


def test_all_pods_on_a_node_count_whoever_they_belong_to() -> None:
    strange = bodies.pod("strange", gpus=3)
    strange["metadata"]["labels"] = {}
    (pool,) = one(Pod=[strange, bodies.pod("mine")]).pools
    assert pool.nodes[0].free(bodies.GPU).gpus == 0


def test_a_pool_whose_name_does_not_fit_a_label_is_recognised() -> None:
    name = "a-very-long-name-" * 5
    long = bodies.gpu_pool(f"{name}x")
    first = one(GPUPool=long)
    snapshot = next(iter(first.snapshots.values()))
    body = replica_set(
        snapshot,
        resources.Pool(f"{name}x", first.pools[0].spec),
        replicas=1,
        gated=False,
        owner=first.owner,
    )
    body["metadata"] = {**bodies.meta("rs"), **body["metadata"], "uid": "u"}
    facts = one(GPUPool=long, ReplicaSet=body)
    assert [s.pool for s in facts.service.sets] == [f"{name}x"]


class TestWhichRevisionHasTheTraffic:
    def test_the_one_that_the_service_selects(self) -> None:
        sets = [of_revision(bodies.replica_set(f"rs-{r}"), r) for r in ("r1", "r2")]
        facts = one(Service=bodies.service("r1"), ReplicaSet=sets)
        assert facts.service.serving_revision == "r1"

    def test_none_before_there_is_anything(self) -> None:
        assert one().service.serving_revision is None

    def test_a_service_deleted_by_hand_goes_back_to_what_answers(self) -> None:
        """In the midst of an update: not to the new revision, which does not answer yet."""
        new = of_revision(bodies.replica_set("rs-new"), current_revision())
        facts = one(ReplicaSet=[bodies.replica_set("rs-old"), new], Pod=bodies.pod())
        assert facts.service.serving_revision == "r1"

    def test_so_does_one_that_was_made_to_select_nothing(self) -> None:
        facts = one(Service=bodies.service("x"), ReplicaSet=bodies.replica_set(), Pod=bodies.pod())
        assert facts.service.serving_revision == "r1"


class TestParsing:
    def test_a_spec_is_parsed_once_a_generation(self) -> None:
        found = store(ModelService=bodies.model_service())
        gatherer = Gatherer(found, Settings(images=IMAGES))
        first = gatherer.gather().services[0].spec
        newer = bodies.model_service()
        newer["metadata"]["resourceVersion"] = "2"
        found.put("ModelService", newer)
        assert gatherer.gather().services[0].spec is first

    def test_an_edit_is_seen(self) -> None:
        found = store(ModelService=bodies.model_service())
        gatherer = Gatherer(found, Settings(images=IMAGES))
        gatherer.gather()
        edited = bodies.model_service(replicas=3)
        edited["metadata"] |= {"resourceVersion": "2", "generation": 2}
        found.put("ModelService", edited)
        assert gatherer.gather().services[0].spec.replicas == 3


class TestPools:
    def fault(self, **objects: Any) -> Fault | None:
        given = {"ModelService": bodies.model_service(), **objects}
        fleet = gathered(store(**given))
        return unknown_pools(fleet.services[0], fleet)

    def test_a_pool_with_nodes_suits(self) -> None:
        assert self.fault() is None

    def test_no_pool_at_all(self) -> None:
        fault = self.fault(GPUPool=[])
        assert fault is not None
        assert fault.reason is Reason.NO_POOL
        assert "apply one" in fault.message

    def test_none_of_the_wished_ones(self) -> None:
        wish = bodies.model_service(placement={"accelerators": ["Tesla-T4"]})
        fault = self.fault(ModelService=wish)
        assert fault is not None
        assert fault.message == (
            "no GPUPool suits: placement asks for Tesla-T4; there are: a100 (NVIDIA-A100)"
        )

    def test_one_without_nodes_names_the_labels(self) -> None:
        fault = self.fault(Node=[])
        assert fault is not None
        assert fault.reason is Reason.POOL_WITHOUT_NODES
        assert "no node carries gpu=a100" in fault.message

    def test_an_elastic_one_needs_no_nodes(self) -> None:
        assert self.fault(Node=[], GPUPool=bodies.gpu_pool(elastic=True)) is None

    def test_one_that_can_not_be_read_is_told(self) -> None:
        fleet = gathered(store(GPUPool=bodies.gpu_pool(relativeSpeed=-1)))
        assert fleet.pools == ()
        assert fleet.pool_faults["a100"].reason is Reason.INVALID_SPEC


def test_what_did_not_change_is_not_looked_through_again() -> None:
    known = store(ModelService=bodies.model_service(), Pod=bodies.pod())
    gatherer = Gatherer(known, Settings(images=IMAGES))
    first, again = gatherer.gather().services[0], gatherer.gather().services[0]
    assert again.service is first.service
    assert again.versions == first.versions


@pytest.mark.parametrize(
    ("kind", "name", "change"),
    [
        ("Pod", "p1", {"status": {"phase": "Failed"}}),
        ("ModelService", "digits", {"spec": {"model": {"name": "other"}}}),
        ("Model", "digits", {"spec": {"variants": []}}),
        ("GPUPool", "a100", {"spec": {"accelerator": "A100", "nodeSelector": {"x": "y"}}}),
        ("Node", "n1", {"metadata": {"labels": {}}}),
    ],
)
def test_any_change_is_seen(kind: str, name: str, change: dict[str, Any]) -> None:
    known = store(ModelService=bodies.model_service(), Pod=bodies.pod())
    gatherer = Gatherer(known, Settings(images=IMAGES))
    first = gatherer.gather().services[0]
    namespace = "" if kind in ("GPUPool", "Node") else "vision"
    body = known.get(kind, name, namespace)
    assert body is not None
    metadata = {**body["metadata"], **change.get("metadata", {})}
    metadata |= {"resourceVersion": "99", "generation": 2}
    assert known.put(kind, {**body, **change, "metadata": metadata})
    again = gatherer.gather().services[0]
    assert again.versions != first.versions
    assert (
        again.service != first.service or again.fault != first.fault or again.pools != first.pools
    )


def test_what_is_free_on_a_node_is_always_of_now() -> None:
    known = store(ModelService=bodies.model_service())
    gatherer = Gatherer(known, Settings(images=IMAGES))
    assert gatherer.gather().services[0].pools[0].nodes[0].requested == {}
    strange = bodies.pod("strange", gpus=3)
    strange["metadata"]["labels"] = {}
    known.put("Pod", strange)
    assert gatherer.gather().services[0].pools[0].nodes[0].requested[bodies.GPU] == 3


def test_a_time_zone_that_no_one_knows_is_told_and_leaves_what_runs_alone() -> None:
    peak = {"start": "0 8 * * *", "end": "1h", "minReplicas": 1, "timeZone": "Atlantis/Poseidonis"}
    service = bodies.model_service(scaling={"schedules": [peak]})
    fleet = gathered(store(ModelService=service, Pod=bodies.pod()))
    assert fleet.services == ()
    ((_, fault),) = fleet.broken
    assert fault.reason == "InvalidSpec"
    assert "IANA name of a time zone" in fault.message
