"""Prometheus: one method, bounded in time and number.

prometheus-api-client is synchronous, has no time-out by default, and tries a failed request three
times more with a back-off of a second that doubles. Here a tick's queries get one try within one
time-out, off the event loop, a few at once: the next tick is the retry. Prometheus itself runs 20
queries at once.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

import requests
from prometheus_api_client import PrometheusApiClientException, PrometheusConnect
from urllib3.util.retry import Retry

from conch.metrics.series import Series, moments_of, series_of

T = TypeVar("T")

TIMEOUT = 5.0
"""Seconds for all queries of a tick together."""
PAST_TIMEOUT = 20.0
"""Seconds for all queries about the past together, which are asked once."""
CONCURRENCY = 4


class MetricsUnavailable(Exception):  # noqa: N818 - a state of the world, as users read it
    """Prometheus gave no answer; the message says why, for people."""


@dataclass(frozen=True)
class Span:
    """A time in steps: from ``start`` to ``end`` (epoch, s), every ``step`` seconds."""

    start: float
    end: float
    step: float


Past = Mapping[float, Mapping[str, list[Series]]]
"""By time, oldest first: the answers that instant queries would have got then, by their names."""


class MetricsSource(Protocol):
    """Where metrics come from."""

    async def query(self, queries: Mapping[str, str], at: float) -> Mapping[str, list[Series]]:
        """Return the answer to each PromQL query by its name, evaluated at ``at`` (epoch, s).

        All or nothing. Raises MetricsUnavailable.
        """
        ...

    async def past(self, queries: Mapping[str, str], span: Span) -> Past:
        """Return what the queries would have answered at the steps of a span; raises as ``query``."""
        ...


class Prometheus:
    """A real Prometheus, or anything that speaks its HTTP API."""

    def __init__(
        self, url: str, *, timeout: float = TIMEOUT, headers: Mapping[str, str] | None = None
    ) -> None:
        """``url`` as in http://prometheus.monitoring:9090; ``timeout`` in seconds a tick."""
        self._url = url.rstrip("/")
        self._timeout = timeout
        self._client = PrometheusConnect(
            url=self._url, headers=dict(headers or {}), retry=Retry(total=0), method="POST"
        )
        # Threads of its own: one that hangs in a time-out takes no place from other work.
        self._threads = ThreadPoolExecutor(CONCURRENCY, thread_name_prefix="prometheus")

    async def query(self, queries: Mapping[str, str], at: float) -> Mapping[str, list[Series]]:
        """Return the answer to each query by its name. Raises MetricsUnavailable."""
        return await self._all(self._threads, queries, lambda q: self._ask(q, at), self._timeout)

    async def past(self, queries: Mapping[str, str], span: Span) -> Past:
        """Return what the queries would have answered at the steps of a span."""
        # Beside the threads of each tick, which must not wait for these.
        threads = ThreadPoolExecutor(2, thread_name_prefix="prometheus-past")
        try:
            results = await self._all(
                threads, queries, lambda q: self._ask_range(q, span), PAST_TIMEOUT
            )
            return moments_of(results)
        except ValueError as error:
            raise MetricsUnavailable(f"what answers at {self._url} is no Prometheus") from error
        finally:
            threads.shutdown(wait=False, cancel_futures=True)

    async def _all(
        self,
        threads: ThreadPoolExecutor,
        queries: Mapping[str, str],
        ask: Callable[[str], T],
        within: float,
    ) -> Mapping[str, T]:
        """Ask all queries, as many at once as there are threads, ``within`` so many seconds."""
        loop = asyncio.get_running_loop()
        asked = [loop.run_in_executor(threads, ask, q) for q in queries.values()]
        try:
            async with asyncio.timeout(within):
                answers = await asyncio.gather(*asked)
        except TimeoutError as error:
            raise MetricsUnavailable(
                f"Prometheus at {self._url} did not answer within {within:g} s"
            ) from error
        finally:
            for future in asked:
                future.cancel()
        return dict(zip(queries, answers, strict=True))

    def close(self) -> None:
        """Give the connections and threads back."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._client.close()

    def _ask(self, query: str, at: float) -> list[Series]:
        params = {"time": f"{at:.3f}", "timeout": f"{self._timeout:g}s"}
        with self._in_words(self._timeout):
            answer: Any = self._client.custom_query(query, params=params, timeout=self._timeout)
            return series_of(answer)

    def _ask_range(self, query: str, span: Span) -> list[Mapping[str, Any]]:
        # The client rounds times to seconds; these go before its own.
        times = {"start": f"{span.start:.3f}", "end": f"{span.end:.3f}"}
        params = {**times, "timeout": f"{PAST_TIMEOUT:g}s"}
        start, end = (datetime.fromtimestamp(t, UTC) for t in (span.start, span.end))
        with self._in_words(PAST_TIMEOUT):
            answer: list[Mapping[str, Any]] = self._client.custom_query_range(
                query, start, end, f"{span.step:g}", params=params, timeout=PAST_TIMEOUT
            )
            return list(answer)

    @contextlib.contextmanager
    def _in_words(self, timeout: float) -> Iterator[None]:
        """Raise MetricsUnavailable for whatever goes wrong."""
        try:
            yield
        except requests.Timeout as error:
            raise MetricsUnavailable(
                f"Prometheus at {self._url} did not answer within {timeout:g} s"
            ) from error
        except requests.ConnectionError as error:
            raise MetricsUnavailable(f"Prometheus at {self._url} can't be reached") from error
        except PrometheusApiClientException as error:
            raise MetricsUnavailable(
                f"Prometheus at {self._url} refused a query: {error!s:.300}"
            ) from error
        except (requests.RequestException, ValueError, KeyError, TypeError) as error:
            raise MetricsUnavailable(
                f"what answers at {self._url} is no Prometheus: {error!s:.300}"
            ) from error
