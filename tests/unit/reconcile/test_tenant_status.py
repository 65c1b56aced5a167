"""What the status of a Tenant says; and that it is not written for time alone."""

from dataclasses import replace
from typing import Any

import pytest

from conch.api.tenant import TenantSpec, TenantStatus
from conch.decisions.shares import Standing
from conch.decisions.shares.usage import Account, Record
from conch.reconcile.tenant_status import TenantFigures, tenant_status
from conch.reconcile.tenants import TenantFacts
from tests.unit.reconcile.bodies import EPOCH, EPOCH_S, meta

Object = dict[str, Any]
CAPACITY = {"A100": 8.0}
FIGURES = TenantFigures(
    standing=Standing(allocated=3.0, entitlement=4.0, demand=6.0, waiting=2),
    record=Record(1.5, 3.0, EPOCH_S, {"A100": Account(gpus=3.0, gpu_hours=7.0)}),
    usage=1.5,
    services=2,
    waiting_since=EPOCH_S,
)


def facts(taken: dict[str, str] | None = None, **spec: Any) -> TenantFacts:
    written = TenantSpec.model_validate({"namespaces": ["vision"], **spec})
    return TenantFacts({"metadata": meta("a", namespace=None)}, "a", written, taken or {})


def told(
    figures: TenantFigures = FIGURES,
    old: Object | None = None,
    of: TenantFacts | None = None,
    after: float = 0.0,
) -> Object:
    return tenant_status(of or facts(), old or {}, figures, CAPACITY, EPOCH_S + after)


def ready(status: Object) -> tuple[str, str, str]:
    (condition,) = status["conditions"]
    assert condition["type"] == "Ready"
    return condition["status"], condition["reason"], condition["message"]


class TestFigures:
    def test_they_are_those_of_the_tick(self) -> None:
        status = told()
        assert {k: v for k, v in status.items() if k not in ("conditions", "record")} == {
            "observedGeneration": 1,
            "services": 2,
            "allocated": 3.0,
            "entitlement": 4.0,
            "share": 0.75,
            "usage": 1.5,
            "waiting": 2,
            "waitingSince": EPOCH,
        }
        assert status["record"]["rate"] == 3.0
        assert TenantStatus.model_validate(status).record is not None

    def test_who_is_entitled_to_nothing_has_no_share(self) -> None:
        nobody = replace(FIGURES, standing=Standing(0.0, 0.0, 0.0), waiting_since=None)
        assert "share" not in told(nobody)

    def test_who_does_not_wait_waits_since_no_time(self) -> None:
        calm = replace(FIGURES, standing=replace(FIGURES.standing, waiting=0))
        assert "waitingSince" not in told(calm)

    def test_a_namespace_of_no_tenant_has_no_conditions(self) -> None:
        status = tenant_status(None, {}, FIGURES, CAPACITY, EPOCH_S)
        assert not status.get("conditions")
        assert "observedGeneration" not in status


class TestVerdicts:
    def test_one_that_is_in_force(self) -> None:
        assert ready(told()) == ("True", "Accepted", "1 namespace of weight 1")

    def test_a_namespace_that_is_anothers(self) -> None:
        of = facts({"vision": "old"}, namespaces=["vision", "own"])
        expected = "of spec.namespaces, vision belongs to old"
        assert ready(told(of=of)) == ("False", "NamespaceTaken", expected)

    def test_a_quota_that_all_pools_together_do_not_have(self) -> None:
        of = facts(quota={"A100": 12, "H100": 1})
        expected = "spec.quota asks for 12 A100 of 8, 1 H100 of 0 that all pools have together"
        assert ready(told(of=of)) == ("False", "QuotaOverCapacity", expected)

    def test_one_that_they_have(self) -> None:
        assert ready(told(of=facts(quota={"A100": 8})))[1] == "Accepted"


class TestRest:
    """A status that is written comes to rest: only what is news is written."""

    def test_time_alone_is_no_news(self) -> None:
        old = told()
        later = replace(FIGURES, usage=1.52)
        assert told(later, old, after=3600.0) is old

    @pytest.mark.parametrize(
        "news",
        [
            {"usage": 2.0},
            {"services": 3},
            {"standing": replace(FIGURES.standing, entitlement=5.0)},
            {"standing": replace(FIGURES.standing, waiting=3)},
            {"standing": replace(FIGURES.standing, entitlement=0.0)},
            {"record": replace(FIGURES.record, rate=4.0)},
            {"waiting_since": EPOCH_S + 1},
        ],
    )
    def test_all_else_is(self, news: Object) -> None:
        old = told()
        assert told(replace(FIGURES, **news), old) != old

    def test_a_usage_that_fades_is_written_now_and_then_until_it_is_gone(self) -> None:
        status, writes = told(), 0
        usage = 8.0
        for _ in range(1000):
            usage *= 0.98
            new = told(replace(FIGURES, usage=usage), status)
            writes += new is not status
            status = new
        assert 10 < writes < 60
        assert status["usage"] <= 0.1

    def test_where_usage_is_no_news_it_is_written_with_what_is(self) -> None:
        old, later = told(), replace(FIGURES, usage=5.0)
        never = {"usage_is_news": False}
        assert tenant_status(facts(), old, later, CAPACITY, EPOCH_S, **never) is old
        grown = replace(later, services=3)
        assert tenant_status(facts(), old, grown, CAPACITY, EPOCH_S, **never)["usage"] == 5.0

    def test_what_drifted_is_written_with_all_that_drifted(self) -> None:
        old = told()
        standing = replace(FIGURES.standing, entitlement=4.3)
        new = told(replace(FIGURES, usage=5.0, standing=standing), old)
        assert (new["usage"], new["entitlement"]) == (5.0, 4.3)

    def test_a_condition_that_stays_keeps_its_time(self) -> None:
        old = told()
        new = told(replace(FIGURES, services=3), old, after=50.0)
        assert new["conditions"] == old["conditions"]

    def test_rounding_of_sums_is_no_news(self) -> None:
        record = replace(FIGURES.record, accounts={"A100": Account(gpus=0.1 + 0.2)})
        assert told(replace(FIGURES, record=record))["allocated"] == 0.3
