import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from e2e.bench.front_door.flow import Flow, Outcomes
from e2e.bench.front_door.load import Load, LoadError
from e2e.bench.front_door.sender import Sending
from tests.unit.e2e.door_server import ADDS, MODEL, Server

OPEN = Flow("x", "http", "", MODEL, ADDS, rate=500, most=40, seconds=10, connections=4, timeout=5)


def flow(server: Server, protocol: Any = "http", **other: Any) -> Flow:
    address = server.http if protocol == "http" else server.grpc
    return replace(OPEN, protocol=protocol, address=address, **other)


async def send(flow: Flow) -> Outcomes:
    sending = Sending(flow)
    await sending.open()
    async with asyncio.timeout(20):
        await sending.run()
    return sending.outcomes()


def on(*numbers: int, what: str | int) -> Callable[[int], str | int | None]:
    return lambda number: what if number in numbers else None


PROTOCOLS = pytest.mark.parametrize("protocol", ["http", "grpc", "stream"])


@PROTOCOLS
async def test_every_request_is_sent_once_and_its_answer_checked(protocol: str) -> None:
    with Server() as server:
        found = await send(flow(server, protocol))
    assert (found.sent, found.right, server.asked) == (40, 40, 40)
    assert (found.wrong, found.refused, found.failed, found.reopened) == (0, {}, {}, 0)
    assert all(0 <= e - b < 5 for b, e in zip(found.began, found.ended, strict=True))
    assert len(found.latencies()) == len(found.late) == 40


@PROTOCOLS
async def test_a_wrong_answer_is_a_failure(protocol: str) -> None:
    with Server(on(7, 9, what="wrong")) as server:
        found = await send(flow(server, protocol))
    assert (found.right, found.failed, server.asked) == (38, {"wrong answer": 2}, 40)


@PROTOCOLS
async def test_the_answer_to_another_request_is_a_failure(protocol: str) -> None:
    with Server() as server:
        found = await send(flow(server, protocol, adds=2.0))
    assert found.failed == {"wrong answer": 40}


@pytest.mark.parametrize(
    ("protocol", "code", "told"),
    [("http", 429, "429"), ("http", 503, "503"), ("grpc", 16, "grpc-16"), ("grpc", 5, "grpc-5")],
)
async def test_refusals_are_told_by_code_and_not_tried_again(
    protocol: str, code: int, told: str
) -> None:
    with Server(on(3, 4, 5, what=code)) as server:
        found = await send(flow(server, protocol))
    assert (found.refused, found.failed) == ({told: 3}, {})
    assert (found.right, found.wrong, server.asked) == (37, 3, 40)
    assert len(found.words) == 3


async def test_grpc_does_not_try_again_what_was_unavailable() -> None:
    with Server(on(3, what=14)) as server:
        found = await send(flow(server, "grpc"))
    assert (found.failed, found.refused, server.asked) == ({"unavailable": 1}, {}, 40)


async def test_a_stream_that_is_cut_fails_what_was_asked_on_it() -> None:
    with Server(on(20, what=13)) as server:
        found = await send(flow(server, "stream", connections=1, rate=100))
    assert found.right + found.wrong == 40
    assert set(found.failed) == {"internal"}
    assert found.right >= 20


@pytest.mark.parametrize(
    ("what", "told"), [("close", "closed"), ("reset", "reset"), ("half", "closed")]
)
async def test_a_request_without_an_answer_has_failed(what: str, told: str) -> None:
    with Server(on(11, what=what)) as server:
        found = await send(flow(server))
    assert (found.right, found.failed) == (39, {told: 1})
    assert server.asked == 40, "a request was sent again, or never"
    assert server.accepted == 5


async def test_a_request_that_is_not_answered_in_time_has_failed() -> None:
    with Server(on(2, what="late")) as server:
        found = await send(flow(server, timeout=0.2))
    assert (found.right, found.failed) == (39, {"no answer in time": 1})


async def test_connections_are_kept() -> None:
    with Server() as server:
        await send(flow(server))
    assert server.accepted == 4


async def test_a_connection_that_ends_after_an_answer_is_opened_again() -> None:
    with Server(lambda number: "bye" if number % 2 else None) as server:
        found = await send(flow(server))
    assert (found.right, found.reopened) == (40, 20)


async def test_idle_connections_that_end_are_opened_again_and_nothing_fails() -> None:
    with Server() as server:
        sending = Sending(flow(server, rate=4.0, most=5, seed=3))
        await sending.open()
        running = asyncio.create_task(sending.run())
        while sending.right < 1:  # noqa: ASYNC110 -- it tells nobody
            await asyncio.sleep(0.01)
        server.close_idle()
        async with asyncio.timeout(20):
            await running
        found = sending.outcomes()
    assert (found.right, found.wrong, found.reopened) == (5, 0, 4)


async def test_requests_come_whether_or_not_earlier_ones_were_answered() -> None:
    with Server(lambda _: "late") as server:
        found = await send(flow(server, rate=200, most=20, connections=20))
    assert found.right == 20
    assert max(found.began) < min(found.ended)


async def test_a_request_waits_for_a_connection_and_its_time_runs() -> None:
    with Server(on(1, what="late")) as server:
        found = await send(flow(server, rate=1e4, most=2, connections=1))
    assert found.right == 2
    assert all(e - b > 0.9 for b, e in zip(found.began, found.ended, strict=True))


@pytest.mark.parametrize("protocol", ["http", "grpc"])
async def test_closed_loop(protocol: str) -> None:
    with Server() as server:
        found = await send(flow(server, protocol, rate=None, most=None, seconds=0.5, callers=4))
    assert found.right == found.sent == server.asked > 20
    assert max(found.in_flight(t) for t in found.began) <= 4


async def test_headers_prefix_and_host() -> None:
    headers = {"Authorization": "Bearer k"}
    with Server() as server:
        await send(flow(server, most=1, prefix="/a/b", host="b.a.example", headers=headers))
        await send(flow(server, "grpc", most=1, headers={**headers, "conch-service": "a/b"}))
    assert server.heads[0].startswith("POST /a/b/v2/models/add/infer HTTP/1.1\r\nHost: b.a.example")
    assert "\r\nAuthorization: Bearer k\r\n" in server.heads[0]
    assert all(word in server.heads[1] for word in ("authorization", "Bearer k", "conch-service"))


def test_from_a_process_of_its_own_until_it_is_left() -> None:
    with Server() as server:
        both = [flow(server, p, most=None, seconds=60, rate=100) for p in ("http", "grpc")]
        with Load(*both) as load:
            load.more_answers(20)
        told = load.outcomes
    assert [o.wrong for o in told] == [0, 0]
    assert sum(o.right for o in told) == server.asked >= load.tally.right >= 20


def test_to_the_end() -> None:
    with Server() as server, Load(flow(server)) as load:
        assert load.wait()[0].right == 40


def test_nobody_there_is_told() -> None:
    with pytest.raises(LoadError, match="Connect"), Load(replace(OPEN, address="127.0.0.1:9")):
        pass
