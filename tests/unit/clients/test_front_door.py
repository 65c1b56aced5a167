"""Reports of the front door: read as they are, refused where they make no sense, bounded."""

import json
import math
from typing import Any

import pytest

from conch.clients import front_door
from conch.clients.front_door import NEVER, Agents, Report, ReportUnavailable, report_of
from conch.clients.front_door_fake import FakeAgents
from conch.decisions.canary import BOUNDS, Tally
from conch.decisions.fleet import ServiceKey
from tests.kit.front_door_report import Agent, keeps_to_the_contract

DIGITS = ServiceKey("vision", "digits")
BODY: dict[str, Any] = {
    "version": 17,
    "asked": {"vision/digits": 0.4},
    "waiting": {"vision/digits": 3},
    "in_flight": {"uid-1": 2, "uid-2": 0},
    "broken": {"uid-3": "no answer to 12 requests in 8 s"},
}


def test_a_report_is_read_as_it_is() -> None:
    assert report_of(BODY) == Report(
        version=17,
        asked={DIGITS: 0.4},
        waiting={DIGITS: 3},
        in_flight={"uid-1": 2, "uid-2": 0},
        broken={"uid-3": "no answer to 12 requests in 8 s"},
    )


def test_parts_that_are_missing_or_new_are_no_fault() -> None:
    assert report_of({"version": 1, "weather": "fair"}) == Report(1)


@pytest.mark.parametrize("key", ["", "/", "digits", "vision/", "/digits", "vision/digits/v2"])
def test_what_callers_ask_for_and_is_no_service_is_left_out(key: str) -> None:
    found = report_of({"version": 1, "asked": {key: 1.0, "vision/digits": 2.0}})
    assert found.asked == {DIGITS: 2.0}


@pytest.mark.parametrize(
    "other",
    [
        {"version": None},
        {"version": -1},
        {"version": True},
        {"version": 1.5},
        {"asked": {"vision/digits": -0.1}},
        {"asked": {"vision/digits": math.nan}},
        {"asked": {"vision/digits": math.inf}},
        {"asked": {"vision/digits": "0.4"}},
        {"asked": {"vision/digits": True}},
        {"asked": []},
        {"waiting": {"vision/digits": -1}},
        {"waiting": {"vision/digits": 10**10}},
        {"in_flight": {"uid-1": None}},
        {"in_flight": {"uid-1": 0.5}},
        {"broken": {"uid-3": None}},
        {"broken": ["uid-3"]},
    ],
)
def test_one_absurd_number_makes_it_no_report(other: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no "):
        report_of({**BODY, **other})


@pytest.mark.parametrize("body", [None, [], "report", 3])
def test_what_is_no_object_is_no_report(body: object) -> None:
    with pytest.raises(ValueError, match="no object"):
        report_of(body)


async def test_the_agent_of_these_tests_keeps_to_the_contract() -> None:
    async with Agent(BODY).serve() as agent:
        assert await keeps_to_the_contract("127.0.0.1", agent.port) == report_of(BODY)


async def test_the_fake_waits_for_news_too() -> None:
    fake = FakeAgents({"10.0.0.1": Report(3)})
    assert (await fake.report("10.0.0.1", after=NEVER, wait=5.0)).version == 3
    assert (await fake.report("10.0.0.1", after=3, wait=0.02)).version == 3
    with pytest.raises(ReportUnavailable):
        await fake.report("10.0.0.2", after=NEVER, wait=0.0)


@pytest.mark.parametrize(
    ("odd", "words"),
    [
        ({"status": 500}, "answers 500"),
        ({"status": 302}, "answers 302"),
        ({"raw": b"<html>"}, "gives no report"),
        ({"raw": b""}, "gives no report"),
        ({"raw": b"\xff\xfe"}, "gives no report"),
        ({"raw": b"[" * 100_000}, "gives no report"),
        ({"raw": json.dumps({**BODY, "version": "17"}).encode()}, "'17' is no count"),
        ({"raw": b'{"version": 1, "asked": {"a/b": NaN}}'}, "nan are no seconds"),
    ],
)
async def test_what_is_no_report_is_said(odd: dict[str, Any], words: str) -> None:
    async with Agent(**odd).serve() as agent:
        agents = Agents(agent.port)
        with pytest.raises(ReportUnavailable, match=words):
            await agents.report("127.0.0.1", after=NEVER, wait=0.0)
        await agents.close()


TALLY = {"requests": 3, "failed": 1, "retried": 1, "buckets": [1, *[0] * len(BOUNDS)]}


def test_tallies_of_a_canary_are_read() -> None:
    said = {"vision/digits": {"r1": TALLY, "r2": TALLY}, "nothing": {}}
    found = report_of({"version": 1, "canaries": said}).canaries
    tally = Tally(3, 1, 1, (1, *[0] * len(BOUNDS)))
    assert found == {ServiceKey("vision", "digits"): {"r1": tally, "r2": tally}}
    assert report_of({"version": 1}).canaries == {}


@pytest.mark.parametrize(
    "told",
    [
        *([], 5, {"r1": []}, {"r1": {}}, {"": TALLY}),
        {"r1": {**TALLY, "requests": 2}},
        {"r1": {**TALLY, "requests": -1}},
        {"r1": {**TALLY, "failed": 0.5}},
        {"r1": {**TALLY, "retried": True}},
        {"r1": {**TALLY, "buckets": None}},
        {"r1": {**TALLY, "buckets": TALLY["buckets"][:-1]}},  # type: ignore[index]
        {"r1": {**TALLY, "buckets": ["1"] * (len(BOUNDS) + 1)}},
        {"r1": {n: v for n, v in TALLY.items() if n != "failed"}},
    ],
)
def test_tallies_that_make_no_sense_are_no_report(told: Any) -> None:
    with pytest.raises(ValueError, match="canaries"):
        report_of({"version": 1, "canaries": {"vision/digits": told}})


async def test_a_report_is_bounded_in_time_and_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_door, "SLACK_S", 0.2)
    monkeypatch.setattr(front_door, "MOST_BYTES", 1000)
    agent = Agent({"version": 1})
    async with agent.serve():
        agents = Agents(agent.port)
        agent.body = {"version": 1, "broken": {"uid": "x" * 2000}}
        with pytest.raises(ReportUnavailable, match="longer than 1000 bytes"):
            await agents.report("127.0.0.1", after=NEVER, wait=0.0)

        agent.hangs = True
        with pytest.raises(ReportUnavailable, match="does not answer"):
            await agents.report("127.0.0.1", after=NEVER, wait=0.0)
        await agents.close()


async def test_nobody_at_an_address_is_said() -> None:
    agents = Agents(1)
    for address in ("127.0.0.1", "::1"):
        with pytest.raises(ReportUnavailable, match="does not answer"):
            await agents.report(address, after=NEVER, wait=0.0)
    await agents.close()
