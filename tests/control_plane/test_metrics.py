"""Scaling by load, and what metrics that are missing, old or absurd do to it: nothing.

Real API server, controllers and scheduler; nodes, pods and their metrics are simulated.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
import requests

from conch.api.conditions import Reason
from tests.kit.control_plane import ROOT, condition
from tests.kit.fleet import POOLS
from tests.kit.prometheus import FakePrometheus, Lie
from tests.kit.scenario import CONCH, Scenario
from tests.kit.sweep import Lane, lane

SCALING = {
    "minReplicas": 1,
    "maxReplicas": 4,
    "window": "2s",
    "scaleDownWindow": "4s",
    "drainTimeout": "200ms",
}
# 100 items a second for each replica, of which 70 are planned for.
PROFILE = {"fixedMs": 0, "perItemMs": 10}
FLOOD, TRICKLE = 250.0, 1.0
LEARNED = {"beta": 0.5, "surprise": 0.25, "dispersion": 1.0, "peak": 900.0, "watched": 40_000.0}


@pytest.fixture(scope="module")
def prometheus(metered_lane: Lane) -> FakePrometheus:
    """The one that the lane's operator asks."""
    assert metered_lane.prometheus is not None
    return metered_lane.prometheus


@pytest.fixture(scope="module")
def metered_lane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lane]:
    """A simulated cluster whose operator has metrics."""
    with lane(tmp_path_factory.mktemp("metered-lane"), metered=True) as running:
        yield running


@pytest.fixture(scope="module")
def flooded(metered_lane: Lane, prometheus: FakePrometheus) -> Iterator[Scenario]:
    """A service that a flood has scaled up, for all tests here: each leaves it so."""
    made = metered_lane.scenario()
    prometheus.namespace, prometheus.load = made.namespace, FLOOD
    model = made.model
    model["spec"]["variants"][0]["maxBatchSize"] = 0
    model["spec"]["variants"][0]["profile"] = dict.fromkeys(POOLS.values(), PROFILE)
    made.client.create(f"{CONCH}/namespaces/{made.namespace}/models", model)
    made.create(None, wait=False, with_model=False, scaling=SCALING)
    yield made
    made.delete()


@pytest.fixture
def scenario(flooded: Scenario, prometheus: FakePrometheus) -> Iterator[Scenario]:
    """The service under the flood, told so by Prometheus, before and after."""
    prometheus.load, prometheus.lie = FLOOD, None
    flooded.wait(lambda: flooded.settled(4), "4 replicas under the flood")
    await_reason(flooded, {Reason.SCALING, Reason.AT_MAXIMUM})
    yield flooded
    prometheus.load, prometheus.lie = FLOOD, None


def await_reason(scenario: Scenario, reasons: set[Reason]) -> None:
    """Return once scaling gives one of these reasons."""

    def told() -> bool:
        found = condition(scenario.client.get(scenario.service), "ScalingActive")
        return found.get("reason") in reasons

    scenario.wait(told, f"ScalingActive because of {reasons}")


def test_load_alone_scales(scenario: Scenario, prometheus: FakePrometheus) -> None:
    service = scenario.client.get(scenario.service)
    assert condition(service, "ScalingActive")["status"] == "True"
    prometheus.load = TRICKLE
    scenario.wait(lambda: scenario.settled(1), "1 replica after the flood")


def test_explain_leads_from_the_load_to_the_number(scenario: Scenario, metered_lane: Lane) -> None:
    url = metered_lane.operator.url
    words = ("explain", "digits", "-n", scenario.namespace, "--operator-url", url)
    command = [sys.executable, "-m", "conch.cli.plugin", *words, "-o", "json"]
    environment = {"PYTHONPATH": str(ROOT / "operator"), "HOME": "/nonexistent"}
    environment["KUBECONFIG"] = str(metered_lane.cluster.kubeconfig)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    why = "\n".join(told["why"])
    assert "4 replicas are wanted" in why
    assert "One replica serves 100 items/s" in why
    assert "Bounds: 1 to 4." in why
    assert told["scaling"]["pools"]
    assert told["changes"][-1]["reason"] == "ScaledUp"
    shown = requests.get(f"{url}/metrics", timeout=10).text
    assert "conch_service_load_seconds{" in shown


@pytest.mark.parametrize(
    ("lie", "reasons"),
    [
        (Lie.GONE, {Reason.NO_METRICS}),
        (Lie.ERROR, {Reason.NO_METRICS}),
        (Lie.HANGS, {Reason.NO_METRICS}),
        (Lie.EMPTY, {Reason.NO_METRICS}),
        (Lie.OLD, {Reason.NO_METRICS}),
        (Lie.NAN, {Reason.ABSURD_METRICS}),
        (Lie.INFINITE, {Reason.ABSURD_METRICS}),
        (Lie.NEGATIVE, {Reason.ABSURD_METRICS}),
        (Lie.HALF, {Reason.PARTIAL_METRICS}),
    ],
    ids=lambda v: v.name.lower() if isinstance(v, Lie) else "",
)
def test_nothing_scales_down_on_what_is_no_value(
    scenario: Scenario, prometheus: FakePrometheus, lie: Lie, reasons: set[Reason]
) -> None:
    pods = {p["metadata"]["uid"] for p in scenario.client.items(scenario.pods)}
    prometheus.lie, prometheus.load = lie, TRICKLE
    await_reason(scenario, reasons)
    # Long past every window: had the trickle been believed, three would be gone.
    scenario.rest(quiet_s=6)
    assert {p["metadata"]["uid"] for p in scenario.client.items(scenario.pods)} == pods
    assert scenario.settled(4)


@pytest.mark.parametrize(
    ("lie", "load", "replicas"),
    [(Lie.THOUSANDFOLD, TRICKLE, 1), (Lie.RESET, FLOOD, 4)],
    ids=lambda v: v.name.lower() if isinstance(v, Lie) else "",
)
def test_one_odd_sample_moves_nothing(
    scenario: Scenario, prometheus: FakePrometheus, lie: Lie, load: float, replicas: int
) -> None:
    prometheus.load = load
    scenario.wait(lambda: scenario.settled(replicas), f"{replicas} replicas")
    scenario.rest()
    seen: list[tuple[str, str]] = []
    with scenario.client.watching(
        scenario.pods, lambda event, pod: seen.append((event, pod["metadata"]["name"]))
    ):
        for _ in range(3):
            prometheus.told_once.clear()
            prometheus.lie = lie
            scenario.wait(lambda: len(prometheus.told_once) == 3, "the odd sample is told")
            # Apart by more than the window, so that two odd ones never confirm each other.
            scenario.rest(quiet_s=2.5)
    assert not seen
    assert scenario.settled(replicas)


def test_it_recovers_by_itself(scenario: Scenario, prometheus: FakePrometheus) -> None:
    prometheus.lie, prometheus.load = Lie.GONE, TRICKLE
    await_reason(scenario, {Reason.NO_METRICS})
    prometheus.lie = None
    scenario.wait(lambda: scenario.settled(1), "1 replica once metrics are back")


@pytest.mark.parametrize("remembers", [True, False], ids=["history", "no history"])
def test_a_restart_forgets_neither_demand_nor_window_nor_what_was_learned(
    scenario: Scenario, metered_lane: Lane, prometheus: FakePrometheus, *, remembers: bool
) -> None:
    """The window is longer than the test: only what Prometheus remembers can end it."""
    window = {"spec": {"scaling": {"scaleDownWindow": "150s"}}}
    scenario.client.merge(scenario.service, window)
    scenario.rest()
    metered_lane.operator.kill()
    prometheus.load, prometheus.past = TRICKLE, TRICKLE if remembers else None
    prometheus.learned = LEARNED if remembers else {}
    metered_lane.operator.start()
    try:
        if remembers:
            few = "fewer replicas, since little was asked for long"
            scenario.wait(lambda: any(map(scenario.settled, (1, 2, 3))), few)
        else:
            scenario.rest(quiet_s=6)
            assert scenario.settled(4)
        shown = requests.get(f"{metered_lane.operator.url}/metrics", timeout=10).text
        (watched,) = re.findall(r"^conch_service_watched_seconds{.*} (\S+)$", shown, re.MULTILINE)
        assert (float(watched) >= LEARNED["watched"]) == remembers
    finally:
        prometheus.past, prometheus.learned = None, {}
        scenario.client.merge(scenario.service, {"spec": {"scaling": SCALING}})
