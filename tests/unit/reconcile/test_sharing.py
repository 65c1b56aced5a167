"""From services and wishes to claims, and what the scaler is told of a grant."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from conch.api.conditions import Reason
from conch.decisions.scaling import PoolLoad, ServiceLoad
from conch.decisions.shares import Grant
from conch.decisions.shares.usage import Held
from conch.reconcile.fair import Sharing
from conch.reconcile.gather import FleetFacts
from conch.reconcile.sharing import Wished, bound, holdings
from tests.unit.reconcile import bodies
from tests.unit.reconcile.bodies import EPOCH_S, current_revision, gathered, of_revision, store

Object = dict[str, Any]
NOW = EPOCH_S + 1000.0
DRAINING = {"conch.dev/draining-since": "2026-01-01T00:10:00Z"}


def pod(name: str, revision: str | None = None, **fields: Any) -> Object:
    """Return a pod of the current revision, or of another."""
    return of_revision(bodies.pod(name, **fields), revision or current_revision())


def fleet(*pods: Object, **objects: Any) -> FleetFacts:
    return gathered(store(ModelService=bodies.model_service(), Pod=list(pods), **objects))


def wish(of: FleetFacts, replicas: int = 9, **more: Any) -> Wished:
    (facts,) = of.services
    return Wished(facts, replicas, load_seconds=42.0, rates={}, **more)


def granted(of: FleetFacts, replicas: int = 9, **more: Any) -> tuple[Grant, float]:
    """Return the grant of the one service, and what its tenant is charged for."""
    wished = wish(of, replicas, **more)
    sharing = Sharing(store(), "conch")
    shares = sharing.decide([wished], of.pools, NOW)
    return shares.grants[wished.facts.key], shares.standings["namespace/vision"].allocated


class TestClaims:
    def test_what_is_free_is_granted_beside_what_is_held(self) -> None:
        grant, charged = granted(fleet(pod("p1"), pod("p2")))
        assert grant.replicas == {"a100": 4}
        assert charged == 2

    def test_a_wish_is_all_that_is_granted(self) -> None:
        grant, _ = granted(fleet(pod("p1")), 2)
        assert grant.replicas == {"a100": 2}

    def test_the_place_of_a_pod_that_drains_is_free_already(self) -> None:
        drains = pod("p1", metadata={"annotations": DRAINING})
        grant, charged = granted(fleet(drains, pod("p2"), Node=bodies.node(gpus=2)))
        assert grant.replicas == {"a100": 2}
        assert charged == 1

    def test_a_replica_that_was_begun_in_a_pool_stays_with_it_until_it_is_placed(self) -> None:
        t4 = bodies.node("n2")
        t4["metadata"]["labels"] = {"gpu": "t4"}
        there = {
            "Node": [bodies.node(), t4],
            "GPUPool": [bodies.gpu_pool(), bodies.gpu_pool("t4", nodeSelector={"gpu": "t4"})],
        }
        assert granted(fleet(**there), 1)[0].replicas == {"a100": 1}
        begun = of_revision(bodies.replica_set("digits-r1-t4"), current_revision())
        begun["metadata"]["labels"]["conch.dev/pool"] = "t4"
        assert granted(fleet(ReplicaSet=begun, **there), 1)[0].replicas == {"t4": 1}

    def test_the_place_of_a_pod_that_has_ended_is_free_once(self) -> None:
        # Its node counts it no more, though it is still there while it is deleted.
        ended = pod("p1", metadata={"deletionTimestamp": "2026-06-01T00:00:00Z"})
        ended["status"]["phase"] = "Succeeded"
        grant, charged = granted(fleet(ended, pod("p2"), Node=bodies.node(gpus=2)))
        assert grant.replicas == {"a100": 2}
        assert charged == 1

    def test_pods_of_an_old_revision_are_charged_and_not_granted(self) -> None:
        grant, charged = granted(fleet(pod("p1", "old"), pod("p2", "old"), pod("p3")))
        assert grant.replicas == {"a100": 2}
        assert charged == 3

    def test_what_is_paused_is_charged_and_neither_taken_nor_added_to(self) -> None:
        grant, charged = granted(fleet(pod("p1"), pod("p2")), untouchable=True)
        assert (grant.total, grant.given_up, charged) == (0, frozenset(), 2)

    def test_a_pod_that_waits_behind_its_gate_holds_nothing(self) -> None:
        waits = of_revision(bodies.gated("p1"), current_revision())
        _, charged = granted(fleet(waits), 0)
        assert charged == 0


class TestHoldings:
    def held(self, *pods: Object, **objects: Any) -> Mapping[str, list[Held]]:
        of = fleet(*pods, **objects)
        return holdings([wish(of)], of.pools)

    def test_a_replica_is_charged_by_speed_and_price(self) -> None:
        pools = bodies.gpu_pool(relativeSpeed=2, pricePerGPUHour=3)
        found = self.held(pod("p1"), GPUPool=pools)
        assert found == {"vision": [Held("NVIDIA-A100", 1.0, 2.0, 3.0)]}

    def test_one_that_drains_still_is(self) -> None:
        assert self.held(pod("p1", metadata={"annotations": DRAINING}))["vision"][0].gpus == 1

    def test_one_of_an_old_revision_too(self) -> None:
        (both,) = self.held(pod("p1", "old"), pod("p2"))["vision"]
        assert (both.gpus, both.charge) == (2.0, 2.0)

    def test_one_behind_its_gate_is_not(self) -> None:
        assert self.held(of_revision(bodies.gated("p1"), current_revision())) == {}

    def test_parts_of_gpus_are_parts(self) -> None:
        sharing = {"mode": "TimeSlice", "devicesPerGPU": 4}
        found = self.held(pod("p1"), GPUPool=bodies.gpu_pool(sharing=sharing))
        assert [(h.gpus, h.charge) for h in found["vision"]] == [(0.25, 0.25)]


class TestWhatTheScalerIsTold:
    LOAD = ServiceLoad(
        (
            PoolLoad("fast", "A100", ready=2, starting=1, room=5, signals=None),
            PoolLoad("slow", "T4", ready=0, starting=0, room=7, signals=None),
        )
    )

    def rooms(self, grant: Grant | None) -> list[int]:
        return [p.room for p in bound(self.LOAD, grant).pools]

    def test_without_a_grant_all_that_is_free(self) -> None:
        assert self.rooms(None) == [5, 7]

    def test_nor_is_it_bound_by_a_grant_of_all_that_it_wished_for(self) -> None:
        """Else a wish of three could never become one of four."""
        assert self.rooms(Grant({"fast": 3})) == [5, 7]

    def test_no_more_than_it_may_have_where_others_come_first(self) -> None:
        assert self.rooms(Grant({"fast": 4}, reason=Reason.AWAITING_SHARE)) == [1, 0]

    def test_a_limit_is_known_beforehand(self) -> None:
        assert self.rooms(Grant({"fast": 3, "slow": 2}, reason=Reason.TENANT_LIMIT)) == [0, 2]

    def test_what_is_taken_back_is_no_negative_room(self) -> None:
        assert self.rooms(Grant({"fast": 1}, reason=Reason.AWAITING_SHARE)) == [0, 0]

    def test_never_more_than_is_free(self) -> None:
        grant = Grant({"fast": 99, "slow": 99}, reason=Reason.AWAITING_SHARE)
        assert self.rooms(grant) == [5, 7]

    def test_nothing_else_of_the_load_changes(self) -> None:
        grant = Grant({"fast": 3}, reason=Reason.AWAITING_SHARE)
        same = replace(bound(self.LOAD, grant), pools=self.LOAD.pools)
        assert same == self.LOAD
