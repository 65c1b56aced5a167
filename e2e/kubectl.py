"""kubectl and helm as users run them."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import yaml

TIMEOUT_S = 60.0


class CommandError(Exception):
    """A program failed; the message holds its command line and what it said."""


class WaitError(Exception):
    """Something did not come true in time; the message says what was seen last."""


@dataclass(frozen=True)
class Tools:
    """The programs, bound to one cluster."""

    bin: Path
    kubeconfig: Path

    def run(
        self, program: str, *words: str, given: str | None = None, timeout: float = TIMEOUT_S
    ) -> str:
        """Run a program of the cluster and return what it prints. Raises CommandError."""
        return self._run([str(self.bin / program)], *words, given=given, timeout=timeout)

    def _run(self, program: Sequence[str], *words: str, given: str | None, timeout: float) -> str:
        done = subprocess.run(
            [*program, *words],
            input=given,
            env={**os.environ, "KUBECONFIG": str(self.kubeconfig)},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if done.returncode != 0:
            line = " ".join((*program[:-1], Path(program[-1]).name, *words))
            raise CommandError(f"`{line}` failed: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def kubectl(self, *words: str, given: str | None = None, timeout: float = TIMEOUT_S) -> str:
        """Run kubectl."""
        return self.run("kubectl", *words, given=given, timeout=timeout)

    def conch(self, *words: str) -> str:
        """Run ``kubectl conch`` as a user of this cluster."""
        plugin = (sys.executable, "-m", "conch.cli.plugin")
        return self._run(plugin, *words, given=None, timeout=TIMEOUT_S)

    def helm(self, *words: str, timeout: float = 180.0) -> str:
        """Run helm."""
        return self.run("helm", *words, timeout=timeout)

    def apply(self, *objects: dict[str, Any]) -> str:
        """Apply objects."""
        return self.kubectl("apply", "-f", "-", given=yaml.safe_dump_all(objects))

    def get(self, kind: str, name: str, namespace: str = "default") -> dict[str, Any] | None:
        """Return an object, or None when there is none."""
        text = self.kubectl("get", kind, name, "-n", namespace, "-o", "json", "--ignore-not-found")
        found: dict[str, Any] | None = json.loads(text) if text.strip() else None
        return found

    def list(self, kind: str, *words: str) -> list[dict[str, Any]]:
        """Return objects of a kind; ``words`` select (-n, -l, -A)."""
        items: list[dict[str, Any]] = json.loads(self.kubectl("get", kind, *words, "-o", "json"))[
            "items"
        ]
        return items


def wait_for(
    what: str,
    check: Callable[[], Any],
    *,
    timeout: float,
    every: float = 0.5,
    seen: Callable[[], str] | None = None,
) -> Any:
    """Return the first true answer of ``check``; raise WaitError after ``timeout`` seconds.

    ``seen`` tells what there is instead, for the message.
    """
    until = monotonic() + timeout
    while True:
        answer = check()
        if answer:
            return answer
        if monotonic() > until:
            last = f"; instead: {seen()}" if seen else ""
            raise WaitError(f"{what} did not come within {timeout:.0f} s{last}")
        sleep(every)


def condition(body: dict[str, Any] | None, kind: str) -> dict[str, Any]:
    """Return a condition of an object; empty where there is none."""
    conditions = ((body or {}).get("status") or {}).get("conditions") or []
    return next((c for c in conditions if c["type"] == kind), {})


def names(objects: Sequence[dict[str, Any]]) -> list[str]:
    """Return the names of objects."""
    return [o["metadata"]["name"] for o in objects]
