"""``make bench-control-plane``: a thousand services, into build/bench/control-plane.json.

A real API server, scheduler and controller manager, a real Prometheus and the operator as a
process of its own, side by side on this machine; nodes and pods are played by kwok.
"""

import argparse
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from e2e.bench import bare
from e2e.bench.measured_operator import MeasuredOperator, cpu_seconds
from e2e.bench.report import ROOT, Unmet, write
from e2e.bench.simulated_metrics import Pods, prometheus
from e2e.cluster.artifacts import ensure_binaries
from e2e.cluster.progress import terminal_reporter
from tests.kit.client import Client
from tests.kit.control_plane import Cluster, condition
from tests.kit.fleet import POOLS, model, model_service, node, simulated
from tests.kit.operator import Invocation

Figures = dict[str, Any]
Object = dict[str, Any]
_CONCH = "/apis/conch.dev/v1alpha1"

NAMESPACES = 20
GPUS_PER_NODE = 8
CALLERS = 4
"""Connections that apply side by side."""
PATIENCE_S = 600.0
TICK_S = 5.0
"""The operator's default."""
READY_S, MEMORY_MB, RESTART_S = 60.0, 250.0, 15.0
_WRITES = frozenset({"POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"})
_NOT_OURS = frozenset({"leases", "nodes"})
"""Leases beat always; kwok plays the kubelets and tells the state of its nodes."""
_COUNTER = re.compile(r"^apiserver_request_total\{(.*)\} (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True)
class Kind:
    """What is applied a thousand times: how, where it is seen, and when it is there."""

    name: str
    path: str
    """Where all of them are watched."""
    apply: Callable[[Client, str, str], object]
    """Applies one, given its namespace and name."""
    there: Callable[[Object], bool]


@dataclass
class Arrivals:
    """When each was applied and when it was first seen there, in monotonic seconds."""

    there: Callable[[Object], bool]
    sent: dict[str, float] = field(default_factory=dict)
    ready: dict[str, float] = field(default_factory=dict)

    def see(self, _event: str, body: Object) -> None:
        """Take over a watch event."""
        if self.there(body):
            name = f"{body['metadata']['namespace']}/{body['metadata']['name']}"
            self.ready.setdefault(name, time.monotonic())

    @property
    def total(self) -> float:
        """Seconds from the first apply sent to the last that was there."""
        return max(self.ready.values()) - min(self.sent.values())

    @property
    def seconds(self) -> list[float]:
        """From each apply to Ready, sorted."""
        return sorted(at - self.sent[name] for name, at in self.ready.items())


def main() -> int:
    """Measure, print and write."""
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--services", type=int, default=1000)
    words.add_argument("--rest-seconds", type=float, default=300.0)
    given = words.parse_args()
    console = Console()
    with TemporaryDirectory(prefix="conch-bench-") as folder:
        figures = measure(Path(folder), given.services, given.rest_seconds, console)
    unmet = unmet_goals(figures)
    show(console, figures, unmet)
    console.print(f"Written: {write('control-plane', figures, unmet).relative_to(ROOT)}")
    return 0


def measure(folder: Path, services: int, rest: float, console: Console) -> Figures:
    """Return all figures of one run: of Kubernetes alone, then of the operator."""
    alone = measure_bare(folder / "bare", services, console)
    figures = measure_conch(folder / "conch", services, rest, console)
    ratio = figures["seconds_to_ready"] / alone["seconds_to_ready"]
    return {**figures, "bare_deployments": alone, "times_bare": round(ratio, 2)}


def measure_bare(folder: Path, services: int, console: Console) -> Figures:
    """Return what Kubernetes alone needs for as many Deployments on such nodes."""
    with simulated(folder / "plane") as cluster:
        furnish(cluster, services)
        before = cpu_by_program(folder)
        arrivals = apply_all(BARE, cluster, services, console)
        return times(arrivals) | {"cpu_s": cpu_since(before, folder)}


def measure_conch(folder: Path, services: int, rest: float, console: Console) -> Figures:
    """Return the operator's figures."""
    folder.mkdir()
    programs = ensure_binaries(("prometheus",), report=terminal_reporter())
    pods = Pods("digits")
    with (
        simulated(folder / "plane") as cluster,
        cluster.client.watching("/api/v1/pods", pods.see, resumes=True),
        prometheus(programs / "prometheus", folder / "prometheus", pods) as url,
    ):
        furnish(cluster, services)
        options = ("--prometheus-url", url)
        how = Invocation(cluster.kubeconfig, folder / "operator.log", options, tick_seconds=TICK_S)
        with MeasuredOperator(how, cluster.client) as operator:
            before = cpu_by_program(folder)
            arrivals = apply_all(SERVICES, cluster, services, console)
            figures: Figures = {"services": services}
            figures |= times(arrivals) | costs(operator, services)
            figures["cpu_s"] = cpu_since(before, folder)
            figures |= at_rest(cluster.client, rest, console)
            figures |= {"operator_rss_mb": round(operator.peak_rss_mb, 1)}
            figures |= restart(operator, console)
    return figures


def furnish(cluster: Cluster, services: int) -> None:
    """Create nodes with a tenth more GPUs than services, the model, and namespaces."""
    for i in range(-(-services * 11 // (10 * GPUS_PER_NODE))):
        product = list(POOLS.values())[i % len(POOLS)]
        cluster.client.create("/api/v1/nodes", node(f"big-{i}", product, gpus=GPUS_PER_NODE))
    preset = {**model(), "kind": "ClusterModel"}
    cluster.client.create("/apis/conch.dev/v1alpha1/clustermodels", preset)
    for i in range(NAMESPACES):
        cluster.client.create("/api/v1/namespaces", {"metadata": {"name": f"tenant-{i}"}})


def apply_all(kind: Kind, cluster: Cluster, count: int, console: Console) -> Arrivals:
    """Apply so many as fast as the API server takes them; return once each was there."""
    arrivals = Arrivals(kind.there)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with (
        cluster.client.watching(kind.path, arrivals.see, resumes=True),
        _clients(cluster.kubeconfig) as clients,
        Progress(*columns, TimeElapsedColumn(), console=console) as progress,
        ThreadPoolExecutor(CALLERS) as callers,
    ):
        applying = progress.add_task(f"{kind.name}: applied", total=count)
        becoming = progress.add_task(f"{kind.name}: Ready", total=count)

        def send(i: int) -> None:
            namespace, name = f"tenant-{i % NAMESPACES}", f"service-{i:05d}"
            arrivals.sent[f"{namespace}/{name}"] = time.monotonic()
            kind.apply(clients[i % CALLERS], namespace, name)
            progress.advance(applying)

        sending = [callers.submit(send, i) for i in range(count)]
        deadline = time.monotonic() + PATIENCE_S
        while len(arrivals.ready) < count and time.monotonic() < deadline:
            progress.update(becoming, completed=len(arrivals.ready))
            time.sleep(0.5)
        progress.update(becoming, completed=len(arrivals.ready))
        for one in sending:
            one.result()
    return arrivals


def _apply_service(client: Client, namespace: str, name: str) -> None:
    body = model_service(name, replicas=None, minReplicas=1)
    body["spec"]["model"] = {"kind": "ClusterModel", "name": "digits"}
    path = f"{_CONCH}/namespaces/{namespace}/modelservices/{name}"
    client.apply(path, body, manager="kubectl")


def _ready(body: Object) -> bool:
    return bool(condition(body, "Ready").get("status") == "True")


SERVICES = Kind("ModelServices", f"{_CONCH}/modelservices", _apply_service, _ready)
BARE = Kind("Deployments", "/apis/apps/v1/deployments", bare.apply, bare.available)


def cpu_by_program(folder: Path) -> dict[str, float]:
    """Return the CPU seconds so far of what runs on ``folder``, by program, and of this process."""
    found = {"benchmark": time.process_time()}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if any(str(folder) in word for word in words):
                name = "operator" if "conch.cli.main" in words else Path(words[0]).name
                found[name] = found.get(name, 0.0) + cpu_seconds(int(entry.name))
    return found


def cpu_since(before: dict[str, float], folder: Path) -> dict[str, float]:
    """Return the CPU seconds since ``before``, by program."""
    used = {name: s - before.get(name, 0.0) for name, s in cpu_by_program(folder).items()}
    return {name: round(s, 1) for name, s in used.items()}


@contextmanager
def _clients(kubeconfig: Path) -> Iterator[list[Client]]:
    clients = [Client(kubeconfig) for _ in range(CALLERS)]
    try:
        yield clients
    finally:
        for client in clients:
            client.close()


def times(arrivals: Arrivals) -> Figures:
    """Return how long it took until all were there."""
    if not arrivals.ready:
        raise SystemExit("none became Ready; see the operator's log")
    seconds = arrivals.seconds
    return {
        "services_ready": len(seconds),
        "seconds_to_ready": round(arrivals.total, 1),
        "apply_to_ready_p50_s": round(quantile(seconds, 0.5), 1),
        "apply_to_ready_p99_s": round(quantile(seconds, 0.99), 1),
        "deciles_s": deciles(arrivals),
    }


def deciles(arrivals: Arrivals) -> list[float]:
    """Return the seconds from the first apply until a tenth, two tenths, … all were there."""
    began = min(arrivals.sent.values())
    passed = sorted(at - began for at in arrivals.ready.values())
    return [round(passed[-(-len(passed) * tenth // 10) - 1], 1) for tenth in range(1, 11)]


def costs(operator: MeasuredOperator, services: int) -> Figures:
    """Return what the operator says that it did for them."""
    counters = operator.counters()
    return {
        "api_calls_per_service": round(counters["conch_api_requests_total"] / services, 2),
        "writes_per_service": round(counters["conch_writes_total"] / services, 2),
        "ticks": int(counters["conch_tick_seconds_count"]),
    }


def quantile(ordered: list[float], share: float) -> float:
    """Return a quantile of sorted values, by nearest rank."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def at_rest(client: Client, seconds: float, console: Console) -> Figures:
    """Count what the API server was told to write while nothing changed."""
    with console.status("waiting until nothing moves"):
        settle(client)
    before = writes(client)
    cpu = time.monotonic()
    with console.status(f"at rest for {seconds:.0f} s"):
        time.sleep(seconds)
    elapsed = (time.monotonic() - cpu) / 60
    after = writes(client)
    told = {what: n - before[what] for what, n in after.items() if n > before[what]}
    return {
        "writes_at_rest_per_min": round(sum(told.values()) / elapsed, 2),
        "writes_at_rest": told,
    }


def settle(client: Client, quiet: float = 65.0) -> None:
    """Return once no write came for longer than words of conditions stay as they are."""
    deadline, last, since = time.monotonic() + PATIENCE_S, writes(client), time.monotonic()
    while time.monotonic() - since < quiet and time.monotonic() < deadline:
        time.sleep(1)
        now = writes(client)
        if now != last:
            last, since = now, time.monotonic()


def writes(client: Client) -> Counter[str]:
    """Return the API server's own count of writes by verb and resource."""
    return count_writes(client.text("/metrics"))


def count_writes(page: str) -> Counter[str]:
    """Return writes by verb and resource from the API server's metrics, no-ops included."""
    found: Counter[str] = Counter()
    for labels, value in _COUNTER.findall(page):
        label = dict(_LABEL.findall(labels))
        if label["verb"] in _WRITES and label["resource"] not in _NOT_OURS:
            found[f"{label['verb']} {label['resource']}"] += int(float(value))
    return found


def restart(operator: MeasuredOperator, console: Console) -> Figures:
    """Kill the operator as a crash would, start it, and wait for its first decision."""
    with console.status("killed; starting again"):
        operator.kill()
        started = time.monotonic()
        operator.start(wait_out_lease=True)
    return {"restart_to_first_decision_s": round(time.monotonic() - started, 1)}


def unmet_goals(figures: Figures) -> list[Unmet]:
    """Return the goals that were not reached."""
    share = figures["services"] / 1000
    bounds = [
        (f"{figures['services']} services Ready", "seconds_to_ready", READY_S * max(1, share), "s"),
        ("operator's memory, peak", "operator_rss_mb", MEMORY_MB, "MB"),
        ("writes at rest", "writes_at_rest_per_min", 0.0, "a minute"),
        ("restart to first decision", "restart_to_first_decision_s", RESTART_S, "s"),
    ]
    found = [
        Unmet(f"{what} within {bound:g} {unit}", f"{figures[name]:g} {unit}")
        for what, name, bound, unit in bounds
        if figures[name] > bound
    ]
    missing = figures["services"] - figures["services_ready"]
    return [*found, *([Unmet("every service Ready", f"{missing} were not")] if missing else [])]


def show(console: Console, figures: Figures, unmet: Iterable[Unmet]) -> None:
    """Print the figures and what was not reached."""
    table = Table("figure", "value")
    for name, value in figures.items():
        table.add_row(name, str(value))
    console.print(table)
    alone = figures["bare_deployments"]
    plot(console, {BARE.name: alone["deciles_s"], SERVICES.name: figures["deciles_s"]})
    for goal in unmet:
        console.print(f"[bold red]Not reached:[/] {goal.goal}: {goal.figure}")


def plot(console: Console, curves: Mapping[str, Sequence[float]]) -> None:
    """Print, for each tenth of what was applied, a bar for each curve: seconds until it was there."""
    longest = max(curve[-1] for curve in curves.values())
    table = Table("Ready", *(f"{name}, s" for name in curves), box=None)
    for tenth, row in enumerate(zip(*curves.values(), strict=True), start=1):
        bars = (f"{'█' * max(1, round(30 * s / longest))} {s:g}" for s in row)
        table.add_row(f"{tenth * 10} %", *bars)
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
