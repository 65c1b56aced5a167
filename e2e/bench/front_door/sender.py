"""Sends flows of requests from a process of its own: ``python -m e2e.bench.front_door.sender``.

Reads the flows, as one line of JSON, from its standard input, and sends until each ends, or until
the input does. Writes a line of JSON twice a second, what came so far, and in the end what came of
each request.
"""

import asyncio
import gc
import json
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from itertools import cycle
from time import monotonic
from typing import Any, Protocol

from e2e.bench.front_door.calls import Calls, Streams
from e2e.bench.front_door.flow import RIGHT, Flow, Outcomes
from e2e.bench.front_door.http1 import Pool
from e2e.bench.front_door.questions import Question, questions

TELL_EVERY_S = 0.5
_WORDS = 20
_NEVER = -1.0


class Asker(Protocol):
    """Sends requests of one protocol."""

    reopened: int
    unopened: int

    async def open(self) -> None: ...

    def ask(self, question: Question, done: Callable[[str, str], None], /) -> None: ...

    async def close(self) -> None: ...


def asker(flow: Flow) -> Asker:
    """Return what sends the requests of a flow."""
    kinds: dict[str, Callable[[Flow], Asker]] = {"http": Pool, "grpc": Calls, "stream": Streams}
    return kinds[flow.protocol](flow)


class Sending:
    """One flow being sent."""

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.began: list[float] = []
        self.ended: list[float] = []
        self.what: list[str] = []
        self.late: list[float] = []
        self.words: list[str] = []
        self.right = self.wrong = 0
        self._asker = asker(flow)
        self._questions: Iterator[Question] = cycle(questions(flow))
        self._all_answered = asyncio.Event()
        self._until = 0.0
        self._stopped = asyncio.Event()

    async def open(self) -> None:
        """Open the connections. Raises OSError or TimeoutError."""
        await self._asker.open()

    async def run(self) -> None:
        """Send until it ends, and return once everything was answered or has failed."""
        self._until = monotonic() + self.flow.seconds
        if self.flow.rate is None:
            self._send_closed()
            await self._sleep(self._until)
        else:
            await self._send_open(self.flow.rate)
        self._stopped.set()
        while self.right + self.wrong < len(self.began):
            self._all_answered.clear()
            await self._all_answered.wait()
        await self._asker.close()

    def stop(self) -> None:
        """Send nothing more."""
        self._until = 0.0
        self._stopped.set()

    def outcomes(self) -> Outcomes:
        """Return what came of it."""
        counts = self._asker.reopened, self._asker.unopened
        return Outcomes(
            self.flow.name, self.began, self.ended, self.what, self.late, *counts, self.words
        )

    async def _send_open(self, rate: float) -> None:
        gaps = random.Random(f"{self.flow.protocol} {self.flow.seed}")
        due = monotonic()
        while (now := monotonic()) < self._until and not self._enough:
            while due <= now and not self._enough:
                self.late.append(now - due)
                self._send(next(self._questions))
                due += gaps.expovariate(rate)
            await self._sleep(min(due, self._until))

    def _send_closed(self) -> None:
        many = self.flow.connections if self.flow.protocol == "http" else self.flow.callers
        for _ in range(many):
            self._send(next(self._questions))

    @property
    def _enough(self) -> bool:
        return self.flow.most is not None and len(self.began) >= self.flow.most

    async def _sleep(self, until: float) -> None:
        while (left := until - monotonic()) > 0 and not self._stopped.is_set():
            if left < TELL_EVERY_S:
                await asyncio.sleep(left)
                return
            await asyncio.sleep(TELL_EVERY_S)

    def _send(self, question: Question) -> None:
        index = len(self.began)
        self.began.append(monotonic())
        self.ended.append(_NEVER)
        self.what.append("")
        self._asker.ask(question, lambda what, words: self._done(index, what, words))

    def _done(self, index: int, what: str, words: str) -> None:
        self.ended[index] = monotonic()
        assert not self.what[index], f"request {index} ended twice: {self.what[index]}, {what}"
        self.what[index] = what
        if what == RIGHT:
            self.right += 1
        else:
            self.wrong += 1
            if len(self.words) < _WORDS:
                self.words.append(f"{what}: {words}")
        self._all_answered.set()
        if self.flow.rate is None and monotonic() < self._until and not self._enough:
            # Not from here: this is called while the connection is being given back.
            asyncio.get_running_loop().call_soon(self._send, next(self._questions))


async def send(flows: Sequence[Flow], tell: Callable[[dict[str, Any]], None]) -> list[Outcomes]:
    """Send flows side by side; ``tell`` hears how far they are."""
    sendings = [Sending(f) for f in flows]
    await asyncio.gather(*(s.open() for s in sendings))
    tell({"open": True})
    # What is there now stays; the collector would stop everything now and then to find that.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    telling = asyncio.create_task(_tell(sendings, tell))
    stopping = asyncio.create_task(_until_input_ends(sendings))
    try:
        await asyncio.gather(*(s.run() for s in sendings))
    finally:
        telling.cancel()
        stopping.cancel()
    return [s.outcomes() for s in sendings]


async def _tell(sendings: Sequence[Sending], tell: Callable[[dict[str, Any]], None]) -> None:
    while True:
        await asyncio.sleep(TELL_EVERY_S)
        told = {
            "sent": sum(len(s.began) for s in sendings),
            "right": sum(s.right for s in sendings),
            "wrong": sum(s.wrong for s in sendings),
            "words": [w for s in sendings for w in s.words][:3],
        }
        tell(told)


async def _until_input_ends(sendings: Sequence[Sending]) -> None:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()
    for sending in sendings:
        sending.stop()


def main() -> None:
    """Send what the input says."""
    flows = [Flow(**f) for f in json.loads(sys.stdin.readline())]

    def tell(told: dict[str, Any]) -> None:
        print(json.dumps(told), flush=True)

    found = asyncio.run(send(flows, tell))
    tell({"outcomes": [asdict(o) for o in found]})


if __name__ == "__main__":
    main()
