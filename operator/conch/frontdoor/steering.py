"""Keeps HAProxy as the routes want it: at run time where that is enough, else by a new worker."""

import asyncio
import itertools
import logging
import os
from collections.abc import Collection, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path

from conch.clients.clock import Clock
from conch.clients.haproxy import HAProxy, HAProxyError
from conch.decisions.fleet import ServiceKey
from conch.frontdoor import canaries
from conch.frontdoor.commands import backend, server, slot_commands
from conch.frontdoor.config import Shape, beginning, configuration, shape_of
from conch.frontdoor.public import MAPS
from conch.frontdoor.routes import Replica, Route
from conch.frontdoor.setup import Setup
from conch.frontdoor.slots import Slots, State, assigned
from conch.frontdoor.tables import Entries, Tables

logger = logging.getLogger(__name__)

RELOAD_S = 15.0
"""For a new worker to begin."""
TOGETHER_S = 0.15
"""What comes within it shares a reload."""
APART_S = 1.0
"""Between two reloads, and twice as much for each old worker beyond a few that is still there."""
FEW = 3
"""Old workers whose memory is no matter."""
LONGEST_APART_S = 30.0


class Steering:
    """What HAProxy was told, and what it is to be told. Not for several tasks at once."""

    def __init__(self, setup: Setup, haproxy: HAProxy, clock: Clock) -> None:
        self.setup, self._haproxy, self._clock = setup, haproxy, clock
        self.routes: dict[ServiceKey, Route] = {}
        self.slots: dict[ServiceKey, Slots] = {}
        """As the newest worker has them."""
        self.worker: int | None = None
        """The newest worker's process, as last seen."""
        self.old_workers: list[int] = []
        self.reloads = 0
        self._begins = 0
        """Workers that were asked to begin, and of which it was seen whether they did: odd in between."""
        self._filed: dict[ServiceKey, Slots] = {}
        """As the running configuration's file has them."""
        self._shapes: dict[ServiceKey, Shape] = {}
        """As in the running configuration."""
        self._tables = Tables()
        self._files = {name: setup.map_file(name) for name in MAPS}
        self._waiting: dict[ServiceKey, Entries] = {}
        """Entries of services that the running configuration does not have yet."""
        self._stale_since: float | None = None
        self._reloaded_at = -LONGEST_APART_S
        self._marks = (f"{os.getpid()}-{n}" for n in itertools.count(1))
        self._certificate: str | None = None

    async def steer(
        self, key: ServiceKey, route: Route | None, entries: Entries, broken: Collection[str]
    ) -> None:
        """Bring one service to where it should be; ``entries`` are its in the maps.

        What only a reload brings is noted for the next one.
        """
        if route is None:
            self.routes.pop(key, None)
            self._waiting.pop(key, None)
            await self._put(key, {})
            await self._put(_canary(key), {})
            await self._place(key, (), broken)
            return
        self.routes[key] = route
        slots = await self._place(key, route.replicas, broken)
        if self._shapes.get(key) != shape_of(route, slots):
            self.outdated()
        if key in self._shapes:
            await self._put(key, entries)
        else:
            self._waiting[key] = entries
        # Places that were just told are drawn from then on; one that drains takes none in between.
        await self._put(_canary(key), canaries.entries(route, self.slots.get(key, ())))

    async def _place(
        self, key: ServiceKey, replicas: Sequence[Replica], broken: Collection[str]
    ) -> Slots:
        """Give pods their places, as far as there are any; return the places that there should be."""
        told = self.slots.get(key, ())
        wanted = assigned(told, replicas, broken)
        if told:
            now = wanted[: len(told)]
            self.slots[key] = now
            await self._tell(slot_commands(key, told, now))
        return wanted

    async def put(self, owner: str, entries: Entries) -> None:
        """Take over entries of maps that are no service's."""
        await self._put(owner, entries)

    async def _put(self, owner: ServiceKey | str, entries: Entries) -> None:
        await self._tell(self._tables.put(owner, entries, self._files))

    async def certify(self, pem: str | None) -> None:
        """Use another certificate (with its key); None where there is none."""
        if pem == self._certificate:
            return
        had, self._certificate = self._certificate, pem
        if had is None or pem is None or not self.reloads:
            self.outdated()
            return
        _write(self.setup.certificate, pem, mode=0o600)
        try:
            await self._haproxy.certificate(self.setup.certificate, pem)
        except HAProxyError as error:
            logger.warning("the certificate was not taken: %s", error)

    def outdated(self) -> None:
        """Note that the running configuration is not what is wanted."""
        if self._stale_since is None:
            self._stale_since = self._clock.monotonic()

    def due(self) -> float | None:
        """Return in how many seconds a reload is due; None where none is needed."""
        if self._stale_since is None:
            return None
        crowd = max(0, len(self.old_workers) - FEW)
        apart = min(LONGEST_APART_S, APART_S * 2.0**crowd)
        at = max(self._stale_since + TOGETHER_S, self._reloaded_at + apart)
        return max(0.0, at - self._clock.monotonic())

    async def _tell(self, commands: list[str]) -> None:
        """Tell all workers; what the newest one does not take, a new one will know."""
        if not commands or not self.reloads:
            return
        try:
            await self._haproxy.tell(commands)
        except HAProxyError as error:
            logger.warning("HAProxy: %s; it begins anew", error)
            self.outdated()
        for pid in self.old_workers:
            try:
                await self._haproxy.tell_worker(pid, commands)
            except HAProxyError as error:
                logger.info("worker %d: %s", pid, error)

    async def reload(self, broken: Collection[str]) -> bool:
        """Have a new worker begin with all that is known; tell whether it did."""
        self._stale_since = None
        self._reloaded_at = self._clock.monotonic()
        for key in [k for k in self._waiting if k in self.routes]:
            self._tables.put(key, self._waiting.pop(key), self._files)
        services = []
        for key, route in sorted(self.routes.items()):
            wanted = assigned(self.slots.get(key, ()), route.replicas, broken)
            services.append((route, wanted))
            self._tables.put(_canary(key), canaries.entries(route, wanted), self._files)
        mark = next(self._marks)
        self._write(services, mark)
        self._begins += 1
        try:
            return await self._begin(services, mark)
        finally:
            self._begins += 1

    async def _begin(self, services: list[tuple[Route, Slots]], mark: str) -> bool:
        if not await self._begun(mark):
            logger.error(
                "HAProxy did not take the new configuration: see its log; the old one goes on"
            )
            self.outdated()
            return False
        self.reloads += 1
        self._shapes = {r.key: shape_of(r, s) for r, s in services}
        self.slots = {r.key: s for r, s in services}
        self._filed = {r.key: _written(s) for r, s in services}
        self.worker, self.old_workers = await self._haproxy.workers()
        # The configuration knows no drained places: those are told now.
        await self._tell([c for r, s in services for c in slot_commands(r.key, _written(s), s)])
        return True

    def _write(self, services: list[tuple[Route, Slots]], mark: str) -> None:
        setup = self.setup
        for name, file in self._files.items():
            _write(file, self._tables.text(name))
        if self._certificate is not None:
            _write(setup.certificate, self._certificate, mode=0o600)
        setup = replace(setup, tls=self._certificate is not None)
        _write(setup.config_file, configuration(setup, services, mark=mark))

    async def _begun(self, mark: str) -> bool:
        """Reload; tell whether the worker with that mark answers."""
        until = self._clock.monotonic() + RELOAD_S
        try:
            await self._haproxy.reload()
            while await self._haproxy.mark() != mark:
                if self._clock.monotonic() > until:
                    return False
                await asyncio.sleep(0.05)
        except HAProxyError as error:
            logger.warning("HAProxy: %s", error)
            return False
        return True

    async def look_at_workers(self) -> None:
        """Look which workers there are. One that nobody asked for knows only what the files say."""
        begins = self._begins
        worker, old_workers = await self._haproxy.workers()
        if begins % 2 or begins != self._begins:
            return  # it begins because it was asked to
        self.old_workers = old_workers
        if self.worker is not None and worker not in (None, self.worker):
            logger.warning("HAProxy has begun anew by itself; it is told of all that has changed")
            self.outdated()
            # What waits there by now would wait for places that only the next worker knows of.
            await self._tell(self._since_files())
        self.worker = worker or self.worker

    def _since_files(self) -> list[str]:
        """Return what the places have been told since the files were written."""
        known = ((k, self._filed.get(k, ()), s) for k, s in self.slots.items())
        return [c for k, old, s in known if len(old) == len(s) for c in slot_commands(k, old, s)]

    def place_of(self, name: str, place: str) -> str | None:
        """Return the UID of the pod at a backend's server, by HAProxy's names."""
        parts = name.split(":")
        if len(parts) != 3 or not place.startswith("s") or not place[1:].isdigit():
            return None
        slots, index = self.slots.get(ServiceKey(parts[0], parts[1]), ()), int(place[1:]) - 1
        return slots[index].uid if 0 <= index < len(slots) else None

    def named(self, key: ServiceKey) -> dict[str, str]:
        """Return the UIDs of a service's pods by the names of their servers."""
        slots = self.slots.get(key, ())
        return {server(i): s.uid for i, s in enumerate(slots) if s.uid is not None}

    def backends(self, key: ServiceKey) -> tuple[str, str]:
        """Return the names of a service's backends."""
        return backend(key, "http"), backend(key, "grpc")


def _canary(key: ServiceKey) -> str:
    """Return as whose the entry of a service's canary is known."""
    return f"canary of {key}"


def _written(slots: Slots) -> Slots:
    """Return places as the configuration has them."""
    return tuple(replace(s, state=State.FREE) if s.state is State.DRAIN else s for s in slots)


def prepare(setup: Setup) -> None:
    """Lay out what HAProxy needs to begin: it answers 503 to everything, and is not ready."""
    (setup.directory / "maps").mkdir(parents=True, exist_ok=True)
    for script in setup.scripts:
        _write(script, resources.files("conch.frontdoor").joinpath(script.name).read_text())
    for name in MAPS:
        if not setup.map_file(name).exists():
            _write(setup.map_file(name), "\n")
    if not setup.config_file.exists():
        _write(setup.config_file, beginning(setup))


def _write(file: Path, text: str, *, mode: int = 0o644) -> None:
    """Write a file in one step."""
    new = file.with_name(f"{file.name}.new")
    new.touch(mode=mode)
    new.write_text(text)
    new.replace(file)
