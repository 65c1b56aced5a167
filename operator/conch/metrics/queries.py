"""The PromQL of a tick: a fixed number of queries, whatever the fleet's size.

Thirteen, each over all services at once; where there is a front door, what it counts comes on top
(arrivals.py). Their rates are those between a pod's last two scrapes
(irate): two successive answers then share no sample, so that a flood shows after one scrape and
one odd sample in one answer only. A service's own window (spec.scaling.window) is no query of
its own: scaling averages the answers over it.

Metric names are Triton's (2.51, docs/user_guide/metrics.md). Label names are those of the pods,
as Prometheus' labelmap or a PodMonitor's podTargetLabels write them.
"""

from collections.abc import Mapping
from functools import partial

LOOKBACK = 120.0
"""Seconds in which a pod must have been scraped twice: scrape intervals up to a minute."""

GROUP = ("namespace", "conch_dev_service", "conch_dev_revision", "conch_dev_pool", "model")
"""Labels that tell the series of a key, and of its models, apart."""

_BY = ", ".join(GROUP)
SELECTOR = '{conch_dev_service!=""}'
"""Of all pods of services."""
_POD = "namespace, pod, instance, conch_dev_serving"
LIVE = f"and on ({_POD}) (up{SELECTOR} == 1)"
"""Only pods that answer: what a pod left behind when it went is still within the lookback."""
P99 = 'nv_inference_request_summary_us{conch_dev_service!="",quantile="0.99"}'
"""The slowest percentile of each pod and model (us)."""


def queries(lookback: float = LOOKBACK) -> Mapping[str, str]:
    """Return the queries of a tick by name. ``lookback`` (s) must hold two scrapes of each pod."""
    rate = partial(pod_rate, by=_BY, lookback=lookback)
    return {
        "inferences": rate("nv_inference_count"),
        "requests": rate("nv_inference_request_success"),
        "failures": rate("nv_inference_request_failure"),
        "executions": rate("nv_inference_exec_count"),
        # A run holds its instance while inputs and outputs are copied, too. Each is summed over
        # the requests of a batch, so it is divided by requests, not by runs.
        "compute_input_us": rate("nv_inference_compute_input_duration_us"),
        "compute_us": rate("nv_inference_compute_infer_duration_us"),
        "compute_output_us": rate("nv_inference_compute_output_duration_us"),
        "queue_us": rate("nv_inference_queue_duration_us"),
        "pending": f"sum by ({_BY}) (nv_inference_pending_request_count{SELECTOR} {LIVE})",
        "pods": _pods(_within(lookback)),
        # Quantiles of pods can't be averaged: the worst one counts. NaN, of a pod that nobody
        # asked lately, fails the comparison.
        "p99_us": f"max by ({_BY}) ({P99} >= 0)",
        "scraped": f"max by ({_BY}) (timestamp(nv_inference_count{SELECTOR}) {LIVE})",
        "scraped_first": f"min by ({_BY}) (timestamp(nv_inference_count{SELECTOR}) {LIVE})",
    }


def pod_rate(metric: str, *, by: str, lookback: float) -> str:
    """Return the query of a counter's rate between each pod's last two scrapes, summed ``by`` labels."""
    return f"sum by ({by}) (irate({metric}{SELECTOR}{_within(lookback)}) {LIVE})"


def _within(lookback: float) -> str:
    return f"[{round(lookback * 1000)}ms]"


def _pods(within: str) -> str:
    """Count the pods that gave a rate: one that was scraped once is not covered yet."""
    twice = f"count_over_time(nv_inference_count{SELECTOR}{within}) >= 2"
    return f"count by ({_BY}) (count by ({_BY}, pod) (({twice}) {LIVE}))"
