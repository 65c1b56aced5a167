"""A fault proxy before the tests' API server, and a connection of Conch's through it, as fixtures."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from conch.clients.cluster import Cluster as Connection
from conch.clients.cluster import connect
from tests.kit.control_plane import Cluster
from tests.kit.proxy import FaultProxy


@pytest.fixture
def proxy(cluster: Cluster) -> Iterator[FaultProxy]:
    """A proxy that makes no faults yet."""
    with FaultProxy.before(cluster.kubeconfig) as made:
        yield made


@pytest.fixture
async def through(proxy: FaultProxy, tmp_path: Path) -> AsyncIterator[Connection]:
    """A connection through the proxy."""
    connection = await connect(str(proxy.write_kubeconfig(tmp_path / "kubeconfig")))
    yield connection
    await connection.close()
