"""``conch cache``, which runs on each node whose cache it keeps."""

import os
import signal
import threading
from pathlib import Path
from typing import Annotated

import typer


def cache_command(
    *,
    path: Annotated[Path, typer.Option(help="the cache's directory")],
    size: Annotated[str, typer.Option(help="what the cache may take, such as 200Gi")],
    reserve: Annotated[
        str, typer.Option(help="what must stay free on its disk, for all else on the node")
    ] = "0",
    user: Annotated[int, typer.Option(help="user and group of the pods")] = 65532,
    sweep_seconds: Annotated[float, typer.Option(min=0.1, help="pause between two looks")] = 5.0,
    tidy_seconds: Annotated[
        float, typer.Option(min=1, help="how often pods and namespaces are asked for")
    ] = 3600.0,
    metrics_port: Annotated[int | None, typer.Option(help="unset: none")] = None,
    log_level: Annotated[str, typer.Option()] = "INFO",
) -> None:
    """Open a node's cache to pods, and keep it within its bound."""
    import logging  # noqa: PLC0415  # here, so that `conch fetch` starts without them

    from conch.clients.clock import SystemClock  # noqa: PLC0415
    from conch.clients.node_cache_agent import Agent, Bounds  # noqa: PLC0415
    from conch.clients.node_cache_metrics import serve  # noqa: PLC0415
    from conch.clients.node_cache_rounds import Rounds  # noqa: PLC0415
    from conch.clients.node_facts import Server  # noqa: PLC0415

    logging.basicConfig(
        level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    clock = SystemClock()
    bounds = Bounds(_bytes(size), _bytes(reserve))
    try:
        server = Server.from_environment()
    except KeyError as error:
        raise typer.BadParameter(f"run it in a pod: the environment lacks {error}") from None
    agent = Agent(path, bounds, server, uid=user, clock=clock)
    os.umask(0o022)
    agent.prepare()
    if metrics_port is not None:
        serve(metrics_port, agent, bounds)
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    Rounds(agent, clock, sweep_seconds, tidy_seconds).run(ended)


def _bytes(text: str) -> int:
    """Return the bytes that a quantity means. Raises typer.BadParameter where it is none."""
    from conch.api.base import parse_quantity  # noqa: PLC0415

    try:
        found = int(parse_quantity(text))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if found < 0:
        raise typer.BadParameter(f"{text!r} is less than nothing")
    return found
