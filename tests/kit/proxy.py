"""A proxy before the API server that counts writes and makes faults.

It speaks plain HTTP to the operator, TLS with a kubeconfig's credentials to the API server, and
relays watches chunk by chunk. It runs on a thread of its own, so that tests may block.

    with FaultProxy.before(kubeconfig) as proxy:
        proxy.add(at_write(3), Kill(operator.kill, after=True))
        proxy.write_kubeconfig(path)
"""

import asyncio
import contextlib
import enum
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp
import yaml
from aiohttp import web
from yarl import URL

from tests.kit.apicalls import Call, Write, read_call
from tests.kit.faults import Answer, Cut, Delay, Fault, Kill, Match, Pages, Rule
from tests.kit.upstream import Upstream

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "upgrade", "host", "te", "trailer"}


class Gone(enum.Enum):
    """How an API server that is gone looks to its clients."""

    REFUSES = "connections are reset at once"
    HANGS = "requests and watches get nothing until it is back, and are reset then"


class FaultProxy:
    """Relays to one API server; see the module for an example.

    ``writes`` is the journal of what changed something: POST, PUT, PATCH and DELETE, without
    Leases (they beat at rest) and reviews (they store nothing). Numbers start at 1 and start
    again after ``reset``.
    """

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._rules: list[Rule] = []
        self._watches: list[tuple[web.Request, Call]] = []
        self._gone: Gone | None = None
        self._count = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="fault-proxy", daemon=True)
        self._ready = threading.Event()
        self._stopping = asyncio.Event()
        self._back = asyncio.Event()
        self._port = 0
        self.calls: list[Call] = []
        self.writes: list[Write] = []
        self._writes_at: dict[str, list[Write]] = {}

    @classmethod
    def before(cls, kubeconfig: Path) -> Self:
        """A proxy to the API server, and with the credentials, of a kubeconfig."""
        return cls(Upstream.from_kubeconfig(kubeconfig))

    def __enter__(self) -> Self:
        """Start to listen, on a free port of the loopback address."""
        self._thread.start()
        if not self._ready.wait(10):
            raise RuntimeError("the proxy does not start")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Cut every connection and end the thread."""
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(10)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._port}"

    def write_kubeconfig(self, path: Path) -> Path:
        """Write a kubeconfig that points at this proxy, and return its path."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "proxy", "cluster": {"server": self.url}}],
            # Some clients refuse a user without credentials; the proxy ignores this token.
            "users": [{"name": "proxy", "user": {"token": "unused"}}],
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}],
            "current-context": "proxy",
        }
        path.write_text(yaml.safe_dump(config))
        return path

    def add(self, match: Match, fault: Fault, *, times: int | None = None) -> Rule:
        """Make ``fault`` befall the calls that match: the next ``times``, or all. First rule wins."""
        rule = Rule(match, fault, times)
        self.obey(rule)
        return rule

    def obey(self, rule: Rule) -> None:
        """Let a rule decide after those that are there."""
        self._rules.append(rule)

    def remove(self, rule: Rule) -> None:
        """Drop a rule; dropping it twice is no error."""
        with contextlib.suppress(ValueError):
            self._rules.remove(rule)

    def reset(self) -> None:
        """Forget rules, calls and writes; numbers start again at 1."""
        self._rules.clear()
        self.calls.clear()
        self.writes.clear()
        self._writes_at.clear()
        self._count = 0

    def writes_at(self, place: str) -> list[Write]:
        """The writes in a namespace, or to the cluster-scoped objects of a name."""
        return list(self._writes_at.get(place, ()))

    def cut_watches(self, match: Match = lambda _: True) -> int:
        """Reset the connections of the watches that match; return how many there were."""

        async def cut() -> int:
            found = [request for request, call in list(self._watches) if match(call)]
            for request in found:
                _reset(request)
            return len(found)

        return asyncio.run_coroutine_threadsafe(cut(), self._loop).result(10)

    @contextlib.contextmanager
    def gone(self, how: Gone = Gone.REFUSES) -> Iterator[None]:
        """Be without an API server while the body runs."""
        self._loop.call_soon_threadsafe(self._back.clear)
        self._gone = how
        try:
            if how is Gone.REFUSES:
                self.cut_watches()
            yield
        finally:
            self._gone = None
            if how is Gone.HANGS:
                self.cut_watches()
            self._loop.call_soon_threadsafe(self._back.set)

    def _run(self) -> None:
        # A runner cancels, in the end, what still relays.
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
        connector = aiohttp.TCPConnector(limit=0, ssl=self._upstream.ssl)
        async with aiohttp.ClientSession(
            timeout=timeout, connector=connector, auto_decompress=False
        ) as self._session:
            app = web.Application(client_max_size=16 << 20)
            app.router.add_route("*", "/{path:.*}", self._handle)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self._port = runner.addresses[0][1]
            self._ready.set()
            await self._stopping.wait()
            for request, _ in list(self._watches):
                _reset(request)
            await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        call = self._numbered(read_call(request.method, request.path_qs, request.headers, body))
        self.calls.append(call)
        if self._gone:
            return await self._nobody_there(request)
        fault = self._fault(call)
        match fault:
            case Answer():
                self._record(call, fault.status)
                return fault.response()
            case Cut() | Kill(after=False):
                self._record(call, None)
                fault.happen()
                return _reset(request)
            case Delay():
                await asyncio.sleep(fault.seconds)
        return await self._relay(request, call, body, fault)

    def _numbered(self, call: Call) -> Call:
        if not call.counts:
            return call
        self._count += 1
        return call.with_number(self._count)

    def _fault(self, call: Call) -> Fault | None:
        for rule in list(self._rules):
            if rule.takes(call):
                return rule.fault
        return None

    def _record(self, call: Call, status: int | None) -> None:
        if call.number is not None:
            write = Write(call, status)
            self.writes.append(write)
            self._writes_at.setdefault(call.namespace or call.name, []).append(write)

    async def _nobody_there(self, request: web.Request) -> web.StreamResponse:
        if self._gone is Gone.HANGS:
            await self._back.wait()
        return _reset(request)

    async def _relay(
        self, request: web.Request, call: Call, body: bytes, fault: Fault | None
    ) -> web.StreamResponse:
        headers = [(k, v) for k, v in request.headers.items() if k.lower() not in _DROPPED]
        path = fault.query(request.raw_path) if isinstance(fault, Pages) else request.raw_path
        url = URL(self._upstream.server + path, encoded=True)
        try:
            async with self._session.request(
                request.method,
                url,
                headers=[*headers, *self._upstream.headers],
                data=body or None,
                allow_redirects=False,
            ) as answer:
                if isinstance(fault, Kill):
                    await answer.read()
                    self._record(call, answer.status)
                    fault.happen()
                    return _reset(request)
                self._record(call, answer.status)
                with _aborted_unless_read(answer):
                    return await self._pass_back(request, call, answer)
        except (aiohttp.ClientError, ConnectionError):
            return _reset(request)

    async def _pass_back(
        self, request: web.Request, call: Call, answer: aiohttp.ClientResponse
    ) -> web.StreamResponse:
        headers = [(k, v) for k, v in answer.headers.items() if k.lower() not in _HOP_BY_HOP]
        response = web.StreamResponse(status=answer.status, headers=dict(headers))
        watch = (request, call)
        if call.verb == "watch":
            self._watches.append(watch)
        try:
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                if self._gone is Gone.HANGS:
                    await self._back.wait()
                await response.write(chunk)
            await response.write_eof()
        finally:
            if call.verb == "watch":
                self._watches.remove(watch)
        return response


_DROPPED = _HOP_BY_HOP | {"authorization", "content-length"}


@contextlib.contextmanager
def _aborted_unless_read(answer: aiohttp.ClientResponse) -> Iterator[None]:
    """Abort the connection of an answer that is left midway.

    A TLS connection that is closed waits for the other side, for longer than this loop may live.
    """
    try:
        yield
    except BaseException:
        connection = answer.connection
        if connection is not None and connection.transport is not None:
            connection.transport.abort()
        raise


def _reset(request: web.Request) -> web.StreamResponse:
    """Cut the connection without an answer."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=502)


def wait_for(condition: Callable[[], object], what: str, *, timeout: float = 30) -> None:
    """Return once the condition holds; raise AssertionError naming ``what`` if it never does."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {what}")
        time.sleep(0.05)
