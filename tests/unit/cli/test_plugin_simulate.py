"""kubectl conch simulate, from files to what it prints."""

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from conch.cli.plugin import app
from conch.cli.plugin_target import PluginError

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "simulate"
KEYS = [
    "policy",
    "cost_ratio",
    "late_percent",
    "p99_wait_s",
    "replica_seconds",
    "actions_per_hour",
]


def run(*words: str, file: str = str(EXAMPLES / "shelf.yaml"), stdin: str | None = None) -> Result:
    trace = [] if "--trace" in words else ["--trace", str(EXAMPLES / "day.csv"), "--end", "1h"]
    return CliRunner().invoke(app, ["simulate", "-f", file, *trace, *words], input=stdin)


def test_json_is_a_list_with_the_promised_keys() -> None:
    words = ("--policy", "static:3", "--policy", "clairvoyant", "-o", "json", "--load-time", "45s")
    answer = run(*words)
    assert answer.exit_code == 0, answer.stderr
    static, best = json.loads(answer.stdout)
    assert list(static)[:6] == list(best)[:6] == KEYS
    assert static["policy"] == "static:3"
    assert static["replica_seconds"] == pytest.approx(3 * 3300, rel=0.01)
    assert best["cost_ratio"] == 1.0
    assert static["cost_ratio"] == pytest.approx(
        static["replica_seconds"] / best["replica_seconds"], rel=1e-4
    )
    assert run(*words).stdout == answer.stdout


def test_the_default_is_conch_in_a_table_with_a_plot() -> None:
    answer = run()
    assert answer.exit_code == 0, answer.stderr
    assert "shelf on NVIDIA-A100, day.csv: " in answer.stdout
    assert "GPUs peak" in answer.stdout
    assert "\nconch " in answer.stdout
    assert "load, up to " in answer.stdout
    assert "█" in answer.stdout


def test_a_picture_is_written_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    answer = run("--policy", "static:3", "-o", "png")
    assert answer.stdout == "shelf.png\n"
    assert (tmp_path / "shelf.png").read_bytes().startswith(b"\x89PNG")
    assert run("--policy", "static:3", "--plot", str(tmp_path / "other.png")).exit_code == 0
    assert (tmp_path / "other.png").exists()


def test_without_matplotlib_one_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    answer = run("--policy", "static:3", "-o", "png")
    assert isinstance(answer.exception, PluginError)
    assert "pip install 'conch-operator[plots]'" in str(answer.exception)
    assert run("--policy", "static:3").exit_code == 0


def test_standard_input_is_read_and_notes_go_to_stderr() -> None:
    text = (EXAMPLES / "shelf.yaml").read_text().replace(", maxReplicas: 40", "")
    answer = run("--policy", "static:1", "-o", "json", file="-", stdin=text)
    assert json.loads(answer.stdout)[0]["policy"] == "static:1"
    assert "Note: spec.scaling.maxReplicas is unset" in answer.stderr


def test_a_trace_with_dates_is_cut_by_times(tmp_path: Path) -> None:
    trace = tmp_path / "requests.csv"
    lines = [f"2026-03-29T{9 + i // 60:02}:{i % 60:02}:00Z" for i in range(180)]
    trace.write_text("timestamp\n" + "\n".join(lines) + "\n")
    times = ("--start", "2026-03-29T10:00:00", "--end", "2026-03-29T12:30:00+01:00")
    answer = run("--trace", str(trace), "--policy", "static:1", "-o", "json", *times)
    assert json.loads(answer.stdout)[0]["requests"] == 85


def test_a_load_of_windows_can_be_multiplied_but_not_one_of_requests(tmp_path: Path) -> None:
    ask = ("--policy", "static:1", "-o", "json", "--rate", "40", "--trace")
    windows, requests = tmp_path / "windows.csv", tmp_path / "requests.csv"
    windows.write_text("start_s,rate_rps\n0,2\n600,6\n")
    requests.write_text("timestamp\n" + "".join(f"{n}\n" for n in range(1200)))
    judged = json.loads(run(*ask, str(windows)).stdout)[0]["requests"]
    assert judged == pytest.approx(20 * 300 + 60 * 600, rel=0.05)
    refused = run(*ask, str(requests))
    assert refused.exit_code == 2
    assert "can be thinned, not multiplied; give a trace of counts or of rates" in refused.stderr


BAD = {
    "policy": (["--policy", "hpaa:0.5"], "hpaa"),
    "load time": (["--load-time", "45"], "--load-time '45' must be drawn, or a duration"),
    "failures": (["--node-failures", "0s"], "--node-failures '0s' must be a duration"),
    "rate": (["--rate", "0"], "--rate 0 must be above zero"),
    "start": (["--start", "noon"], "--start 'noon' is neither a duration such as 36h nor a time"),
    "dates": (["--start", "2026-03-29"], "day.csv has no dates; give a duration such as 36h"),
    "order": (["--start", "2h"], "--start 2h is not before --end 1h"),
    "too short": (["--start", "56m"], "this stretch of 240 s has no more"),
    "no trace": (["--trace", "absent.csv"], "absent.csv can't be read: No such file"),
    "accelerator": (["--accelerator", "H100"], "no profile on 'H100'"),
    "no service": (["--service", "other"], "has no ModelService 'other'; it has: shelf"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence_and_exit_status_2(case: str) -> None:
    words, message = BAD[case]
    answer = run(*words)
    assert answer.exit_code == 2
    assert answer.stdout == ""
    assert answer.stderr.startswith("error: ")
    assert message in answer.stderr
    assert "Traceback" not in answer.stderr
