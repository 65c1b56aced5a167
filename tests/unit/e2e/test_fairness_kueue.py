"""Kueue's fair sharing, as the fairness benchmark has it: quotas, borrowing, rule S2-a."""

from e2e.bench.fairness.kueue import kueue
from e2e.bench.fairness.scene import Replica, Scene, Start, Wish, Work


def wish(
    tenant: str,
    name: str,
    *,
    gpus: int = 1,
    wished: int = 1,
    held: int = 0,
    node: int = 0,
    at: float = 0.0,
) -> Wish:
    """Return a work with so many replicas on a node, each started a second after the last."""
    work = Work(name, tenant, gpus, at, wishes=((at, wished),))
    replicas = tuple(
        Replica(f"{name}-{n}", name, tenant, gpus, node, at + n, at + n + 42.0) for n in range(held)
    )
    return Wish(work, wished, replicas)


def scene(*wishes: Wish, nodes: int = 1, **weights: float) -> Scene:
    return Scene(1000.0, weights or {"a": 1.0, "b": 1.0}, nodes, wishes)


def test_idle_quota_is_lent() -> None:
    plan = kueue(scene(wish("a", "s", wished=8)))
    assert plan.starts == [Start("s", 0)] * 8
    assert not plan.stops


def test_heads_of_tenants_take_turns_by_share() -> None:
    """Both within their quota of 4 first; the share is what is borrowed."""
    plan = kueue(scene(wish("a", "x", wished=8), wish("b", "y", wished=8)))
    assert sorted(s.work for s in plan.starts) == ["x"] * 4 + ["y"] * 4


def test_a_quota_is_reclaimed_from_who_borrows_the_newest_first() -> None:
    plan = kueue(scene(wish("a", "x", wished=8, held=8), wish("b", "y", wished=3)))
    assert plan.stops == {"x-7", "x-6", "x-5"}
    assert plan.starts == [Start("y", 0)] * 3


def test_nobody_is_preempted_within_its_quota() -> None:
    plan = kueue(scene(wish("a", "x", wished=4, held=4), wish("b", "y", wished=6, held=4)))
    assert not plan.stops
    assert not plan.starts


def test_rule_s2a_stops_where_the_victim_would_be_below_the_taker() -> None:
    """Quotas are 2, 3 and 3; a holds 6 and b 2, so that a borrows 4.

    b takes one within its quota. Its share with a fourth is 1/3, a's with 4 left is 2/2: fair. With
    a fifth it is 2/3, and a's with 3 left 1/2: not fair (all over the same 8 GPUs).
    """
    weights = {"a": 2.0, "b": 3.0, "c": 3.0}
    x, y = wish("a", "x", wished=6, held=6), wish("b", "y", wished=8, held=2)
    plan = kueue(Scene(1000.0, weights, 1, (x, y)))
    assert plan.stops == {"x-5", "x-4"}
    assert plan.starts == [Start("y", 0)] * 2


def test_only_who_has_to_leave_does() -> None:
    """B needs 4 GPUs of one node. a's newest replica, on the other, is put back again."""
    newest = wish("a", "newest", gpus=2, held=1, node=1, at=200.0)
    small = wish("a", "small", wished=4, held=4, node=0, at=100.0)
    rest = (
        wish("a", "left", gpus=4, held=1, node=0, at=1.0),
        wish("a", "right", gpus=6, held=1, node=1, at=0.0),
    )
    plan = kueue(scene(newest, small, *rest, wish("b", "y", gpus=4), nodes=2))
    assert plan.stops == {"small-0", "small-1", "small-2", "small-3"}
    assert plan.starts == [Start("y", 0)]
