"""The services of the scaling benchmark: one trace each, with its half to test and that to tune."""

import os
from dataclasses import dataclass
from pathlib import Path

from conch.api.service import Scaling
from conch.decisions.scaling import Profile
from conch.simulate.traces import Trace, read_trace
from conch.simulate.workload import Workload
from e2e.bench.report import ROOT

DAY = 86400.0
MEAN_RPS = 50.0
"""A trace with more is thinned to it, one of counts with fewer multiplied."""
MEAN_REPLICAS = 10
"""Replicas that the mean load keeps busy."""
OBJECTIVE = 3.0
"""Service times that a request may take."""
MOST_REPLICAS = 100
"""Ten times the mean, and what KEDA and others have as their default bound."""


@dataclass(frozen=True)
class Source:
    """A trace, its file, and where that is to be had."""

    name: str
    file: str
    whence: str
    halves: bool = False
    """Shorter than a day: its first half is to tune and its second to test, not days."""


_AZURE = "https://github.com/Azure/AzurePublicDataset (2023), gzipped"
_SERVEGEN = (
    "https://github.com/alibaba/ServeGen: the windows of all clients of the category in one CSV, "
    "client,window_start_s,rate_rps,cv,dist,param1,param2, gzipped"
)
SOURCES = (
    Source("azure-conv", "AzureLLMInferenceTrace_conv.csv.gz", _AZURE, halves=True),
    Source("azure-code", "AzureLLMInferenceTrace_code.csv.gz", _AZURE, halves=True),
    Source("servegen-large", "servegen-m-large.csv.gz", _SERVEGEN),
    Source("servegen-mid", "servegen-m-mid.csv.gz", _SERVEGEN),
    Source(
        "elb",
        "nab_elb.csv.gz",
        "https://github.com/numenta/NAB: data/realAWSCloudwatch/elb_request_count_8c0756.csv, gzipped",
    ),
)


def folder() -> Path:
    """Return where the traces should be."""
    return Path(os.environ.get("CONCH_TRACES") or ROOT.parent / "shared" / "traces")


def missing() -> str | None:
    """Return what to do about traces that are not there, or None."""
    where = folder()
    absent = [s for s in SOURCES if not (where / s.file).is_file()]
    if not absent:
        return None
    lines = "\n".join(f"  {s.file}: {s.whence}" for s in absent)
    return f"These traces are not in {where} (set CONCH_TRACES to where they are):\n{lines}"


def source(name: str) -> Source:
    """Return the source of that name."""
    return next(s for s in SOURCES if s.name == name)


def whole(name: str) -> Trace:
    """Return a trace at the mean rate, as far as it can be, all of it."""
    return read_trace(folder() / source(name).file).scaled(MEAN_RPS)


def stretches(source: Source, trace: Trace, *, tune: bool) -> list[tuple[float, float]]:
    """Return the (start, end) of what is run one by one: half of a short trace, or seven days."""
    if source.halves:
        middle = trace.span / 2
        return [(0.0, middle)] if tune else [(middle, trace.span)]
    first = 0 if tune else 7
    return [(day * DAY, (day + 1) * DAY) for day in range(first, first + 7)]


def workload(name: str, mean_rps: float) -> Workload:
    """Return a service that keeps ten replicas busy at the mean rate, one request at a time."""
    seconds = MEAN_REPLICAS / mean_rps
    return Workload(
        name=name,
        profile=Profile(seconds, 0.0),
        objective=OBJECTIVE * seconds,
        scaling=Scaling(min_replicas=1, max_replicas=MOST_REPLICAS),
    )
