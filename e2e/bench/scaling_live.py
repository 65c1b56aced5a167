"""``make bench-scaling-live``: scalers race on the local cluster, into build/bench/scaling-live.json.

One recorded load, one after the other in one run: Conch, and KEDA with Kubernetes' own HPA
controller. Both scale a ModelService of the same model, KEDA by /scale: the pods, their starts,
places and drains are the same, so that only who decides differs. Both know how long the model
takes: Conch by the Model's profile, KEDA by how many requests may wait before one replica so that
the last is answered within the objective. The model waits where a GPU would compute.
"""

import argparse
import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import sleep
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from conch.clients.clock import SystemClock
from conch.simulate.traces import TraceError, read_trace
from e2e.bench import keda, scaling_traces
from e2e.bench.breach import breaches
from e2e.bench.open_loop import Endpoints, Replay
from e2e.bench.race import (
    Answer,
    Replicas,
    late_percent,
    longest_queue,
    quantile,
    ratio,
    timeline,
)
from e2e.bench.race_plot import plot
from e2e.bench.report import FOLDER, ROOT, Unmet, write
from e2e.cluster import prometheus
from e2e.cluster.artifacts import ensure_binaries
from e2e.cluster.binaries import KEDA_VERSION
from e2e.cluster.parts import Runner
from e2e.cluster.processes import Supervisor
from e2e.cluster.progress import Reporter, terminal_reporter
from e2e.cluster.settings import ADDRESS, Layout
from e2e.install import Stage, ensure_stage, install
from e2e.kubectl import condition, wait_for
from e2e.load import request_body
from e2e.models import documents
from e2e.scratch import Object, Scratch, python_model, scratch, service
from tests.kit.client import Client

Figures = dict[str, Any]
NAME = "race"
SERVICE_S, OBJECTIVE_S = 0.3, 0.9
LOAD_S = 15.0
"""That the model takes to load. With the pod's own start this is about the median of real fleets,
22.7 s."""
FIRST, MOST = 4, 8
"""Replicas: as many as the first minute needs at 70 % use, and as the nodes have GPUs."""
CPU = "125m"
"""Of a replica; of all together one core."""
SCRAPE_S, PROMETHEUS_PORT = 5, 19090
TICK_S = 5.0
"""The chart's default."""
TRACE = "AzureLLMInferenceTrace_conv.csv.gz"
FROM_S, SPEED = 840.0, 2.0
"""The piece that is replayed: from the fourteenth minute on, twice as fast."""
BREACH_S = 2.0
SOURCE = "https://github.com/Azure/AzurePublicDataset"
CODE = f"""\
import time
import triton_python_backend_utils as pb


class TritonPythonModel:
    def initialize(self, args):
        time.sleep({LOAD_S})

    def execute(self, requests):
        return [pb.InferenceResponse([_answer(request)]) for request in requests]


def _answer(request):
    time.sleep({SERVICE_S})
    return pb.Tensor("sum", pb.get_input_tensor_by_name(request, "x").as_numpy())
"""


@dataclass(frozen=True)
class Load:
    """When requests come, in seconds from the start, and from when to when they count."""

    arrivals: Sequence[float]
    warm_up: float
    end: float


@dataclass(frozen=True)
class Outcome:
    """What came of one contender's race, which began at ``began`` (seconds since the epoch)."""

    load: Load
    began: float
    replicas: Replicas
    answers: list[Answer]
    failures: list[str]

    def figures(self) -> Figures:
        """Return its figures, and its replicas second by second."""
        span = {"start": self.load.warm_up, "end": self.load.end}
        counted = [a for a in self.answers if span["start"] <= a.due < span["end"]]
        start, end = self.began + span["start"], self.began + span["end"]
        starts = self.replicas.start_seconds()
        used = self.replicas.seconds(start, end)
        return {
            "late_percent": round(late_percent(counted, objective=OBJECTIVE_S, **span), 3),
            "replica_seconds": round(used, 1),
            "mean_replicas": round(used / (end - start), 2),
            "requests": len(counted),
            "failed": len(self.failures),
            "p50_s": round(quantile(counted, 0.5, **span), 3),
            "p99_s": round(quantile(counted, 0.99, **span), 3),
            "start_s": [round(s, 1) for s in starts],
            "timeline": timeline(self.replicas, self.began, end),
        }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write."""
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--seconds", type=float, default=540.0, help="of the race, of each")
    words.add_argument("--warm-up", type=float, default=60.0, help="seconds before it counts")
    words.add_argument("--pending", type=float, help="per replica, KEDA's threshold")
    given = words.parse_args(arguments)
    console = Console()
    try:
        load = recorded(traces(), given.warm_up, given.seconds)
    except TraceError as error:
        console.print(str(error), markup=False)
        return 2
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    report = terminal_reporter(console)
    stage = ensure_stage(report)
    if not stage.cluster.local:
        console.print("This benchmark runs on the local cluster only: it needs its API server.")
        return 1
    pending = given.pending or longest_queue(SERVICE_S, OBJECTIVE_S)
    figures = measure(stage, load, pending, console, report)
    unmet = unmet_goals(figures)
    show(console, figures, unmet)
    console.print(f"Written: {write('scaling-live', figures, unmet).relative_to(ROOT)}")
    picture = plot(figures, FOLDER / "scaling-live.png")
    console.print(f"Drawn: {picture.relative_to(ROOT)}")
    return 0


def _interrupt(*_: object) -> None:
    """End, once: what is there is removed, and another signal does not stop that."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def traces() -> Path:
    """Return the folder of traces. Raises TraceError, saying where to get them."""
    where = scaling_traces.folder()
    if not (where / TRACE).is_file():
        raise TraceError(
            f"There is no {TRACE} in {where}. Get it from {SOURCE}, and set CONCH_TRACES to the "
            "folder that it lies in."
        )
    return where


def recorded(folder: Path, warm_up: float, seconds: float) -> Load:
    """Return the piece of the trace that is replayed."""
    end = warm_up + seconds
    piece = read_trace(folder / TRACE).cut(FROM_S, FROM_S + end * SPEED)
    return Load([float(t) / SPEED for t in piece.arrivals(0)], warm_up, end)


def measure(
    stage: Stage, load: Load, pending: float, console: Console, report: Reporter
) -> Figures:
    """Return all figures: of breaches, then of each contender."""
    rival_built = keda.ensure(report)
    # A run that was killed leaves an API that nobody serves, and no namespace can be removed then.
    keda.remove(stage.tools, rival_built)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="conch-bench-")))
        url = stack.enter_context(second_prometheus(folder, report))
        stack.enter_context(installed(stage, url, report))
        stage.tools.apply(*documents("pools.yaml"))
        client = stack.enter_context(Client(stage.tools.kubeconfig))
        with scratch(stage, "bench-breach") as place, report.step("breaches"):
            figures = flooded(place, client, url)
        await_empty(stage, place.namespace)
        with scratch(stage, "bench-scaling-conch") as place:
            conch = race("conch", place, client, load, console, steer=partial(free, place))
        await_empty(stage, place.namespace)
        with (
            keda.running(stage.tools, rival_built, folder / "keda", report=report),
            scratch(stage, "bench-scaling-keda") as place,
            scaled_by_keda(place, url, pending) as steer,
        ):
            rival = race("keda", place, client, load, console, steer=steer)
    found = {"conch": conch.figures(), "keda": rival.figures() | {"pending": pending}}
    return {**found, **figures, **conditions(load), "ratios": ratios(found)}


@contextlib.contextmanager
def second_prometheus(folder: Path, report: Reporter) -> Iterator[str]:
    """Have a Prometheus scrape at the interval of this benchmark; yield its URL."""
    bin_folder = ensure_binaries(("prometheus",), report=report)
    supervisor = Supervisor(folder / "processes", die_with_parent=True)
    part = prometheus.another(
        Layout.default(),
        bin_folder,
        folder / "prometheus",
        port=PROMETHEUS_PORT,
        every_seconds=SCRAPE_S,
    )
    try:
        Runner(supervisor).ensure(part)
        yield f"http://{ADDRESS}:{PROMETHEUS_PORT}"
    finally:
        supervisor.stop_all()


@contextlib.contextmanager
def installed(stage: Stage, url: str, report: Reporter) -> Iterator[None]:
    """Have Conch decide by that Prometheus, at its default pace; afterwards as it was."""
    cluster = replace(stage.cluster, prometheus_url=url)
    try:
        pace = {"tickSeconds": TICK_S, "relistSeconds": 60.0}
        install(stage.tools, cluster, stage.models, report=report, pace=pace)
        yield
    finally:
        ensure_stage(report)


def objects(*names: str, most: int = MOST, **spec: Any) -> list[Object]:
    """Return the Model and services of it; ``spec`` has more fields of theirs."""
    profile = {"fixedMs": SERVICE_S * 1e3, "perItemMs": 0}
    model = python_model(
        NAME,
        CODE,
        maxBatchSize=1,
        resources={"cpu": CPU},
        profile={"NVIDIA-A100": profile, "Tesla-T4": profile},
    )
    objective = {"p99": f"{OBJECTIVE_S * 1e3:.0f}ms"}
    scaling = {"maxReplicas": most}
    services = [
        service(name, of=NAME, pools=("a100", "t4"), objective=objective, scaling=scaling, **spec)
        for name in names
    ]
    return [*model, *services]


def flooded(place: Scratch, client: Client, url: str) -> Figures:
    """Return how fast Conch answers floods on services that were at rest."""
    names = [f"flood-{i}" for i in range(3)]
    place.apply(*objects(*names, most=2))
    return breaches(
        place,
        client,
        names,
        url=url,
        model=NAME,
        body=body(),
        rate=4 / SERVICE_S,
        more_than=longest_queue(SERVICE_S, OBJECTIVE_S),
        interval=SCRAPE_S,
    )


def body() -> Object:
    """Return the request."""
    return request_body("x", "FP32", [[1.0, 2.0, 3.0, 4.0]])


def race(
    name: str,
    place: Scratch,
    client: Client,
    load: Load,
    console: Console,
    *,
    steer: Callable[[], None],
) -> Outcome:
    """Put the load on a service that ``steer`` has somebody scale, from a warm start on."""
    clock, replicas, endpoints = SystemClock(), Replicas(), Endpoints()
    pods = f"/api/v1/namespaces/{place.namespace}/pods"
    slices = f"/apis/discovery.k8s.io/v1/namespaces/{place.namespace}/endpointslices"
    replay = Replay(endpoints, NAME, body(), load.arrivals)
    with (
        client.watching(pods, lambda e, o: replicas.see(e, o, clock.wall()), resumes=True),
        client.watching(slices, endpoints.see, resumes=True),
    ):
        with console.status(f"{name}: {FIRST} replicas"):
            place.apply(*objects(NAME, replicas=FIRST))
            place.await_ready(NAME, FIRST)
            sleep(4 * SCRAPE_S)
        steer()
        began = clock.wall()
        _send(name, replay, load, console, lambda: replicas.counts(clock.wall()))
    return Outcome(load, began, replicas, replay.answers, replay.failures)


def _send(
    name: str,
    replay: Replay,
    load: Load,
    console: Console,
    counts: Callable[[], tuple[int, int]],
) -> None:
    """Replay the load with progress; ends it where it is interrupted."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(name, total=load.end)
        replay.progress = lambda second: progress.update(task, completed=second)
        thread = threading.Thread(target=replay.run, name="replay", daemon=True)
        thread.start()
        try:
            while thread.is_alive():
                thread.join(1.0)
                created, ready = counts()
                progress.update(task, description=f"{name}: {ready} of {created} replicas ready")
        finally:
            replay.stopped.set()
        progress.update(task, completed=load.end)


def free(place: Scratch) -> None:
    """Leave the number of replicas to Conch."""
    place.kubectl("patch", "modelservice", NAME, "--type=merge", "-p", '{"spec":{"replicas":null}}')


@contextlib.contextmanager
def scaled_by_keda(place: Scratch, url: str, pending: float) -> Iterator[Callable[[], None]]:
    """Yield what has KEDA scale the service; its ScaledObject goes before KEDA does."""
    labels = f'namespace="{place.namespace}",conch_dev_service="{NAME}"'
    wish = keda.scaled_object(
        NAME,
        target={"apiVersion": "conch.dev/v1alpha1", "kind": "ModelService", "name": NAME},
        query=f"sum(nv_inference_pending_request_count{{{labels}}})",
        pending=pending,
        url=url,
        minimum=1,
        maximum=MOST,
    )

    def steer() -> None:
        place.apply(wish)
        wait_for("HPA with KEDA's metric", lambda: _scales(place), timeout=90)

    try:
        yield steer
    finally:
        place.kubectl("delete", "scaledobjects", "--all", "--timeout=60s")


def _scales(place: Scratch) -> bool:
    found = place.all("horizontalpodautoscalers")
    return any(condition(hpa, "ScalingActive").get("status") == "True" for hpa in found)


def await_empty(stage: Stage, namespace: str) -> None:
    """Wait until the pods of a namespace have given their GPUs back."""
    wait_for(
        f"the end of {namespace}",
        lambda: not stage.tools.list("pods", "-n", namespace),
        timeout=120,
    )


def conditions(load: Load) -> Figures:
    """Return what the race was run under."""
    return {
        "trace": TRACE,
        "speed": SPEED,
        "seconds": load.end - load.warm_up,
        "warm_up_s": load.warm_up,
        "mean_rps": round(len(load.arrivals) / load.end, 2),
        "service_s": SERVICE_S,
        "model_load_s": LOAD_S,
        "objective_s": OBJECTIVE_S,
        "scrape_interval_s": SCRAPE_S,
        "rival": f"KEDA {KEDA_VERSION} with the HPA controller of Kubernetes",
    }


def ratios(found: Figures) -> Figures:
    """Return Conch's figures as multiples of KEDA's."""
    ours, theirs = found["conch"], found["keda"]
    return {name: ratio(ours[name], theirs[name]) for name in ("late_percent", "replica_seconds")}


def unmet_goals(figures: Figures) -> list[Unmet]:
    """Return the goals that were not reached."""
    unmet = []
    if figures["breach_to_pod_s"] > BREACH_S:
        goal = f"from the scrape that confirms a breach to the pod: {BREACH_S:g} s"
        unmet.append(Unmet(goal, f"{figures['breach_to_pod_s']:g} s"))
    ours, theirs = figures["conch"], figures["keda"]
    if all(theirs[name] <= ours[name] for name in ("late_percent", "replica_seconds")):
        figure = f"{ours['late_percent']:g} % late at {ours['replica_seconds']:g} replica-seconds"
        unmet.append(Unmet("fewer late requests, or fewer replica-seconds, than KEDA", figure))
    return unmet


def show(console: Console, figures: Figures, unmet: list[Unmet]) -> None:
    """Print the figures and what was not reached."""
    table = Table("", "Conch", "KEDA", "ratio")
    for name in ("late_percent", "replica_seconds", "mean_replicas", "p50_s", "p99_s", "failed"):
        told = figures["ratios"].get(name)
        cells = [f"{figures[who][name]:g}" for who in ("conch", "keda")]
        table.add_row(name.replace("_", " "), *cells, "" if told is None else f"{told:g}")
    console.print(table)
    console.print(f"from the scrape that confirms a breach to the pod: {figures['breaches_s']} s")
    for goal in unmet:
        console.print(f"[bold red]Not reached:[/] {goal.goal}: {goal.figure}")


if __name__ == "__main__":
    sys.exit(main())
