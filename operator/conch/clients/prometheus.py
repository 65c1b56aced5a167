"""Prometheus: one method, bounded in time and number.

prometheus-api-client is synchronous, has no time-out by default, and tries a failed request three
times more with a back-off of a second that doubles. Here a tick's queries get one try within one
time-out, off the event loop, a few at once: the next tick is the retry. Prometheus itself runs 20
queries at once.
"""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import requests
from prometheus_api_client import PrometheusApiClientException, PrometheusConnect
from urllib3.util.retry import Retry

from conch.metrics.series import Series, series_of

TIMEOUT = 5.0
"""Seconds for all queries of a tick together."""
CONCURRENCY = 4


class MetricsUnavailable(Exception):  # noqa: N818 - a state of the world, as users read it
    """Prometheus gave no answer; the message says why, for people."""


class MetricsSource(Protocol):
    """Where metrics come from."""

    async def query(self, queries: Mapping[str, str], at: float) -> Mapping[str, list[Series]]:
        """Return the answer to each PromQL query by its name, evaluated at ``at`` (epoch, s).

        All or nothing. Raises MetricsUnavailable.
        """
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
        loop = asyncio.get_running_loop()
        asked = [loop.run_in_executor(self._threads, self._ask, q, at) for q in queries.values()]
        try:
            async with asyncio.timeout(self._timeout):
                answers = await asyncio.gather(*asked)
        except TimeoutError as error:
            raise MetricsUnavailable(
                f"Prometheus at {self._url} did not answer within {self._timeout:g} s"
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
        try:
            answer: Any = self._client.custom_query(query, params=params, timeout=self._timeout)
            return series_of(answer)
        except requests.Timeout as error:
            raise MetricsUnavailable(
                f"Prometheus at {self._url} did not answer within {self._timeout:g} s"
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
