"""What runs beside HAProxy: it hears of requests, asks suspects, and knows what is under way."""

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from conch.api.names import PORT_HTTP
from conch.clients.clock import Clock
from conch.clients.haproxy import HAProxy, HAProxyError, counts_in, used_in
from conch.decisions.canary import Tally
from conch.decisions.fleet import ServiceKey
from conch.frontdoor.canaries import Canaries, retried
from conch.frontdoor.commands import backend as backend_of
from conch.frontdoor.judge import Judge
from conch.frontdoor.setup import Setup
from conch.frontdoor.steering import Steering
from conch.frontdoor.traffic import WAIT, Request, Traffic, request_of

logger = logging.getLogger(__name__)

ASKED_S = 300.0
"""For which a service that somebody waited for is reported as asked."""
_ZERO = {"BOOL": False, "BYTES": ""}


@dataclass(frozen=True)
class Report:
    """What the operator is told; see conch.clients.front_door for its other end."""

    asked: Mapping[str, float]
    """By service, when somebody had to wait for it last (monotonic seconds)."""
    waiting: Mapping[str, int]
    in_flight: Mapping[str, int]
    broken: Mapping[str, str]
    canaries: Mapping[str, Mapping[str, Tally]] = field(default_factory=dict)
    """What was counted of services under a canary, by service and revision."""


class Watcher:
    """Counts and judges. On one event loop."""

    def __init__(self, setup: Setup, haproxy: HAProxy, steering: Steering, clock: Clock) -> None:
        self._setup, self._haproxy, self._steering, self._clock = setup, haproxy, steering, clock
        self.traffic = Traffic()
        self.judge = Judge()
        self.canaries = Canaries()
        self.asked: dict[str, float] = {}
        self.pairs: dict[str, int] = {}
        """Requests under way, by ``tenant|namespace/service``."""
        self.waiting: dict[str, int] = {}
        """Requests that wait for a replica, by service."""
        self.heard = asyncio.Event()
        """Set when somebody waits anew."""
        self.known_tenant: Callable[[str], bool] = lambda _: True

    def hear(self, line: str) -> None:
        """Take over a line of HAProxy's log."""
        if line.startswith(WAIT):
            self._waits(line.removeprefix(WAIT).strip())
        elif (request := request_of(line)) is not None:
            self._over(request)

    def _waits(self, backend: str) -> None:
        """Take over that requests wait for a service."""
        service = _service_of(backend)
        now = self._clock.monotonic()
        if now - self.asked.get(service, -ASKED_S) > 0.5:
            self.asked[service] = now
            self.heard.set()

    def _over(self, request: Request) -> None:
        key = ServiceKey(*request.service.partition("/")[::2])
        known = key in self._steering.routes
        self.traffic.count(request, known=known, tenant_known=self.known_tenant(request.tenant))
        if known:
            self.canaries.count(request)
            self._blame(request, key)

    def _blame(self, request: Request, key: ServiceKey) -> None:
        """Tell the judge which replica a request was answered by, or which failed at it."""
        now, backend, place = self._clock.monotonic(), request.backend, request.server
        drawn = request.drawn
        if drawn is not None and drawn.place is not None:
            backend = backend_of(key, request.protocol)
            place = drawn.answered or drawn.place
            first = self._steering.place_of(backend, drawn.place)
            if retried(request) and first is not None:
                self.judge.failed(first, now)
        uid = self._steering.place_of(backend, place)
        if uid is not None:
            self.judge.saw(request, uid, now)

    async def look(self) -> None:
        """Look at what is under way. Raises HAProxyError."""
        self.pairs = counts_in(
            await self._haproxy.ask("show table pairs data.conn_cur gt 0"), "conn_cur"
        )
        held = counts_in(
            await self._haproxy.ask("show table waiting data.conn_cur gt 0"), "conn_cur"
        )
        waiting: dict[str, int] = {}
        for backend, count in held.items():
            name = _service_of(backend)
            waiting[name] = waiting.get(name, 0) + count
        self.waiting = waiting
        now = self._clock.monotonic()
        self.asked |= dict.fromkeys(waiting, now)
        self.asked = {k: at for k, at in self.asked.items() if now - at < ASKED_S}

    async def under_way(self, key: ServiceKey) -> dict[str, int]:
        """Return how many requests each pod of a service has from here, by UID, old workers' too."""
        named = self._steering.named(key)
        found = dict.fromkeys(named.values(), 0)
        for pid in (None, *self._steering.old_workers):
            for backend in self._steering.backends(key):
                command = f"show servers conn {backend}"
                try:
                    answer = await (
                        self._haproxy.ask(command)
                        if pid is None
                        else self._haproxy.ask_worker(pid, command)
                    )
                except HAProxyError:
                    if pid is None:
                        raise
                    continue  # it has ended
                for name, count in used_in(answer).items():
                    if name in named:
                        found[named[name]] += count
        return found

    async def judged(self, session: aiohttp.ClientSession) -> set[ServiceKey]:
        """Ask suspects; return the services of which a replica's case changed."""
        active = {p.partition("|")[2] for p in self.pairs}
        keys = {k for k in self._steering.routes if str(k) in active} if active else set()
        now = self._clock.monotonic()
        for key in keys:
            self.judge.busy(await self.under_way(key), now)
        places = {
            s.uid: (k, s.address)
            for k, slots in self._steering.slots.items()
            for s in slots
            if s.uid is not None
        }
        self.judge.keep(places, map(str, self._steering.routes))
        suspects = self.judge.suspects({u: str(k) for u, (k, _) in places.items()}, now)
        changed = set()
        for uid, why in suspects.items():
            key, address = places[uid]
            route = self._steering.routes.get(key)
            if route is None or route.model is None:
                continue
            answer = await question(session, address, route.model, self.judge.patience(str(key)))
            if self.judge.asked(uid, why, answer, self._clock.monotonic()):
                logger.warning(
                    "%s, pod %s: %s", key, uid, self.judge.broken.get(uid, "answers again")
                )
                changed.add(key)
        return changed


def _service_of(backend: str) -> str:
    """Return namespace/name of a backend's service."""
    return "/".join(backend.split(":")[:2])


async def question(
    session: aiohttp.ClientSession, address: str, model: str, patience: float
) -> str | None:
    """Ask a replica for an inference of zeros; return what is wrong, None where it answers.

    An answer that calls the question wrong is one: whoever answers so does not hang.
    """
    base = f"http://{address}:{PORT_HTTP}/v2/models/{model}"
    try:
        async with asyncio.timeout(patience):
            async with session.get(base) as answer:
                metadata = await answer.json(content_type=None)
            async with session.post(f"{base}/infer", json=zeros(metadata)) as answer:
                text = (await answer.text())[:200]
                return f"status {answer.status}: {text}" if answer.status >= 500 else None
    except TimeoutError:
        return f"no answer in {patience:.0f} s"
    except (aiohttp.ClientError, json.JSONDecodeError, OSError) as error:
        return f"{error!r}"


def zeros(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request with zeros for each input that a model's metadata tell of."""
    inputs = []
    for tensor in metadata.get("inputs") or ():
        shape = [max(1, int(n)) for n in tensor["shape"]]
        count = 1
        for n in shape:
            count *= n
        zero = _ZERO.get(tensor["datatype"], 0)
        inputs.append(
            {
                "name": tensor["name"],
                "datatype": tensor["datatype"],
                "shape": shape,
                "data": [zero] * count,
            }
        )
    return {"inputs": inputs}
