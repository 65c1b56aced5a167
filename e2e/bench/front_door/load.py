"""A load that runs beside what is done to the cluster, from a process of its own."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Self

from e2e.bench.front_door.flow import Flow, Outcomes
from e2e.bench.report import ROOT
from e2e.kubectl import wait_for

_END_S = 30.0
_OPEN_S = 30.0


class LoadError(Exception):
    """The sender failed; the message holds what it said."""


@dataclass(frozen=True)
class Tally:
    """How far the load is."""

    sent: int = 0
    right: int = 0
    wrong: int = 0
    words: Sequence[str] = field(default=())
    """What was said of the first that went wrong."""


class Load:
    """Sends flows while its body runs, each at most for its seconds.

    with Load(flow) as load:
        load.more_answers(10)
    load.outcomes[0].wrong
    """

    def __init__(self, *flows: Flow) -> None:
        self._flows = flows
        self._process: subprocess.Popen[str] | None = None
        self._opened = threading.Event()
        self._errors: list[str] = []
        self.tally = Tally()
        self.outcomes: list[Outcomes] = []

    def __enter__(self) -> Self:
        self._process = process = subprocess.Popen(
            [sys.executable, "-m", "e2e.bench.front_door.sender"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdin is not None
        print(json.dumps([asdict(f) for f in self._flows]), file=process.stdin, flush=True)
        self._threads = [
            threading.Thread(target=reads, args=(process,), daemon=True)
            for reads in (self._read, self._read_errors)
        ]
        for thread in self._threads:
            thread.start()
        try:
            wait_for("open connections", self._open, timeout=_OPEN_S, every=0.01)
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(_END_S + max(f.timeout for f in self._flows))
        finally:
            self._kill()
        if error is None and not self.outcomes:
            raise LoadError(self._said())

    def wait(self) -> list[Outcomes]:
        """Return what came of all, once all flows have come to their end."""
        assert self._process is not None
        longest = max(f.seconds + f.timeout for f in self._flows)
        self._process.wait(longest + _END_S)
        self._threads[0].join(_END_S)
        if not self.outcomes:
            raise LoadError(self._said())
        return self.outcomes

    def more_answers(self, count: int = 10, *, within: float = 60.0) -> None:
        """Wait until so many more requests were answered, or more failed."""
        before = self.tally
        wait_for(
            f"{count} more answers",
            lambda: self.tally.wrong > before.wrong or self.tally.right >= before.right + count,
            timeout=within,
            every=0.1,
            seen=lambda: str(self.tally),
        )

    def _open(self) -> bool:
        assert self._process is not None
        if not self._opened.is_set() and self._process.poll() is not None:
            self._threads[1].join(_END_S)
            raise LoadError(self._said())
        return self._opened.is_set()

    def _read(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        for line in process.stdout:
            told = json.loads(line)
            if "outcomes" in told:
                self.outcomes = [Outcomes(**o) for o in told["outcomes"]]
            elif "open" in told:
                self._opened.set()
            else:
                self.tally = Tally(**told)

    def _read_errors(self, process: "subprocess.Popen[str]") -> None:
        assert process.stderr is not None
        self._errors.extend(process.stderr)

    def _said(self) -> str:
        return "".join(self._errors[-20:]).strip() or "the sender said nothing"

    def _kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        for thread in self._threads:
            thread.join(_END_S)
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()


def sent(*flows: Flow, progress: Callable[[Tally], None] = lambda _: None) -> list[Outcomes]:
    """Send flows to their end and return what came of them."""
    with Load(*flows) as load:
        progress(load.tally)
        return load.wait()
