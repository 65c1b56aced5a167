"""Electors on a real API server: one decides, and who is cut off or was paused writes nothing."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from conch.clients.clock import SystemClock
from conch.clients.cluster import Cluster as Connection
from conch.clients.cluster import connect
from conch.clients.fence import NotLeaderError
from conch.clients.lease import Elector, LeaseLostError, LeaseTimes
from tests.kit.control_plane import Cluster
from tests.kit.proxy import FaultProxy, Gone

TIMES = LeaseTimes(duration=2.0, deadline=1.0, retry=0.1)


class PausedClock(SystemClock):
    """A clock that jumps by what a process that was stopped has missed."""

    missed = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.missed


@pytest.fixture
async def direct(cluster: Cluster) -> AsyncIterator[Connection]:
    connection = await connect(str(cluster.kubeconfig))
    yield connection
    await connection.close()


def elector(
    connection: Connection, namespace: str, identity: str, clock: SystemClock | None = None
) -> Elector:
    return Elector(
        connection,
        clock or SystemClock(),
        name="conch-operator",
        namespace=namespace,
        identity=identity,
        times=TIMES,
    )


def config_map(namespace: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "written", "namespace": namespace},
    }


@contextlib.asynccontextmanager
async def kept(leader: Elector) -> AsyncIterator[asyncio.Task[None]]:
    """Keep a lease while the body runs."""
    task = asyncio.create_task(leader.keep())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_one_of_many_leads(direct: Connection, namespace: str) -> None:
    electors = [elector(direct, namespace, f"e{i}") for i in range(5)]
    await asyncio.gather(*(e._try() for e in electors))
    assert sum(e.may_write() for e in electors) == 1


async def test_another_leads_once_the_first_stops_to_renew(
    direct: Connection, namespace: str
) -> None:
    first, second = elector(direct, namespace, "one"), elector(direct, namespace, "two")
    await first.acquire()
    started = asyncio.get_running_loop().time()
    await second.acquire()
    waited = asyncio.get_running_loop().time() - started
    assert waited >= TIMES.deadline  # the first may write until then
    assert not first.may_write()
    assert second.may_write()


async def test_a_lease_given_up_needs_no_waiting(direct: Connection, namespace: str) -> None:
    first, second = elector(direct, namespace, "one"), elector(direct, namespace, "two")
    await first.acquire()
    await first.release()
    assert await second._try() is True


async def test_a_leader_that_keeps_its_lease_is_never_replaced(
    direct: Connection, namespace: str
) -> None:
    first, second = elector(direct, namespace, "one"), elector(direct, namespace, "two")
    await first.acquire()
    async with kept(first):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(second.acquire(), 2 * TIMES.duration)
        assert first.may_write()


async def test_a_leader_that_was_paused_writes_nothing_when_it_wakes(
    cluster: Cluster, direct: Connection, namespace: str
) -> None:
    clock = PausedClock()
    leader = elector(direct, namespace, "one", clock)
    await leader.acquire()
    clock.missed = TIMES.deadline
    with pytest.raises(NotLeaderError):
        await direct.fenced(leader).create(config_map(namespace))
    assert cluster.client.find(f"/api/v1/namespaces/{namespace}/configmaps/written") is None


@pytest.mark.parametrize("how", list(Gone))
async def test_a_leader_that_is_cut_off_ends_and_writes_nothing(
    *,
    how: Gone,
    cluster: Cluster,
    proxy: FaultProxy,
    through: Connection,
    direct: Connection,
    namespace: str,
) -> None:
    leader, other = elector(through, namespace, "one"), elector(direct, namespace, "two")
    await leader.acquire()
    with proxy.gone(how):
        with pytest.raises(LeaseLostError, match="could not be renewed in time"):
            await leader.keep()
        await other.acquire()
    # The API server is back for it, and another leads by now.
    with pytest.raises(NotLeaderError):
        await through.fenced(leader).create(config_map(namespace))
    assert cluster.client.find(f"/api/v1/namespaces/{namespace}/configmaps/written") is None
    assert other.may_write()


async def test_a_leader_whose_lease_was_taken_from_it_ends(
    cluster: Cluster, direct: Connection, namespace: str
) -> None:
    leader = elector(direct, namespace, "one")
    await leader.acquire()
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/conch-operator"
    cluster.client.merge(path, {"spec": {"holderIdentity": "two"}})
    with pytest.raises(LeaseLostError, match="held by another"):
        await leader.keep()
    assert not leader.may_write()


async def test_a_lease_deleted_by_hand_is_made_again(
    cluster: Cluster, direct: Connection, namespace: str
) -> None:
    leader = elector(direct, namespace, "one")
    await leader.acquire()
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/conch-operator"
    cluster.client.delete(path)
    assert await leader._try() is True
    assert cluster.client.get(path)["spec"]["holderIdentity"] == "one"


async def test_the_fence_lets_a_leader_write(
    cluster: Cluster, direct: Connection, namespace: str
) -> None:
    leader = elector(direct, namespace, "one")
    fenced = direct.fenced(leader)
    with pytest.raises(NotLeaderError):
        await fenced.create(config_map(namespace))
    await leader.acquire()
    await fenced.create(config_map(namespace))
    assert cluster.client.find(f"/api/v1/namespaces/{namespace}/configmaps/written")
