"""How fast a flood brings a pod: from the scrape that confirms it, by Prometheus' own timestamps."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from statistics import median
from time import sleep
from typing import Any

import requests

from conch.api.names import LABEL_SERVICE
from conch.clients.clock import SystemClock
from e2e.bench.open_loop import Endpoints, Replay
from e2e.bench.race import Replicas, breach_at, delay
from e2e.kubectl import wait_for
from e2e.scratch import Object, Scratch
from tests.kit.client import Client

FLOOD_S = 25.0
SETTLE_SCRAPES = 4
AFTER_SCRAPE_S = 0.5
"""A flood begins so soon after a scrape: the next one sees all of it, and not its first moment."""


def breaches(
    place: Scratch,
    client: Client,
    names: Sequence[str],
    *,
    url: str,
    model: str,
    body: Object,
    rate: float,
    more_than: int,
    interval: float,
) -> dict[str, Any]:
    """Return the seconds of each service, one flood after the other, their median and worst."""
    for name in names:
        place.await_ready(name)
    sleep(SETTLE_SCRAPES * interval)
    found = []
    for name in names:
        with _watched(place, client, name) as (replicas, endpoints):
            arrivals = [i / rate for i in range(int(rate * FLOOD_S))]
            replay = Replay(endpoints, model, body, arrivals)
            query = _pending(place.namespace, name)
            created = _flood(replay, replicas, partial(last_scrape, url, query), interval)
            # The pod may have come before the scrape after it did.
            breach = breach_at(
                [s for s in samples(url, query) if s[0] <= created], more_than=more_than
            )
            found.append(None if breach is None else delay(breach, created, interval=interval))
    told = [round(s, 2) for s in found if s is not None]
    if not told:
        raise SystemExit("no flood was seen by a scrape before a pod came")
    return {
        "breach_to_pod_s": round(median(told), 2),
        "breach_to_pod_worst_s": max(told),
        "breaches_s": told,
    }


def _flood(
    replay: Replay, replicas: Replicas, scraped: Callable[[], float], interval: float
) -> float:
    """Send until a pod came; return when."""
    clock = SystemClock()
    since = scraped()
    wait_for("a scrape", lambda: scraped() > since, timeout=4 * interval, every=0.1)
    sleep(AFTER_SCRAPE_S)
    began = clock.wall()
    threading.Thread(target=replay.run, name="flood", daemon=True).start()
    try:
        created: list[float] = wait_for(
            "a pod for the flood",
            lambda: replicas.created_after(began),
            timeout=FLOOD_S + 10,
            every=0.1,
        )
    finally:
        replay.stopped.set()
    return created[0]


@contextmanager
def _watched(place: Scratch, client: Client, name: str) -> Iterator[tuple[Replicas, Endpoints]]:
    """Have a service's pods and endpoints followed."""
    clock, replicas, endpoints = SystemClock(), Replicas(), Endpoints()
    pods = f"/api/v1/namespaces/{place.namespace}/pods"
    slices = f"/apis/discovery.k8s.io/v1/namespaces/{place.namespace}/endpointslices"

    def see(event: str, pod: Object) -> None:
        if pod["metadata"].get("labels", {}).get(LABEL_SERVICE) == name:
            replicas.see(event, pod, clock.wall())

    def lead(event: str, body: Object) -> None:
        if body["metadata"].get("labels", {}).get("kubernetes.io/service-name") == name:
            endpoints.see(event, body)

    for item in client.items(slices):
        lead("ADDED", item)
    with (
        client.watching(pods, see, resumes=True),
        client.watching(slices, lead, resumes=True),
    ):
        yield replicas, endpoints


def _pending(namespace: str, name: str) -> str:
    labels = f'namespace="{namespace}",conch_dev_service="{name}"'
    return f"nv_inference_pending_request_count{{{labels}}}[2m]"


def last_scrape(url: str, query: str) -> float:
    """Return when the series that a range query finds was scraped last; 0 where there is none."""
    return max((time for time, _ in samples(url, query)), default=0.0)


def samples(url: str, query: str) -> list[tuple[float, float]]:
    """Return what a range query for one series found: when it was scraped, and the value."""
    session = requests.Session()
    session.trust_env = False  # a proxy of the machine is not meant for its own bridge
    with session:
        answer = session.get(f"{url}/api/v1/query", params={"query": query}, timeout=10)
    answer.raise_for_status()
    series = answer.json()["data"]["result"]
    times = [(float(t), float(v)) for one in series for t, v in one["values"]]
    return sorted(times)
