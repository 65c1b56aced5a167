"""What a node's cache holds and what was evicted, for Prometheus."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from conch.clients.node_cache_agent import Agent, Bounds


class CacheMetrics(Collector):
    """The agent's last look. Scrapes come from another thread, and see whole tallies only."""

    def __init__(self, agent: Agent, bounds: Bounds) -> None:
        self._agent = agent
        self._bounds = bounds

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        tally = self._agent.tally
        used = GaugeMetricFamily(
            "conch_cache_bytes", "Bytes of a node's cache.", labels=["namespace"]
        )
        for namespace, size in tally.bytes_by_namespace.items():
            used.add_metric([namespace], size)
        yield used
        yield GaugeMetricFamily(
            "conch_cache_size_bytes", "What the cache may take.", value=self._bounds.size
        )
        yield GaugeMetricFamily(
            "conch_cache_excess_bytes",
            "Beyond what it may take, and in use by pods.",
            value=tally.excess,
        )
        yield GaugeMetricFamily("conch_cache_trees", "Sources in the cache.", value=tally.trees)
        yield CounterMetricFamily(
            "conch_cache_evictions", "Sources that were evicted.", value=tally.evictions
        )
        yield CounterMetricFamily(
            "conch_cache_evicted_bytes", "Bytes that were evicted.", value=tally.evicted_bytes
        )


def serve(port: int, agent: Agent, bounds: Bounds) -> None:
    """Answer scrapes on a port, in a thread of their own."""
    registry = CollectorRegistry()
    registry.register(CacheMetrics(agent, bounds))
    start_http_server(port, registry=registry)
