"""The crash sweep: live each life once for each of its writes, with the operator killed there.

Many services live side by side in one cluster, each in a place of its own; so each of them also
sees the operator die at the points of the others.
"""

import contextlib
import itertools
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

from tests.kit.apicalls import Call
from tests.kit.control_plane import Cluster
from tests.kit.faults import Kill, Nth, Rule, Storm, bad_weather
from tests.kit.fleet import SHARED, Place, simulated
from tests.kit.normalise import difference
from tests.kit.operator import Invocation, Operator
from tests.kit.prometheus import FakePrometheus
from tests.kit.proxy import FaultProxy
from tests.kit.scenario import LIVES, Outcome, Scenario
from tests.kit.zygote import Zygote

W = TypeVar("W")
R = TypeVar("R")


@dataclass(frozen=True)
class Lane:
    """A simulated cluster with an operator behind a proxy, and the places that it has."""

    cluster: Cluster
    proxy: FaultProxy
    operator: Operator
    prometheus: FakePrometheus | None = None
    places: tuple[Place, ...] = (SHARED,)

    def scenario(self) -> Scenario:
        """The scenario in a namespace that was not used before; writes are counted afresh."""
        self.proxy.reset()
        return self.scenario_at(self.places[0])

    def scenario_at(self, place: Place, *, patience: float = 60, poll_s: float = 0.05) -> Scenario:
        """A scenario at one of several places; others go on there."""
        namespace = self.cluster.new_namespace()
        return Scenario(
            self.cluster.client,
            self.proxy,
            self.operator,
            namespace,
            place=place,
            patience=patience,
            poll_s=poll_s,
        )


# Short, so that tests see what the regular lists put right.
_OPTIONS: tuple[str, ...] = ("--relist-seconds", "5")


@contextlib.contextmanager
def lane(
    directory: Path,
    *,
    metered: bool = False,
    forked: bool = False,
    places: tuple[Place, ...] = (SHARED,),
) -> Iterator[Lane]:
    """Start a simulated cluster and the operator, reaching it through a proxy.

    Where it is ``metered``, the operator has a Prometheus, a simulated one. Where it is ``forked``,
    it starts faster.
    """
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(simulated(directory, places=places))
        proxy = stack.enter_context(FaultProxy.before(cluster.kubeconfig))
        kubeconfig = proxy.write_kubeconfig(directory / "operator.kubeconfig")
        prometheus, options = None, _OPTIONS
        if metered:
            prometheus = stack.enter_context(FakePrometheus(cluster.client))
            options = (*_OPTIONS, "--prometheus-url", prometheus.url)
        invocation = Invocation(kubeconfig, directory / "operator.log", options)
        zygote = stack.enter_context(Zygote()) if forked else None
        operator = stack.enter_context(Operator(invocation, cluster.client, zygote))
        yield Lane(cluster, proxy, operator, prometheus, places)


@pytest.fixture(scope="session")
def simulated_lane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lane]:
    """A simulated cluster with an operator, shared by tests that use namespaces of their own."""
    with lane(tmp_path_factory.mktemp("lane")) as running:
        yield running


@dataclass(frozen=True)
class Point:
    """Where the operator is killed: before or after one write of a life is done."""

    life: str
    number: int
    after: bool


@dataclass(frozen=True)
class Death:
    """What became of a point: the write, and what differed in the end."""

    point: Point
    write: str
    """Empty if the run came to rest with fewer writes."""
    faults: tuple[str, ...]

    def __str__(self) -> str:
        p = self.point
        when = "after" if p.after else "before"
        text = "\n".join(self.faults)
        return f"{p.life}: killed {when} write {self.write or p.number}:\n{text}"


@dataclass(frozen=True)
class Expected:
    """How an undisturbed life ends, and with how many writes."""

    outcome: Outcome
    writes: int


CALM_S = 10.0
PATIENCE_S = 400.0
"""Each step may see the operator die many times, by the points of other lives; and a machine that
others keep busy may be several times slower."""


def undisturbed(lanes: Sequence[Lane], lives: Sequence[str]) -> dict[str, Expected]:
    """Live each life in each lane without a fault: how it ends, and with how many writes.

    AssertionError when a pod in use is deleted, or when two runs end differently.
    """
    work = [name for name in lives for _ in lanes]
    found: dict[str, list[tuple[Outcome, int]]] = {name: [] for name in lives}
    for name, run in _side_by_side(lanes, work, _undisturbed):
        found[name].append(run)
    return {name: _agreed(name, runs) for name, runs in found.items()}


def _undisturbed(scenario: Scenario, life: str) -> tuple[Outcome, int]:
    outcome = scenario.run(LIVES[life])
    return outcome, len(scenario.writes)


def _agreed(life: str, runs: Sequence[tuple[Outcome, int]]) -> Expected:
    first, _ = runs[0]
    for outcome, _ in runs:
        faults = "\n".join(_faults(first, outcome))
        assert not faults, f"{life}: undisturbed runs differ or do harm:\n{faults}"
    return Expected(first, max(count for _, count in runs))


def every_point(expected: dict[str, Expected]) -> list[Point]:
    """Return every point of every life."""
    return [
        Point(life, number, after)
        for life, how in expected.items()
        for number in range(1, how.writes + 1)
        for after in (False, True)
    ]


def sweep(
    lanes: Sequence[Lane], expected: dict[str, Expected], points: Sequence[Point]
) -> list[Death]:
    """Live through each point, several at a time."""

    def live(scenario: Scenario, point: Point) -> Death:
        return _die(scenario, expected[point.life].outcome, point)

    return [death for _, death in _side_by_side(lanes, points, live)]


def _die(scenario: Scenario, expected: Outcome, point: Point) -> Death:
    match = Nth(point.number, scenario.owns)
    kill = Kill(scenario.operator.kill, after=point.after)
    rule = scenario.proxy.add(match, kill, times=1)
    try:
        outcome = scenario.run(LIVES[point.life], like=expected)
    except AssertionError as error:
        faults: tuple[str, ...] = (str(error),)
        scenario.abandon()
    else:
        faults = tuple(_faults(expected, outcome))
    finally:
        scenario.proxy.remove(rule)
    write = str(match.hit) if rule.taken else ""
    return Death(point, write, faults)


@dataclass(frozen=True)
class Survivor:
    """A life in a storm: how many faults befell it, and what differed in the end."""

    life: str
    faults: tuple[str, ...]


def storm(
    lanes: Sequence[Lane], expected: dict[str, Expected], *, rate: float, seed: int
) -> tuple[list[Survivor], int]:
    """Live every life at once, several times, while a share of all calls fails by chance.

    Watches are cut now and then. Leases are spared: what becomes of a leader that can't renew its
    own is another matter. Once all are through, the weather clears, and they come to rest. Returns
    what became of each life, and how many faults there were.
    """
    places = sum(len(one.places) for one in lanes)
    work = list(itertools.islice(itertools.cycle(expected), places))
    rules = [
        Storm(match=_weathered, faults=bad_weather, rate=rate, seed=seed + i)
        for i, _ in enumerate(lanes)
    ]
    clear = threading.Event()

    def clears() -> None:
        clear.set()
        for one, rule in zip(lanes, rules, strict=True):
            one.proxy.remove(rule)

    through = threading.Barrier(places, action=clears)

    def live(scenario: Scenario, life: str) -> Survivor:
        def calm_down() -> None:
            through.wait()
            scenario.rest(CALM_S)  # a watch that failed is tried again after 8 s at the latest

        try:
            outcome = scenario.run(LIVES[life], then=calm_down, like=expected[life].outcome)
        except AssertionError as error:
            through.abort()
            clears()
            scenario.abandon()
            return Survivor(life, (str(error),))
        except threading.BrokenBarrierError:
            return Survivor(life, ("given up, since another never got through",))
        return Survivor(life, tuple(_faults(expected[life].outcome, outcome)))

    with _cutting(lanes, clear):
        survivors = [s for _, s in _side_by_side(lanes, work, live, rules)]
    return survivors, sum(rule.taken for rule in rules)


def _weathered(call: Call) -> bool:
    return call.group != "coordination.k8s.io"


@contextlib.contextmanager
def _cutting(lanes: Sequence[Lane], over: threading.Event, every: float = 3.0) -> Iterator[None]:
    """Cut all watches every so many seconds while the body runs, until it is over."""

    def cut() -> None:
        while not over.wait(every):
            for one in lanes:
                one.proxy.cut_watches()

    thread = threading.Thread(target=cut, name="watch-cutter")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _side_by_side(
    lanes: Sequence[Lane],
    work: Sequence[W],
    do: Callable[[Scenario, W], R],
    rules: Sequence[Rule] = (),
) -> list[tuple[W, R]]:
    """Do the work, one piece at each place of each lane at a time; return the results in order.

    Each lane's proxy obeys the rule of its place in ``rules``.
    """
    for lane, rule in itertools.zip_longest(lanes, rules):
        lane.proxy.reset()
        if rule is not None:
            lane.proxy.obey(rule)
    left: queue.SimpleQueue[int] = queue.SimpleQueue()
    for index in range(len(work)):
        left.put(index)
    results: dict[int, R] = {}

    def serve(lane: Lane, place: Place) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                index = left.get_nowait()
                scenario = lane.scenario_at(place, patience=PATIENCE_S, poll_s=0.2)
                results[index] = do(scenario, work[index])

    stands = [(lane, place) for lane in lanes for place in lane.places]
    with ThreadPoolExecutor(len(stands)) as pool:
        for done in [pool.submit(serve, *stand) for stand in stands]:
            done.result()
    return [(piece, results[index]) for index, piece in enumerate(work)]


def _faults(expected: Outcome, outcome: Outcome) -> Iterator[str]:
    if outcome.victims:
        yield f"pods in use were deleted: {outcome.victims}"
    if text := difference(expected.settled, outcome.settled):
        yield f"another state before the deletion:\n{text}"
    if text := difference(expected.deleted, outcome.deleted):
        yield f"another state after the deletion:\n{text}"
