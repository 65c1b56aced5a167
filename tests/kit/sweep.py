"""The crash sweep: live a scenario once for each write, with the operator killed at that write."""

import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.kit.control_plane import Cluster
from tests.kit.faults import Kill, at_write
from tests.kit.fleet import simulated
from tests.kit.normalise import difference
from tests.kit.operator import Invocation, Operator
from tests.kit.prometheus import FakePrometheus
from tests.kit.proxy import FaultProxy
from tests.kit.scenario import Outcome, Scenario


@dataclass(frozen=True)
class Lane:
    """A simulated cluster with an operator behind a proxy; lanes run side by side."""

    cluster: Cluster
    proxy: FaultProxy
    operator: Operator
    prometheus: FakePrometheus | None = None

    def scenario(self) -> Scenario:
        """The scenario in a namespace that was not used before; writes are counted afresh."""
        self.proxy.reset()
        namespace = self.cluster.new_namespace()
        return Scenario(self.cluster.client, self.proxy, self.operator, namespace)


# Short, so that tests see what the regular lists put right.
_OPTIONS: tuple[str, ...] = ("--relist-seconds", "5")


@contextlib.contextmanager
def lane(directory: Path, *, metered: bool = False) -> Iterator[Lane]:
    """Start a simulated cluster and the operator, reaching it through a proxy.

    Where it is ``metered``, the operator has a Prometheus, a simulated one.
    """
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(simulated(directory))
        proxy = stack.enter_context(FaultProxy.before(cluster.kubeconfig))
        kubeconfig = proxy.write_kubeconfig(directory / "operator.kubeconfig")
        prometheus, options = None, _OPTIONS
        if metered:
            prometheus = stack.enter_context(FakePrometheus(cluster.client))
            options = (*_OPTIONS, "--prometheus-url", prometheus.url)
        invocation = Invocation(kubeconfig, directory / "operator.log", options)
        operator = stack.enter_context(Operator(invocation, cluster.client))
        yield Lane(cluster, proxy, operator, prometheus)


@pytest.fixture(scope="session")
def simulated_lane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lane]:
    """A simulated cluster with an operator, shared by tests that use namespaces of their own."""
    with lane(tmp_path_factory.mktemp("lane")) as running:
        yield running


@dataclass(frozen=True)
class Point:
    """One run of the sweep: at which write the operator died, and what differed in the end."""

    number: int
    after: bool
    write: str
    """The write, or an empty text if the run came to rest with fewer writes."""
    faults: tuple[str, ...]

    def __str__(self) -> str:
        when = "after" if self.after else "before"
        return f"killed {when} write {self.write or self.number}:\n" + "\n".join(self.faults)


def undisturbed(lanes: Sequence[Lane]) -> tuple[Outcome, int]:
    """Live the scenario in each lane without a fault: how it ends, and with how many writes.

    AssertionError when a pod in use is deleted, or when lanes end differently.
    """
    with ThreadPoolExecutor(len(lanes)) as pool:
        first, *others = pool.map(lambda lane: lane.scenario().run(), lanes)
    for outcome in (first, *others):
        faults = "\n".join(_faults(first, outcome))
        assert not faults, f"undisturbed runs differ or do harm:\n{faults}"
    return first, max(len(lane.proxy.writes) for lane in lanes)


def sweep(lanes: Sequence[Lane], expected: Outcome, numbers: Sequence[int]) -> list[Point]:
    """Kill the operator at each of these writes, in turns before and after the write is done."""
    shares = [numbers[i :: len(lanes)] for i in range(len(lanes))]
    with ThreadPoolExecutor(len(lanes)) as pool:
        found = pool.map(lambda one, share: _sweep(one, expected, share), lanes, shares)
        return sorted((p for points in found for p in points), key=lambda p: p.number)


def _sweep(lane: Lane, expected: Outcome, numbers: Sequence[int]) -> list[Point]:
    # Pairs of numbers take turns, so that each lane sees both ways.
    return [point(lane, expected, n, after=n // 2 % 2 == 0) for n in numbers]


def point(lane: Lane, expected: Outcome, number: int, *, after: bool) -> Point:
    """Live the scenario with the operator killed at one write."""
    scenario = lane.scenario()
    rule = lane.proxy.add(at_write(number), Kill(lane.operator.kill, after=after), times=1)
    try:
        outcome = scenario.run()
    except AssertionError as error:
        faults: tuple[str, ...] = (str(error),)
    else:
        faults = tuple(_faults(expected, outcome))
    write = next((str(w) for w in lane.proxy.writes if w.call.number == number), "")
    return Point(number, after, write if rule.taken else "", faults)


def _faults(expected: Outcome, outcome: Outcome) -> Iterator[str]:
    if outcome.victims:
        yield f"pods in use were deleted: {outcome.victims}"
    if text := difference(expected.settled, outcome.settled):
        yield f"another state before the deletion:\n{text}"
    if text := difference(expected.deleted, outcome.deleted):
        yield f"another state after the deletion:\n{text}"
