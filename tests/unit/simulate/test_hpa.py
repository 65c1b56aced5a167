"""Kubernetes' HPA: held against what its own controller decided (golden/README.md)."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conch.simulate.policies import hpa

GOLDEN: dict[str, Any] = json.loads(
    gzip.decompress((Path(__file__).parent / "golden" / "hpa.json.gz").read_bytes())
)
SERIES: list[dict[str, Any]] = GOLDEN["series"]
PODS = {
    -1: hpa.Pod(None),
    -2: hpa.Pod(None, pending=True),
    -3: hpa.Pod(900, pending=True),
    -4: hpa.Pod(900, gone=True),
    -5: hpa.Pod(900, gone=True),
}


def rules(given: dict[str, Any]) -> hpa.ScalingRules:
    policies = tuple(hpa.ScalingPolicy(**policy) for policy in given["policies"])
    return hpa.ScalingRules(given["window"], policies, hpa.Select(given["select"]))


def settings(given: dict[str, Any]) -> hpa.HpaSettings:
    up, down = given["up"], given["down"]
    behavior = hpa.Behavior(rules(up), rules(down)) if up and down else None
    return hpa.HpaSettings(
        **{k: v for k, v in given.items() if k not in {"up", "down"}}, behavior=behavior
    )


def recommended(series: dict[str, Any], step: int, spec: hpa.HpaSettings) -> int | None:
    if series["external"]:
        usage = series["values"][step]
        exist = series["statuses"][step]
        if usage < 0:
            return None
        return hpa.external_replicas(
            usage, exist=exist, target=spec.target, tolerance=spec.tolerance
        )
    pods = [PODS.get(sample) or hpa.Pod(sample) for sample in series["pods"][step] or ()]
    return hpa.pods_replicas(
        pods, current=series["current"][step], target=spec.target, tolerance=spec.tolerance
    )


def decisions(series: dict[str, Any]) -> Iterator[int]:
    """What is decided where the controller was asked."""
    spec, state = settings(series["settings"]), hpa.HpaState()
    for step, current in enumerate(series["current"]):
        now = series["began"] + (step + 1) * series["interval"]
        wanted, state = hpa.sync(
            state, spec, current=current, recommended=recommended(series, step, spec), now=now
        )
        yield wanted


@pytest.mark.parametrize("series", SERIES, ids=[series["name"] for series in SERIES])
def test_decides_as_kubernetes_does(series: dict[str, Any]) -> None:
    assert list(decisions(series)) == series["desired"]


def test_the_version_is_the_one_that_the_program_links() -> None:
    program = Path(__file__).parents[3] / "e2e" / "golden" / "hpa" / "go.mod"
    assert GOLDEN["of"].startswith("k8s.io/kubernetes v")
    assert GOLDEN["of"] in program.read_text()


def test_thousands_of_syncs_are_compared() -> None:
    made = [pair for s in SERIES for pair in zip(s["current"], s["desired"], strict=True)]
    assert len(made) >= 10_000
    assert sum(desired > current for current, desired in made) > 400
    assert sum(desired < current for current, desired in made) > 300
