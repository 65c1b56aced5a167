"""``conch cache`` as a node's agent: a process that opens directories, tells metrics, and ends."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from conch.cli import entry
from conch.cli.main import app
from e2e.cluster.ports import free_ports

ROOT = Path(entry.__file__).parents[2]
UID = "11111111-2222-3333-4444-555555555555"


def wait_for(true: Callable[[], bool], seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.05)


@contextmanager
def started(path: Path, *words: str, **env: str) -> "Iterator[subprocess.Popen[str]]":
    with subprocess.Popen(
        [sys.executable, "-m", "conch.cli.entry", "cache", f"--path={path}", *words],
        env={"PYTHONPATH": str(ROOT), **env},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a directory to another group")
def test_the_agent_opens_and_tells_until_it_is_ended(tmp_path: Path) -> None:
    cache, (port,) = tmp_path / "deep/cache", free_ports(1)
    words = ("--size=10Gi", "--reserve=1Ki", f"--metrics-port={port}")
    # Nothing answers there: the agent does without.
    server = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": "1"}
    with started(cache, *words, **server) as agent:
        wait_for((cache / ".agent").exists)
        (cache / f"vision_{UID}").mkdir()
        wait_for(lambda: (cache / f"vision_{UID}").stat().st_gid == 65532)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            told = dict(line.rsplit(" ", 1) for line in answer.read().decode().splitlines())
            assert float(told["conch_cache_size_bytes"]) == 10 * 2**30
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(timeout=30) == 0


@pytest.mark.parametrize(
    ("size", "words"),
    [("much", "is not a quantity"), ("-1Gi", "less than nothing"), ("1Gi", "run it in a pod")],
)
def test_what_is_wrong_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: str, words: str
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    done = CliRunner().invoke(app, ["cache", f"--path={tmp_path}", f"--size={size}"])
    assert done.exit_code == 2
    assert words in done.output
