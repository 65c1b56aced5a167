"""What ``top tenants`` says: the numbers by hand, the table, and the rows for charge-back."""

import csv
import io
import json
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from conch.cli import plugin_top_view as top_view
from conch.cli import plugin_view as view
from conch.cli.plugin_explain import explain
from conch.cli.plugin_tenants import (
    Amount,
    Charge,
    TenantUse,
    Trend,
    owners_in,
    tenant_of,
    tenant_uses,
    trend,
)
from conch.cli.plugin_usage import Records, record_in, records_in
from tests.unit.cli.objects import (
    NOW,
    POOL,
    Object,
    condition,
    node,
    reading,
    replica,
    service,
    tenant,
)

HALF_A_DAY_AGO = "2023-11-14T10:13:20Z"
AN_HOUR_AGO = "2023-11-14T21:13:20Z"
AS_NOW = "2023-11-14T22:13:20Z"
PRICED: Object = {**POOL, "spec": {**POOL["spec"], "pricePerGPUHour": 2.5}}


def account(accelerator: str, gpus: float, hours: float, cost: float, hourly: float) -> Object:
    return {
        "accelerator": accelerator,
        "gpus": gpus,
        "gpuHours": hours,
        "cost": cost,
        "costPerHour": hourly,
    }


STATUS: Object = {
    "services": 2,
    "allocated": 3,
    "entitlement": 4.5,
    "share": 0.75,
    "waiting": 2,
    "waitingSince": AN_HOUR_AGO,
    "record": {
        "usage": 8,
        "rate": 2,
        "asOf": HALF_A_DAY_AGO,
        "accounts": [account("Tesla-T4", 1, 0, 0, 0.5), account("NVIDIA-A100", 2, 10, 25, 5)],
    },
}


def uses(*objects: Object, records: Records | None = None) -> dict[str, TenantUse]:
    found = tenant_uses(reading(*objects), records or Records(), NOW)
    assert [t.tenant for t in found] == [
        t.tenant for t in sorted(found, key=lambda t: (-t.allocated, t.tenant))
    ]
    return {t.tenant: t for t in found}


def test_what_a_record_comes_to_by_now() -> None:
    vision = uses(tenant("vision", "vision", "dev", weight=2, status=STATUS))["vision"]
    assert (vision.weight, vision.services, vision.allocated) == (2, 2, 3)
    assert (vision.entitlement, vision.share, vision.waiting) == (4.5, 0.75, 2)
    assert vision.waiting_seconds == 3600
    # One half-life later: half of the way from 8 to 2.
    assert (vision.usage, vision.rate, vision.trend) == (5, 2, Trend.FALLING)
    # Twelve hours later: 10 + 2 * 12 GPU-hours and 25 + 5 * 12; the T4s from nothing.
    assert vision.charges == (
        Charge("NVIDIA-A100", gpus=2, gpu_hours=34, cost=85, cost_per_hour=5),
        Charge("Tesla-T4", gpus=1, gpu_hours=12, cost=6, cost_per_hour=0.5),
    )
    assert (vision.gpu_hours, vision.cost, vision.cost_per_hour) == (46, 91, 5.5)
    assert vision.as_of == AS_NOW


def test_usage_decays_by_the_operators_half_life() -> None:
    twice_as_fast = Records(half_life=21600)
    vision = uses(tenant("vision", "vision", status=STATUS), records=twice_as_fast)["vision"]
    assert vision.usage == 3.5  # 2 + (8 - 2) / 4


@pytest.mark.parametrize(
    ("used", "rate", "wanted"),
    [
        (8.0, 2.0, Trend.FALLING),
        (2.0, 8.0, Trend.RISING),
        (1.96, 2.0, Trend.STEADY),
        (2.0, 1.89, Trend.FALLING),
        (0.0, 0.0, Trend.STEADY),
        (0.005, 0.0, Trend.STEADY),
        (0.02, 0.0, Trend.FALLING),
    ],
)
def test_where_usage_is_heading(used: float, rate: float, wanted: Trend) -> None:
    assert trend(used, rate) is wanted


def test_without_a_record_pods_tell_what_they_can() -> None:
    found = uses(
        PRICED,
        node("n1"),
        service(namespace="vision"),
        service(namespace="lab"),
        replica("p1", "n1", gpus=2, namespace="lab"),
        replica("p2", "n1", gpus=1, namespace="lab"),
        tenant("team", "vision", quota={"NVIDIA-A100": 1}, limit={"NVIDIA-A100": 4}),
    )
    assert set(found) == {"team", "lab"}
    lab, team = found["lab"], found["team"]
    assert (lab.declared, lab.weight, lab.namespaces, lab.services) == (False, 1, ("lab",), 1)
    assert lab.charges == (Charge("NVIDIA-A100", 3, None, None, 7.5),)
    assert (lab.allocated, lab.cost_per_hour) == (3, 7.5)
    unknown = (lab.entitlement, lab.share, lab.usage, lab.trend, lab.waiting, lab.gpu_hours)
    assert {*unknown, lab.cost} == {None}
    assert (team.declared, team.allocated, team.cost_per_hour) == (True, 0, 0)
    assert (team.quota, team.limit) == ((Amount("NVIDIA-A100", 1),), (Amount("NVIDIA-A100", 4),))


def test_a_pool_without_a_price_costs_an_unknown_amount() -> None:
    lab = uses(POOL, node("n1"), replica("p1", "n1", gpus=2, namespace="lab"))["lab"]
    assert (lab.allocated, lab.cost_per_hour) == (2, None)


def test_parts_of_gpus_count_as_parts() -> None:
    quarters = {**PRICED, "spec": {**PRICED["spec"]}}
    quarters["spec"]["sharing"] = {"mode": "MIG", "devicesPerGPU": 4}
    lab = uses(quarters, node("n1"), replica("p1", "n1", gpus=2, namespace="lab"))["lab"]
    assert (lab.allocated, lab.cost_per_hour) == (0.5, 1.25)


def test_a_namespace_belongs_to_the_oldest_tenant_that_names_it() -> None:
    found = uses(
        service(namespace="vision"),
        tenant("a", "vision", "more", created="2023-02-01T00:00:00Z"),
        tenant("b", "vision", created="2023-01-01T00:00:00Z"),
    )
    assert {n: (t.namespaces, t.services) for n, t in found.items()} == {
        "a": (("more",), 0),
        "b": (("vision",), 1),
    }


def test_records_are_for_namespaces_of_no_tenant() -> None:
    found = uses(tenant("team", "vision"), records=Records({"lab": STATUS}))
    assert set(found) == {"lab", "team"}
    assert found["lab"].cost == 91
    assert found["team"].cost is None


def test_a_namespace_is_told_from_a_tenant_of_the_same_name() -> None:
    found = uses(
        service(namespace="team"), tenant("team", "vision"), records=Records({"team": STATUS})
    )
    assert {n: (t.declared, t.namespaces, t.cost) for n, t in found.items()} == {
        "team": (True, ("vision",), None),
        "namespace/team": (False, ("team",), 91),
    }


def test_a_namespace_that_a_tenant_took_over_owes_what_it_had_before() -> None:
    left: Object = {"services": 0, "allocated": 0, "record": {"asOf": HALF_A_DAY_AGO}}
    left["record"]["accounts"] = [account("Tesla-T4", 0, 4, 10, 0)]
    kept = Records({"vision": left, "dev": {**left, "record": {"asOf": HALF_A_DAY_AGO}}})
    found = uses(service(namespace="vision"), tenant("team", "vision", "dev"), records=kept)
    assert set(found) == {"team", "vision"}
    before = found["vision"]
    assert (before.namespaces, before.services, before.gpu_hours, before.cost) == ((), 0, 4, 10)
    assert found["team"].services == 1


def test_what_the_operator_keeps_is_read() -> None:
    found = records_in({"records": json.dumps({"lab": STATUS}), "halfLifeSeconds": "3600"})
    assert (found.statuses, found.half_life, found.found) == ({"lab": STATUS}, 3600, True)
    assert records_in({}).half_life == 43200
    assert record_in({}) is None
    assert record_in({"record": {"usage": 1}}) is None


@pytest.mark.parametrize(
    "data",
    [
        {"records": "{"},
        {"records": "[]"},
        {"records": '{"lab": 1}'},
        {"records": '{"lab": {"record": {"asOf": "yesterday"}}}'},
        {"records": '{"lab": {"record": {"asOf": "2023-11-14T10:13:20Z", "accounts": [{}]}}}'},
        {"halfLifeSeconds": "0"},
        {"halfLifeSeconds": "nan"},
        {"halfLifeSeconds": "long"},
    ],
)
def test_what_can_not_be_read_is_noted(data: dict[str, str]) -> None:
    found = records_in(data)
    (note,) = found.notes
    assert "conch-usage can't be read" in note
    assert (found.statuses, found.half_life, found.found) == ({}, 43200, False)


def three() -> tuple[TenantUse, ...]:
    """Return a tenant with all there is, one with large numbers, and one with little known."""
    vision = tenant("vision", "vision", weight=2, status=STATUS)
    large = json.loads(json.dumps(STATUS))
    large["record"]["accounts"][1].update(gpuHours=1234567.25, cost=9876543.5, gpus=128)
    objects = (
        PRICED,
        node("n1"),
        vision,
        tenant("batch-processing", "batch", weight=0.5, status={**large, "allocated": 129}),
        replica("p1", "n1", gpus=1, namespace="lab"),
    )
    return tenant_uses(reading(*objects), Records(), NOW)


def shown(tenants: Any, *, width: int = 100) -> list[str]:
    out = Console(file=io.StringIO(), width=width)
    top_view.show_tenants(out, tenants)
    return out.file.getvalue().splitlines()  # type: ignore[attr-defined, no-any-return]


def test_a_tenant_is_one_line_of_a_hundred_columns() -> None:
    head, *lines = shown(three())
    assert max(map(len, (head, *lines))) <= 100
    assert head.split()[:5] == ["TENANT", "WEIGHT", "SVCS", "GPUS", "ENTITLED"]
    assert len(lines) == 3
    _, vision, lab = (" ".join(line.split()) for line in lines)
    assert vision == "vision 2 2 3 4.5 0.75 5 ↓ 2 60m 5.50 46.00 91.00 2 A100, 1 T4"
    assert lab == "(lab) 1 0 1 - - - - 2.50 - - 1 A100"


def test_names_of_accelerators_are_short_where_no_doubt_is_left() -> None:
    assert top_view.shortened({"NVIDIA-T4", "NVIDIA-A100"}) == {
        "NVIDIA-T4": "T4",
        "NVIDIA-A100": "A100",
    }
    both = {"NVIDIA-T4", "Tesla-T4"}
    assert top_view.shortened(both) == {name: name for name in both}


def test_rows_for_charge_back() -> None:
    rows = list(csv.DictReader(io.StringIO(top_view.tenants_csv(three()))))
    assert rows == [
        {
            "tenant": name,
            "accelerator": accelerator,
            "gpus": gpus,
            "gpu_hours": hours,
            "cost": cost,
            "cost_per_hour": hourly,
            "as_of": AS_NOW,
        }
        for name, accelerator, gpus, hours, cost, hourly in (
            # 1234567.25 + 128 * 12 and 9876543.5 + 5 * 12
            ("batch-processing", "NVIDIA-A100", "128", "1236103.25", "9876603.5", "5"),
            ("batch-processing", "Tesla-T4", "1", "12", "6", "0.5"),
            ("lab", "NVIDIA-A100", "1", "", "", "2.5"),
            ("vision", "NVIDIA-A100", "2", "34", "85", "5"),
            ("vision", "Tesla-T4", "1", "12", "6", "0.5"),
        )
    ]


def test_amounts_are_never_written_with_an_exponent() -> None:
    (one,) = uses(tenant("vision", "vision", status=STATUS)).values()
    tiny = (Charge("x", gpus=0.000004, gpu_hours=10.0, cost=2e16, cost_per_hour=1e-9),)
    _, row = top_view.tenants_csv([replace(one, charges=tiny)]).splitlines()
    assert row == f"vision,x,0.000004,10,20000000000000000,0,{AS_NOW}"


def test_programs_get_the_same() -> None:
    (_, vision, lab) = json.loads(view.dump(three(), view.Format.JSON))
    assert vision["trend"] == "falling"
    assert vision["waitingSeconds"] == 3600
    assert vision["charges"][0] == account("NVIDIA-A100", 2, 34, 85, 5)
    assert lab["gpuHours"] is None
    assert view.plain({"cost": 9876603.125, "pools": {"gpu-a100": 1.23456789}}) == {
        "cost": 9876603.125,
        "pools": {"gpu-a100": 1.23457},
    }


def told(*conditions: Object, known: bool = True, **spec: Any) -> str:
    """Return what explain says of the tenant of a service."""
    body = service(*conditions, namespace="vision")
    objects = [PRICED, node("n1"), body, replica("p1", "n1", gpus=1)]
    if spec:
        objects.append(tenant("team", "vision", status=STATUS, **spec))
    seen = replace(reading(*objects), tenants_known=known)
    whose = tenant_of("vision", seen, Records(), NOW)
    out = Console(file=io.StringIO(), width=80)
    view.show_explanation(out, explain(body, seen, [], NOW, tenant=whose))
    lines = out.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert max(map(len, lines)) <= 80
    return " ".join("\n".join(lines).partition("Tenant")[2].partition("URL")[0].split())


def test_explain_tells_the_tenant() -> None:
    assert told(weight=2, quota={"NVIDIA-A100": 1}, limit={"Tesla-T4": 4}) == (
        "team (weight 2): holds 3 GPUs, may have 4.5 now (share 0.75); quota NVIDIA-A100 1; "
        "limit Tesla-T4 4"
    )
    assert told() == (
        "vision itself, which no Tenant names (weight 1): holds 1 GPU, what it may have is not known "
        "yet"
    )
    assert told(known=False) == "unknown"


@pytest.mark.parametrize("reason", ["AwaitingShare", "TenantLimit"])
def test_explain_points_to_the_numbers_where_a_service_waits(reason: str) -> None:
    waits = condition("Admitted", "False", reason, "the numbers")
    assert told(waits, weight=2).endswith("; this service waits for it, see Conditions")


def test_whose_a_namespace_is() -> None:
    whose = owners_in(reading(tenant("team", "vision")))
    found = [whose.of(n) for n in ("vision", "lab", "team")]
    assert found == ["team", "lab", "namespace/team"]
