"""Who may write and when: the elector against a Lease in memory, with a clock that is set."""

import asyncio
from copy import deepcopy
from typing import Any, cast

import pytest

from conch.clients.cluster import Cluster, ClusterError
from conch.clients.lease import Elector, LeaseLostError, LeaseTimes

TIMES = LeaseTimes(duration=12, deadline=6, retry=0, request=5, margin=1)
Object = dict[str, Any]


class FakeClock:
    def __init__(self) -> None:
        self.now = 100.0

    def wall(self) -> float:
        return 1.7e9 + self.now

    def monotonic(self) -> float:
        return self.now


class FakeCluster:
    """One Lease with optimistic concurrency, as the API server keeps it."""

    def __init__(self) -> None:
        self.lease: Object | None = None
        self.version = 0
        self.fault: Exception | None = None
        self.calls = 0

    def _answer(self) -> None:
        self.calls += 1
        if self.fault:
            raise self.fault

    async def get(self, kind: str, name: str, namespace: str | None = None) -> Object | None:
        self._answer()
        return deepcopy(self.lease)

    async def create(self, body: Object) -> Object:
        self._answer()
        if self.lease is not None:
            raise ClusterError("it exists", 409)
        return self._keep(body)

    async def replace(self, body: Object) -> Object:
        self._answer()
        assert self.lease is not None
        if body["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            raise ClusterError("the object has been modified", 409)
        return self._keep(body)

    def _keep(self, body: Object) -> Object:
        self.version += 1
        self.lease = deepcopy(body)
        self.lease["metadata"]["resourceVersion"] = str(self.version)
        return deepcopy(self.lease)


def elector(cluster: FakeCluster, clock: FakeClock, identity: str) -> Elector:
    return Elector(
        cast("Cluster", cluster),
        clock,
        name="conch-operator",
        namespace="conch-system",
        identity=identity,
        times=TIMES,
    )


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


def holder(cluster: FakeCluster) -> str:
    assert cluster.lease is not None
    return str(cluster.lease["spec"]["holderIdentity"])


async def test_the_first_gets_the_lease_and_the_second_does_not(
    cluster: FakeCluster, clock: FakeClock
) -> None:
    first, second = elector(cluster, clock, "one"), elector(cluster, clock, "two")
    assert not first.may_write()
    assert await first._try() is True
    assert await second._try() is False
    assert first.may_write()
    assert not second.may_write()
    assert holder(cluster) == "one"


async def test_of_two_that_create_it_at_once_one_gets_it(
    cluster: FakeCluster, clock: FakeClock
) -> None:
    electors = [elector(cluster, clock, name) for name in ("one", "two")]

    async def get_nothing(*_: object) -> None:
        await asyncio.sleep(0)

    cluster.get = get_nothing  # type: ignore[assignment,method-assign]
    held = await asyncio.gather(*(e._try() for e in electors))
    assert sorted(map(bool, held)) == [False, True]
    assert sum(e.may_write() for e in electors) == 1


async def test_the_second_takes_over_once_the_record_has_stood_still_for_its_duration(
    cluster: FakeCluster, clock: FakeClock
) -> None:
    first, second = elector(cluster, clock, "one"), elector(cluster, clock, "two")
    await first._try()
    await second._try()
    clock.now += 11.9
    assert await second._try() is False
    clock.now += 0.2
    assert await second._try() is True
    assert holder(cluster) == "two"
    assert cluster.lease is not None
    assert cluster.lease["spec"]["leaseTransitions"] == 1
    assert not first.may_write()


async def test_a_holder_that_renews_is_never_replaced(
    cluster: FakeCluster, clock: FakeClock
) -> None:
    first, second = elector(cluster, clock, "one"), elector(cluster, clock, "two")
    for _ in range(30):
        assert await first._try() is True
        assert await second._try() is False
        clock.now += 5


async def test_a_leader_that_was_paused_may_not_write_when_it_wakes(
    cluster: FakeCluster, clock: FakeClock
) -> None:
    leader = elector(cluster, clock, "one")
    await leader._try()
    clock.now += 5.9
    assert leader.may_write()
    clock.now += 0.1
    assert not leader.may_write()


async def test_the_old_leader_is_done_before_the_new_one_starts(
    cluster: FakeCluster, clock: FakeClock
) -> None:
    """A write that begins at the last moment is given up before another may lead."""
    times = LeaseTimes()
    assert times.deadline + times.margin < times.duration
    first, second = elector(cluster, clock, "one"), elector(cluster, clock, "two")
    await first._try()
    await second._try()
    clock.now += 5.9
    assert first.may_write()
    clock.now += first.seconds_left()
    assert await second._try() is False
    clock.now += 1
    assert await second._try() is True
    assert first.seconds_left() == 0


async def test_a_leader_renews_without_reading(cluster: FakeCluster, clock: FakeClock) -> None:
    leader = elector(cluster, clock, "one")
    await leader._try()
    before = cluster.calls
    clock.now += 1
    assert await leader._try() is True
    assert cluster.calls == before + 1
    clock.now += 5.9
    assert leader.may_write()


async def test_a_leader_that_was_paused_ends_even_if_nobody_took_its_lease(
    cluster: FakeCluster, clock: FakeClock
) -> None:
    leader = elector(cluster, clock, "one")
    await leader.acquire()
    clock.now += 60
    calls = cluster.calls
    with pytest.raises(LeaseLostError, match="could not be renewed in time"):
        await leader.keep()
    assert cluster.calls == calls
    assert not leader.may_write()


async def test_a_leader_whose_work_hangs_gives_its_lease_up(
    cluster: FakeCluster, clock: FakeClock
) -> None:
    leader = elector(cluster, clock, "one")
    await leader.acquire()
    with pytest.raises(LeaseLostError, match="hangs"):
        await leader.keep(lambda: False)
    assert not leader.may_write()


async def test_a_renewal_counts_from_before_it_was_sent(
    cluster: FakeCluster, clock: FakeClock
) -> None:
    leader = elector(cluster, clock, "one")
    await leader._try()
    replace = cluster.replace

    async def slowly(body: Object) -> Object:
        clock.now += 4
        return await replace(body)

    cluster.replace = slowly  # type: ignore[method-assign]
    assert await leader._try() is True
    clock.now += 2
    assert not leader.may_write()


async def test_without_an_answer_the_leader_gives_up_at_its_deadline(
    cluster: FakeCluster, clock: FakeClock
) -> None:
    leader = elector(cluster, clock, "one")
    await leader.acquire()
    cluster.fault = ClusterError("the API server does not answer", 0)
    assert await leader._try() is None
    assert leader.may_write()
    clock.now += 6
    with pytest.raises(LeaseLostError, match="could not be renewed in time"):
        await leader.keep()


async def test_a_leader_whose_lease_another_took_stops_at_once(
    cluster: FakeCluster, clock: FakeClock
) -> None:
    leader = elector(cluster, clock, "one")
    await leader.acquire()
    cluster.lease = None
    await elector(cluster, clock, "two").acquire()
    with pytest.raises(LeaseLostError, match="held by another"):
        await leader.keep()
    assert not leader.may_write()
    assert holder(cluster) == "two"


async def test_what_others_write_on_the_lease_stays_and_does_not_cost_it(
    cluster: FakeCluster, clock: FakeClock
) -> None:
    leader = elector(cluster, clock, "one")
    await leader.acquire()
    assert cluster.lease is not None
    cluster.lease["metadata"] |= {"annotations": {"by": "somebody"}, "resourceVersion": "77"}
    clock.now += 5.9
    assert await leader._try() is True
    clock.now += 5.9
    assert leader.may_write()
    assert cluster.lease["metadata"]["annotations"] == {"by": "somebody"}


async def test_a_conflict_alone_does_not_cost_the_lease(
    cluster: FakeCluster, clock: FakeClock
) -> None:
    """Somebody annotated the Lease between the read and the write."""
    leader = elector(cluster, clock, "one")
    await leader.acquire()
    cluster.fault = ClusterError("the object has been modified", 409)
    assert await leader._try() is None
    assert leader.may_write()


async def test_a_lease_that_was_given_up_is_free_at_once(
    cluster: FakeCluster, clock: FakeClock
) -> None:
    first, second = elector(cluster, clock, "one"), elector(cluster, clock, "two")
    await first.acquire()
    await first.release()
    assert not first.may_write()
    assert await second._try() is True


async def test_one_that_never_led_gives_nothing_up(cluster: FakeCluster, clock: FakeClock) -> None:
    first, second = elector(cluster, clock, "one"), elector(cluster, clock, "two")
    await first.acquire()
    await second.release()
    assert holder(cluster) == "one"


async def test_a_lease_that_another_got_meanwhile_is_not_given_up(
    cluster: FakeCluster, clock: FakeClock
) -> None:
    first, second = elector(cluster, clock, "one"), elector(cluster, clock, "two")
    await first.acquire()
    await second._try()
    clock.now += 12
    await second.acquire()
    await first.release()
    assert holder(cluster) == "two"
