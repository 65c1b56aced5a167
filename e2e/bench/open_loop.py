"""A recorded load, replayed on the pods of a service: each request when it was recorded.

Open loop: requests come whether or not earlier ones were answered, at most so many at once. Each
goes to the ready pod with the fewest under way, as from a gateway that balances by least requests:
kube-proxy would draw pods by chance and pin connections, and that lottery is no scaler's fault. Each
has a connection of its own: Triton waits 30 s at its end for those that idle clients hold, and pods
that were scaled away would keep their GPUs for so long.
"""

import asyncio
import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import aiohttp

from e2e.bench.race import MOST_S, Answer

Object = dict[str, Any]
MOST_UNDER_WAY = 1000
_LOOK_AGAIN_S = 0.05
_STOP_WITHIN_S = 0.5
PORT = 8000
"""Of Triton, for HTTP."""


@dataclass
class Endpoints:
    """The addresses that a Service leads to now, as its EndpointSlices say."""

    _by_slice: dict[str, frozenset[str]] = field(default_factory=dict)
    _under_way: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def see(self, event: str, body: Object) -> None:
        """Take over a watch event of an EndpointSlice."""
        found: set[str] = set()
        if event != "DELETED":
            for endpoint in body.get("endpoints") or []:
                if (endpoint.get("conditions") or {}).get("ready", True):
                    found |= set(endpoint["addresses"])
        with self._lock:
            self._by_slice[body["metadata"]["name"]] = frozenset(found)

    def take(self) -> str | None:
        """Return the address with the fewest under way, one more from now on; None if none is."""
        with self._lock:
            there = sorted(frozenset().union(*self._by_slice.values()))
            if not there:
                return None
            address = min(there, key=lambda a: self._under_way.get(a, 0))
            self._under_way[address] = self._under_way.get(address, 0) + 1
            return address

    def give_back(self, address: str) -> None:
        """One less is under way there."""
        with self._lock:
            self._under_way[address] -= 1


@dataclass
class Replay:
    """Sends requests at the times of ``arrivals``, in seconds from its start."""

    endpoints: Endpoints
    model: str
    body: Object
    arrivals: Sequence[float]
    progress: Callable[[float], None] = lambda _: None
    """Told now and then how many seconds of the load have passed."""
    answers: list[Answer] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Send all of them, or until it is stopped; returns once all were answered."""
        asyncio.run(self._send_all())

    async def _send_all(self) -> None:
        connector = aiohttp.TCPConnector(limit=MOST_UNDER_WAY, force_close=True)
        timeout = aiohttp.ClientTimeout(total=MOST_S)
        slots = asyncio.Semaphore(MOST_UNDER_WAY)
        began = monotonic()
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            asyncio.TaskGroup() as sending,
        ):
            for due in self.arrivals:
                await self._until(began + due)
                if self.stopped.is_set():
                    return
                self.progress(due)
                await slots.acquire()
                sending.create_task(self._send(session, began, due, slots))

    async def _until(self, time: float) -> None:
        """Return at a monotonic time, or where it is stopped."""
        while not self.stopped.is_set() and (left := time - monotonic()) > 0:  # noqa: ASYNC110 -- a thread stops it
            await asyncio.sleep(min(left, _STOP_WITHIN_S))

    async def _send(
        self, session: aiohttp.ClientSession, began: float, due: float, slots: asyncio.Semaphore
    ) -> None:
        try:
            failure = await self._ask(session, began + due)
        finally:
            slots.release()
        if failure is not None:
            self.failures.append(failure)
        latency = math.inf if failure else monotonic() - began - due
        self.answers.append(Answer(due, latency))

    async def _ask(self, session: aiohttp.ClientSession, since: float) -> str | None:
        """Return what went wrong, None if nothing did."""
        while (address := self.endpoints.take()) is None:
            if monotonic() - since > MOST_S:
                return "nobody was there to ask"
            await asyncio.sleep(_LOOK_AGAIN_S)
        url = f"http://{address}:{PORT}/v2/models/{self.model}/infer"
        try:
            async with session.post(url, json=self.body) as response:
                text = await response.text()
                return None if response.ok else f"{response.status}: {text[:200]}"
        except (aiohttp.ClientError, TimeoutError) as error:
            return repr(error)
        finally:
            self.endpoints.give_back(address)
