"""What the log tells, counted and judged."""

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from conch.frontdoor.judge import FAILURES, Judge, Outcome, outcome
from conch.frontdoor.traffic import Request, Traffic, request_of

LINE = "R vision/digits acme 200 - http vision:digits:http s1 -- 3 12500 - - - -"
UID = "uid-1"


def request(line: str = LINE) -> Request:
    """Return the request of a line."""
    found = request_of(line)
    assert found is not None
    return found


def test_a_line_is_read() -> None:
    found = request()
    assert (found.service, found.tenant, found.code) == ("vision/digits", "acme", "200")
    assert (found.backend, found.server, found.ended) == ("vision:digits:http", "s1", "--")
    assert (found.queued, found.seconds) == (0.003, 0.0125)


@pytest.mark.parametrize(
    "line", ["", "Server a:b:http/s1 is DOWN", "R too few", LINE.replace("200", "abc")]
)
def test_other_lines_are_none(line: str) -> None:
    assert request_of(line) is None


def test_what_callers_send_can_not_break_a_line() -> None:
    found = request(LINE.replace("vision/digits acme", "a b 200 c d"))
    assert (found.service, found.tenant, found.status) == ("a b 200 c", "d", 200)


def text(traffic: Traffic) -> str:
    """Return what Prometheus reads."""
    registry = CollectorRegistry()
    registry.register(traffic)
    return generate_latest(registry).decode()


def test_requests_are_counted_by_service_and_tenant() -> None:
    traffic = Traffic()
    for _ in range(2):
        traffic.count(request(), known=True, tenant_known=True)
    traffic.count(request(LINE.replace(" - http", " 8 grpc")), known=True, tenant_known=False)
    traffic.count(request(LINE.replace("vision/", "none/")), known=False, tenant_known=True)
    told = text(traffic)
    head = 'conch_front_door_requests_total{code="200",protocol="http",service="digits"'
    assert f'{head},service_namespace="vision",tenant="acme"}} 2.0' in told
    assert 'code="grpc-8",protocol="grpc"' in told
    assert 'tenant="other"' in told
    assert 'le="0.01",service="digits",service_namespace="vision",tenant="acme"} 0.0' in told
    assert 'le="0.025",service="digits",service_namespace="vision",tenant="acme"} 2.0' in told
    assert "conch_front_door_unknown_requests_total 1.0" in told
    assert "none" not in told
    traffic.forget("vision/digits")
    assert "digits" not in text(traffic)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({}, Outcome.GOOD),
        ({"200": "400"}, Outcome.GOOD),
        ({"200": "500"}, Outcome.BAD),
        ({"200": "501"}, Outcome.GOOD),
        ({"--": "sH"}, Outcome.BAD),
        ({"--": "CD"}, Outcome.NOTHING),
        ({" - http": " 13 grpc"}, Outcome.BAD),
        ({" - http": " 3 grpc"}, Outcome.GOOD),
    ],
)
def test_what_a_request_says_of_its_replica(change: dict[str, str], found: Outcome) -> None:
    line = LINE
    for old, new in change.items():
        line = line.replace(old, new, 1)
    assert outcome(request(line)) is found


BAD = request(LINE.replace("200", "500"))
REPLICAS = {UID: "vision/digits"}


def test_failures_in_a_row_make_suspect_and_one_success_clears() -> None:
    judge = Judge()
    for _ in range(FAILURES - 1):
        judge.saw(BAD, UID, 1.0)
    judge.saw(request(), UID, 1.0)
    judge.saw(BAD, UID, 1.0)
    assert judge.suspects(REPLICAS, 10.0) == {}
    for _ in range(FAILURES):
        judge.saw(BAD, UID, 1.0)
    assert "failed one after the other" in judge.suspects(REPLICAS, 10.0)[UID]


def test_silence_with_requests_under_way_makes_suspect() -> None:
    judge = Judge()
    judge.saw(request(), UID, 0.0)
    judge.busy({UID: 2}, 1.0)
    assert judge.suspects(REPLICAS, 5.5) == {}
    assert "no answer for" in judge.suspects(REPLICAS, 8.0)[UID]
    judge.busy({UID: 0}, 8.0)
    assert judge.suspects(REPLICAS, 20.0) == {}, "nobody asked"


def test_a_model_that_is_slow_gets_its_time() -> None:
    judge = Judge()
    judge.saw(request(LINE.replace("12500", "30000000")), UID, 0.0)
    judge.busy({UID: 1}, 0.0)
    assert judge.suspects(REPLICAS, 100.0) == {}
    assert judge.suspects(REPLICAS, 130.0)


def test_only_a_question_of_its_own_condemns_and_clears() -> None:
    judge = Judge()
    for _ in range(FAILURES):
        judge.saw(BAD, UID, 1.0)
    assert not judge.asked(UID, "why", None, 2.0)
    assert judge.suspects(REPLICAS, 20.0) == {}, "inputs were at fault"
    assert judge.asked(UID, "why", "no answer in 5 s", 20.0)
    assert "no answer in 5 s" in judge.broken[UID]
    assert judge.suspects(REPLICAS, 21.0) == {}, "not asked all the time"
    assert UID in judge.suspects(REPLICAS, 26.0), "it may have come to itself"
    assert judge.asked(UID, "why", None, 26.0)
    assert not judge.broken
    judge.keep([], [])
    assert judge.suspects(REPLICAS, 40.0) == {}
