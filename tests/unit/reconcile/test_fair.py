"""Sharing from tick to tick: charges, grants, statuses, and the same after a restart."""

import itertools
import json
from typing import Any

import pytest

from conch.api.conditions import Reason
from conch.decisions.fleet import ServiceKey
from conch.reconcile.fair import Sharing, capacity_of
from conch.reconcile.sharing import Wished
from conch.reconcile.status import pool_status
from conch.reconcile.store import Store
from tests.unit.reconcile import bodies
from tests.unit.reconcile.bodies import (
    EPOCH_S,
    current_revision,
    gathered,
    meta,
    of_revision,
    store,
)

Object = dict[str, Any]
HOUR = 3600.0
A100 = "NVIDIA-A100"


def tenant(name: str, *, namespace: str = "vision", **spec: Any) -> Object:
    metadata = meta(name, namespace=None)
    return {"metadata": metadata, "spec": {"namespaces": [namespace], **spec}}


def cluster(pods: int = 2, **objects: Any) -> Store:
    """Return a cluster with one service of some pods that answer, on a node of four GPUs."""
    there = [of_revision(bodies.pod(f"p{n}"), current_revision()) for n in range(pods)]
    return store(ModelService=bodies.model_service(), Pod=there, **objects)


class Ticks:
    """An operator's ticks: its service always wishes for the same."""

    def __init__(self, of: Store, wished: int = 9, sharing: Sharing | None = None) -> None:
        self.fleet = gathered(of)
        self.sharing = sharing or Sharing(of, "conch", half_life=12 * HOUR)
        self.wished = wished

    def at(self, hours: float) -> Any:
        (facts,) = self.fleet.services
        wish = Wished(facts, self.wished, load_seconds=42.0, rates={})
        shares = self.sharing.decide([wish], self.fleet.pools, EPOCH_S + hours * HOUR)
        return shares.grants[facts.key]

    def statuses(self, hours: float) -> tuple[dict[str, Object], Object | None]:
        told, others = self.sharing.statuses(self.fleet.pools, EPOCH_S + hours * HOUR)
        return {body["metadata"]["name"]: status for body, status in told}, others


class TestTenants:
    def test_what_it_holds_is_charged_and_told(self) -> None:
        ticks = Ticks(cluster(Tenant=tenant("a")))
        ticks.at(1)
        ticks.at(3)
        told, others = ticks.statuses(3)
        assert others is not None
        assert others["data"] == {"halfLifeSeconds": "43200", "records": "{}"}
        status = told["a"]
        assert (status["allocated"], status["services"], status["waiting"]) == (2.0, 1, 5)
        assert status["usage"] == pytest.approx(2 * (1 - 0.5 ** (2 / 12)), abs=0.01)
        assert status["record"]["rate"] == 2.0
        assert [c["reason"] for c in status["conditions"]] == ["Accepted"]

    def test_usage_alone_is_written_each_ten_minutes_at_most(self) -> None:
        claimed, writes = tenant("a"), []
        of = cluster(Tenant=claimed)
        ticks = Ticks(of)
        for minute in range(120):
            ticks.at(minute / 60)
            told, _ = ticks.statuses(minute / 60)
            if told["a"] != claimed.get("status"):
                writes.append(minute)
            metadata = {**claimed["metadata"], "resourceVersion": str(minute + 1000)}
            claimed = {**claimed, "metadata": metadata, "status": told["a"]}
            assert of.put("Tenant", claimed)
        assert writes[0] == 0
        assert 2 < len(writes) <= 13
        assert all(b - a >= 10 for a, b in itertools.pairwise(writes))

    def test_usage_alone_of_a_namespace_without_a_tenant_is_never_written(self) -> None:
        of = cluster()
        ticks = Ticks(of)
        ticks.at(0)
        _, first = ticks.statuses(0)
        assert first is not None
        written = {**first, "metadata": {**first["metadata"], "resourceVersion": "1000"}}
        assert of.put("ConfigMap", written)
        ticks.at(24)
        assert ticks.statuses(24)[1] == first

    def test_a_limit_is_told_to_the_next_tick_of_the_scaler(self) -> None:
        ticks = Ticks(cluster(Tenant=tenant("a", limit={A100: 3})))
        assert ticks.sharing.last(ServiceKey("vision", "digits")) is None
        grant = ticks.at(1)
        assert (grant.total, grant.reason) == (3, Reason.TENANT_LIMIT)
        assert ticks.sharing.last(ServiceKey("vision", "digits")) == grant

    def test_who_claims_anothers_namespace_is_told(self) -> None:
        newer = tenant("b")
        newer["metadata"]["creationTimestamp"] = "2026-06-01T00:00:00Z"
        ticks = Ticks(cluster(Tenant=[newer, tenant("z")]))
        ticks.at(1)
        told, _ = ticks.statuses(1)
        assert [c["reason"] for c in told["b"]["conditions"]] == ["NamespaceTaken"]
        assert (told["b"]["services"], told["z"]["services"]) == (0, 1)

    def test_one_that_cannot_be_read_is_told_by_others_and_keeps_its_record(self) -> None:
        of = cluster(Tenant=tenant("a", limit={A100: 3}))
        ticks = Ticks(of)
        ticks.at(1)
        bad = tenant("a", weight=0)
        bad["metadata"]["resourceVersion"] = "2"
        of.put("Tenant", bad)
        assert ticks.at(2).total == 3
        ((body, fault),) = ticks.sharing.broken
        assert (body["metadata"]["name"], fault.reason) == ("a", Reason.INVALID_SPEC)
        assert ticks.statuses(2)[0] == {}
        assert ticks.sharing.figures(EPOCH_S + 2 * HOUR)["a"].record.rate == 2.0

    def test_what_is_written_is_not_written_again(self) -> None:
        of = cluster(Tenant=tenant("a"))
        ticks = Ticks(of)
        ticks.at(1)
        told, _ = ticks.statuses(1)
        body = {**tenant("a"), "status": told["a"]}
        body["metadata"]["resourceVersion"] = "2"
        of.put("Tenant", body)
        ticks.at(1.01)
        assert ticks.statuses(1.01)[0]["a"] == told["a"]


class TestNamespacesOfNoTenant:
    def test_where_nobody_is_there_is_nothing_to_tell(self) -> None:
        assert Ticks(cluster()).statuses(1) == ({}, None)

    def test_what_they_used_is_in_one_config_map(self) -> None:
        ticks = Ticks(cluster())
        ticks.at(1)
        told, others = ticks.statuses(1)
        assert told == {}
        assert others is not None
        assert (others["metadata"]["namespace"], others["metadata"]["name"]) == (
            "conch",
            "conch-usage",
        )
        records = json.loads(others["data"]["records"])
        assert records["vision"]["record"]["rate"] == 2.0
        assert others["data"]["halfLifeSeconds"] == "43200"

    def test_it_is_the_same_while_nothing_but_time_changes(self) -> None:
        of = cluster()
        ticks = Ticks(of)
        ticks.at(1)
        _, first = ticks.statuses(1)
        assert first is not None
        first["metadata"] |= {"uid": "u", "resourceVersion": "1"}
        of.put("ConfigMap", first)
        ticks.at(1.01)
        _, second = ticks.statuses(1.01)
        assert second is not None
        assert second["data"] == first["data"]

    def test_one_that_cannot_be_read_is_written_anew(self) -> None:
        body = {"metadata": meta("conch-usage", namespace="conch"), "data": {"records": "]"}}
        ticks = Ticks(cluster(ConfigMap=body))
        ticks.at(1)
        _, others = ticks.statuses(1)
        assert others is not None
        assert json.loads(others["data"]["records"])["vision"]["record"]["rate"] == 2.0


class TestRestart:
    @pytest.mark.parametrize("tenants", [[], [tenant("a")], [tenant("a", limit={A100: 3})]])
    def test_grants_and_statuses_are_those_without_one(self, tenants: list[Object]) -> None:
        of = cluster(Tenant=tenants)
        ticks = Ticks(of)
        ticks.at(1)
        told, others = ticks.statuses(1)
        written = [{**t, "status": told[t["metadata"]["name"]]} for t in tenants]
        if others is not None:
            others["metadata"] |= {"uid": "u", "resourceVersion": "1"}
        maps = [others] if others is not None else []
        again = Ticks(cluster(Tenant=written, ConfigMap=maps))
        assert again.at(9) == ticks.at(9)
        for mine, theirs in zip(
            again.statuses(9)[0].values(), ticks.statuses(9)[0].values(), strict=True
        ):
            assert mine["record"] == theirs["record"]
            assert mine["usage"] == theirs["usage"]
        if not tenants:
            name = "namespace/vision"
            figures = [t.sharing.figures(EPOCH_S + 9 * HOUR)[name] for t in (ticks, again)]
            assert figures[0].usage == pytest.approx(figures[1].usage)
            assert figures[0].usage > 0.5

    def test_since_when_it_waits_is_remembered(self) -> None:
        body = {**tenant("a", limit={A100: 2}), "status": {"waitingSince": "2026-01-01T00:30:00Z"}}
        ticks = Ticks(cluster(Tenant=body))
        ticks.at(5)
        assert ticks.statuses(5)[0]["a"]["waitingSince"] == "2026-01-01T00:30:00Z"
        ticks.wished = 2
        ticks.at(6)
        assert "waitingSince" not in ticks.statuses(6)[0]["a"]


class TestQuotasOfAPool:
    def overbooked(self, *quotas: float, **pool: Any) -> dict[str, str]:
        tenants = [
            tenant(f"t{n}", namespace=f"n{n}", quota={A100: quota})
            for n, quota in enumerate(quotas)
        ]
        ticks = Ticks(cluster(Tenant=tenants, GPUPool=bodies.gpu_pool(**pool)))
        ticks.at(1)
        return dict(ticks.sharing.overbooked(ticks.fleet.pools))

    def test_nine_tenths_are_fine(self) -> None:
        assert self.overbooked(2.0, 1.6) == {}

    def test_more_is_told_on_the_pool(self) -> None:
        found = self.overbooked(2.0, 2.0)
        assert found[A100] == (
            "quotas of all tenants ask for 4 of 4 GPUs, more than 90%: tenants without a quota may "
            "get none"
        )
        body = bodies.gpu_pool()
        status = pool_status(
            body, gathered(store()).pools[0], "2026-01-02T00:00:00Z", overbooked=found[A100]
        )
        kinds = {c["type"]: c["reason"] for c in status["conditions"]}
        assert kinds == {"Ready": "NodesReady", "Stalled": "QuotasLeaveNoFloor"}

    def test_parts_of_gpus_are_counted_as_parts(self) -> None:
        sharing = {"mode": "TimeSlice", "devicesPerGPU": 4}
        assert self.overbooked(0.9, sharing=sharing) == {}
        assert A100 in self.overbooked(1.0, sharing=sharing)

    def test_a_node_of_two_pools_counts_once(self) -> None:
        pools = gathered(store(GPUPool=[bodies.gpu_pool("a"), bodies.gpu_pool("b")])).pools
        assert capacity_of(pools) == {A100: 4.0}
