"""Two operators, real processes: one decides; one that is killed, paused or cut off does no more."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.control_plane import Cluster
from tests.kit.faults import Cut, Kill, at_write, on
from tests.kit.proxy import Gone, wait_for
from tests.kit.rivals import Rival, first_decision, rivals, served, services
from tests.kit.sweep import Lane

SERVICES = 16
PATIENCE_S = 20.0
"""Failover takes 10 s at most; a machine that runs other tests too is slower."""

Pair = tuple[Rival, Rival]


@pytest.fixture(scope="module")
def quiet(simulated_lane: Lane) -> Iterator[Cluster]:
    """A simulated cluster whose own operator rests meanwhile."""
    simulated_lane.operator.kill()
    yield simulated_lane.cluster
    simulated_lane.operator.start()


@pytest.fixture
def pair(quiet: Cluster, tmp_path: Path) -> Iterator[Pair]:
    """An operator that leads, and one that waits."""
    with rivals(quiet, tmp_path) as started:
        yield started


@pytest.fixture
def namespace(quiet: Cluster) -> Iterator[str]:
    """An empty namespace of the simulated cluster."""
    name = quiet.new_namespace()
    yield name
    quiet.client.delete(f"/api/v1/namespaces/{name}")


def test_a_leader_killed_at_work_is_replaced_and_all_gets_done(
    quiet: Cluster, pair: Pair, namespace: str
) -> None:
    first, other = pair
    first.proxy.add(at_write(20), Kill(first.operator.kill, after=True), times=1)
    services(quiet.client, namespace, SERVICES)
    wait_for(lambda: not first.operator.alive, "the leader killed in the middle of its work")
    assert other.sent == 0, "the other wrote while the first led"

    assert first_decision(other) < PATIENCE_S
    wait_for(lambda: served(quiet.client, namespace) == SERVICES, "every service provided for")
    assert other.operator.alive


def test_a_leader_that_is_stopped_in_order_hands_over_at_once(pair: Pair) -> None:
    first, other = pair
    first.operator.send(signal.SIGTERM)
    # No lease has to run out, which takes 7 s.
    assert first_decision(other) < 5.0
    assert first.operator.wait() == 0


def test_a_leader_that_was_paused_writes_nothing_when_it_wakes(
    quiet: Cluster, pair: Pair, namespace: str
) -> None:
    first, other = pair
    services(quiet.client, namespace, SERVICES)
    wait_for(lambda: first.sent >= 20, "the leader at work")
    first.operator.send(signal.SIGSTOP)
    assert first_decision(other) < PATIENCE_S
    before = first.sent
    first.operator.send(signal.SIGCONT)
    assert first.operator.wait() != 0
    assert first.sent == before
    wait_for(lambda: served(quiet.client, namespace) == SERVICES, "every service provided for")


def test_a_leader_that_cannot_renew_its_lease_stops_before_another_writes(
    quiet: Cluster, pair: Pair, namespace: str
) -> None:
    first, other = pair
    services(quiet.client, namespace, SERVICES)
    wait_for(lambda: first.proxy.writes, "the leader at work")
    # All else still gets through: it could go on writing.
    first.proxy.add(on("leases"), Cut())
    wait_for(lambda: other.decides or other.sent, "the other at work", timeout=PATIENCE_S)
    before = first.sent
    assert first.operator.wait() != 0
    assert first.sent == before
    assert "could not be renewed in time" in first.operator.tail(60)
    wait_for(lambda: served(quiet.client, namespace) == SERVICES, "every service provided for")


def test_a_leader_that_is_cut_off_ends_and_writes_nothing(
    quiet: Cluster, pair: Pair, namespace: str
) -> None:
    first, other = pair
    services(quiet.client, namespace, SERVICES)
    wait_for(lambda: first.proxy.writes, "the leader at work")
    with first.proxy.gone(Gone.HANGS):
        assert first_decision(other) < PATIENCE_S
        done = len(first.proxy.writes)  # those under way as it was cut off among them
    # The API server answers it again; what it asked meanwhile is reset.
    assert first.operator.wait() != 0
    assert len(first.proxy.writes) == done
    wait_for(lambda: served(quiet.client, namespace) == SERVICES, "every service provided for")
