"""Clients of gRPC that ask once: single calls, and streams of them.

Retries are off, those too that gRPC makes by itself where it knows that nobody has seen the request.
A call waits for a connection rather than fail while none is open. Messages are bytes that were made
once, for making them costs more than sending them.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Any

import grpc

from e2e.bench.front_door.flow import REFUSED, RIGHT, Flow
from e2e.bench.front_door.questions import Question

Done = Callable[[str, str], None]
_SERVICE = "/inference.GRPCInferenceService"
_OPEN_WITHIN_S = 5.0
_AGAIN_S = 0.01
_REFUSALS = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)
"""What a server says of a request; all else says that none came through."""
STREAM_S = 3.0
"""After which a stream is closed, once all is answered, and another is opened."""


def channel(flow: Flow) -> grpc.aio.Channel:
    """Return a channel with a connection of its own, which repeats nothing that has left it.

    As it is without a retry policy: what a connection can't take any more, as the other side has said
    good-bye, the library gives to the next one.
    """
    options: list[tuple[str, Any]] = [
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_http_proxy", 0),
        ("grpc.initial_reconnect_backoff_ms", 50),
        ("grpc.min_reconnect_backoff_ms", 50),
        ("grpc.max_reconnect_backoff_ms", 200),
    ]
    if flow.host:
        options.append(("grpc.default_authority", flow.host))
    return grpc.aio.insecure_channel(flow.address, options)


def outcome(error: grpc.RpcError) -> tuple[str, str]:
    """Return what came of a call that gRPC says went wrong, and its words."""
    code = error.code()
    words = f"{code.value[0]}: {error.details()}"
    if code in _REFUSALS:
        return f"{REFUSED}grpc-{code.value[0]}", words
    return code.name.lower(), words


class _Channels:
    """Channels to one address, and the tasks that use them."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._metadata = [(name.lower(), value) for name, value in flow.headers.items()]
        self._channels: list[grpc.aio.Channel] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.reopened = 0
        self.unopened = 0

    async def open(self) -> None:
        """Connect. Raises OSError where nobody answers."""
        self._channels = [channel(self._flow) for _ in range(self._flow.connections)]
        async with asyncio.timeout(_OPEN_WITHIN_S):
            await asyncio.gather(*(c.channel_ready() for c in self._channels))
        for one in self._channels:
            self._start(self._watch(one))

    async def close(self) -> None:
        """Close all."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(c.close() for c in self._channels))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _watch(self, one: grpc.aio.Channel) -> None:
        """Count how often the connection ended, and have it open again at once."""
        state = grpc.ChannelConnectivity.READY
        while True:
            await one.wait_for_state_change(state)
            before, state = state, one.get_state(try_to_connect=True)
            self.reopened += before is grpc.ChannelConnectivity.READY
            self.unopened += state is grpc.ChannelConnectivity.TRANSIENT_FAILURE


class Calls(_Channels):
    """Single calls, on each channel in turn."""

    def __init__(self, flow: Flow) -> None:
        super().__init__(flow)
        self._infer: list[Any] = []
        self._turn = 0

    async def open(self) -> None:
        """Connect. Raises OSError where nobody answers."""
        await super().open()
        self._infer = [c.unary_unary(f"{_SERVICE}/ModelInfer") for c in self._channels]

    def ask(self, question: Question, done: Done) -> None:
        """Send a request."""
        self._turn = (self._turn + 1) % len(self._infer)
        self._start(self._ask(self._infer[self._turn], question, done))

    async def _ask(self, infer: Any, question: Question, done: Done) -> None:
        try:
            answer = await infer(
                question.asks,
                timeout=self._flow.timeout,
                metadata=self._metadata,
                wait_for_ready=True,
            )
        except grpc.RpcError as error:
            done(*outcome(error))
            return
        right = question.is_right(answer)
        done(RIGHT if right else "wrong answer", "" if right else str(answer[:200]))


class Streams(_Channels):
    """Messages on streams, each of which is open for a few seconds; one stream for each channel."""

    def __init__(self, flow: Flow) -> None:
        super().__init__(flow)
        self._open: deque[_Stream] = deque()

    async def open(self) -> None:
        """Connect. Raises OSError where nobody answers."""
        await super().open()
        for one in self._channels:
            self._start(self._keep(one))

    def ask(self, question: Question, done: Done) -> None:
        """Send a message on the stream that was used longest ago."""
        self._ask(question, done, monotonic() + self._flow.timeout)

    def _ask(self, question: Question, done: Done, until: float) -> None:
        stream = next((s for s in self._open if not s.over), None)
        if stream is not None:
            self._open.remove(stream)
            self._open.append(stream)
            stream.ask(question, done)
        elif monotonic() < until:
            asyncio.get_running_loop().call_later(_AGAIN_S, self._ask, question, done, until)
        else:
            done("no stream in time", "")

    async def close(self) -> None:
        """Close all."""
        self._open.clear()
        await super().close()

    async def _keep(self, one: grpc.aio.Channel) -> None:
        """Have a stream open, and the next one before it ends."""
        ending: asyncio.Task[None] | None = None
        begin = one.stream_stream(f"{_SERVICE}/ModelStreamInfer")
        while True:
            stream = _Stream(begin, self._metadata, self._flow.timeout)
            self._open.append(stream)
            await asyncio.wait([stream.task], timeout=STREAM_S)
            if stream in self._open:
                self._open.remove(stream)
            if ending is not None:
                await ending
            ending = asyncio.create_task(stream.end())


class _Stream:
    """One stream: what was asked on it is answered in its order."""

    def __init__(self, begin: Any, metadata: list[tuple[str, str]], timeout: float) -> None:
        self._asked: deque[tuple[Question, Done]] = deque()
        self._messages: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._timeout = timeout
        self.over = False
        """Whether it takes nothing more."""
        self._call = begin(self._sent(), metadata=metadata, wait_for_ready=True)
        self.task = asyncio.create_task(self._read())

    def ask(self, question: Question, done: Done) -> None:
        """Send a message; what was not answered as the stream ends has failed."""
        self._asked.append((question, done))
        self._messages.put_nowait(question.asks)

    async def end(self) -> None:
        """Say that nothing more comes, and wait for what is to be answered."""
        self._messages.put_nowait(None)
        await asyncio.wait([self.task], timeout=self._timeout)
        self.task.cancel()

    async def _sent(self) -> Any:
        while (message := await self._messages.get()) is not None:
            yield message

    async def _read(self) -> None:
        what, words = "stream ended", ""
        try:
            async for answer in self._call:
                question, done = self._asked.popleft()
                right = question.is_right(answer)
                done(RIGHT if right else "wrong answer", "" if right else str(answer[:200]))
        except grpc.RpcError as error:
            what, words = outcome(error)
        except asyncio.CancelledError:
            what = "no answer in time"
        self.over = True
        for _, done in self._asked:
            done(what, words)
        self._asked.clear()
