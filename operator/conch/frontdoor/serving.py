"""What the agent answers over HTTP: metrics, its report to the operator, and the pages for callers."""

import logging
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from conch.clients.clock import Clock
from conch.decisions.fleet import ServiceKey
from conch.frontdoor.agent import Agent
from conch.frontdoor.lookups import Tenants, callers_of
from conch.frontdoor.openapi import openapi
from conch.frontdoor.page import Addresses, ServicePage, page_of
from conch.frontdoor.pages import HEADERS, docs_page, index, index_page
from conch.frontdoor.public import ANONYMOUS
from conch.frontdoor.routes import ANYBODY, Route

logger = logging.getLogger(__name__)
_LONGEST_WAIT_S = 30.0
_BESIDE = ("127.0.0.1", "::1")
_SERVICE = ("service_namespace", "service")


async def serve(agent: Agent, clock: Clock, port: int) -> web.AppRunner:
    """Serve an agent on a port; return what ends it."""
    door = _Door(agent, clock)
    app = web.Application()
    app.add_routes(
        [
            web.get("/healthz", door.health),
            web.get("/metrics", door.metrics),
            web.get("/report", door.report),
            web.get("/pages/", door.page),
            web.get("/pages/openapi.json", door.description),
        ]
    )
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, port=port).start()
    return runner


class _Door:
    """The handlers; each answers one path."""

    def __init__(self, agent: Agent, clock: Clock) -> None:
        self._agent, self._clock = agent, clock
        self._registry = CollectorRegistry()
        self._registry.register(agent.watcher.traffic)
        self._registry.register(agent.watcher.canaries)
        self._registry.register(_Gauges(agent))

    async def health(self, _: web.Request) -> web.Response:
        """Answer whether HAProxy has been told of everything once."""
        return web.Response(text="ok" if self._agent.synced else "starting")

    async def metrics(self, _: web.Request) -> web.Response:
        """Answer what Prometheus asks."""
        return web.Response(
            body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    async def report(self, request: web.Request) -> web.Response:
        """Answer what the operator is to know, once there is something new."""
        after, wait = request.query.get("after", ""), request.query.get("wait", "0")
        try:
            known, seconds = (int(after) if after else None), min(_LONGEST_WAIT_S, float(wait))
        except ValueError:
            return web.json_response({"error": "after and wait are numbers"}, status=400)
        if not self._agent.looked:
            # What is not known yet is not nothing.
            return web.json_response({"error": "starting"}, status=503)
        await self._agent.news(known, seconds)
        report, now = self._agent.report(), self._clock.monotonic()
        return web.json_response(
            {
                "version": self._agent.version,
                "asked": {k: round(now - at, 3) for k, at in report.asked.items()},
                "waiting": report.waiting,
                "in_flight": report.in_flight,
                "broken": report.broken,
                "canaries": {
                    service: {revision: asdict(tally) for revision, tally in tallies.items()}
                    for service, tallies in report.canaries.items()
                },
            }
        )

    async def page(self, request: web.Request) -> web.Response:
        """Answer the page of a service, or the list of those that the caller may ask."""
        _through_haproxy(request)
        key, tenant = _asked(request)
        if key is None:
            return self._index(request, tenant)
        page = self._page_of(key, request)
        if page is None:
            raise web.HTTPNotFound
        return web.Response(text=docs_page(page), headers=HEADERS)

    def _index(self, request: web.Request, tenant: str) -> web.Response:
        pages = [
            page
            for key, route in sorted(self._agent.steering.routes.items())
            if may_ask(route, tenant, self._agent.knowledge.tenants)
            and (page := self._page_of(key, request)) is not None
        ]
        if "text/html" in request.headers.get("Accept", ""):
            return web.Response(text=index_page(pages, tenant), headers=HEADERS)
        return web.json_response(index(pages, tenant), headers={"Cache-Control": "no-store"})

    async def description(self, request: web.Request) -> web.Response:
        """Answer a service's OpenAPI description."""
        _through_haproxy(request)
        key, _ = _asked(request)
        page = None if key is None else self._page_of(key, request)
        if page is None:
            raise web.HTTPNotFound
        return web.json_response(openapi(page))

    def _page_of(self, key: ServiceKey, request: web.Request) -> ServicePage | None:
        knowledge = self._agent.knowledge
        body = knowledge.services.get(key)
        if body is None:
            return None
        return page_of(body, self._model_of(body), self._addresses(key, request))

    def _model_of(self, body: dict[str, Any]) -> dict[str, Any] | None:
        ref = (body.get("spec") or {}).get("model") or {}
        kind = ref.get("kind", "Model")
        namespace = body["metadata"]["namespace"] if kind == "Model" else ""
        return self._agent.knowledge.models.get((kind, namespace, ref.get("name", "")))

    def _addresses(self, key: ServiceKey, request: web.Request) -> Addresses:
        """Return the addresses as the caller knows them: by the host that was asked."""
        route = self._agent.steering.routes.get(key)
        name = request.host.partition(":")[0].lower()
        own = route is not None and name in {route.host, *route.hosts}
        return Addresses.reached(
            request.host, request.headers.get("X-Forwarded-Proto"), own_host=own
        )


def may_ask(route: Route, tenant: str, tenants: Tenants) -> bool:
    """Tell whether a tenant may ask a service, as the grants in HAProxy's maps say."""
    if route.rules.open:
        return True
    return tenant != ANONYMOUS and not callers_of(route, tenants).isdisjoint({tenant, ANYBODY})


def _through_haproxy(request: web.Request) -> None:
    """Raise HTTPNotFound where somebody else asks: who the caller is, only HAProxy knows."""
    if request.remote not in _BESIDE:
        raise web.HTTPNotFound


def _asked(request: web.Request) -> tuple[ServiceKey | None, str]:
    """Return the service and the tenant that HAProxy found; none for the list of services."""
    namespace, _, name = request.headers.get("conch-service", "").partition("/")
    tenant = request.headers.get("conch-tenant", ANONYMOUS)
    return (ServiceKey(namespace, name) if namespace and name else None), tenant


class _Gauges(Collector):
    """What is under way now, and how the front door itself is."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        watcher, steering = self._agent.watcher, self._agent.steering
        under_way = GaugeMetricFamily(
            "conch_front_door_in_flight", "Requests under way.", labels=(*_SERVICE, "tenant")
        )
        for pair, count in watcher.pairs.items():
            tenant, _, service = pair.partition("|")
            namespace, _, name = service.partition("/")
            if ServiceKey(namespace, name) in steering.routes:
                under_way.add_metric([namespace, name, tenant], count)
        yield under_way
        waiting = GaugeMetricFamily(
            "conch_front_door_waiting", "Requests that wait for a replica.", labels=_SERVICE
        )
        for service, count in watcher.waiting.items():
            namespace, _, name = service.partition("/")
            waiting.add_metric([namespace, name], count)
        yield waiting
        yield _one("services", "Services behind this front door.", len(steering.routes))
        yield _one("reloads", "Configurations that HAProxy began with.", steering.reloads)
        yield _one(
            "old_workers",
            "Workers of HAProxy that were replaced and still have requests under way.",
            len(steering.old_workers),
        )
        yield _one(
            "broken_replicas", "Replicas that answer no inference.", len(watcher.judge.broken)
        )


def _one(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"conch_front_door_{name}", text, value=value)
