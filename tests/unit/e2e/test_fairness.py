"""Entitlement, figures and the engine of the fairness benchmark, by cases worked out by hand."""

from collections.abc import Mapping

import pytest

from e2e.bench.fairness.engine import Engine, Policy
from e2e.bench.fairness.entitlement import slices, water_fill
from e2e.bench.fairness.figures import Adder, Figures, jain, mean_jain
from e2e.bench.fairness.flood import SLEEPER, WAKES, WATCHED, flooded, recovery
from e2e.bench.fairness.memoryless import drf, fifo, static
from e2e.bench.fairness.scene import LOAD_SECONDS, Plan, Scene, Start, Work, Workload


def job(name: str, tenant: str, gpus: int, *, seconds: float, at: float = 0.0, n: int = 1) -> Work:
    return Work(name, tenant, gpus, at, seconds * n, ((at, n),))


def workload(*works: Work, span: float = 600.0, **weights: float) -> Workload:
    return Workload("test", weights or {"a": 1.0, "b": 1.0}, works, span)


def run(load: Workload, policy: Policy, *, nodes: int = 1, tick: float = 60.0) -> Figures:
    adder = Adder()
    for step in Engine(load, nodes=nodes, policy=policy, tick=tick).until(load.span):
        adder.add(step)
    return adder.figures(8 * nodes * load.span, decisions=0, seconds=0.0)


@pytest.mark.parametrize(
    ("demand", "weights", "filled"),
    [
        ({"a": 10, "b": 10}, {"a": 1, "b": 1}, {"a": 4, "b": 4}),
        ({"a": 10, "b": 10}, {"a": 1, "b": 3}, {"a": 2, "b": 6}),
        ({"a": 1, "b": 10}, {"a": 1, "b": 1}, {"a": 1, "b": 7}),  # what a leaves is b's
        ({"a": 0, "b": 10}, {"a": 9, "b": 1}, {"a": 0, "b": 8}),  # no demand, no weight
        ({"a": 1, "b": 2}, {"a": 1, "b": 1}, {"a": 1, "b": 2}),  # never more than the demand
        ({"a": 1, "b": 9, "c": 9}, {"a": 1, "b": 1, "c": 1}, {"a": 1, "b": 3.5, "c": 3.5}),
    ],
)
def test_entitlements_fill_eight_gpus_by_weight(
    demand: Mapping[str, float], weights: Mapping[str, float], filled: Mapping[str, float]
) -> None:
    assert water_fill(demand, weights, 8.0) == pytest.approx(filled)


def test_slices_are_whole_gpus_that_add_up() -> None:
    assert slices({"a": 1.0, "b": 1.0, "c": 1.0}, 8) == {"a": 3, "b": 3, "c": 2}
    assert slices({"a": 1.0, "b": 2.0, "c": 4.0}, 8) == {"a": 1, "b": 2, "c": 5}


def test_jains_index() -> None:
    assert jain([1.0, 1.0, 1.0]) == pytest.approx(1.0)
    assert jain([1.0, 0.0]) == pytest.approx(0.5)
    assert jain([1.0, 0.5]) == pytest.approx(2.25 / 2.5)
    assert jain([0.0, 0.0]) == 1.0


def test_a_job_is_served_for_its_loading_and_its_seconds() -> None:
    """4 GPUs for 42 + 100 s; the job asks for no more than that, so it had all it could."""
    found = run(workload(job("j", "a", 4, seconds=100.0)), fifo)
    assert found.total == pytest.approx({"a": 4 * (LOAD_SECONDS + 100.0), "b": 0.0})
    assert mean_jain(found) == pytest.approx(1.0)
    assert found.entitled[0]["a"] == pytest.approx(4 * (LOAD_SECONDS + 100.0))
    assert found.utilisation == pytest.approx(4 * 142.0 / (8 * 600.0))


def test_two_replicas_share_what_their_job_has_to_do() -> None:
    found = run(workload(job("j", "a", 4, seconds=100.0, n=2)), fifo)
    assert found.total["a"] == pytest.approx(2 * 4 * 142.0)


def test_first_come_is_served_first_and_what_fits_may_pass() -> None:
    """``a`` holds 6 of 8 GPUs; a job of 4 that came next waits, one of 2 runs."""
    load = workload(
        job("1", "a", 6, seconds=1e6),
        job("2", "b", 4, seconds=1e6, at=1.0),
        job("3", "b", 2, seconds=1e6, at=2.0),
    )
    found = run(load, fifo)
    assert found.total == pytest.approx({"a": 6 * 600.0, "b": 2 * 540.0})
    # entitled: 6, 6 of 6, in the first minute; then a to 4 and b to 4
    assert found.entitled[0] == pytest.approx({"a": 6 * 60.0 + 4 * 540.0, "b": 4 * 540.0})


def test_a_static_slice_is_never_exceeded() -> None:
    jobs = [job(str(n), "a", 1, seconds=1e6) for n in range(8)]
    found = run(workload(*jobs), static)
    assert found.total == pytest.approx({"a": 4 * 600.0, "b": 0.0})


def test_dominant_resource_fairness_takes_back_what_the_other_is_entitled_to() -> None:
    """B's four jobs come after two minutes: four of a's eight replicas of one GPU leave."""
    load = workload(
        Work("s", "a", 1, 0.0, wishes=((0.0, 8),)),
        *(job(str(n), "b", 1, seconds=1e6, at=120.0) for n in range(6)),
    )
    found = run(load, drf)
    assert found.preemptions == 4
    assert found.total == pytest.approx({"a": 8 * 120.0 + 4 * 480.0, "b": 4 * 480.0})
    assert mean_jain(found) == pytest.approx(1.0)


def test_loading_again_after_a_preemption_is_no_service() -> None:
    """A policy that preempts the job once it has loaded, and takes it back a minute later."""

    def restless(scene: Scene) -> Plan:
        (wish,) = scene.wishes
        if scene.now == 60.0:
            return Plan(stops=frozenset(r.id for r in wish.held))
        return Plan([Start("j", 0)] * wish.waiting)

    found = run(workload(job("j", "a", 2, seconds=1e6)), restless)
    # 60 s, a pause as long, then 480 s of which it loads for 42
    assert found.total["a"] == pytest.approx(2 * (60.0 + 480.0 - LOAD_SECONDS))
    assert found.preemptions == 1
    assert found.preemptions_per_gpu_hour == pytest.approx(3600.0 / found.total["a"])


def test_the_engine_refuses_a_plan_that_holds_what_is_not_there() -> None:
    def greedy(scene: Scene) -> Plan:
        return Plan([Start(w.work.name, 0) for w in scene.wishes for _ in range(w.waiting)])

    load = workload(*(job(str(n), "a", 8, seconds=1e6) for n in range(2)))
    with pytest.raises(AssertionError, match="impossible plan"):
        run(load, greedy)


def test_a_service_that_wishes_for_less_gives_up_who_starts_first() -> None:
    load = workload(Work("s", "a", 1, 0.0, wishes=((0.0, 4), (60.0, 6), (120.0, 4))))
    engine = Engine(load, nodes=1, policy=fifo, tick=60.0)
    list(engine.until(180.0))
    (wish,) = engine.scene().wishes
    assert [r.started for r in wish.held] == [0.0] * 4


def test_who_lost_most_against_its_static_slice() -> None:
    def figures(**total: float) -> Figures:
        return Figures((total,), (total,), 0, 1.0)

    static_slices = figures(a=100.0, b=50.0, c=0.0)
    loss, tenant = figures(a=99.0, b=60.0, c=9.0).worst_against(static_slices)
    assert tenant == "a"
    assert loss == pytest.approx(1.0)
    assert figures(a=120.0, b=60.0, c=9.0).worst_against(static_slices)[0] == pytest.approx(-20.0)


def test_windows_without_entitlement_say_nothing() -> None:
    found = Figures(({"a": 5.0, "b": 0.0},), ({"a": 10.0, "b": 0.0},), 0, 1.0)
    assert found.shares == [{"a": 0.5}]
    assert mean_jain(found) == 1.0


@pytest.mark.parametrize(("policy", "load_times"), [(fifo, None), (drf, 45.0 / LOAD_SECONDS)])
def test_who_wakes_in_a_flood(policy: Policy, load_times: float | None) -> None:
    """One node, and b idle: the flood has all 8 GPUs when the sleeper wakes for its 2 of 8."""
    load = flooded(workload(), 1)
    assert (load.weights[SLEEPER], load.span) == (1.0, WAKES + WATCHED)
    engine = Engine(load, nodes=1, policy=policy, tick=15.0)
    found = recovery(engine.until(load.span), load.weights, 1)
    assert found.entitled == 2
    assert found.load_times == (load_times if load_times is None else pytest.approx(load_times))
    assert found.share == (0.0 if load_times is None else 1.0)
