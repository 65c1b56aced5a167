"""``make bench-second-start``: what the node's cache saves, into build/bench/second-start.json.

A model of 200 MB comes from a server that sends at the rate of a network. Its first start on a node
downloads it, the second, of the same pod's replacement, finds it in the cache. Two times count: that
of the step that brings the files, from its process's start to its end as it tells itself, and that
of the whole start, from the pod's creation until it is ready, as a watch sees it. A start without
the cache stands beside them, so that the cache's own price shows.
"""

import json
import random
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from time import monotonic
from typing import Any

from rich.console import Console
from rich.table import Table

from e2e.bench.first_answer import stages_of
from e2e.bench.report import ROOT, Unmet, write
from e2e.cluster.progress import terminal_reporter
from e2e.install import ensure_stage
from e2e.kubectl import wait_for
from e2e.model_server import ModelServer, archive, serving
from e2e.models import documents
from e2e.scratch import Object, Scratch, model, scratch, service

RUNS = 3
RATES = {"200 Mbit/s": 25e6, "1 Gbit/s": 125e6}
POOL = "a100"
MODEL_BYTES = 200_000_000
GOAL = 5.0
NAME = "large"
_SAID = re.compile(r"in ([0-9.]+) s,")
CODE = """\
import os
import numpy as np
import triton_python_backend_utils as pb


class TritonPythonModel:
    def initialize(self, args):
        folder = os.path.join(args["model_repository"], args["model_version"])
        self.weights = np.fromfile(os.path.join(folder, "weights.bin"), dtype=np.uint8)

    def execute(self, requests):
        return [pb.InferenceResponse([_summed(request)]) for request in requests]


def _summed(request):
    return pb.Tensor("sum", pb.get_input_tensor_by_name(request, "x").as_numpy())
"""


@dataclass(frozen=True)
class Start:
    """One start, in seconds: of the step that brings the files, and of the pod as a whole."""

    fetch_s: float
    ready_s: float


@dataclass
class Watch:
    """When each stage of each pod was first seen, by UID and stage."""

    seen: dict[str, dict[str, float]] = field(default_factory=dict)

    def note(self, pod: Object) -> None:
        """Take over a pod as it is now."""
        stages = self.seen.setdefault(pod["metadata"]["uid"], {})
        for stage in stages_of(pod):
            stages.setdefault(stage, monotonic())


def main() -> int:
    """Measure, print and write."""
    console = Console()
    stage = ensure_stage(terminal_reporter())
    if not stage.cluster.local:
        console.print("The server of this benchmark is reached from the local cluster only.")
        return 1
    stage.tools.apply(*documents("pools.yaml"))
    measured = {}
    with scratch(stage, "bench-second-start") as place, watching(place) as watch:
        for rate, bytes_per_second in RATES.items():
            measured[rate] = at_rate(place, watch, rate, bytes_per_second, console)
    figures: dict[str, Any] = {
        "model_bytes": MODEL_BYTES,
        "pool": POOL,
        "runs": RUNS,
        "rates": {rate: summary(starts) for rate, starts in measured.items()},
    }
    unmet = unmet_goals(figures)
    show(console, figures, unmet)
    console.print(f"Written: {write('second-start', figures, unmet).relative_to(ROOT)}")
    return 0


def at_rate(
    place: Scratch, watch: Watch, rate: str, bytes_per_second: float, console: Console
) -> dict[str, list[Start]]:
    """Return the starts at a rate: without the cache, the first with it, the second."""
    found: dict[str, list[Start]] = {"uncached": [], "first": [], "second": []}

    def add(kind: str, start: Start) -> None:
        found[kind].append(start)
        console.print(f"{rate}, {kind}: fetch {start.fetch_s:.2f} s, ready {start.ready_s:.1f} s")

    for run in range(RUNS):
        files = {"model.tar": archive(model_files(f"{rate} {run}"))}
        with serving(files, bytes_per_second=bytes_per_second) as server:
            add("uncached", started(place, watch, server, cached=False))
            remove(place)
            add("first", started(place, watch, server, cached=True))
            asked = len(server.asked)
            add("second", replaced(place, watch))
            if len(server.asked) != asked:
                raise SystemExit("the second start has asked the server")
            remove(place)
    return found


def model_files(seed: str) -> dict[str, bytes]:
    """Return the files of a model whose content, and so its key in the cache, is of this run."""
    weights = random.Random(seed).randbytes(MODEL_BYTES)
    return {"model.py": CODE.encode(), "weights.bin": weights}


def started(place: Scratch, watch: Watch, server: ModelServer, *, cached: bool) -> Start:
    """Apply the service and return how its only pod started."""
    source = {"uri": server.uri("model.tar"), "sha256": server.sha256("model.tar")}
    # The environment of users goes before Conch's, and so turns the cache off.
    template = {} if cached else {"env": [{"name": "CONCH_CACHE", "value": ""}]}
    place.apply(
        model(NAME, source=source), service(NAME, pools=(POOL,), replicas=1, podTemplate=template)
    )
    return settled(place, watch, before=None)


def replaced(place: Scratch, watch: Watch) -> Start:
    """Delete the pod and return how the one in its place started."""
    (old,) = place.await_ready(NAME)
    place.kubectl("delete", "pod", old["metadata"]["name"], "--grace-period=1", "--wait=false")
    return settled(place, watch, before=old["metadata"]["uid"])


def settled(place: Scratch, watch: Watch, *, before: str | None) -> Start:
    """Return how the pod started that is ready now and was not before."""

    def fresh() -> Object | None:
        pods = place.pods(NAME, ready=True)
        new = [p for p in pods if p["metadata"]["uid"] != before]
        seen = [p for p in new if "ready" in watch.seen.get(p["metadata"]["uid"], {})]
        return seen[0] if seen else None

    pod = wait_for(
        "a pod that is ready", fresh, timeout=120, seen=lambda: place.kubectl("get", "pods")
    )
    stages = watch.seen[pod["metadata"]["uid"]]
    said = place.kubectl("logs", pod["metadata"]["name"], "-c", "fetch")
    told = _SAID.search(said)
    if told is None:
        raise SystemExit(f"the fetch does not tell its seconds: {said}")
    return Start(float(told[1]), stages["ready"] - stages["pod created"])


def remove(place: Scratch) -> None:
    """Remove the service and its pod; the cache stays."""
    place.kubectl("delete", "modelservice", NAME, "--wait=true")
    place.kubectl("delete", "pods", "--all", "--grace-period=1", "--wait=true")


@contextmanager
def watching(place: Scratch) -> Iterator[Watch]:
    """Note the stages of all pods while the body runs."""
    noted, ended = Watch(), threading.Event()
    thread = threading.Thread(target=_watch, args=(place, noted, ended), daemon=True)
    thread.start()
    try:
        yield noted
    finally:
        ended.set()
        thread.join(timeout=10)


def _watch(place: Scratch, noted: Watch, ended: threading.Event) -> None:
    """Watch until it is ended, anew where the watch is cut."""
    tools = place.stage.tools
    words = (str(tools.bin / "kubectl"), "--kubeconfig", str(tools.kubeconfig))
    while not ended.is_set():
        process = subprocess.Popen(
            [*words, "get", "pods", "-n", place.namespace, "-w", "-o", "json"],
            stdout=subprocess.PIPE,
            text=True,
        )
        stopper = threading.Thread(target=lambda p=process: (ended.wait(), p.terminate()))
        stopper.daemon = True
        stopper.start()
        _read(process, noted)
        process.wait()


def _read(process: "subprocess.Popen[str]", noted: Watch) -> None:
    text = ""
    assert process.stdout is not None
    for line in process.stdout:
        text += line
        if line.rstrip() == "}":
            noted.note(json.loads(text))
            text = ""


def summary(starts: dict[str, list[Start]]) -> dict[str, Any]:
    """Return medians, all values, and how many times faster the second start is than the first."""
    fetch = {kind: median(s.fetch_s for s in found) for kind, found in starts.items()}
    ready = {kind: median(s.ready_s for s in found) for kind, found in starts.items()}
    return {
        "fetch_s": {kind: round(seconds, 2) for kind, seconds in fetch.items()},
        "ready_s": {kind: round(seconds, 2) for kind, seconds in ready.items()},
        "of_second_start_not_fetch_s": round(ready["second"] - fetch["second"], 2),
        "fetch_times_faster": round(fetch["first"] / fetch["second"], 1),
        "ready_times_faster": round(ready["first"] / ready["second"], 1),
        "all": {
            kind: [{"fetch_s": round(s.fetch_s, 2), "ready_s": round(s.ready_s, 2)} for s in found]
            for kind, found in starts.items()
        },
    }


def unmet_goals(figures: dict[str, Any]) -> list[Unmet]:
    """Return what is not as many times faster as was asked for."""
    return [
        Unmet(f"second start at {rate}: {GOAL:g} times faster ({what})", f"{found[key]:g} times")
        for rate, found in figures["rates"].items()
        for what, key in (("fetch", "fetch_times_faster"), ("ready", "ready_times_faster"))
        if found[key] < GOAL
    ]


def show(console: Console, figures: dict[str, Any], unmet: list[Unmet]) -> None:
    """Print the figures and what was not reached."""
    table = Table("rate", "seconds of", "no cache", "first", "second", "times faster")
    for rate, found in figures["rates"].items():
        for what in ("fetch", "ready"):
            seconds = found[f"{what}_s"]
            cells = [f"{seconds[kind]:g}" for kind in ("uncached", "first", "second")]
            table.add_row(rate, what, *cells, f"{found[f'{what}_times_faster']:g}")
    console.print(table)
    for goal in unmet:
        console.print(f"[bold red]Not reached:[/] {goal.goal}: {goal.figure}")


if __name__ == "__main__":
    sys.exit(main())
