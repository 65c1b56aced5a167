"""The proxy relays, counts and breaks, before a tiny server in place of the API server."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import requests
from aiohttp import web

from tests.kit.faults import (
    LOST,
    Answer,
    Cut,
    Delay,
    Kill,
    Nth,
    Pages,
    Storm,
    WatchError,
    at_write,
    on,
)
from tests.kit.proxy import FaultProxy, Gone
from tests.kit.upstream import Upstream

PODS = "/api/v1/namespaces/a/pods"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/a/leases/l"


class TinyServer:
    """Keeps what it was asked; a watch gives two lines and then lasts."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.url = ""

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(f"{request.method} {request.raw_path}")
        if "watch" not in request.query:
            return web.json_response({"echo": (await request.read()).decode()})
        stream = web.StreamResponse()
        await stream.prepare(request)
        for line in (b'{"event": 1}\n', b'{"event": 2}\n'):
            await stream.write(line)
        await asyncio.sleep(60)
        return stream

    @contextmanager
    def running(self) -> Iterator["TinyServer"]:
        """Serve on a thread of its own while the body runs."""
        loop = asyncio.new_event_loop()
        started, stop = threading.Event(), asyncio.Event()

        async def serve() -> None:
            app = web.Application()
            app.router.add_route("*", "/{path:.*}", self._answer)
            runner = web.AppRunner(app, shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            started.set()
            await stop.wait()
            await runner.cleanup()

        def run() -> None:
            # A runner cancels, in the end, what still answers.
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(serve())

        thread = threading.Thread(target=run)
        thread.start()
        assert started.wait(10)
        try:
            yield self
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join(10)


@pytest.fixture
def server() -> Iterator[TinyServer]:
    with TinyServer().running() as running:
        yield running


@pytest.fixture
def proxy(server: TinyServer) -> Iterator[FaultProxy]:
    with FaultProxy(Upstream(server.url)) as running:
        yield running


@pytest.fixture
def http() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False  # a proxy of the machine is not meant for loopback
        yield session


def test_requests_pass_unchanged(
    server: TinyServer, proxy: FaultProxy, http: requests.Session
) -> None:
    answer = http.patch(f"{proxy.url}{PODS}/p?fieldManager=a%2Fb", data="x", timeout=5)
    assert answer.json() == {"echo": "x"}
    assert server.seen == [f"PATCH {PODS}/p?fieldManager=a%2Fb"]


def test_writes_are_counted_and_leases_are_not(proxy: FaultProxy, http: requests.Session) -> None:
    http.post(proxy.url + PODS, json={"metadata": {"name": "p"}}, timeout=5)
    http.get(proxy.url + PODS, timeout=5)
    http.put(proxy.url + LEASE, data="{}", timeout=5)
    http.delete(f"{proxy.url}{PODS}/p", timeout=5)
    assert [str(w) for w in proxy.writes] == [
        "1: create pods a/p -> 200",
        "2: delete pods a/p -> 200",
    ]
    proxy.reset()
    http.delete(f"{proxy.url}{PODS}/p", timeout=5)
    assert [w.call.number for w in proxy.writes] == [1]


@pytest.mark.parametrize("after", [False, True])
def test_kill_at_the_second_write(
    server: TinyServer, proxy: FaultProxy, http: requests.Session, *, after: bool
) -> None:
    killed: list[int] = []
    proxy.add(at_write(2), Kill(lambda: killed.append(len(server.seen)), after=after))
    http.post(proxy.url + PODS, data="{}", timeout=5)
    with pytest.raises(requests.ConnectionError):
        http.delete(f"{proxy.url}{PODS}/p", timeout=5)
    assert killed == [2 if after else 1]
    assert len(server.seen) == (2 if after else 1)
    assert proxy.writes[-1].status == (200 if after else None)


def test_errors_in_the_words_of_the_api(
    server: TinyServer, proxy: FaultProxy, http: requests.Session
) -> None:
    proxy.add(on("pods", "create"), Answer(429, retry_after=1), times=2)
    answers = [http.post(proxy.url + PODS, data="{}", timeout=5) for _ in range(3)]
    assert [a.status_code for a in answers] == [429, 429, 200]
    assert answers[0].json()["reason"] == "TooManyRequests"
    assert answers[0].headers["Retry-After"] == "1"
    assert len(server.seen) == 1


def test_the_second_write_of_a_namespace(proxy: FaultProxy, http: requests.Session) -> None:
    match = Nth(2, lambda call: call.namespace == "a")
    proxy.add(match, Answer(500), times=1)
    others = PODS.replace("/a/", "/b/")
    paths = (others, PODS, others, PODS, PODS)
    answers = [http.post(proxy.url + path, data="{}", timeout=5) for path in paths]
    assert [a.status_code for a in answers] == [200, 200, 200, 500, 200]
    assert match.hit is not None
    assert match.hit.number == 4
    assert [w.call.number for w in proxy.writes_at("a")] == [2, 4, 5]


def test_an_answer_that_is_lost(
    server: TinyServer, proxy: FaultProxy, http: requests.Session
) -> None:
    proxy.add(on("pods"), LOST)
    with pytest.raises(requests.ConnectionError):
        http.delete(f"{proxy.url}{PODS}/p", timeout=5)
    assert server.seen == [f"DELETE {PODS}/p"]


def test_a_watch_that_begins_with_an_error(proxy: FaultProxy, http: requests.Session) -> None:
    proxy.add(on("pods", "watch"), WatchError(410))
    answer = http.get(f"{proxy.url}{PODS}?watch=true", timeout=5)
    assert answer.status_code == 200
    assert (answer.json()["type"], answer.json()["object"]["code"]) == ("ERROR", 410)


def test_a_list_in_small_pages_that_expires_midway(
    server: TinyServer, proxy: FaultProxy, http: requests.Session
) -> None:
    proxy.add(lambda call: call.continues, Answer(410))
    proxy.add(on("pods", "list"), Pages(1))
    paths = (f"{PODS}?limit=500", PODS, f"{PODS}?limit=500&continue=x")
    answers = [http.get(proxy.url + path, timeout=5).status_code for path in paths]
    assert answers == [200, 200, 410]
    assert server.seen == [f"GET {PODS}?limit=1", f"GET {PODS}"]


def test_a_storm_is_the_same_for_the_same_seed(proxy: FaultProxy, http: requests.Session) -> None:
    def weather(seed: int) -> list[int]:
        proxy.reset()
        proxy.obey(Storm(faults=lambda _: (Answer(500), Answer(409)), rate=0.5, seed=seed))
        return [http.get(proxy.url + PODS, timeout=5).status_code for _ in range(20)]

    first = weather(1)
    assert set(first) == {200, 409, 500}
    assert weather(1) == first
    assert weather(2) != first


def test_a_cut_call_never_arrives(
    server: TinyServer, proxy: FaultProxy, http: requests.Session
) -> None:
    rule = proxy.add(on("pods", name="p"), Cut())
    with pytest.raises(requests.ConnectionError):
        http.get(f"{proxy.url}{PODS}/p", timeout=5)
    assert server.seen == []
    proxy.remove(rule)
    assert http.get(f"{proxy.url}{PODS}/p", timeout=5).ok


def test_a_delayed_call_arrives_late(proxy: FaultProxy, http: requests.Session) -> None:
    proxy.add(on("pods"), Delay(0.3))
    start = time.monotonic()
    assert http.get(proxy.url + PODS, timeout=5).ok
    assert time.monotonic() - start >= 0.3


def test_watches_stream_and_can_be_cut(proxy: FaultProxy, http: requests.Session) -> None:
    with http.get(f"{proxy.url}{PODS}?watch=true", stream=True, timeout=5) as answer:
        lines = answer.iter_lines(chunk_size=1)
        # The server sends no more for a minute: both lines came before its answer ended.
        assert [next(lines), next(lines)] == [b'{"event": 1}', b'{"event": 2}']
        assert proxy.cut_watches(on("services")) == 0
        assert proxy.cut_watches() == 1
        with pytest.raises(requests.exceptions.RequestException):
            next(lines)


def test_an_api_server_that_refuses(
    server: TinyServer, proxy: FaultProxy, http: requests.Session
) -> None:
    with proxy.gone(), pytest.raises(requests.ConnectionError):
        http.get(proxy.url + PODS, timeout=5)
    assert server.seen == []
    assert http.get(proxy.url + PODS, timeout=5).ok


def test_an_api_server_that_hangs(
    server: TinyServer, proxy: FaultProxy, http: requests.Session
) -> None:
    with proxy.gone(Gone.HANGS), pytest.raises(requests.exceptions.ReadTimeout):
        http.get(proxy.url + PODS, timeout=0.3)
    assert server.seen == []
    assert http.get(proxy.url + PODS, timeout=5).ok
