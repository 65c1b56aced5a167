import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from conch.frontdoor.keeper import Keeper, Pace, answering
from tests.kit.proxy import wait_for

QUICK = Pace(first_pause=0.01, longest_pause=0.02, look=0.05, hangs=0.1)
NOTES = "import os, sys, time; print(os.getpid(), file=open(sys.argv[1], 'a'), flush=True);"


def agent(notes: Path, then: str) -> list[str]:
    """A program that notes its process and does something."""
    return [sys.executable, "-c", f"{NOTES} {then}", str(notes)]


def begun(notes: Path) -> list[int]:
    return [int(line) for line in notes.read_text().split()] if notes.exists() else []


@contextlib.contextmanager
def kept(keeper: Keeper) -> Iterator[list[int]]:
    """Run a keeper; yields what it returns, once it was stopped."""
    returned: list[int] = []
    thread = threading.Thread(target=lambda: returned.append(keeper.run()))
    thread.start()
    try:
        yield returned
    finally:
        keeper.stop()
        thread.join(timeout=20)
        assert not thread.is_alive()


def test_an_agent_that_ends_is_begun_anew(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    with kept(Keeper(agent(notes, "sys.exit(3)"), lambda: True, QUICK)):
        wait_for(lambda: len(begun(notes)) >= 3, "three agents")
    assert len(set(begun(notes))) == len(begun(notes))


def test_one_that_answers_is_left_alone(tmp_path: Path) -> None:
    notes, asked = tmp_path / "notes", []

    def answers() -> bool:
        asked.append(time.monotonic())
        return True

    with kept(Keeper(agent(notes, "time.sleep(600)"), answers, QUICK)):
        wait_for(lambda: len(asked) > 6, "many looks")
        assert len(begun(notes)) == 1


def test_one_that_hangs_is_replaced(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    keeper = Keeper(agent(notes, "time.sleep(600)"), lambda: False, QUICK)
    with kept(keeper):
        wait_for(lambda: len(begun(notes)) >= 2, "another agent")


def test_one_that_was_stopped_has_none_after_it(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    handler = "import signal; signal.signal(signal.SIGTERM, lambda *_: sys.exit(7));"
    program = agent(notes, "time.sleep(600)")
    program[2] = f"import sys; {handler} {program[2]}"
    with kept(Keeper(program, lambda: True, QUICK)) as returned:
        wait_for(lambda: begun(notes), "the agent")
    assert returned == [7]
    assert len(begun(notes)) == 1


def test_the_pause_grows_and_begins_anew_after_a_long_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    notes = tmp_path / "notes"
    pace = Pace(first_pause=0.1, longest_pause=0.4, settled=60, look=0.05)
    with kept(Keeper(agent(notes, "sys.exit(1)"), lambda: True, pace)):
        wait_for(lambda: len(begun(notes)) >= 5, "five agents")
    pauses = [r.args[1] for r in caplog.records if isinstance(r.args, tuple)]
    assert pauses[:4] == [0.1, 0.2, 0.4, 0.4]
    caplog.clear()
    settled = Pace(first_pause=0.1, longest_pause=0.4, settled=0, look=0.05)
    with kept(Keeper(agent(notes, "sys.exit(1)"), lambda: True, settled)):
        wait_for(lambda: len(begun(notes)) >= 8, "eight agents")
    pauses = [r.args[1] for r in caplog.records if isinstance(r.args, tuple)]
    assert set(pauses[:2]) == {0.1}


class Healthy(BaseHTTPRequestHandler):
    """Answers one path."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/healthz" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_an_agent_answers_on_its_port() -> None:
    server = HTTPServer(("127.0.0.1", 0), Healthy)
    port = server.server_port
    thread = threading.Thread(target=server.handle_request)
    thread.start()
    assert answering(port)
    thread.join()
    server.server_close()
    assert not answering(port)


def test_as_a_program_it_hands_sigterm_on(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    words = [sys.executable, "-m", "conch.frontdoor.keeper", "1", *agent(notes, "time.sleep(600)")]
    keeper = subprocess.Popen(words)
    try:
        wait_for(lambda: begun(notes), "the agent")
        keeper.send_signal(signal.SIGTERM)
        assert keeper.wait(timeout=20) != 0
    finally:
        keeper.kill()
    (child,) = begun(notes)
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
