import pytest

from e2e.bench.second_start import Start, Watch, summary, unmet_goals
from e2e.model_server import ModelServer, archive

STARTS = {
    "uncached": [Start(9, 14)],
    "first": [Start(10, 15), Start(30, 40), Start(12, 16)],
    "second": [Start(1, 4), Start(1, 4), Start(9, 9)],
}


def test_medians_and_how_many_times_faster() -> None:
    told = summary(STARTS)
    assert told["fetch_s"] == {"uncached": 9, "first": 12, "second": 1}
    assert (told["fetch_times_faster"], told["ready_times_faster"]) == (12.0, 4.0)
    assert told["all"]["first"][1] == {"fetch_s": 30, "ready_s": 40}


def test_what_was_not_reached_is_told() -> None:
    (unmet,) = unmet_goals({"rates": {"1 Gbit/s": summary(STARTS)}})
    assert unmet.goal == "second start at 1 Gbit/s: 5 times faster (ready)"
    assert unmet.figure == "4 times"


def test_each_pod_has_its_own_stages() -> None:
    watch = Watch()
    for uid in ("a", "b", "a"):
        watch.note({"metadata": {"uid": uid}, "spec": {"nodeName": "n"}})
    assert set(watch.seen) == {"a", "b"}
    assert set(watch.seen["a"]) == {"pod created", "gate lifted", "bound"}


def test_a_rate_holds_for_all_who_ask_together(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("e2e.model_server.sleep", slept.append)
    server = ModelServer({}, bytes_per_second=1000)
    for _ in range(3):
        server.await_turn(500)
    assert [round(s, 1) for s in slept] == [0.5, 1.0, 1.5]


def test_an_archive_is_the_same_each_time() -> None:
    assert archive({"m": b"x"}) == archive({"m": b"x"})
