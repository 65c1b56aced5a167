"""What ``top`` and ``top gpus`` say."""

import io

from rich.console import Console

from conch.cli import plugin_top_view as top_view
from conch.cli.plugin_top import Holder, PoolUse, pool_use
from tests.unit.cli.objects import POOL, Object, node, pod, reading, replica, tenant

PRICED: Object = {**POOL, "spec": {**POOL["spec"], "pricePerGPUHour": 2.5}}


def use(pool: Object) -> PoolUse:
    """Return two nodes of four devices each, of which five are held."""
    (found,) = pool_use(
        reading(
            pool,
            node("n1"),
            node("n2"),
            replica("p1", "n1", gpus=1),
            replica("p2", "n2", gpus=1),
            pod("train", "n1", gpus=3, namespace="lab"),
            pod("web", "n1", gpus=0, namespace="lab"),
            tenant("team", "vision"),
        )
    )
    return found


def test_top_counts_who_holds_what() -> None:
    found = use(PRICED)
    assert (found.nodes, found.ready_nodes, found.gpus, found.used, found.free) == (2, 2, 8, 5, 3)
    assert (found.used_cost_per_hour, found.free_cost_per_hour) == (12.5, 7.5)
    assert found.holders == (
        Holder("pods of lab", service=False, pods=1, gpus=3, tenant="lab", cost_per_hour=7.5),
        Holder("vision/digits", service=True, pods=2, gpus=2, tenant="team", cost_per_hour=5.0),
    )


def test_no_price_is_told_where_there_is_none() -> None:
    found = use(POOL)
    assert (found.used_cost_per_hour, found.free_cost_per_hour) == (None, None)
    assert {h.cost_per_hour for h in found.holders} == {None}


def test_parts_of_gpus_count_as_parts() -> None:
    found = use(
        {**PRICED, "spec": {**PRICED["spec"], "sharing": {"mode": "MIG", "devicesPerGPU": 4}}}
    )
    assert (found.gpus, found.used, found.free) == (2, 1.25, 0.75)
    assert [h.gpus for h in found.holders] == [0.75, 0.5]
    assert found.free_cost_per_hour == 1.875


def test_a_pool_without_gpus_has_none_to_hold() -> None:
    found = use({**PRICED, "spec": {**PRICED["spec"], "sharing": {"mode": "CPU"}}})
    assert (found.nodes, found.gpus, found.used, found.holders) == (2, 0, 0, ())


def test_the_table_names_tenants_and_prices() -> None:
    out = Console(file=io.StringIO(), width=100)
    top_view.show_gpus(out, (use(PRICED),))
    rows = [line.split() for line in out.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    assert rows[1] == ["a100", "NVIDIA-A100", "2/2", "8", "5", "3", "12.50", "7.50"]
    assert rows[-1] == ["a100", "vision/digits", "team", "2", "2", "25%", "5.00"]
