"""The agent's process: connect, serve, steer; SIGTERM ends it, and HAProxy goes on."""

import asyncio
import signal

from conch.clients.clock import SystemClock
from conch.clients.cluster import connect
from conch.frontdoor.agent import Agent
from conch.frontdoor.routes import Own
from conch.frontdoor.serving import serve
from conch.frontdoor.setup import Setup


async def run(
    setup: Setup,
    *,
    home: str,
    own: Own,
    certificate: str | None,
    everywhere: bool,
    kubeconfig: str | None,
) -> None:
    """Run until told to stop. See ``Agent`` for what is given."""
    clock = SystemClock()
    cluster = await connect(kubeconfig)
    agent = Agent(
        setup,
        cluster,
        clock,
        home=home,
        own=own,
        certificate=certificate,
        everywhere=everywhere,
    )
    runner = await serve(agent, clock, setup.agent_port)
    working = asyncio.ensure_future(agent.run())
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, working.cancel)
    try:
        await working
    except asyncio.CancelledError:
        pass
    finally:
        await runner.cleanup()
        await cluster.close()
