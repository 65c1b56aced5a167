"""Knative's autoscaler: held against what its own code decided (golden/README.md)."""

import gzip
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conch.simulate.policies.kpa import TICK, Kpa, KpaSettings

GOLDEN: dict[str, Any] = json.loads(
    gzip.decompress((Path(__file__).parent / "golden" / "kpa.json.gz").read_bytes())
)
SERIES: list[dict[str, Any]] = GOLDEN["series"]


def decisions(series: dict[str, Any]) -> Iterator[int | None]:
    """What the policy decides where Knative's code was asked."""
    policy = Kpa(KpaSettings(**series["settings"]))
    policy.restart(series["ready"][0], series["began"])
    sampled = 0
    for step, ready in enumerate(series["ready"]):
        now = series["began"] + series["offset"] + step * TICK
        while series["began"] + sampled + 1 <= now:
            if (sample := series["samples"][sampled]) is not None:
                policy.sample(series["began"] + sampled + 1, sample)
            sampled += 1
        yield policy.decide(ready, now)


@pytest.mark.parametrize("series", SERIES, ids=[series["name"] for series in SERIES])
def test_decides_as_knative_does(series: dict[str, Any]) -> None:
    assert list(decisions(series)) == series["desired"]


def test_the_version_is_the_one_that_the_program_links() -> None:
    program = Path(__file__).parents[3] / "e2e" / "golden" / "kpa" / "go.mod"
    assert GOLDEN["of"].startswith("knative.dev/serving v")
    assert GOLDEN["of"] in program.read_text()


def test_thousands_of_decisions_are_compared() -> None:
    made = [desired for series in SERIES for desired in series["desired"]]
    assert len(made) > 20_000
    assert sum(desired is None for desired in made) > 100
    assert sum(a != b for a, b in itertools.pairwise(made)) > 2_000
