"""An open-loop load on a service: requests arrive whether or not earlier ones were answered.

Each opens a connection of its own, so that kube-proxy spreads them; bounded in time and number.
"""

import asyncio
import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic
from types import TracebackType
from typing import Any, Self

import aiohttp

MOST_UNDER_WAY = 400
REQUEST_TIMEOUT_S = 60.0


@dataclass
class Tally:
    """What came of the requests so far."""

    sent: int = 0
    answered: int = 0
    failures: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def quantile(self, share: float) -> float:
        """Return a quantile of the answer times, in seconds; 0 when there are none."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0

    def __str__(self) -> str:
        return (
            f"{self.sent} requests, {len(self.failures)} failed, "
            f"p50 {self.quantile(0.5) * 1e3:.0f} ms, p99 {self.quantile(0.99) * 1e3:.0f} ms"
        )


class Load:
    """Sends inference requests from a thread of its own until it is left, at most ``seconds``."""

    def __init__(
        self,
        url: str,
        body: dict[str, Any],
        *,
        rate: float,
        seconds: float,
        seed: int = 0,
    ) -> None:
        """``rate`` in requests/s with exponential gaps; ``url`` ends in ``/infer``."""
        self._url, self._body, self._bound = url, body, seconds
        self.rate = rate
        """May be changed while the load runs."""
        self._random = random.Random(seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)
        self.tally = Tally()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join(timeout=REQUEST_TIMEOUT_S + 5)

    def _run(self) -> None:
        asyncio.run(self._send_all())

    async def _send_all(self) -> None:
        connector = aiohttp.TCPConnector(force_close=True, limit=MOST_UNDER_WAY)
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)
        until = monotonic() + self._bound
        under_way: set[asyncio.Task[None]] = set()
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            while not self._stop.is_set() and monotonic() < until:
                if len(under_way) < MOST_UNDER_WAY:
                    task = asyncio.create_task(self._send(session))
                    under_way.add(task)
                    task.add_done_callback(under_way.discard)
                await asyncio.sleep(self._random.expovariate(self.rate))
            if under_way:
                await asyncio.wait(under_way)

    async def _send(self, session: aiohttp.ClientSession) -> None:
        self.tally.sent += 1
        started = monotonic()
        try:
            async with session.post(self._url, json=self._body) as response:
                text = await response.text()
                if response.status == 200:
                    self.tally.answered += 1
                    self.tally.seconds.append(monotonic() - started)
                else:
                    self.tally.failures.append(f"{response.status}: {text[:200]}")
        except (aiohttp.ClientError, TimeoutError) as error:
            self.tally.failures.append(repr(error))


def request_body(name: str, datatype: str, rows: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Return a KServe v2 request with one input of shape (rows, columns)."""
    shape = [len(rows), len(rows[0])]
    data = [float(x) for row in rows for x in row]
    return {"inputs": [{"name": name, "datatype": datatype, "shape": shape, "data": data}]}
