"""Tenants as a tick reads them, and what they used: kept in statuses and in one ConfigMap."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from conch.api.conditions import Reason
from conch.api.tenant import TenantSpec, UsageRecord
from conch.decisions.shares.usage import Account, Held, Record
from conch.reconcile.store import Store
from conch.reconcile.tenants import (
    USAGE,
    Tenancy,
    TenantFacts,
    Usage,
    from_written,
    tenancy,
    written,
)
from tests.unit.reconcile.bodies import EPOCH_S, meta, store

Object = dict[str, Any]
HOUR, DAY = 3600.0, 86400.0
GPU = Held("A100", 1.0, 1.0, price=2.0)


def tenant(
    name: str, *namespaces: str, created: str = "2026-01-01T00:00:00Z", **spec: Any
) -> Object:
    """Return a Tenant."""
    metadata = meta(name, namespace=None, creationTimestamp=created)
    return {"metadata": metadata, "spec": {"namespaces": list(namespaces or (name,)), **spec}}


def read(*bodies: Object, good: dict[str, TenantFacts] | None = None) -> Tenancy:
    facts, owners, _ = tenancy(bodies, good or {})
    return Tenancy(facts, owners)


def again(of: Store, statuses: dict[str, Object]) -> Store:
    """Return the cluster as an operator finds it that starts now: with the statuses written."""
    bodies = [{**b, "status": statuses.get(b["metadata"]["name"], {})} for b in of.all("Tenant")]
    return store(Tenant=bodies)


class TestWhoseANamespaceIs:
    OLD, NEW = "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"

    def test_of_two_that_claim_it_the_older_has_it(self) -> None:
        found = read(
            tenant("a", "shared", created=self.NEW), tenant("z", "shared", created=self.OLD)
        )
        assert found.of("shared") == "z"
        assert found.facts["a"].taken == {"shared": "z"}
        assert not found.facts["z"].taken

    def test_of_equally_old_ones_the_first_by_name_whatever_the_order(self) -> None:
        one, two = tenant("a", "shared"), tenant("b", "shared", "own")
        for bodies in ((one, two), (two, one)):
            found = read(*bodies)
            assert (found.of("shared"), found.of("own")) == ("a", "b")

    def test_one_that_is_on_its_way_out_has_nothing(self) -> None:
        gone = tenant("a", "shared")
        gone["metadata"]["deletionTimestamp"] = self.NEW
        assert read(gone, tenant("b", "shared")).of("shared") == "b"

    def test_a_namespace_of_no_tenant_is_one_of_its_own(self) -> None:
        found = read(tenant("a"))
        assert found.of("stray") == "namespace/stray"
        assert found.weight("namespace/stray") == 1.0
        assert found.priority("stray", 5) == 5


class TestSpecs:
    def test_a_weight_of_zero_is_refused(self) -> None:
        with pytest.raises(ValidationError, match="greater than 0"):
            TenantSpec.model_validate({"namespaces": ["x"], "weight": 0})

    def test_one_that_cannot_be_read_goes_on_as_it_was(self) -> None:
        good = read(tenant("a", weight=3.0)).facts
        facts, owners, broken = tenancy([tenant("a", weight=0)], dict(good))
        assert facts["a"].spec.weight == 3.0
        assert owners == {"a": "a"}
        (fault,) = [fault for _, fault in broken]
        assert fault.reason is Reason.INVALID_SPEC
        assert fault.message.startswith("weight: ")

    def test_one_that_never_could_is_none(self) -> None:
        facts, owners, broken = tenancy([tenant("a", weight=-1)], {})
        assert (facts, owners, len(broken)) == ({}, {}, 1)

    def test_usage_keeps_the_last_good_one_between_ticks(self) -> None:
        of = store(Tenant=tenant("a", weight=3.0))
        usage = Usage(of, "conch", DAY)
        usage.look(EPOCH_S)
        bad = tenant("a", weight="heavy")
        bad["metadata"]["resourceVersion"] = "2"
        of.put("Tenant", bad)
        for _ in range(2):
            found, broken = usage.look(EPOCH_S)
            assert found.weight("a") == 3.0
            assert [body["metadata"]["name"] for body, _ in broken] == ["a"]

    @pytest.mark.parametrize(("wished", "given"), [(-50, -10), (3, 3), (1000, 20)])
    def test_priorities_stay_within_the_range_of_the_tenant(self, wished: int, given: int) -> None:
        found = read(tenant("a", priorities={"min": -10, "max": 20}))
        assert found.priority("a", wished) == given


class TestAhead:
    """What starting replicas are charged ahead: derived, never written."""

    def test_it_is_in_what_decisions_get_and_not_in_the_record(self) -> None:
        usage = Usage(store(Tenant=tenant("a", "one", "two")), "conch", DAY)
        found, _ = usage.look(EPOCH_S)
        usage.settle({"one": [GPU]}, found, EPOCH_S)
        found, _ = usage.look(EPOCH_S)
        young = {"one": [(1.0, 0.0, DAY)], "two": [(1.0, 0.0, DAY)]}
        (ahead,) = found.tenants(young)
        assert ahead.usage == pytest.approx(2 * 0.5)
        assert usage.records()["a"].usage == 0.0
        (after,) = found.tenants({})
        assert after.usage == 0.0

    def test_it_is_gone_after_the_load_time(self) -> None:
        found = read(tenant("a"))
        (there,) = found.tenants({"a": [(1.0, 42.0, 42.0)]})
        assert there.usage == 0.0

    def test_a_namespace_of_no_tenant_is_charged_too(self) -> None:
        found = Tenancy({}, {}, half_life=DAY).tenants({"stray": [(1.0, 0.0, DAY)]})
        assert [(t.name, t.usage) for t in found] == [("namespace/stray", 0.5)]


class TestRecords:
    RECORD = Record(
        usage=1.25,
        rate=3.0,
        as_of=EPOCH_S + 0.123456,
        accounts={"A100": Account(3.0, 17.5, 35.0, 6.0), "T4": Account(gpu_hours=1e-7)},
    )

    def test_what_is_written_is_what_is_read(self) -> None:
        back = from_written(
            UsageRecord.model_validate(json.loads(json.dumps(written(self.RECORD))))
        )
        assert back.as_of == pytest.approx(self.RECORD.as_of, abs=2e-6)
        assert (back.usage, back.rate, back.accounts) == (1.25, 3.0, self.RECORD.accounts)

    @pytest.mark.parametrize("as_of", [None, "yesterday"])
    def test_a_time_that_cannot_be_read_is_long_ago(self, as_of: str | None) -> None:
        assert from_written(UsageRecord(rate=1.0, as_of=as_of)).as_of == 0.0

    def test_a_restart_changes_nothing(self) -> None:
        of = store(Tenant=[tenant("a"), tenant("b")])
        usage = Usage(of, "conch", DAY)
        found, _ = usage.look(EPOCH_S)
        usage.settle({"a": [GPU], "b": [GPU, GPU]}, found, EPOCH_S)
        usage.settle({"a": [GPU]}, found, EPOCH_S + HOUR)
        statuses = {n: {"record": written(r)} for n, r in usage.records().items()}
        restarted = Usage(again(of, statuses), "conch", DAY)
        for later in (HOUR, 30 * HOUR):
            one, _ = usage.look(EPOCH_S + later)
            two, _ = restarted.look(EPOCH_S + later)
            assert two.usage == pytest.approx(one.usage)
        assert restarted.records()["b"].accounts["A100"].gpu_hours == pytest.approx(2.0)

    def test_what_decisions_get_is_what_the_record_comes_to(self) -> None:
        usage = Usage(store(Tenant=tenant("a")), "conch", DAY)
        found, _ = usage.look(EPOCH_S)
        usage.settle({"a": [GPU]}, found, EPOCH_S)
        found, _ = usage.look(EPOCH_S + DAY)
        assert found.usage == {"a": pytest.approx(0.5)}

    def test_so_it_is_for_namespaces_of_no_tenant(self) -> None:
        usage = Usage(store(), "conch", DAY)
        found, _ = usage.look(EPOCH_S)
        usage.settle({"stray": [GPU]}, found, EPOCH_S)
        usage.settle({}, found, EPOCH_S + HOUR)
        record = usage.records()["namespace/stray"]
        config_map = usage.config_map({"stray": {"record": written(record)}})
        config_map["metadata"] |= {"uid": "1", "resourceVersion": "1"}
        restarted = Usage(store(ConfigMap=config_map), "conch", DAY)
        two, _ = restarted.look(EPOCH_S + 2 * HOUR)
        one, _ = usage.look(EPOCH_S + 2 * HOUR)
        assert two.usage == pytest.approx(one.usage)
        assert two.usage["namespace/stray"] > 0

    @pytest.mark.parametrize(
        "data", [None, {}, {"records": "{"}, {"records": "[1]"}, {"records": '{"x": 3}'}]
    )
    def test_a_config_map_that_cannot_be_read_is_none(self, data: Any) -> None:
        body = {"metadata": meta(USAGE, namespace="conch"), "data": data}
        found, _ = Usage(store(ConfigMap=body), "conch", DAY).look(EPOCH_S)
        assert found.usage == {}

    def test_a_record_that_cannot_be_read_begins_anew_and_is_said(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        body = {**tenant("a"), "status": {"record": {"usage": "much"}}}
        usage = Usage(store(Tenant=body), "conch", DAY)
        found, _ = usage.look(EPOCH_S)
        usage.settle({"a": [GPU]}, found, EPOCH_S)
        assert usage.records()["a"].rate == 1.0
        assert "tenant a: its record of usage can't be read: usage" in caplog.text

    def test_the_record_stays_the_same_while_the_same_is_held(self) -> None:
        usage = Usage(store(Tenant=tenant("a")), "conch", DAY)
        found, _ = usage.look(EPOCH_S)
        usage.settle({"a": [GPU]}, found, EPOCH_S)
        before = usage.records()["a"]
        usage.settle({"a": [GPU]}, found, EPOCH_S + HOUR)
        assert usage.records()["a"] is before

    def test_all_namespaces_of_a_tenant_are_charged_to_it(self) -> None:
        usage = Usage(store(Tenant=tenant("a", "one", "two")), "conch", DAY)
        found, _ = usage.look(EPOCH_S)
        usage.settle({"one": [GPU], "two": [GPU], "stray": [GPU]}, found, EPOCH_S)
        rates = {name: record.rate for name, record in usage.records().items()}
        assert rates == {"a": 2.0, "namespace/stray": 1.0}

    def test_a_tenant_that_is_gone_is_forgotten(self) -> None:
        of = store(Tenant=tenant("a"))
        usage = Usage(of, "conch", DAY)
        found, _ = usage.look(EPOCH_S)
        usage.settle({"a": [GPU]}, found, EPOCH_S)
        of.drop("Tenant", tenant("a"))
        usage.look(EPOCH_S)
        assert usage.records() == {}
