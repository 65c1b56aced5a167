"""What every agent of the front door keeps to when the operator asks it for its report.

An agent of its own for the operator's tests, and the contract, which holds for the real one too:

await keeps_to_the_contract("127.0.0.1", port)
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from conch.clients.front_door import NEVER, SLACK_S, Agents, Report

WAIT_S = 0.3


async def keeps_to_the_contract(address: str, port: int) -> Report:
    """Assert what holds of each agent, of one at which nothing happens meanwhile; return its report."""
    agents = Agents(port)
    try:
        first = await agents.report(address, after=NEVER, wait=0.0)
        began = time.monotonic()
        other = await agents.report(address, after=first.version + 1000, wait=10.0)
        assert time.monotonic() - began < SLACK_S, "another version than the known one: at once"
        assert other.version == first.version, "a version stays while nothing happens"
        began = time.monotonic()
        same = await agents.report(address, after=first.version, wait=WAIT_S)
        took = time.monotonic() - began
        assert WAIT_S * 0.9 <= took < WAIT_S + SLACK_S, "the known one: once the wait is over"
        assert same.version == first.version
        assert same.in_flight == first.in_flight, "each answer is the whole report"
        return same
    finally:
        await agents.close()


@dataclass
class Agent:
    """Answers /report with ``body``, as a long poll; what is set last counts."""

    body: dict[str, Any] = field(default_factory=lambda: {"version": 1})
    raw: bytes | None = None
    """Answered instead, as it is."""
    status: int = 200
    hangs: bool = False
    """No answer within the wait, nor soon after."""
    port: int = 0

    async def _answer(self, request: web.Request) -> web.Response:
        after, left = int(request.query["after"]), float(request.query["wait"])
        while self.hangs or (self.raw is None and self.body.get("version") == after and left > 0):
            await asyncio.sleep(0.01)
            left -= 0.01
        body = json.dumps(self.body).encode() if self.raw is None else self.raw
        return web.Response(status=self.status, body=body, headers={"Location": "/elsewhere"})

    @asynccontextmanager
    async def serve(self) -> AsyncIterator["Agent"]:
        """Listen on a port of loopback."""
        app = web.Application()
        app.add_routes([web.get("/report", self._answer)])
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server: Any = site._server
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            await runner.cleanup()
