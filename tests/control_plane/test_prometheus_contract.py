"""One contract, kept by the fake and by a real Prometheus that scrapes a tiny Triton."""

import asyncio
import json
import math
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Protocol

import pytest
import requests
import yaml
from prometheus_client import generate_latest

from conch.api.signals import Arrivals, Key, Signals
from conch.clients.clock import SystemClock
from conch.clients.prometheus import MetricsSource, MetricsUnavailable, Prometheus, Span
from conch.clients.prometheus_fake import FakePrometheus
from conch.decisions.fleet import ServiceKey
from conch.decisions.scaling import ScalingState, ServiceLoad, decide
from conch.decisions.scaling.account import Decided
from conch.decisions.scaling.demand import Demand
from conch.decisions.scaling.margin import Margin
from conch.decisions.scaling.recover import margin_of
from conch.decisions.scaling.season import BUCKET
from conch.metrics import tenants
from conch.metrics.arrivals import arrival_queries, arrivals
from conch.metrics.learned import LEARNED, LOAD, learned, learned_queries, peak_queries, peaks
from conch.metrics.queries import queries
from conch.metrics.replicas import replica_queries, replicas
from conch.metrics.rules import recorded, rule_file
from conch.metrics.series import Series
from conch.metrics.signals import parse
from conch.reconcile.exposition import Exposition
from conch.reconcile.recall import LEARNED_BACK_S, LEARNED_STEP_S
from e2e.cluster.artifacts import ensure_binaries
from e2e.cluster.ports import free_ports
from e2e.cluster.progress import terminal_reporter

RULES = Path(__file__).resolve().parents[2] / "charts" / "conch" / "rules" / "conch.rules.yaml"
"""As users load it."""
PODS = {"digits-a": "a100", "digits-b": "a100", "digits-c": "t4"}
OPERATORS = {
    "operator": ("digits", Margin(variance=0.25, dispersion=3.0, beta=2.5, peak=90, watched=4e4)),
    "honoured": (
        "faces",
        Margin(variance=0.0625, dispersion=1.0, beta=0.0, peak=0.5, watched=60.0),
    ),
}
"""What one shows that a plain job scrapes, and one whose job has honor_labels."""
KEYS = {pool: Key("vision", "digits", "r1", pool) for pool in ("a100", "t4")}
DOORS = {"door-a": 20.0, "door-b": 10.0}
"""Replicas of the front door, and the requests/s of each protocol that they take."""
PENDING = "nv_inference_pending_request_count"
PATIENCE = 60.0
"""Seconds in which a busy machine has scraped twice."""


def exposition(seconds: float) -> str:
    """What Triton shows after ``seconds`` of 20 requests/s of 2 items, in runs of 8 items."""
    rates = {
        "nv_inference_request_success": 20.0,
        "nv_inference_count": 40.0,
        "nv_inference_exec_count": 5.0,
        "nv_inference_compute_input_duration_us": 20 * 1_000.0,
        "nv_inference_compute_infer_duration_us": 20 * 18_000.0,
        "nv_inference_compute_output_duration_us": 20 * 1_000.0,
        "nv_inference_queue_duration_us": 20 * 5_000.0,
    }
    label = 'model="digits",version="1"'
    lines = [f"{name}{{{label}}} {rate * seconds:.3f}" for name, rate in rates.items()]
    lines += [
        f'nv_inference_request_failure{{{label},reason="{reason}"}} {seconds:.3f}'
        for reason in ("REJECTED", "CANCELED", "BACKEND", "OTHER")
    ]
    lines.append(f"{PENDING}{{{label}}} 7")
    lines += [
        f'nv_inference_request_summary_us{{{label},quantile="{q}"}} {value}'
        for q, value in (("0.5", "21000"), ("0.99", "64000"))
    ]
    lines.append(f"odd_number{{{label}}} NaN")
    return "\n".join(lines) + "\n"


def door_shows(seconds: float, *, requests: float) -> str:
    """What a replica of the front door shows that so many requests/s came to, and refused others."""
    of = 'service_namespace="vision",service="digits"'
    codes = {"200": requests * 0.75, "503": requests * 0.25, "401": 50.0, "404": 50.0, "429": 50.0}
    grpc = {"grpc-0": requests, "grpc-5": 50.0, "grpc-8": 50.0, "grpc-16": 50.0}
    lines = [
        f'conch_front_door_requests_total{{{of},tenant="{tenant}",protocol="{protocol}",code="{code}"}}'
        f" {rate / 2 * seconds:.3f}"
        for protocol, rates in (("http", codes), ("grpc", grpc))
        for tenant in ("vision", "guest")
        for code, rate in rates.items()
    ]
    lines.append(f'conch_front_door_in_flight{{{of},tenant="vision"}} 3')
    lines.append("conch_front_door_unknown_requests_total 0")
    return "\n".join(lines) + "\n"


def operator_shows(service: str, margin: Margin) -> str:
    """What an operator shows that knows one service."""
    shown, load = Exposition(), ServiceLoad(pools=())
    known = ScalingState(margin=margin, asked=Demand(mean=margin.peak / 2))
    decided = replace(decide(load, known, 0.0), capacity=1.0)
    shown.show((), (), {ServiceKey("vision", service): Decided(load, decided, 0.0)})
    return generate_latest(shown.registry).decode()


class Exporter:
    """Pods on loopback: /POD answers as Triton would, until the pod is taken away."""

    def __init__(self) -> None:
        self.alive = {*PODS, *DOORS}
        operators = {name: operator_shows(*known) for name, known in OPERATORS.items()}
        start = time.monotonic()
        exporter = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.strip("/")
                found = name in exporter.alive or name in operators
                seconds = time.monotonic() - start
                door = name in DOORS and door_shows(seconds, requests=DOORS[name])
                text = operators.get(name) or door or exposition(seconds)
                body = text.encode() if found else b""
                self.send_response(200 if found else 503)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.server_address[1]}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope="module")
def exporter() -> Iterator[Exporter]:
    exporter = Exporter()
    yield exporter
    exporter.close()


def config(address: str) -> dict[str, object]:
    """Each pod is a target with the labels that Prometheus' labelmap would give it."""
    targets = [
        {
            "targets": [address],
            "labels": {
                "__metrics_path__": f"/{pod}",
                "namespace": "vision",
                "pod": pod,
                "conch_dev_service": "digits",
                "conch_dev_revision": "r1",
                "conch_dev_pool": pool,
                "conch_dev_serving": "on",
            },
        }
        for pod, pool in PODS.items()
    ]
    intervals = dict.fromkeys(("scrape_interval", "scrape_timeout", "evaluation_interval"), "500ms")
    return {
        "global": intervals,
        "rule_files": [str(RULES)],
        "scrape_configs": [
            {"job_name": "pods", "static_configs": targets},
            *(operator_job(name, address) for name in OPERATORS),
            *(door_job(name, address) for name in DOORS),
        ],
    }


def operator_job(name: str, address: str) -> dict[str, object]:
    """A job whose targets have labels that the operator's metrics have too."""
    labels = {"namespace": "conch-system", "pod": "conch-0", "service": "conch-metrics"}
    return {
        "job_name": name,
        "metrics_path": f"/{name}",
        "honor_labels": name == "honoured",
        "static_configs": [{"targets": [address], "labels": labels}],
    }


def door_job(name: str, address: str) -> dict[str, object]:
    """One of them has a label of its target that the front door's metrics have too."""
    labels = {"namespace": "conch-system", "pod": name}
    more = {"service": "conch-front-door"} if name == "door-b" else {}
    return {
        "job_name": name,
        "metrics_path": f"/{name}",
        "static_configs": [{"targets": [address], "labels": {**labels, **more}}],
    }


@pytest.fixture(scope="module")
def url(exporter: Exporter, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Prometheus on loopback that scrapes the exporter."""
    program = ensure_binaries(("prometheus",), report=terminal_reporter()) / "prometheus"
    folder = tmp_path_factory.mktemp("prometheus")
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config(exporter.address)))
    with running(str(program), folder) as address:
        yield f"http://{address}"


@contextmanager
def running(program: str, folder: Path) -> Iterator[str]:
    address = f"127.0.0.1:{free_ports(1)[0]}"
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={address}",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            yield address
        finally:
            process.terminate()
            process.wait(10)


class Closing(MetricsSource, Protocol):
    def close(self) -> None: ...


async def eventually(
    source: MetricsSource, wanted: Mapping[str, str], count: int
) -> Mapping[str, list[Series]]:
    """Ask until each query has ``count`` series; scrapes take their time."""
    deadline = time.monotonic() + PATIENCE
    last: object = None
    while time.monotonic() < deadline:
        try:
            last = answers = await source.query(wanted, SystemClock().wall())
        except MetricsUnavailable as error:
            last = error
        else:
            if all(len(series) == count for series in answers.values()):
                return answers
        await asyncio.sleep(0.1)
    pytest.fail(f"no {count} series within {PATIENCE:g} s; last: {last}")


def series(pod: str, pool: str, **labels: str) -> dict[str, str]:
    return {"namespace": "vision", "pod": pod, "conch_dev_pool": pool, "model": "digits", **labels}


FAKED: dict[str, Sequence[tuple[Mapping[str, str], float]]] = {
    PENDING: [(series(pod, pool), 7.0) for pod, pool in PODS.items()],
    "odd_number": [(series(pod, pool), math.nan) for pod, pool in PODS.items()],
}


@pytest.fixture(params=["fake", "real"])
async def source(request: pytest.FixtureRequest) -> AsyncIterator[Closing]:
    if request.param == "fake":
        yield FakePrometheus(answers=dict(FAKED))
        return
    real = Prometheus(request.getfixturevalue("url"))
    yield real
    real.close()


@pytest.fixture(params=["fake", "real"])
def broken(request: pytest.FixtureRequest) -> Iterator[Closing]:
    if request.param == "fake":
        yield FakePrometheus(down="Prometheus at http://127.0.0.1 can't be reached")
        return
    real = Prometheus(f"http://127.0.0.1:{free_ports(1)[0]}")
    yield real
    real.close()


async def test_answers_carry_labels_values_and_time(source: Closing) -> None:
    answers = await eventually(source, {"waiting": PENDING}, 3)
    assert {s.labels["pod"]: s.labels["conch_dev_pool"] for s in answers["waiting"]} == PODS
    assert {s.value for s in answers["waiting"]} == {7.0}
    at = SystemClock().wall()
    again = await source.query({"waiting": PENDING}, at)
    assert [s.time for s in again["waiting"]] == pytest.approx([at] * 3, abs=0.001)


async def test_nan_is_an_answer(source: Closing) -> None:
    answers = await eventually(source, {"odd": "odd_number"}, 3)
    assert all(math.isnan(s.value) for s in answers["odd"])


async def test_each_query_has_an_answer_even_an_empty_one(source: Closing) -> None:
    await eventually(source, {"waiting": PENDING}, 3)
    answers = await source.query(
        {"waiting": PENDING, "none": "no_such_metric"}, SystemClock().wall()
    )
    assert len(answers["waiting"]) == 3
    assert answers["none"] == []


async def test_no_queries_no_answers(source: Closing) -> None:
    assert await source.query({}, SystemClock().wall()) == {}


async def test_the_past_is_what_was_answered_then(source: Closing) -> None:
    await eventually(source, {"waiting": PENDING}, 3)
    now = SystemClock().wall()
    past = await source.past(
        {"waiting": PENDING, "none": "no_such_metric"}, Span(now - 1, now, 0.5)
    )
    assert list(past) == sorted(past)
    assert max(past) == pytest.approx(now, abs=0.6)
    newest = past[max(past)]
    assert {s.labels["pod"] for s in newest["waiting"]} == set(PODS)
    assert {s.value for s in newest["waiting"]} == {7.0}
    assert "none" not in newest


async def test_without_prometheus_the_error_says_so(broken: Closing) -> None:
    with pytest.raises(MetricsUnavailable, match=r"Prometheus at http://127\.0\.0\.1"):
        await broken.query({"waiting": PENDING}, SystemClock().wall())
    with pytest.raises(MetricsUnavailable, match=r"Prometheus at http://127\.0\.0\.1"):
        await broken.past({"waiting": PENDING}, Span(0, 60, 15))


@pytest.fixture
def real(url: str) -> Iterator[Prometheus]:
    prometheus = Prometheus(url)
    yield prometheus
    prometheus.close()


async def test_the_queries_of_a_tick_become_signals(real: Prometheus) -> None:
    await eventually(real, {"pods": "count_over_time(nv_inference_count[1m]) >= 2"}, 3)
    found = parse(await eventually(real, queries(), 2))
    assert set(found) == set(KEYS.values())
    two, one = found[KEYS["a100"]], found[KEYS["t4"]]
    # Ratios of rates between the same two scrapes are exact, rates depend on when those were.
    for s in (two, one):
        assert s.mean_batch == pytest.approx(8, rel=0.01)
        assert s.mean_execution == pytest.approx(0.020, rel=0.01)
        assert s.queue_seconds == pytest.approx(0.005, rel=0.01)
        assert s.items_per_request == pytest.approx(2, rel=0.01)
        assert s.failures == pytest.approx(0.2 * s.requests, rel=0.01)
        assert s.p99 == pytest.approx(0.064)
        assert 0 <= s.age <= s.age_oldest < PATIENCE
        assert s.absurd is None
    assert (two.pods_scraped, one.pods_scraped) == (2, 1)
    assert (two.pending, one.pending) == (14, 7)
    assert two.requests == pytest.approx(40, rel=0.5)
    assert one.requests == pytest.approx(20, rel=0.5)


async def test_what_single_pods_show_is_told_of_those_that_answer(
    real: Prometheus, exporter: Exporter
) -> None:
    found = replicas(await eventually(real, replica_queries(), 3), {})
    assert set(found) == {("vision", pod) for pod in PODS}
    for one in found.values():
        assert one.p99 == pytest.approx(0.064)
        assert one.busy == pytest.approx(0.1, rel=0.5)
        assert -1 <= SystemClock().wall() - one.scraped < PATIENCE
    exporter.alive.discard("digits-b")
    try:
        await eventually(real, {"down": "up == 0"}, 1)
        left = replicas(await real.query(replica_queries(), SystemClock().wall()), {})
    finally:
        exporter.alive.add("digits-b")
    assert set(left) == set(found) - {("vision", "digits-b")}


def the_same(one: Sequence[Series], other: Sequence[Series]) -> bool:
    """Tell whether two answers hold the same series but for their names."""

    def values(found: Sequence[Series]) -> dict[frozenset[tuple[str, str]], float]:
        plain = [{k: v for k, v in s.labels.items() if k != "__name__"} for s in found]
        return {frozenset(p.items()): s.value for p, s in zip(plain, found, strict=True)}

    mine, theirs = values(one), values(other)
    return mine.keys() == theirs.keys() and all(
        math.isclose(v, theirs[k], rel_tol=1e-9) for k, v in mine.items()
    )


async def test_what_the_operator_had_learned_is_found_however_it_is_scraped(
    real: Prometheus,
) -> None:
    await eventually(real, dict(LEARNED), len(OPERATORS))
    now = SystemClock().wall()
    span = Span(now - LEARNED_BACK_S, now, LEARNED_STEP_S)
    found = learned(await real.past(learned_queries(LEARNED_STEP_S), span))
    margins = {key: margin_of(figures) for key, figures in found.items()}
    assert margins == {("vision", service): margin for service, margin in OPERATORS.values()}


async def test_the_loads_of_other_days_are_found_however_they_are_scraped(real: Prometheus) -> None:
    await eventually(real, {"load": LOAD}, len(OPERATORS))
    now = SystemClock().wall()
    told = await real.past(peak_queries(BUCKET), Span(now - 3 * BUCKET, now, BUCKET))
    assert sorted(peaks(told, last=now, step=BUCKET)) == [
        (("vision", "digits"), 0, 45.0),
        (("vision", "faces"), 0, 0.25),
    ]


async def test_what_the_front_door_counts_becomes_arrivals(
    real: Prometheus, exporter: Exporter
) -> None:
    """Of all replicas, tenants and protocols; what it refused itself is no load."""
    doors = {"doors": arrival_queries()["arrivals_doors"]}

    async def counted(replicas: int) -> Arrivals:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            answers = await eventually(real, doors, 1)
            if answers["doors"][0].value == replicas:
                found = await real.query(arrival_queries(), SystemClock().wall())
                return arrivals(found)["vision", "digits"]
            await asyncio.sleep(0.2)
        pytest.fail(f"no {replicas} replicas within {PATIENCE:g} s")

    both = await counted(2)
    assert both.ended == pytest.approx(2 * sum(DOORS.values()), rel=0.25)
    assert (both.under_way, both.doors) == (6.0, 2)
    assert 0 <= both.age < PATIENCE
    exporter.alive -= {"door-b"}
    try:
        one = await counted(1)
        assert one.ended == pytest.approx(2 * DOORS["door-a"], rel=0.25)
    finally:
        exporter.alive |= {"door-b"}


async def test_recorded_series_are_what_a_tick_asks(real: Prometheus) -> None:
    """Each query, asked about the moment of a recording, answers what was recorded then."""
    records = {q: recorded(q) for q in queries()}
    await eventually(real, records, 2)
    differ = set(records)
    deadline = time.monotonic() + PATIENCE
    # A scrape may end just after a recording that its samples precede: then try another one.
    while differ and time.monotonic() < deadline:
        stamps = {q: f"timestamp({record})" for q, record in records.items()}
        moments = await real.query(stamps, SystemClock().wall())
        for query in sorted(differ):
            moment = moments[query][0].value
            answers = await real.query({"then": queries()[query], "kept": records[query]}, moment)
            differ -= {query} if the_same(answers["then"], answers["kept"]) else set()
        await asyncio.sleep(0.2)
    assert not differ


async def test_prometheus_takes_all_rules_and_computes_each(real: Prometheus, url: str) -> None:
    names = [rule["record"] for group in rule_file()["groups"] for rule in group["rules"]]
    await eventually(real, {n: n for n in names if n.startswith("conch_service:")}, 1)
    answer = await asyncio.to_thread(requests.get, f"{url}/api/v1/rules", timeout=10)
    groups = answer.json()["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert {r["name"]: r["health"] for r in rules} == dict.fromkeys(names, "ok")


def of_tenants() -> list[str]:
    """Return what alerts and dashboards ask of tenants."""
    chosen = {"$tenant": ".*", "$__range": "1h"}
    found = [alert["expr"] for alert in tenants.alerts()]
    for path in sorted((RULES.parents[1] / "dashboards").glob("*.json")):
        panels = json.loads(path.read_text())["panels"]
        found += [target["expr"] for panel in panels for target in panel["targets"]]
    for variable, value in chosen.items():
        found = [expr.replace(variable, value) for expr in found]
    return found


async def test_prometheus_takes_what_alerts_and_dashboards_ask(real: Prometheus, url: str) -> None:
    for expr in of_tenants():
        ask = partial(requests.get, f"{url}/api/v1/query", params={"query": expr}, timeout=10)
        answer = await asyncio.to_thread(ask)
        assert answer.json()["status"] == "success", (expr, answer.text)


async def test_what_dashboards_show_of_a_service_is_right(real: Prometheus) -> None:
    wanted = {
        "conch_service:pods": 3.0,
        "conch_service:pending": 21.0,
        "conch_service:queue_seconds:mean": 0.005,
        "conch_service:run_seconds:mean": 0.020,
        "conch_service:batch_items:mean": 8.0,
        "conch_service:p99_seconds:max": 0.064,
    }
    deadline = time.monotonic() + PATIENCE
    found: dict[str, float] = {}
    while time.monotonic() < deadline and found.get("conch_service:pods") != 3:
        answers = await eventually(real, {n: n for n in wanted}, 1)
        found = {name: series[0].value for name, series in answers.items()}
    assert found == pytest.approx(wanted, rel=0.01)


async def test_a_pod_that_answers_no_more_is_not_counted(
    real: Prometheus, exporter: Exporter
) -> None:
    everything = await eventually(real, queries(), 2)
    assert parse(everything)[KEYS["a100"]].pods_scraped == 2
    exporter.alive.discard("digits-b")
    try:
        await eventually(real, {"down": "up == 0"}, 1)
        kept: Signals = parse(await real.query(queries(), SystemClock().wall()))[KEYS["a100"]]
    finally:
        exporter.alive.add("digits-b")
    assert (kept.pods_scraped, kept.pending) == (1, 7)
    assert kept.requests == pytest.approx(20, rel=0.5)


async def test_a_query_that_is_none_is_refused_in_words(real: Prometheus) -> None:
    await eventually(real, {"up": 'up{job="pods"}'}, 3)
    with pytest.raises(MetricsUnavailable, match="refused a query"):
        await real.query({"wrong": "sum by ("}, SystemClock().wall())


class Mute(BaseHTTPRequestHandler):
    """Answers when told to, which is never; or talks of other things."""

    def do_POST(self) -> None:
        if self.path.startswith("/mute"):
            self.server.wait.wait(30)  # type: ignore[attr-defined]
        body = b'{"hello": "world"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def stranger() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Mute)
    server.wait = threading.Event()  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.wait.set()  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()


async def test_a_mute_prometheus_costs_one_time_out_for_all_queries(stranger: str) -> None:
    mute = Prometheus(f"{stranger}/mute", timeout=0.3)
    with pytest.raises(MetricsUnavailable, match=r"did not answer within 0\.3 s"):
        await mute.query({str(n): "up" for n in range(12)}, SystemClock().wall())
    mute.close()


async def test_something_else_that_answers_is_named(stranger: str) -> None:
    other = Prometheus(stranger)
    with pytest.raises(MetricsUnavailable, match="is no Prometheus"):
        await other.query({"up": "up"}, SystemClock().wall())
    other.close()
