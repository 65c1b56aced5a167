"""How a replica of the front door ends that is stopped in order."""

import http.client
import signal
import time
from collections.abc import Iterator

import pytest

from tests.kit.control_plane import Cluster
from tests.kit.front_door import FrontDoor, front_door

CONNECTIONS = 60
EACH_S = 0.05
"""Between two of them that ask again: all together longer than HAProxy takes to close idle ones."""


@pytest.fixture
def door(cluster: Cluster) -> Iterator[FrontDoor]:
    """A front door of this test's own."""
    with front_door(cluster) as found:
        yield found


def asked(connection: http.client.HTTPConnection) -> str | None:
    """Ask once; return what the answer says of the connection. Any answer will do."""
    connection.request("GET", "/")
    told = connection.getresponse()
    told.read()
    assert told.status == http.client.UNAUTHORIZED
    return told.getheader("connection")


def test_what_is_kept_alive_is_told_with_an_answer_and_never_cut(door: FrontDoor) -> None:
    connections = [
        http.client.HTTPConnection("127.0.0.1", door.http, timeout=20) for _ in range(CONNECTIONS)
    ]
    assert {asked(c) for c in connections} == {None}
    assert door.haproxy is not None
    door.haproxy.send_signal(signal.SIGUSR1)  # as preStop does
    told = []
    for connection in connections:
        time.sleep(EACH_S)
        told.append(asked(connection))
        connection.close()
    assert told == ["close"] * CONNECTIONS
    # With nothing under way any more the first process ends, and with it the container.
    assert door.haproxy.wait(timeout=20) == 0
