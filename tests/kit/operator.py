"""The operator as a process of its own, to be started, killed and started again."""

import http.client
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from e2e.cluster.ports import free_ports
from tests.kit.client import Client
from tests.kit.control_plane import ROOT
from tests.kit.proxy import wait_for
from tests.kit.zygote import Forked, Zygote

LEASE_NAMESPACE = "conch-system"
_LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{LEASE_NAMESPACE}/leases"


@dataclass(frozen=True)
class Invocation:
    """How the operator is started: ``options`` are added to what every test needs."""

    kubeconfig: Path
    log: Path
    options: Sequence[str] = ()
    tick_seconds: float = 0.5
    metrics_port: int = field(default_factory=lambda: free_ports(1)[0])

    @property
    def argv(self) -> list[str]:
        """The command line; the process dies with the thread that starts it."""
        python = (sys.executable, "-m", "conch.cli.main")
        return ["/usr/bin/setpriv", "--pdeathsig", "KILL", "--", *python, *self.words]

    @property
    def words(self) -> list[str]:
        """What is asked of ``conch``."""
        return [
            *("run", "--kubeconfig", str(self.kubeconfig)),
            *("--lease-namespace", LEASE_NAMESPACE),
            *("--tick-seconds", str(self.tick_seconds)),
            *("--metrics-port", str(self.metrics_port)),
            # Nothing moves by itself, unless that is what a test is about.
            *(() if "--planner" in self.options else ("--planner", "off")),
            *self.options,
        ]

    @property
    def env(self) -> dict[str, str]:
        """Nothing of the caller's but what Python needs: a proxy there must not change a test."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.log.parent),
            "PYTHONPATH": str(ROOT / "operator"),
            "PYTHONUNBUFFERED": "1",
            "MALLOC_ARENA_MAX": "1",  # as the chart sets it
        }


class Operator:
    """One operator; ``client`` goes to the API server directly, past any proxy.

    With a ``zygote`` it is forked from it, which is faster and tells no exit status.
    """

    def __init__(
        self, invocation: Invocation, client: Client, zygote: Zygote | None = None
    ) -> None:
        self._invocation = invocation
        self._client = client
        self._zygote = zygote
        self._process: subprocess.Popen[bytes] | Forked | None = None
        self._lock = threading.Lock()
        self._reviving = threading.Lock()
        self._killed = False
        self.starts = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def tick_seconds(self) -> float:
        """How often it decides."""
        return self._invocation.tick_seconds

    @property
    def ticks(self) -> int:
        """How often the running process has decided; 0 where it does not answer."""
        try:
            with urllib.request.urlopen(f"{self.url}/metrics", timeout=5) as answer:
                text = answer.read().decode()
        except (OSError, http.client.HTTPException):
            return 0  # killed, perhaps amid its answer
        found = re.search(r"^conch_tick_seconds_count (\S+)$", text, re.MULTILINE)
        return int(float(found[1])) if found else 0

    @property
    def url(self) -> str:
        """Where it shows its metrics."""
        return f"http://127.0.0.1:{self._invocation.metrics_port}"

    def start(self, *, wait_out_lease: bool = False) -> None:
        """Start it and return once it has decided for the first time.

        The lease of an operator that was killed here is removed, since the test knows that its
        holder is dead and need not wait for it to run out; unless the waiting is to be measured.
        """
        assert not self.alive, "the operator runs already"
        for lease in () if wait_out_lease else self._client.items(_LEASES):
            self._client.delete(f"{_LEASES}/{lease['metadata']['name']}")
        self.launch()
        wait_for(lambda: self.ticks or not self.alive, "the operator's first tick", timeout=60)
        assert self.alive or self._killed, f"the operator ended by itself:\n{self.tail()}"

    def launch(self) -> None:
        """Start it and return at once, whether or not it gets to lead."""
        self._killed = False
        called = self._invocation
        if self._zygote is not None:
            self._process = self._zygote.fork(called.words, called.env, called.log)
        else:
            self._process = self._spawned()
        self.starts += 1

    def _spawned(self) -> "subprocess.Popen[bytes]":
        with self._invocation.log.open("ab") as log:
            return subprocess.Popen(
                self._invocation.argv,
                env=self._invocation.env,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def revive(self) -> None:
        """Start it if it is dead. Threads may call this side by side."""
        if not self.alive:
            with self._reviving:
                if not self.alive:
                    self.start()

    def kill(self) -> None:
        """Kill it as a crash would; returns once it is gone. Any thread may call this."""
        with self._lock:
            self._killed = True
            if self._process is not None:
                self._process.kill()
                self._process.wait()

    def stop(self) -> int:
        """End it as Kubernetes does, and return its exit status."""
        self.send(signal.SIGTERM)
        return self.wait()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self, timeout: float = 30) -> int:
        """Return its exit status once it has ended."""
        assert self._process is not None
        return self._process.wait(timeout)

    def tail(self, lines: int = 40) -> str:
        """The end of the log."""
        text = self._invocation.log.read_text(errors="replace")
        return "\n".join(text.splitlines()[-lines:])
