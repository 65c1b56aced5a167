import json
import re
from pathlib import Path

import pytest

from e2e.bench import report
from e2e.bench.first_answer import FirstAnswer, stages_of
from e2e.bench.main_job import by_sample, unmet_goals, worst_medians
from e2e.bench.report import Unmet


def test_a_report_says_where_it_was_measured_and_what_was_not_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "FOLDER", tmp_path / "bench")
    path = report.write("some", {"seconds": 2.5}, [Unmet("under 2 s", "2.5 s")])
    found = json.loads(path.read_text())
    assert path == tmp_path / "bench" / "some.json"
    assert found["seconds"] == 2.5
    assert found["unmet"] == [{"goal": "under 2 s", "figure": "2.5 s"}]
    assert found["machine"]["cores"] >= 1
    assert found["machine"]["memory_gib"] > 0
    assert re.fullmatch(r"[0-9a-f]{40}(\+changes)?|unknown: .*", found["commit"])


def test_outside_of_a_checkout_the_commit_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert report.commit().startswith("unknown")


ANSWERS = [
    FirstAnswer("digits", "a100", 5.0, {}),
    FirstAnswer("digits", "a100", 30.0, {}),
    FirstAnswer("digits", "a100", 6.0, {}),
    FirstAnswer("tumor", "a100", 8.0, {}),
    FirstAnswer("tumor", "a100", 7.0, {}),
    FirstAnswer("tumor", "a100", 9.0, {}),
    FirstAnswer("digits", "t4", 11.0, {}),
]


def test_the_figure_is_the_median_of_the_sample_that_takes_longest() -> None:
    assert worst_medians(ANSWERS) == {"A100": 8.0, "T4": 11.0}
    assert by_sample(ANSWERS)["A100"] == {"digits": [5.0, 30.0, 6.0], "tumor": [8.0, 7.0, 9.0]}


def test_goals_that_were_not_reached_are_named() -> None:
    figures = {"first_answer_s": worst_medians(ANSWERS), "demo_warm_s": 180.5}
    assert unmet_goals(figures) == [
        Unmet("first answer on T4 within 10 s", "11 s"),
        Unmet("make demo, warm, under 180 s", "180.5 s"),
    ]
    assert unmet_goals({"first_answer_s": {"A100": 10.0, "T4": 9.9}, "demo_warm_s": 180.0}) == []


@pytest.mark.parametrize(
    ("pod", "stages"),
    [
        ({"spec": {"schedulingGates": [{"name": "x"}]}}, ["pod created"]),
        ({"spec": {}}, ["pod created", "gate lifted"]),
        ({"spec": {"nodeName": "n"}}, ["pod created", "gate lifted", "bound"]),
    ],
)
def test_stages_before_a_container_runs(pod: dict[str, object], stages: list[str]) -> None:
    assert list(stages_of(pod)) == stages


def test_stages_of_a_pod_that_is_ready() -> None:
    pod = {
        "spec": {"nodeName": "n"},
        "status": {
            "initContainerStatuses": [{"state": {"terminated": {"exitCode": 0}}}],
            "containerStatuses": [{"state": {"running": {}}, "ready": True}],
        },
    }
    assert list(stages_of(pod))[3:] == ["fetch started", "fetch done", "Triton started", "ready"]
