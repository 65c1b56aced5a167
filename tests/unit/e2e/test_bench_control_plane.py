"""What the benchmark of a thousand services counts as a write, and which goals it holds up."""

from e2e.bench.control_plane import Arrivals, Figures, count_writes, deciles, quantile, unmet_goals

PAGE = """\
# TYPE apiserver_request_total counter
apiserver_request_total{code="200",resource="pods",scope="resource",verb="PATCH"} 7
apiserver_request_total{code="409",resource="pods",scope="resource",verb="PATCH"} 2
apiserver_request_total{code="200",resource="modelservices",subresource="status",verb="APPLY"} 5
apiserver_request_total{code="200",resource="leases",scope="resource",verb="PUT"} 900
apiserver_request_total{code="200",resource="nodes",subresource="status",verb="PATCH"} 30
apiserver_request_total{code="200",resource="pods",scope="cluster",verb="LIST"} 11
apiserver_request_total{code="0",resource="pods",scope="cluster",verb="WATCH"} 4
apiserver_request_duration_seconds_count{resource="pods",verb="PATCH"} 9
"""


def figures(**changed: float) -> Figures:
    good: Figures = {
        "services": 1000,
        "services_ready": 1000,
        "seconds_to_ready": 59.0,
        "operator_rss_mb": 249.0,
        "writes_at_rest_per_min": 0.0,
        "restart_to_first_decision_s": 15.0,
    }
    return {**good, **changed}


def test_every_write_counts_but_for_what_beats_always() -> None:
    assert count_writes(PAGE) == {"PATCH pods": 9, "APPLY modelservices": 5}


def test_what_meets_every_goal_is_not_complained_of() -> None:
    assert unmet_goals(figures()) == []


def test_what_misses_a_goal_is_named_with_its_figure() -> None:
    missed = unmet_goals(figures(seconds_to_ready=61.0, services_ready=998, operator_rss_mb=300.0))
    assert [u.figure for u in missed] == ["61 s", "300 MB", "2 were not"]
    (writes,) = unmet_goals(figures(writes_at_rest_per_min=0.2))
    assert writes.figure == "0.2 a minute"


def test_quantiles_are_values_that_were_seen() -> None:
    assert quantile([1.0, 2.0, 3.0, 4.0], 0.5) == 3.0
    assert quantile([1.0, 2.0], 0.99) == 2.0


def test_deciles_count_from_the_first_apply() -> None:
    names = [f"s{i}" for i in range(20)]
    sent = dict.fromkeys(names, 100.0)
    ready = {name: 101.0 + i for i, name in enumerate(names)}
    arrivals = Arrivals(bool, sent, ready)
    assert deciles(arrivals) == [2, 4, 6, 8, 10, 12, 14, 16, 18, 20]
