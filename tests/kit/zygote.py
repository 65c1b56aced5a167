"""A process that has imported the operator and forks it: a start without the imports.

A sweep starts the operator some hundred times; what Python reads and compiles for each start is the
same each time. What runs is the operator's own command line, in a process of its own.

Run as a module it is the process: it reads a line of JSON for each start and answers with a pid.
"""

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_ROOT = Path(__file__).resolve().parents[2]
_PR_SET_PDEATHSIG = 1


class Zygote:
    """The process, as tests use it. Any thread may fork."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        path = os.pathsep.join((str(_ROOT / "operator"), str(_ROOT)))
        self._process = subprocess.Popen(
            ["/usr/bin/setpriv", "--pdeathsig", "KILL", "--", sys.executable, "-m", __name__],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": path},
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it, and with it all that it forked."""
        self._process.kill()
        self._process.communicate()

    def fork(self, words: Sequence[str], env: Mapping[str, str], log: Path) -> "Forked":
        """Start ``conch`` with these words; its output is added to ``log``."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = {"words": list(words), "env": dict(env), "log": str(log)}
        with self._lock:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            return Forked(int(self._process.stdout.readline()))


class Forked:
    """One that was forked: what ``subprocess.Popen`` offers, but for the exit status."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        try:
            self._handle = os.pidfd_open(pid)
        except ProcessLookupError:
            self._handle = -1

    def __del__(self) -> None:
        """Close the handle."""
        if self._handle >= 0:
            os.close(self._handle)

    def poll(self) -> int | None:
        """Return None while it runs, then 0."""
        return 0 if self._ended(0) else None

    def wait(self, timeout: float | None = None) -> int:
        """Return 0 once it has ended; raises TimeoutExpired where it goes on."""
        if not self._ended(timeout):
            raise subprocess.TimeoutExpired("conch", timeout or 0)
        return 0

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it is still there."""
        if self._handle >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, number)

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(signal.SIGKILL)

    def _ended(self, timeout: float | None) -> bool:
        return self._handle < 0 or bool(select.select([self._handle], [], [], timeout)[0])


def _serve() -> None:
    import conch.cli.main
    import conch.handlers.process  # noqa: F401

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _become(order)
        print(pid, flush=True)  # noqa: T201


def _become(order: dict[str, Any]) -> None:
    """Be the operator until the end."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    log = os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.environ.clear()
    os.environ.update(order["env"])
    sys.argv = ["conch", *order["words"]]
    from conch.cli.entry import main

    try:
        main()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)


if __name__ == "__main__":
    _serve()
