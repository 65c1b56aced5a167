"""The agent beside HAProxy: it hears of the cluster, steers HAProxy, and reports to the operator."""

import asyncio
import base64
import logging
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp

from conch.api.names import (
    FRONT_DOOR,
    LABEL_API_KEYS,
    LABEL_FRONT_DOOR,
    LABEL_MANAGED_BY,
    LABEL_SERVICE,
    MANAGED_BY,
)
from conch.clients.clock import Clock
from conch.clients.cluster import Cluster
from conch.clients.haproxy import HAProxy, HAProxyError
from conch.clients.informer import Informer, Scope
from conch.decisions.fleet import ServiceKey
from conch.frontdoor.knowledge import Knowledge, kept
from conch.frontdoor.log import Log
from conch.frontdoor.lookups import host_entries, keys_of, limit_entries, service_entries
from conch.frontdoor.routes import Own, hosts_of
from conch.frontdoor.setup import Setup
from conch.frontdoor.steering import Steering
from conch.frontdoor.watcher import Report, Watcher

logger = logging.getLogger(__name__)

DEBOUNCE_S = 0.02
LOOK_S = 1.0
LOOK_CLOSELY_S = 0.2
"""While pods leave, or requests wait."""


class Agent:
    """One front door's agent."""

    def __init__(
        self,
        setup: Setup,
        cluster: Cluster,
        clock: Clock,
        *,
        home: str,
        own: Own | None = None,
        certificate: str | None = None,
        everywhere: bool = False,
    ) -> None:
        """``home``: the installation's namespace. ``own``: the front door's own hosts and domain.

        ``certificate``: name of the TLS Secret. ``everywhere``: whether Secrets of other namespaces may hold keys of their tenants.
        """
        self.setup, self._clock, self._home = setup, clock, home
        self._own = own or Own()
        self.knowledge = Knowledge(self._own.domain)
        self.haproxy = HAProxy(setup.stats_socket, setup.master_socket)
        self.steering = Steering(setup, self.haproxy, clock)
        self.watcher = Watcher(setup, self.haproxy, self.steering, clock)
        self._log = Log(setup.log_socket, self.watcher.hear)
        self._wake = asyncio.Event()
        self._tenants: set[str] = set()
        """Those with keys, and those of services: others have no series of their own."""
        self.watcher.known_tenant = self._tenants.__contains__
        self._informers = self._made(cluster, certificate, everywhere=everywhere)
        self._in_flight: Mapping[str, int] = {}
        self._content: object = None
        self._news = asyncio.Condition()
        self.version = 0
        self.synced = False
        """Whether HAProxy has been told of everything once."""
        self.looked = False
        """Whether what is under way has been looked at since: before, no report says anything."""

    def _made(
        self, cluster: Cluster, certificate: str | None, *, everywhere: bool
    ) -> list[Informer]:
        scopes = [
            Scope("ModelService"),
            Scope("Model"),
            Scope("ClusterModel"),
            Scope("Tenant"),
            Scope("GPUPool"),
            Scope("Pod", selector=LABEL_SERVICE),
            Scope("Service", selector=f"{LABEL_MANAGED_BY}={MANAGED_BY}"),
            Scope("Pod", selector=f"{LABEL_FRONT_DOOR}={FRONT_DOOR}", namespace=self._home),
            Scope("Secret", LABEL_API_KEYS, namespace=None if everywhere else self._home),
        ]
        made = [Informer(cluster, s, self._changed, kept=kept) for s in scopes]
        if certificate is not None:
            one = Scope("Secret", namespace=self._home, fields=f"metadata.name={certificate}")
            made.append(Informer(cluster, one, self._waking(self.knowledge.certified)))
        return made

    def _changed(self, kind: str, old: Any, new: Any) -> None:
        self._waking(self.knowledge.changed)(kind, old, new)

    def _waking(self, take: Callable[..., None]) -> Callable[..., None]:
        def taken(kind: str, old: Any, new: Any) -> None:
            take(kind, old, new)
            self._wake.set()

        return taken

    async def run(self) -> None:
        """Run for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._log.run())
            for informer in self._informers:
                group.create_task(informer.run())
            # Nothing is told of a part of the cluster: what runs would lose its routes.
            for informer in self._informers:
                await informer.listed.wait()
            group.create_task(self._steer())
            group.create_task(self._look())

    async def _steer(self) -> None:
        while True:
            try:
                await self._catch_up()
            except HAProxyError as error:
                logger.warning("HAProxy: %s", error)
                self.steering.outdated()
            try:
                async with asyncio.timeout(self.steering.due()):
                    await self._wake.wait()
            except TimeoutError:
                continue
            await asyncio.sleep(DEBOUNCE_S)

    async def _catch_up(self) -> None:
        """Bring HAProxy to where the cluster is."""
        self._wake.clear()
        knowledge, steering = self.knowledge, self.steering
        dirty, knowledge.dirty = knowledge.dirty, set()
        access, knowledge.access = knowledge.access, False
        if access:
            await self._open()
        named = False
        for key in sorted(dirty):
            named |= await self._route(key)
        if named or not self.synced:
            hosts = hosts_of(steering.routes.values(), knowledge.created(), self._own)
            await steering.put("hosts", {"hosts": host_entries(hosts)})
        if not steering.reloads:
            steering.outdated()
        due = steering.due()
        if (due is not None and due <= 0.0) or not steering.reloads:
            self.synced |= await steering.reload(self.watcher.judge.broken)

    async def _open(self) -> None:
        """Bring keys, limits of tenants and the certificate up to date."""
        knowledge, steering = self.knowledge, self.steering
        keys = keys_of(knowledge.secrets.values(), knowledge.tenants, self._home)
        await steering.put("keys", {"keys": keys})
        self._tenants |= {*keys.values(), *knowledge.tenants.limits}
        await steering.certify(_pem(knowledge.certificate))
        share = knowledge.share()
        limits: dict[str, dict[str, str]] = {"rate": {}, "rate10": {}, "concurrent": {}}
        for tenant, asked in knowledge.tenants.limits.items():
            for name, entries in limit_entries(f"{tenant}|", asked, share).items():
                limits[name] |= entries
        await steering.put("tenants", limits)
        for key in steering.routes:
            await self._limit(key, share)

    async def _limit(self, key: ServiceKey, share: float) -> None:
        route = self.steering.routes.get(key)
        entries = {} if route is None else limit_entries(str(key), route.rules.limits, share)
        await self.steering.put(f"limits of {key}", entries)

    async def _route(self, key: ServiceKey) -> bool:
        """Bring one service up to date; tell whether its hosts may have changed."""
        before = self.steering.routes.get(key)
        route = self.knowledge.route(key)
        entries = {} if route is None else service_entries(route, self.knowledge.tenants)
        if route is not None:
            self._tenants.add(route.tenant)
        await self.steering.steer(key, route, entries, self.watcher.judge.broken)
        await self._limit(key, self.knowledge.share())
        self.watcher.canaries.keep(key, route)
        if route is None:
            self.watcher.traffic.forget(str(key))
            return before is not None
        return before is None or (before.host, before.hosts) != (route.host, route.hosts)

    async def _look(self) -> None:
        """Look at what is under way, ask suspects, and tell of news."""
        async with aiohttp.ClientSession() as session:
            judged_at = 0.0
            while True:
                closely = False
                try:
                    closely = await self._once()
                    self.looked |= self.synced
                    now = self._clock.monotonic()
                    if self.synced and now - judged_at >= LOOK_S:
                        judged_at = now
                        await self.steering.look_at_workers()
                        changed = await self.watcher.judged(session)
                        self.knowledge.dirty |= changed
                        if changed or self.steering.due() is not None:
                            self._wake.set()
                except HAProxyError as error:
                    logger.warning("HAProxy: %s", error)
                if self.looked:
                    await self._tell()
                await self._pause(LOOK_CLOSELY_S if closely else LOOK_S)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self.watcher.heard.wait()
        except TimeoutError:
            return
        self.watcher.heard.clear()

    async def _once(self) -> bool:
        """Look once; tell whether it is worth another look soon."""
        if not self.synced:
            return True
        await self.watcher.look()
        leaving = dict.fromkeys(self.knowledge.leaving(), 0)
        if leaving:
            for key, slots in list(self.steering.slots.items()):
                if any(s.uid in leaving for s in slots):
                    found = await self.watcher.under_way(key)
                    leaving |= {u: n for u, n in found.items() if u in leaving}
        self._in_flight = leaving
        return bool(leaving or self.watcher.waiting)

    async def _tell(self) -> None:
        """Wake who waits for news, where there are any."""
        report = self.report()
        content = (
            tuple(sorted((k, int(v)) for k, v in report.asked.items())),
            tuple(sorted(report.waiting.items())),
            tuple(sorted(report.in_flight.items())),
            tuple(sorted(report.broken.items())),
            # Counts change all the time; a canary that fails is news.
            self.watcher.canaries.errors(),
        )
        if content != self._content:
            self._content = content
            self.version += 1
            async with self._news:
                self._news.notify_all()

    def report(self) -> Report:
        """Return what the operator is to know."""
        return Report(
            asked=dict(self.watcher.asked),
            waiting=dict(self.watcher.waiting),
            in_flight=dict(self._in_flight),
            broken=dict(self.watcher.judge.broken),
            canaries=self.watcher.canaries.tallies(),
        )

    async def news(self, after: int | None, wait: float) -> None:
        """Return once the version is another than ``after``, or ``wait`` seconds have passed."""
        if after != self.version or wait <= 0:
            return
        try:
            async with asyncio.timeout(wait), self._news:
                await self._news.wait_for(lambda: self.version != after)
        except TimeoutError:
            return


def _pem(secret: Mapping[str, Any] | None) -> str | None:
    """Return certificate and key of a Secret of type kubernetes.io/tls, None where it has none."""
    data = (secret or {}).get("data") or {}
    if not (data.get("tls.crt") and data.get("tls.key")):
        return None
    parts = (base64.b64decode(data[name]).decode().strip() for name in ("tls.crt", "tls.key"))
    return "\n".join(parts) + "\n"
