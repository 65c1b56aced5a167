"""Policies by their names, and what those that nobody recorded decide."""

import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from conch.api.service import Scaling
from conch.decisions.scaling import Profile
from conch.simulate.load_times import fixed
from conch.simulate.policies import POLICIES, PolicyError, parse
from conch.simulate.policies.base import Policy, Tick
from conch.simulate.policies.forecast import Forecast, ForecastSettings
from conch.simulate.policies.hpa import Hpa, HpaSettings
from conch.simulate.policies.keda import Keda, KedaSettings
from conch.simulate.policies.kpa import Kpa, KpaSettings
from conch.simulate.policies.static import Static
from conch.simulate.run import simulate
from conch.simulate.workload import Workload

SERVICE = Workload(
    name="s",
    profile=Profile(0.2, 0.0),
    instances=2,
    max_batch=4,
    scaling=Scaling(min_replicas=2, max_replicas=50),
)
ARRIVALS = np.arange(0.0, 600.0, 0.01)
IDLE = Tick(
    now=0.0,
    interval=0.0,
    ready=4,
    starting=0,
    arrivals=0,
    answered=0,
    failed=0,
    runs=0,
    busy_seconds=0.0,
    present_seconds=0.0,
    waited_seconds=0.0,
    begun=0,
    waiting=0,
    running=0,
    instances=2,
)


def made(text: str) -> Policy:
    return parse(text)(SERVICE, ARRIVALS, fixed(45.0))


def asked(policy: Policy, ticks: Iterable[Tick]) -> list[int]:
    """What a policy says to ticks that come at its interval."""
    return [
        policy.replicas(replace(tick, now=(n + 1) * policy.interval, interval=policy.interval))
        for n, tick in enumerate(ticks)
    ]


@pytest.mark.parametrize("entry", POLICIES.values(), ids=list(POLICIES))
def test_each_policy_is_made_anew_and_asks_for_a_number(entry: object) -> None:
    maker = parse(entry.example)  # type: ignore[attr-defined]
    first, second = (maker(SERVICE, ARRIVALS, fixed(45.0)) for _ in range(2))
    assert asked(first, [IDLE] * 5) == asked(second, [IDLE] * 5)


def test_settings_are_read() -> None:
    hpa = made("hpa:0.85")
    assert isinstance(hpa, Hpa)
    assert hpa.settings == HpaSettings(850, minimum=2, maximum=50)
    kpa = made("kpa:target=0.5,stable=2m,panic=20,threshold=150,delay=90s,up=10,down=3")
    assert isinstance(kpa, Kpa)
    assert kpa.settings == KpaSettings(
        target=4.0,
        stable=120,
        panic=24,
        panic_threshold=1.5,
        max_scale_up=10.0,
        max_scale_down=3.0,
        scale_down_delay=90,
    )
    assert made("kpa").settings == KpaSettings(target=0.7 * 8)  # type: ignore[attr-defined]
    assert made("kpa").settings != made("kpa:tuned").settings  # type: ignore[attr-defined]
    assert made("static:8") == Static(8)
    assert made("static:peak") == Static(math.ceil(100.0 / SERVICE.rate))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("kpaa", "there is no policy 'kpaa'; there are for example"),
        ("hpa", "at which busy share? Write for example hpa:0.5"),
        ("hpa:50", "target is a share above 0 and up to 1"),
        ("hpa:nan", "target is a number above 0, not 'nan'"),
        ("hpa:0.5,0.7", "write settings as key=value"),
        ("hpa:0.0001", "too little"),
        ("kpa:tuned,window=3", "no such setting: window. It has preset, target, stable"),
        ("kpa:fast", "preset is one of default, tuned"),
        ("kpa:stable=2h", "stable is at most an hour"),
        ("kpa:stable=1500ms", "stable is whole seconds from 6 on"),
        ("kpa:delay=soon", "'soon' is not a duration"),
        ("keda", "by what? Write keda:pending=4"),
        ("keda:pending=4,inflight=4", "by what?"),
        ("keda:pending=", "'pending' has no value"),
        ("keda:pending=4,pending=5", "pending is given twice"),
        ("static", "how many replicas?"),
        ("static:-1", "replicas is a whole number from 1 on"),
        ("forecast:share=0", "share is a number above 0"),
    ],
)
def test_what_is_no_policy_is_told_in_a_sentence(text: str, says: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse(text)
    assert says in str(caught.value)


def busy(share: float, *, ready: int, starting: int = 0) -> Tick:
    """Replicas whose instances are busy for a share of 15 s."""
    return replace(IDLE, ready=ready, starting=starting, busy_seconds=15.0 * 2 * ready * share)


def test_an_hpa_counts_starting_pods_as_idle_on_the_way_up() -> None:
    settings = HpaSettings(500, minimum=1, maximum=100, window=0)
    assert asked(Hpa(settings), [busy(1.0, ready=4)]) == [8]
    assert asked(Hpa(settings), [busy(1.0, ready=4, starting=4)]) == [8]
    # Four of eight at 0.6 are 0.3 in the mean: no reason to go up, and none to go down.
    assert asked(Hpa(settings), [busy(0.6, ready=4, starting=4)] * 2) == [8, 8]


def test_an_hpa_asks_again_for_what_a_node_took_along() -> None:
    policy = Hpa(HpaSettings(500, minimum=1, maximum=100, window=0))
    assert asked(policy, [busy(0.5, ready=4), busy(0.5, ready=3)]) == [4, 4]


def test_kpa_panics_within_its_panic_window() -> None:
    policy = Kpa(KpaSettings(target=7.0))
    calm, flood = (replace(IDLE, present_seconds=2.0 * load) for load in (20.0, 200.0))
    steps = asked(policy, [*[calm] * 60, *[flood] * 3])
    assert steps[59] == 3
    # Two of six seconds at 200 and four at 20 are 80 on the panic window, and 12 replicas.
    assert steps[60:] == [12, 20, 29]


def test_keda_looks_at_what_waits_and_not_at_what_runs() -> None:
    policy = Keda(KedaSettings(4000, minimum=1, maximum=20))
    assert asked(policy, [replace(IDLE, waiting=22, running=8)]) == [6]
    policy = Keda(KedaSettings(4000, minimum=1, maximum=20))
    assert asked(policy, [replace(IDLE, waiting=17)]) == [4]  # within a tenth of 4 for each of 4
    policy = Keda(KedaSettings(4000, minimum=1, maximum=20, in_flight=True))
    assert asked(policy, [replace(IDLE, waiting=22, running=8)]) == [8]


def test_keda_lets_a_service_sleep_after_its_cooldown_and_wakes_it() -> None:
    policy = Keda(KedaSettings(4000, minimum=0, maximum=20, cooldown=60))
    one = replace(IDLE, ready=1)
    gone = replace(IDLE, ready=0)
    wakes = [replace(gone, waiting=3)] * 2
    steps = asked(policy, [replace(one, waiting=1), *[one] * 6, *wakes])
    # It looks every 30 s, from 15 s on: a minute after the request has passed at 105 s.
    assert steps == [1, 1, 1, 1, 1, 1, 0, 0, 1]


def season(step: int) -> int:
    """Requests in 15 s: two hours with a calm first half, a busy second, and a steep step between."""
    return 15 * (200 if step % 480 >= 240 else 20)


def test_a_forecast_knows_the_step_from_the_second_season_on() -> None:
    policy = Forecast(ForecastSettings(rate=10.0, horizon=300.0, share=1.0, season=7200))
    steps = asked(policy, (replace(IDLE, arrivals=season(n)) for n in range(4 * 480)))
    before = [480 * number + 240 - 8 for number in range(4)]  # two minutes
    assert [steps[n] >= 15 for n in before] == [False, True, True, True]
    assert steps[3 * 480 + 300] == 20


def test_a_forecast_follows_a_trend_ahead_of_it() -> None:
    policy = Forecast(ForecastSettings(rate=10.0, horizon=60.0, share=1.0))
    rising = [replace(IDLE, arrivals=15 * 2 * n) for n in range(100)]
    assert asked(policy, rising)[-1] >= 20


def test_a_hole_leaves_a_forecast_its_season_and_nothing_else() -> None:
    policy = Forecast(ForecastSettings(rate=10.0, horizon=15.0, share=1.0))
    busy = replace(IDLE, interval=15.0, arrivals=15 * 200)
    for step in range(1, 100):
        policy.replicas(replace(busy, now=15.0 * step))
    assert policy.replicas(replace(busy, now=90_000.0, arrivals=15 * 10)) == 1


def test_conch_lets_a_service_sleep_between_its_hours_and_wakes_it() -> None:
    service = replace(SERVICE, scaling=Scaling(min_replicas=0, max_replicas=5), max_batch=1)
    hours = np.concatenate([np.arange(0.0, 120.0, 0.5) + 3600.0 * hour for hour in range(5)])
    policy = parse("conch")(service, hours, fixed(20.0))
    outcome = simulate(
        service, hours, policy, load_times=fixed(20.0), seed=0, span=5 * 3600.0, warm_up=0.0
    )
    asleep = [
        int((outcome.timeline.held[outcome.timeline.time // 3600 == h] == 0).sum())
        for h in range(5)
    ]
    assert asleep[0] > 500, "an hour has 720 ticks; 200 s it stays on trust"
    assert asleep[4] >= asleep[0], "gaps that are known need no trust"
    assert outcome.wait(1.0) < 40.0
    assert outcome.replica_seconds < 0.25 * 5 * 3600.0
