"""The measure of fragmentation, against examples worked out by hand and the benchmark's own FGD."""

import numpy as np
import pytest

from conch.decisions.fleet import Amounts
from conch.decisions.placement.board import WHOLE, Board, Spot
from conch.decisions.placement.fragmentation import Demand, Fragmentation, States
from e2e.bench.placement_fgd import Gradient
from e2e.bench.placement_policies import Conch, demand
from e2e.bench.placement_trace import Cluster, Pod

HALF, ONE, TWO = Demand(1, 0.5, cpu=4.0), Demand(1, cpu=2.0), Demand(2, cpu=2.0)
MEASURE = Fragmentation({HALF: 2.0, ONE: 1.0, TWO: 1.0})


def states(whole: float, *parts: float, cpu: float = 8.0, pods: float = 9.0) -> States:
    """Return one node."""
    one = np.array([1.0])
    return States(whole * one, np.array([parts]).reshape(1, -1), cpu * one, 1e9 * one, pods * one)


@pytest.mark.parametrize(
    ("node", "gpus"),
    [
        # One device whole, 0.6 and 0.2 of two others: 1.8 free. Half of the demand can't use 0.2,
        # a quarter not the 0.8 of both, and a quarter nothing: 0.1 + 0.2 + 0.45.
        (states(1, 0.6, 0.2), 0.75),
        # With 3 cores the halves can't run either: 0.9 + 0.2 + 0.45.
        (states(1, 0.6, 0.2, cpu=3.0), 1.55),
        # Two whole devices serve everyone.
        (states(2), 0.0),
        # No demand fits: all of it is stranded.
        (states(2, cpu=1.0), 2.0),
        (states(2, pods=0), 2.0),
        (states(0, 0.4), 0.4),
        # Nothing is free.
        (states(0), 0.0),
    ],
)
def test_what_can_not_be_used_is_weighed_by_who_can_not_use_it(node: States, gpus: float) -> None:
    assert MEASURE.of(node)[0] == pytest.approx(gpus)


def test_memory_counts_as_cpu_does() -> None:
    measure = Fragmentation({Demand(1, memory=2e9): 3.0, Demand(1, memory=1e9): 1.0})
    assert measure.of(States.of([Amounts(4, 1.0, 1.5e9, 1)]))[0] == pytest.approx(3.0)


def test_demands_without_gpus_do_not_count() -> None:
    assert Fragmentation({Demand(0): 5.0, ONE: 5.0}).of(states(2))[0] == pytest.approx(1.0)


def test_a_sum_of_floats_does_not_strand_a_node() -> None:
    measure = Fragmentation({Demand(1, cpu=1.0): 1.0})
    assert measure.of(states(1, cpu=sum([0.1] * 10)))[0] == 0.0


def test_a_part_of_a_device_goes_where_it_fits_best() -> None:
    """0.5 of the 0.6 device leaves 0.1 that nobody uses; of a whole one it breaks that up."""
    board = Board(["n1"], states(2, 0.6, 0.0), MEASURE)
    assert board.best(HALF) == Spot(0, 0)
    board.take(Spot(0, 0), HALF)
    assert board.best(HALF) == Spot(0, WHOLE)
    board.take(Spot(0, WHOLE), HALF)
    assert board.states.whole[0] == 1.0
    assert sorted(board.states.parts[0]) == pytest.approx([0.1, 0.5])


@pytest.mark.parametrize(("devices", "share"), [(1, 0.0), (1, 1.5), (2, 0.5)])
def test_parts_are_of_one_device(devices: int, share: float) -> None:
    with pytest.raises(ValueError, match="no demand"):
        Demand(devices, share)


def test_the_measure_agrees_with_the_benchmarks_own() -> None:
    """Both are written from the paper, apart: what one gets wrong, the other shows."""
    draw = np.random.default_rng(5)
    shares = {
        Pod(1, 460, 6000, 0): 0.4,
        Pod(1, 810, 3000, 0): 0.3,
        Pod(2, 1000, 9000, 0): 0.2,
        Pod(8, 1000, 60000, 0): 0.1,
    }
    devices = draw.choice([0, 190, 460, 540, 810, 1000], size=(200, 8))
    nodes = Cluster(draw.integers(0, 96_000, 200), np.full(200, 1), devices)
    theirs = Gradient({**shares, Pod(0, 0, 1, 0): 0.0}, nodes)
    measured = theirs.measure(nodes.cpu, nodes.devices) / 1000
    conch = Fragmentation({demand(p): w for p, w in shares.items()})
    found = conch.of(Conch(shares, nodes)._states(np.arange(200)))
    assert found == pytest.approx(measured)
