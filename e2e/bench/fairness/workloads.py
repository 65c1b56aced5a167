"""The workloads: what tenants asked of real fleets for some days."""

import csv
import gzip
import json
import math
from ast import literal_eval
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from e2e.bench.fairness.scene import GPUS_PER_NODE, Work, Workload
from e2e.bench.scaling_traces import folder

DAY = 86400.0
PHILLY = "philly_vc_jobs_seed0.csv.gz"
THROUGHPUTS = "gavel_throughputs.json.gz"
SERVEGEN = "servegen-m-large.csv.gz"
_GAVEL = "https://github.com/stanford-futuredata/gavel"
WHENCE = {
    PHILLY: f"{_GAVEL}: the traces of Philly's virtual clusters in one CSV, "
    "vc,job_type,num_steps,arrival_s,n_gpus, gzipped",
    THROUGHPUTS: f"{_GAVEL}: scheduler/simulation_throughputs.json, gzipped",
    SERVEGEN: "https://github.com/alibaba/ServeGen: the windows of all clients of the category in "
    "one CSV, client,window_start_s,rate_rps,cv,dist,param1,param2, gzipped",
}
PHILLY_START = 20 * DAY
"""In the busiest weeks, when all of the large tenants are there."""
PHILLY_EVERY = 2
"""Of each tenant, every so many-th job is taken, so that a run is short.

Figures depend on it: on a smaller fleet a replica of a whole node is more of what a tenant is
entitled to, and all policies that count whole replicas are less fair.
"""
SERVEGEN_START = 3 * DAY
SERVEGEN_TENANTS = 9
SERVEGEN_WEIGHTS = (1.0, 2.0, 4.0)
RPS_PER_GPU = 1.0
"""What one GPU answers of a large language model; it makes some 200 GPUs of the trace."""
SERVICES_PER_TENANT = 4
"""Its largest clients have one each, and all others the last."""
WINDOW = 600.0
"""Seconds of one rate in ServeGen."""


def missing() -> str | None:
    """Return what to do about traces that are not there, or None."""
    where = folder()
    lines = [
        f"  {file}: {whence}" for file, whence in WHENCE.items() if not (where / file).is_file()
    ]
    if not lines:
        return None
    listed = "\n".join(lines)
    return f"These traces are not in {where} (set CONCH_TRACES to where they are):\n{listed}"


@lru_cache(maxsize=4)
def load(name: str, span: float, every: int = PHILLY_EVERY) -> Workload:
    """Return a workload of so many seconds by its name."""
    if name == "philly":
        return philly(folder() / PHILLY, folder() / THROUGHPUTS, span, every)
    return servegen(folder() / SERVEGEN, span)


def philly(path: Path, throughputs: Path, span: float, every: int) -> Workload:
    """Return the jobs of 15 virtual clusters, of equal weight.

    A job runs its steps at the throughput that was measured on V100s. What came before the span and
    would still run on a fleet without bounds is there at its start, with the rest that it has to do.
    """
    speeds = _speeds(throughputs)
    counts: dict[str, int] = defaultdict(int)
    works, tenants = [], set()
    for number, row in enumerate(_rows(path)):
        tenants.add(row["vc"])
        counts[row["vc"]] += 1
        arrived = float(row["arrival_s"]) - PHILLY_START
        seconds = float(row["num_steps"]) / _speed(speeds, row["job_type"], int(row["n_gpus"]))
        left = seconds + min(0.0, arrived)
        if counts[row["vc"]] % every or arrived >= span or left <= 0:
            continue
        replicas = replicas_of(int(row["n_gpus"]))
        works.append(
            Work(
                f"job-{number:05}",
                row["vc"],
                int(row["n_gpus"]) // replicas,
                arrived,
                left * replicas,
                ((arrived, replicas),),
            )
        )
    works.sort(key=lambda w: (w.arrived, w.name))
    return Workload("philly", dict.fromkeys(sorted(tenants), 1.0), tuple(works), span)


def replicas_of(gpus: int) -> int:
    """Return into how many equal replicas a job is divided, so that each fits into a node.

    Its replicas run on their own, as those of a service do: a job of 64 GPUs gets on with 8 of them.
    """
    fewest = math.ceil(gpus / GPUS_PER_NODE)
    return next(n for n in range(fewest, gpus + 1) if gpus % n == 0)


def _speeds(path: Path) -> dict[tuple[str, int], float]:
    """Return steps per second of each type of job by its GPUs."""
    with gzip.open(path, "rt") as text:
        measured = json.load(text)["v100"]
    return {literal_eval(key): alone["null"] for key, alone in measured.items()}


def _speed(speeds: Mapping[tuple[str, int], float], kind: str, gpus: int) -> float:
    """Return the speed of a job; measured for 1, 2, 4 and 8 GPUs, beyond that as of the most."""
    known = (count for of, count in speeds if of == kind and count <= gpus)
    return speeds[kind, max(known)]


def servegen(path: Path, span: float) -> Workload:
    """Return services that follow the rates of clients, of tenants that weigh 1, 2 and 4.

    Client n belongs to tenant n mod 9, whose weight goes by its number mod 3. A service wishes for as
    many replicas of one GPU as its rate needs; a window without a rate is one without requests.
    """
    rates: dict[int, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    for row in _rows(path):
        start = float(row["window_start_s"]) - SERVEGEN_START
        if 0 <= start < span:
            rates[int(row["client"])][int(start // WINDOW)] += float(row["rate_rps"])
    works = []
    for number in range(SERVEGEN_TENANTS):
        mine = {client: of for client, of in rates.items() if client % SERVEGEN_TENANTS == number}
        largest = sorted(mine, key=lambda c: (-sum(mine[c].values()), c))
        alone = largest[: SERVICES_PER_TENANT - 1]
        for place, clients in enumerate([*([c] for c in alone), largest[len(alone) :]]):
            wishes = tuple(_wishes([mine[c] for c in clients], int(span // WINDOW)))
            works.append(
                Work(f"service-{number}-{place}", f"tenant-{number}", 1, 0.0, wishes=wishes)
            )
    weights = {
        f"tenant-{n}": SERVEGEN_WEIGHTS[n % len(SERVEGEN_WEIGHTS)] for n in range(SERVEGEN_TENANTS)
    }
    return Workload("servegen", weights, tuple(works), span)


def _wishes(rates: Sequence[Mapping[int, float]], windows: int) -> Iterator[tuple[float, int]]:
    """Yield (time, replicas) where they change."""
    last = None
    for window in range(windows):
        rate = sum(of.get(window, 0.0) for of in rates)
        wished = math.ceil(rate / RPS_PER_GPU)
        if wished != last:
            yield window * WINDOW, wished
        last = wished


def mean_demand(workload: Workload) -> float:
    """Return the GPUs of all work that is there, on a fleet without bounds, on average."""
    return sum(w.gpus * _replica_seconds(w, workload.span) for w in workload.works) / workload.span


def _replica_seconds(work: Work, span: float) -> float:
    """Return what a work asks for within the span."""
    if work.seconds is not None:
        replicas = work.wishes[0][1]
        return min(work.seconds, replicas * (span - max(0.0, work.arrived)))
    ends = [*(time for time, _ in work.wishes[1:]), span]
    return sum(n * (end - time) for (time, n), end in zip(work.wishes, ends, strict=True))


def fleet(workload: Workload, load: float) -> int:
    """Return the nodes of a fleet whose GPUs the mean demand keeps busy at ``load``."""
    return max(1, round(mean_demand(workload) / load / GPUS_PER_NODE))


def _rows(path: Path) -> Iterator[Mapping[str, str]]:
    with gzip.open(path, "rt", newline="") as text:
        yield from csv.DictReader(text)
