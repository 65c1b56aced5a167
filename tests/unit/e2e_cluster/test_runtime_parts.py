import http.server
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from e2e.cluster import parts
from e2e.cluster.parts import HttpProbe, Part, Runner, SocketProbe
from e2e.cluster.processes import Command, Supervisor, start_time
from e2e.cluster.settings import ClusterError

SLEEP = Command("sleeper", ("/bin/sleep", "60"))


@dataclass
class ScriptedProbe:
    """Gives these answers one after the other, and the last one for ever."""

    answers: list[str | None] = field(default_factory=lambda: ["refused", None])

    def failure(self) -> str | None:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Runner]:
    made = Runner(Supervisor(tmp_path))
    yield made
    made.supervisor.stop_all(grace=0)


def pid(runner: Runner) -> int:
    record = runner.supervisor.running("sleeper")
    assert record is not None
    return record.pid


def test_what_works_is_left_alone(runner: Runner) -> None:
    part = Part(SLEEP, ScriptedProbe())
    runner.ensure(part)
    first = pid(runner)
    runner.ensure(part)
    assert pid(runner) == first


def test_a_slow_start_is_waited_for(runner: Runner) -> None:
    part = Part(SLEEP, ScriptedProbe(["refused", "not yet", "not yet", None]))
    runner.start(part)
    first = pid(runner)
    runner.ensure(part)
    assert pid(runner) == first


def test_what_runs_and_does_not_work_is_started_again(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "_HICCUP_S", 0.0)
    runner.ensure(Part(SLEEP, ScriptedProbe()))
    first = pid(runner)
    hanging = ScriptedProbe(["hangs", "hangs", "refused", None])
    runner.ensure(Part(SLEEP, hanging, ready_within=0))
    assert pid(runner) != first
    assert start_time(first) is None


def test_a_part_that_dies_is_explained_by_its_log(runner: Runner) -> None:
    command = Command("crasher", ("/bin/sh", "-c", "echo no such flag >&2; exit 2"))
    with pytest.raises(ClusterError, match=r"(?s)crasher: not running; its log .*no such flag"):
        runner.ensure(Part(command, ScriptedProbe(["refused"])))


def test_another_server_at_the_same_address_does_not_pass_for_ours(runner: Runner) -> None:
    with pytest.raises(ClusterError, match="another program serves"):
        runner.ensure(Part(SLEEP, ScriptedProbe([None])))
    assert runner.supervisor.names() == []


def test_a_changed_command_restarts_the_part(runner: Runner) -> None:
    runner.ensure(Part(SLEEP, ScriptedProbe()))
    first = pid(runner)
    assert runner.start(Part(Command("sleeper", ("/bin/sleep", "61")), ScriptedProbe()))
    assert pid(runner) != first


class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/healthz" else 500)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_http_health_is_a_200() -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), Health) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        assert HttpProbe(f"{url}/healthz").failure() is None
        assert HttpProbe(f"{url}/other").failure() == f"{url}/other answers 500"
        server.shutdown()
        thread.join()
    failure = HttpProbe(f"{url}/healthz").failure()
    assert failure is not None
    assert "does not answer" in failure


def test_socket_health_is_an_accepted_connection(tmp_path: Path) -> None:
    path = tmp_path / "s"
    failure = SocketProbe(path).failure()
    assert failure is not None
    assert "does not answer" in failure
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        assert SocketProbe(path).failure() is None
