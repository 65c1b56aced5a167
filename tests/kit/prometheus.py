"""A stand-in for Prometheus with simulated pods as its targets, and the lies that it can tell.

It answers the operator's own queries, told apart by the metric that each names; it computes no
PromQL. tests/control_plane/test_prometheus_contract.py and e2e ask a real one.
"""

import enum
import json
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from conch.api.names import LABEL_POOL, LABEL_REVISION, LABEL_SERVICE
from conch.decisions.scaling.season import BUCKET
from conch.metrics.learned import learned_queries, peak_queries
from conch.metrics.queries import queries
from conch.metrics.replicas import replica_queries
from conch.reconcile.recall import LEARNED_STEP_S
from tests.kit.client import Client, Object

_HOUR = 3600.0
Group = tuple[str, str, str]
"""Service, revision and pool."""
_COUNTED = frozenset({"inferences", "requests", "executions"})
"""Rates of counters that grow with what is served."""


class Lie(enum.StrEnum):
    """What can be wrong with metrics."""

    GONE = "connections are closed without an answer"
    ERROR = "every query is refused"
    HANGS = "no answer for half a minute"
    EMPTY = "no series"
    NAN = "rates are NaN"
    INFINITE = "rates are infinite"
    NEGATIVE = "rates are below zero"
    OLD = "samples are an hour old"
    HALF = "half of the pods were not scraped"
    THOUSANDFOLD = "rates of one sample are a thousand times too high"
    RESET = "counters begin anew: one sample says that nothing happened"


@dataclass
class FakePrometheus:
    """Serves metrics of one namespace's pods: ``load`` items a second, shared by all of them.

    Each replica serves an item in ``seconds_per_item``, one at a time. Its model has its service's name.
    """

    client: Client
    namespace: str = ""
    load: float = 0.0
    seconds_per_item: float = 0.01
    lie: Lie | None = None
    p99: dict[str, float] = field(default_factory=dict)
    """Slowest percentile (s) by pod."""
    busy: dict[str, float] = field(default_factory=dict)
    """Share of the time in which each pod of a service computes, by service, as single pods show it."""
    replica_looks: int = 0
    """How often it was asked about the latency of single pods."""
    past: float | None = None
    """``load`` at each moment of the past, where it remembers any."""
    learned: Mapping[str, float] = field(default_factory=dict)
    """What the operator had shown of the service by then, by figure (conch.metrics.learned)."""
    asked: int = 0
    """Answers given so far, to whatever query."""
    told_once: set[str] = field(default_factory=set)
    """Queries that heard of a lie that is told in one sample only; clear it to tell another."""
    _told: tuple[str, Lie | None] = ("", None)
    """The moment that was asked about last, and the odd sample that all queries about it hear."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _known: dict[Group, list[str]] = field(default_factory=dict)
    _counted_at: float = 0.0
    _server: "_Server" = field(init=False)
    _names: Mapping[str, str] = field(init=False)
    _figures: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        asked = {**queries(), **replica_queries()}
        self._names = {text: name for name, text in asked.items()}
        learned = learned_queries(LEARNED_STEP_S)
        self._figures = {text: name for name, text in learned.items()}
        self._server = _Server(("127.0.0.1", 0), _handler_of(self))

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.lie = Lie.GONE
        self._server.shutdown()
        self._server.server_close()
        assert not self._server.errors, self._server.errors[0]

    def answer(self, query: str, at: str) -> list[Object]:
        """Return the result of one query about a moment as Prometheus words it.

        What is wrong in one sample only is so for all queries about one moment, and for no other.
        """
        now = time.time()  # noqa: TID251 -- samples carry the machine's time
        self.asked += 1
        name = self._names[query]
        with self._lock:
            if self._told[0] != at:
                tell = self.lie in _FACTORS and not self.told_once >= _COUNTED
                self._told = at, self.lie if tell else None
        self.replica_looks += name == "replica_p99_us"
        series = self._replicas if name.startswith("replica_") else self._series
        found = [] if self.lie is Lie.EMPTY else list(series(name, now))
        if self._told[1] and found and name in _COUNTED:
            self.told_once.add(name)
        return found

    def answer_range(self, query: str, start: float, end: float, step: float) -> list[Object]:
        """Return the result of a query about a range: today's pods, under the load of the past."""
        times = [start + n * step for n in range(int((end - start) / step) + 1)]
        if query in self._figures:
            return list(self._shown(self._figures[query], times))
        if self.past is None or query in peak_queries(BUCKET).values():
            return []
        self.asked += 1
        found: dict[str, Object] = {}
        for at in times:
            for one in self._series(self._names[query], at, load=self.past):
                key = json.dumps(one["metric"], sort_keys=True)
                series = found.setdefault(key, {"metric": one["metric"], "values": []})
                series["values"].append(one["value"])
        return list(found.values())

    def _shown(self, figure: str, times: Iterable[float]) -> Iterator[Object]:
        """Yield a figure as a scrape labels it that finds a namespace there already."""
        if figure in self.learned:
            labels = {
                "namespace": "conch-system",
                "exported_namespace": self.namespace,
                "service": "digits",
            }
            value = str(self.learned[figure])
            yield {"metric": labels, "values": [[at, value] for at in times]}

    def _series(self, name: str, now: float, *, load: float | None = None) -> Iterator[Object]:
        groups = self._running_pods() if self.namespace else {}
        total = sum(map(len, groups.values()))
        load = self.load if load is None else load
        for (service, revision, pool), pods in groups.items():
            value = self._value(name, load * len(pods) / total, pods, now)
            labels = {
                "namespace": self.namespace,
                "conch_dev_service": service,
                "conch_dev_revision": revision,
                "conch_dev_pool": pool,
                "model": service,
            }
            if value is not None:
                yield {"metric": labels, "value": [now, str(value)]}

    def _replicas(self, name: str, now: float) -> Iterator[Object]:
        """Yield what single pods show, each asked once a second."""
        for (service, _, _), pods in self._running_pods().items():
            for pod in pods:
                values = {
                    "replica_p99_us": self.p99[pod] * 1e6 if pod in self.p99 else None,
                    "replica_runs": 1.0,
                    "replica_requests": 1.0,
                    "replica_compute_us": self.busy.get(service, 0.0) * 1e6,
                    "replica_scraped": now,
                }
                labels = {
                    "namespace": self.namespace,
                    "pod": pod,
                    "conch_dev_service": service,
                    "model": service,
                }
                if values[name] is not None:
                    yield {"metric": labels, "value": [now, str(values[name])]}

    def _running_pods(self) -> dict[Group, list[str]]:
        """Return the running pods by service, revision and pool, as the queries of one tick see them."""
        with self._lock:
            if time.monotonic() - self._counted_at > 0.2:
                self._known, self._counted_at = self._look_at_pods(), time.monotonic()
            return self._known

    def _look_at_pods(self) -> dict[Group, list[str]]:
        found: dict[Group, list[str]] = {}
        for pod in self.client.items(f"/api/v1/namespaces/{self.namespace}/pods"):
            labels = pod["metadata"].get("labels", {})
            if labels.get(LABEL_SERVICE) and pod["status"].get("phase") == "Running":
                key = labels[LABEL_SERVICE], labels[LABEL_REVISION], labels[LABEL_POOL]
                found.setdefault(key, []).append(pod["metadata"]["name"])
        return found

    def _value(self, name: str, rate: float, pods: Sequence[str], now: float) -> float | None:
        """Return the value of a group's series, None where Prometheus has none."""
        served = min(rate, len(pods) / self.seconds_per_item)
        busy = served * self.seconds_per_item
        queue = 0.5 * (rate - served + busy * self.seconds_per_item)
        slowest = max((self.p99[p] for p in pods if p in self.p99), default=None)
        values: dict[str, float | None] = {
            "inferences": served,
            "requests": served,
            "executions": served,
            "failures": 0.0,
            "compute_us": busy * 1e6,
            "compute_input_us": 0.0,
            "compute_output_us": 0.0,
            "queue_us": queue * 1e6,
            "pending": 0.0 if rate <= served else rate - served,
            "pods": float(len(pods)),
            "p99_us": None if slowest is None else slowest * 1e6,
            "scraped": now,
            "scraped_first": now,
        }
        return self._twisted(name, values[name], now)

    def _twisted(self, name: str, value: float | None, now: float) -> float | None:
        if name in ("scraped", "scraped_first"):
            return now - _HOUR if self.lie is Lie.OLD else value
        if name == "pods":
            return float(round((value or 0) / 2)) if self.lie is Lie.HALF else value
        odd = self._told[1]
        if odd and name in _COUNTED:
            return None if value is None else value * _FACTORS[odd]
        wrong = {Lie.NAN: "NaN", Lie.INFINITE: "+Inf", Lie.NEGATIVE: "-5"}
        return float(wrong[self.lie]) if self.lie in wrong and value is not None else value


_FACTORS = {Lie.THOUSANDFOLD: 1000.0, Lie.RESET: 0.0}


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.errors: list[str] = []

    def handle_error(self, *_: Any) -> None:
        """Keep what went wrong here; that a client gave up is its own matter."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            self.errors.append(traceback.format_exc())


def _handler_of(prometheus: FakePrometheus) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            """Answer a query about a moment or a range."""
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            if prometheus.lie is Lie.HANGS:
                _hang(prometheus)
            if prometheus.lie is Lie.GONE:
                self.close_connection = True
            elif prometheus.lie is Lie.ERROR:
                self._send(422, {"status": "error", "errorType": "execution", "error": "made up"})
            else:
                words = parse_qs(body) or parse_qs(urlsplit(self.path).query)
                data = _data(prometheus, {name: values[0] for name, values in words.items()})
                self._send(200, {"status": "success", "data": data})

        def _send(self, status: int, answer: Object) -> None:
            text = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: Any) -> None:
            """Keep the tests' output clean."""

    return Handler


def _data(prometheus: FakePrometheus, words: Mapping[str, str]) -> Object:
    if "step" in words:
        span = (float(words[name]) for name in ("start", "end", "step"))
        result = prometheus.answer_range(words["query"], *span)
        return {"resultType": "matrix", "result": result}
    result = prometheus.answer(words["query"], words["time"])
    return {"resultType": "vector", "result": result}


def _hang(prometheus: FakePrometheus) -> None:
    deadline = time.monotonic() + 30
    while prometheus.lie is Lie.HANGS and time.monotonic() < deadline:
        time.sleep(0.05)
