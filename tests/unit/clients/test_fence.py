"""No write leaves once the lease is gone: against a real HTTP server that counts what arrives."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml
from aiohttp import web

from conch.clients.cluster import Cluster, ClusterError, Precondition, connect
from conch.clients.fence import NotLeaderError

POD = Precondition(uid="1")


class Looks:
    """A fence that is open for the first looks, and closed from then on."""

    def __init__(self, open_for: int) -> None:
        self.left = open_for

    def may_write(self) -> bool:
        self.left -= 1
        return self.left >= 0

    def seconds_left(self) -> float:
        return 5.0


@asynccontextmanager
async def api_server(directory: Path) -> AsyncIterator[tuple[Cluster, list[str]]]:
    """A server that takes everything, a connection to it, and the methods that it saw."""
    seen: list[str] = []

    async def take(request: web.Request) -> web.Response:
        await request.read()
        seen.append(request.method)
        return web.json_response({"items": [], "metadata": {}})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        cluster = await connect(str(kubeconfig(directory / "config", runner.addresses[0][1])))
        try:
            yield cluster, seen
        finally:
            await cluster.close()
    finally:
        await runner.cleanup()


def kubeconfig(path: Path, port: int) -> Path:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "a", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "a", "user": {"token": "unused"}}],
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
        "current-context": "a",
    }
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.mark.parametrize("connected", [False, True], ids=["first request", "kept connection"])
def test_what_was_begun_in_time_does_not_leave_too_late(tmp_path: Path, *, connected: bool) -> None:
    async def live() -> None:
        async with api_server(tmp_path) as (cluster, seen):
            if connected:
                await cluster.list("Pod")
            seen.clear()
            fenced = cluster.fenced(Looks(open_for=1))
            with pytest.raises(ClusterError, match="not sent"):
                await fenced.delete("Pod", "digits", "default", POD)
            assert seen == []
            # Neither reads nor whoever has no fence is held back, on the same connections.
            await cluster.list("Pod")
            await cluster.delete("Pod", "digits", "default", POD)
            assert seen == ["GET", "DELETE"]

    asyncio.run(live())


@pytest.mark.parametrize(("looks", "sent"), [(0, []), (2, ["DELETE"])])
def test_the_fence_is_asked_before_and_as_the_bytes_leave(
    tmp_path: Path, looks: int, sent: list[str]
) -> None:
    async def live() -> None:
        async with api_server(tmp_path) as (cluster, seen):
            fenced = cluster.fenced(Looks(open_for=looks))
            try:
                await fenced.delete("Pod", "digits", "default", POD)
            except NotLeaderError:
                assert not sent
            assert seen == sent

    asyncio.run(live())
