"""Dashboards and alerts ask for metrics that there are, and dashboards are laid out."""

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conch.metrics import tenants

DASHBOARDS = Path(__file__).resolve().parents[3] / "charts" / "conch" / "dashboards"
METRIC = re.compile(r"\bconch_\w+")
KNOWN = {metric for metric, _ in tenants.ALL.values()}
FILES = sorted(DASHBOARDS.glob("*.json"))

Object = dict[str, Any]


def panels(path: Path) -> list[Object]:
    found: list[Object] = json.loads(path.read_text())["panels"]
    return found


def asked(path: Path) -> Iterator[str]:
    for panel in panels(path):
        yield from (target["expr"] for target in panel["targets"])


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_a_dashboard_asks_for_metrics_that_there_are(path: Path) -> None:
    found = {name for expr in asked(path) for name in METRIC.findall(expr)}
    assert found
    assert found <= KNOWN
    assert all("$tenant" in expr for expr in asked(path))


def test_alerts_ask_for_metrics_that_there_are() -> None:
    for alert in tenants.alerts():
        assert set(METRIC.findall(alert["expr"])) <= KNOWN
        assert alert["annotations"]["description"].endswith(".")


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_panels_lie_beside_each_other(path: Path) -> None:
    taken = [p["gridPos"] for p in panels(path)]
    assert all(p["x"] + p["w"] <= 24 for p in taken)
    for a, b in itertools.combinations(taken, 2):
        apart = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        below = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert apart or below
    assert len({p["id"] for p in panels(path)}) == len(taken)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_every_panel_takes_the_data_source_that_is_chosen(path: Path) -> None:
    for panel in panels(path):
        sources = [panel["datasource"], *(t["datasource"] for t in panel["targets"])]
        assert {s["uid"] for s in sources} == {"${datasource}"}
        assert panel["description"].endswith(".")
