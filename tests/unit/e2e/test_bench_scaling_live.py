import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from conch.simulate.traces import TraceError
from e2e.bench import scaling_live
from e2e.bench.race import Answer, Replicas
from e2e.bench.race_plot import plot
from e2e.bench.scaling_live import Load, Outcome, objects, ratios, recorded, show, unmet_goals


def outcome(*latencies: float) -> Outcome:
    replicas = Replicas()
    replicas.see("ADDED", {"metadata": {"uid": "a", "name": "a"}}, 1000.0)
    answers = [Answer(10.0 + i, s) for i, s in enumerate(latencies)]
    return Outcome(Load([], warm_up=10, end=20), 1005.0, replicas, answers, [])


def figures(conch: tuple[float, float], keda: tuple[float, float], breach: float) -> dict[str, Any]:
    told = {
        name: outcome(0.1).figures() | {"late_percent": late, "replica_seconds": seconds}
        for name, (late, seconds) in {"conch": conch, "keda": keda}.items()
    }
    more = {"breach_to_pod_s": breach, "breaches_s": [breach], "warm_up_s": 10}
    return {**told, **more, "ratios": ratios(told)}


def test_only_what_is_due_after_the_warm_up_counts() -> None:
    told = outcome(0.3, 1.0, 0.3, 0.3).figures()
    assert (told["late_percent"], told["requests"]) == (25.0, 4)
    assert (told["replica_seconds"], told["mean_replicas"]) == (10.0, 1.0)
    assert told["timeline"][0] == {"second": 0.0, "created": 1, "ready": 0}


@pytest.mark.parametrize(
    ("conch", "keda", "breach", "unmet"),
    [
        ((1.0, 100.0), (2.0, 90.0), 1.0, 0),
        ((2.0, 100.0), (2.0, 90.0), 1.0, 1),
        ((1.0, 80.0), (2.0, 90.0), 2.1, 1),
    ],
)
def test_goals(
    conch: tuple[float, float], keda: tuple[float, float], breach: float, unmet: int
) -> None:
    assert len(unmet_goals(figures(conch, keda, breach))) == unmet


def test_ratios_are_told_and_drawn(tmp_path: Path) -> None:
    told = figures((1.0, 80.0), (4.0, 100.0), 2.5)
    assert told["ratios"] == {"late_percent": 0.25, "replica_seconds": 0.8}
    console = Console(record=True, width=120)
    show(console, told, unmet_goals(told))
    text = console.export_text()
    assert "0.25" in text
    assert "Not reached" in text
    assert plot(told, tmp_path / "race.png").read_bytes().startswith(b"\x89PNG")
    json.dumps(told)


def test_the_recorded_piece_is_replayed_faster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scaling_live, "FROM_S", 10.0)
    rows = "\n".join(f"{second}" for second in range(101))
    (tmp_path / scaling_live.TRACE.removesuffix(".gz")).write_text(f"timestamp\n{rows}\n")
    monkeypatch.setattr(scaling_live, "TRACE", scaling_live.TRACE.removesuffix(".gz"))
    load = recorded(tmp_path, 5.0, 15.0)
    assert load.arrivals[:3] == [0.0, 0.5, 1.0]
    assert load.arrivals[-1] < load.end == 20.0


def test_without_traces_it_says_where_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONCH_TRACES", str(tmp_path))
    with pytest.raises(TraceError, match="AzurePublicDataset"):
        scaling_live.traces()


def test_all_replicas_together_stay_within_a_core() -> None:
    model = next(o for o in objects("race") if o["kind"] == "Model")
    (variant,) = model["spec"]["variants"]
    assert variant["resources"]["cpu"] == f"{1000 // scaling_live.MOST}m"
