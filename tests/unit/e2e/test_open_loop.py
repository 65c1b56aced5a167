import asyncio
import math
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from e2e.bench import open_loop
from e2e.bench.open_loop import Endpoints, Replay


def endpoint_slice(name: str, ready: dict[str, bool]) -> dict[str, object]:
    endpoints = [{"addresses": [a], "conditions": {"ready": r}} for a, r in ready.items()]
    return {"metadata": {"name": name}, "endpoints": endpoints}


def test_the_pod_with_the_fewest_under_way_is_asked() -> None:
    endpoints = Endpoints()
    assert endpoints.take() is None
    endpoints.see("ADDED", endpoint_slice("a", {"10.0.0.1": True, "10.0.0.2": True}))
    endpoints.see("ADDED", endpoint_slice("b", {"10.0.0.3": False}))
    assert [endpoints.take() for _ in range(3)] == ["10.0.0.1", "10.0.0.2", "10.0.0.1"]
    endpoints.give_back("10.0.0.1")
    endpoints.give_back("10.0.0.1")
    assert endpoints.take() == "10.0.0.1"


def test_who_is_ready_no_more_is_not_asked() -> None:
    endpoints = Endpoints()
    endpoints.see("ADDED", endpoint_slice("a", {"10.0.0.1": True}))
    endpoints.see("ADDED", endpoint_slice("b", {"10.0.0.2": True}))
    endpoints.see("MODIFIED", endpoint_slice("a", {"10.0.0.1": False}))
    assert endpoints.take() == "10.0.0.2"
    endpoints.see("DELETED", endpoint_slice("b", {}))
    assert endpoints.take() is None


class Triton(BaseHTTPRequestHandler):
    asked = 0

    def do_POST(self) -> None:
        Triton.asked += 1
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(503 if Triton.asked == 2 else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def triton(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoints]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Triton)
    Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    monkeypatch.setattr(open_loop, "PORT", server.server_address[1])
    endpoints = Endpoints()
    endpoints.see("ADDED", endpoint_slice("a", {"127.0.0.1": True}))
    yield endpoints
    server.shutdown()
    server.server_close()


def test_each_request_comes_when_it_was_recorded_and_failures_are_told(
    triton: Endpoints,
) -> None:
    replay = Replay(triton, "m", {"inputs": []}, [0.0, 0.1, 0.2])
    replay.run()
    answers = sorted(replay.answers, key=lambda a: a.due)
    assert [a.due for a in answers] == [0.0, 0.1, 0.2]
    assert [math.isinf(a.latency) for a in answers] == [False, True, False]
    assert [f[:3] for f in replay.failures] == ["503"]


async def test_it_ends_where_it_is_stopped(triton: Endpoints) -> None:
    replay = Replay(triton, "m", {"inputs": []}, [0.0, 0.05, 60.0])
    ended = asyncio.create_task(asyncio.to_thread(replay.run))
    await asyncio.sleep(0.3)
    replay.stopped.set()
    async with asyncio.timeout(3):
        await ended
    assert len(replay.answers) == 2
