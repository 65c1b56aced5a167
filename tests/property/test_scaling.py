"""What holds of every scaling decision, whatever is measured."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from conch.api.conditions import Reason
from conch.api.signals import Signals
from conch.decisions.scaling import (
    PoolLoad,
    Profile,
    ScalingDecision,
    ScalingState,
    ServiceLoad,
    decide,
)

CALM = settings(deadline=None)
"""A busy machine is no failure."""
ANY = st.floats(allow_nan=True, allow_infinity=True)
SANE = st.floats(0, 1e4)


def signals(numbers: st.SearchStrategy[float]) -> st.SearchStrategy[Signals]:
    names = ("inferences", "requests", "failures", "executions", "mean_batch", "mean_execution")
    rest = ("queue_seconds", "pending", "age", "age_oldest")
    fields = dict.fromkeys(names + rest, numbers)
    return st.builds(
        Signals, **fields, pods_scraped=st.integers(0, 9), p99=st.none() | numbers, absurd=st.none()
    )


def pool(
    name: str, accelerator: str, numbers: st.SearchStrategy[float]
) -> st.SearchStrategy[PoolLoad]:
    return st.builds(
        PoolLoad,
        pool=st.just(name),
        accelerator=st.just(accelerator),
        ready=st.integers(0, 9),
        starting=st.integers(0, 4),
        room=st.integers(0, 9),
        signals=st.none() | signals(numbers),
    )


def pools(numbers: st.SearchStrategy[float]) -> st.SearchStrategy[tuple[PoolLoad, ...]]:
    return st.tuples(pool("a", "A100", numbers), pool("b", "T4", numbers), pool("c", "T4", numbers))


profiles = st.builds(Profile, st.floats(0, 2), st.floats(0, 1))
declared = st.dictionaries(st.sampled_from(["A100", "T4"]), profiles)


def loads(numbers: st.SearchStrategy[float]) -> st.SearchStrategy[ServiceLoad]:
    return st.builds(
        ServiceLoad,
        pools=pools(numbers),
        minimum=st.integers(0, 5),
        maximum=st.integers(5, 30),
        fixed=st.none() | st.integers(0, 40),
        window=st.floats(1, 600),
        scale_down_window=st.floats(0, 900),
        target_utilization=st.floats(0.05, 1),
        objective=st.none() | st.floats(0.001, 60),
        load_seconds=st.floats(0, 600),
        max_batch=st.integers(0, 64),
        instances=st.integers(1, 4),
        declared=declared,
        may_sleep=st.booleans(),
        held_back=st.just(0.0) | st.floats(0, 1e6),
        asked_ago=st.none() | st.floats(0, 1000),
        deaf=st.none() | st.floats(0, 120),
        slept=st.booleans(),
        standby=st.integers(0, 4),
    )


def follow(steps: list[ServiceLoad], tick: float = 10.0) -> list[ScalingDecision]:
    state, told = ScalingState(), []
    for n, load in enumerate(steps):
        told.append(decide(load, state, tick * n))
        state = told[-1].state
    return told


@CALM
@given(st.lists(loads(ANY), min_size=1, max_size=6), st.floats(0.1, 1000))
def test_bounds_and_room_are_kept_whatever_floats_come(
    steps: list[ServiceLoad], tick: float
) -> None:
    for load, decision in zip(steps, follow(steps, tick), strict=True):
        least = 0 if load.fixed == 0 else min(load.within_reach, load.minimum)
        assert least <= decision.replicas <= min(load.maximum, load.within_reach)
        assert decision.replicas <= decision.wished <= load.maximum
        assert sum(decision.by_pool.values()) == decision.replicas
        assert all(decision.by_pool[p.pool] <= p.held + p.room for p in load.pools)
        if load.fixed is None and decision.wished:
            assert decision.wished > load.standby
        assert decision.message


@CALM
@given(st.lists(loads(SANE), min_size=1, max_size=6), st.lists(loads(ANY), max_size=4))
def test_no_data_never_lowers(before: list[ServiceLoad], blind: list[ServiceLoad]) -> None:
    steps = before + [
        replace(load, fixed=None, pools=tuple(replace(p, signals=None) for p in load.pools))
        for load in blind
    ]
    found = follow(steps)
    last = [None, *(d.wished for d in found)]
    for load, decision, was in list(zip(steps, found, last, strict=False))[len(before) :]:
        if _left_behind(load, was):
            assert (
                decision.replicas == 0 or load.held_back or load.asked_ago is not None or load.deaf
            )
        else:
            assert decision.replicas >= min(load.held, load.maximum)


def _left_behind(load: ServiceLoad, was: int | None) -> bool:
    """Tell whether what starts was wished for by nobody: the service sleeps."""
    asleep = was == 0 or (was is None and load.slept)
    least = load.minimum + load.standby
    return asleep and load.may_sleep and not least and not any(p.ready for p in load.pools)


@CALM
@given(st.lists(loads(SANE), min_size=2, max_size=6))
def test_a_missing_pod_never_lowers(steps: list[ServiceLoad]) -> None:
    def short(pool: PoolLoad) -> PoolLoad:
        kept = pool.signals and replace(pool.signals, pods_scraped=pool.ready)
        return replace(pool, ready=pool.ready + 1, signals=kept)

    steps = [replace(s, fixed=None, pools=tuple(map(short, s.pools))) for s in steps]
    for load, decision in zip(steps, follow(steps, 600.0), strict=True):
        assert decision.replicas >= min(load.held, load.maximum)


@CALM
@given(st.lists(loads(SANE), min_size=1, max_size=5))
def test_equal_pools_in_another_order_decide_the_same(steps: list[ServiceLoad]) -> None:
    def swapped(load: ServiceLoad) -> ServiceLoad:
        first, *equal = load.pools
        return replace(load, pools=(first, *reversed(equal)))

    for one, other in zip(follow(steps), follow([swapped(s) for s in steps]), strict=True):
        assert (one.replicas, one.wished, one.reason) == (
            other.replicas,
            other.wished,
            other.reason,
        )


@CALM
@given(
    profiles.filter(lambda p: p.fixed + p.per_item > 1e-3),
    st.lists(st.floats(0, 500), min_size=2, max_size=8),
    st.floats(1, 5),
    st.integers(1, 5),
)
def test_more_load_never_wishes_fewer(
    profile: Profile, rates: list[float], factor: float, ready: int
) -> None:
    """For a declared model that runs as declared."""

    def load(rate: float) -> ServiceLoad:
        batch = 2.0
        measured = Signals(
            inferences=rate,
            requests=rate,
            executions=rate / batch,
            mean_batch=batch,
            mean_execution=profile.seconds(batch),
            pods_scraped=ready,
        )
        only = PoolLoad("a", "A100", ready, 0, 100, measured)
        return ServiceLoad(
            pools=(only,), maximum=100, declared={"A100": profile}, max_batch=4, objective=1.0
        )

    less = follow([load(rate) for rate in rates])
    more = follow([load(rate * factor) for rate in rates])
    assert [d.wished for d in less] <= [d.wished for d in more]
    assert all(a.wished <= b.wished for a, b in zip(less, more, strict=True))


@CALM
@given(st.lists(loads(ANY), min_size=1, max_size=5))
def test_what_lasts_of_the_state_survives_a_restart(steps: list[ServiceLoad]) -> None:
    state = follow(steps)[-1].state
    assert ScalingState.from_dict(state.to_dict()).fits == state.fits


@CALM
@given(st.lists(loads(SANE), min_size=1, max_size=6), st.floats(0.1, 1000))
def test_who_waits_is_served_and_silence_puts_nothing_to_sleep(
    steps: list[ServiceLoad], tick: float
) -> None:
    steps = [replace(load, fixed=None) for load in steps]
    for load, decision in zip(steps, follow(steps, tick), strict=True):
        if not load.may_sleep or load.held_back > 0 or (load.held and load.deaf is not None):
            assert decision.wished >= 1
        if decision.wished == 0:
            assert decision.reason is Reason.SCALED_TO_ZERO
            assert decision.active
