"""The real agent of the front door keeps to what the operator expects of its report."""

from collections.abc import Iterator

import pytest

from conch.clients.front_door import NEVER, Agents
from tests.kit.control_plane import Cluster
from tests.kit.front_door import FrontDoor, front_door
from tests.kit.front_door_report import keeps_to_the_contract
from tests.kit.proxy import wait_for


@pytest.fixture(scope="module")
def door(cluster: Cluster) -> Iterator[FrontDoor]:
    """A front door that is asked for nothing else."""
    with front_door(cluster) as found:
        wait_for(lambda: "version" in found.report(), "the agent reports", timeout=30)
        yield found


async def test_the_agent_keeps_to_the_contract(door: FrontDoor) -> None:
    await keeps_to_the_contract("127.0.0.1", door.agent_port)


async def test_its_report_can_be_read(door: FrontDoor) -> None:
    agents = Agents(door.agent_port)
    found = await agents.report("127.0.0.1", after=NEVER, wait=0.0)
    await agents.close()
    assert found.version == door.report()["version"]
    assert set(door.report()) == {"version", "asked", "waiting", "in_flight", "broken", "canaries"}


def test_it_shows_the_metric_by_which_its_scrapes_are_counted(door: FrontDoor) -> None:
    """Whether anybody asks or not."""
    assert "\nconch_front_door_unknown_requests_total " in door.metrics()
