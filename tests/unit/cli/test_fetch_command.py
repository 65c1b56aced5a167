"""``conch fetch`` and ``conch digest`` as the pod and its users run them."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from conch.cli import fetch as command
from conch.cli.main import app
from conch.clients.checksums import digest_of
from conch.clients.source_errors import SourceUnreachableError

ROOT = Path(command.__file__).parents[2]


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """Give the test's process its own answer to SIGTERM back."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    (tmp_path / "source").mkdir()
    (tmp_path / "source/model.py").write_text("code")
    return [
        "fetch",
        "--uri=pvc://models/digits",
        "--model=digits",
        f"--repository={tmp_path / 'models'}",
        f"--source-dir={tmp_path / 'source'}",
    ]


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "termination-log"
    monkeypatch.setattr(command, "_TERMINATION_LOG", path)
    return path


def test_a_model_is_fetched_and_it_is_said_what_came(
    words: list[str], log: Path, tmp_path: Path
) -> None:
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "digits: 1 files, 4 bytes" in done.stdout
    assert "no sha256 given" in done.stdout
    assert (tmp_path / "models/digits/1/model.py").read_text() == "code"


def test_a_failure_stands_in_the_status_of_the_pod(words: list[str], log: Path) -> None:
    log.touch()
    done = CliRunner().invoke(app, [*words, f"--sha256={'0' * 64}"])
    assert done.exit_code == 3  # the next attempt would find the same
    assert done.stderr.startswith("ChecksumMismatch: pvc://models/digits: wanted sha256 0000")
    assert log.read_text() == done.stderr.strip()


def test_outside_of_a_pod_no_termination_log_is_made(words: list[str], log: Path) -> None:
    assert CliRunner().invoke(app, [*words[:-1], "--source-dir=/absent"]).exit_code == 3
    assert not log.exists()


def test_a_server_that_is_away_is_another_status_than_what_can_not_succeed(
    words: list[str], log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_: object) -> None:
        raise SourceUnreachableError("http://nowhere: Connection refused")

    monkeypatch.setattr(command, "fetch", away)
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 1
    assert done.stderr == "SourceUnavailable: http://nowhere: Connection refused\n"


def test_the_digest_is_printed(tmp_path: Path, words: list[str]) -> None:
    done = CliRunner().invoke(app, ["digest", str(tmp_path / "source")])
    assert done.stdout.strip() == digest_of(tmp_path / "source")


def test_a_fetch_ends_when_its_pod_is_deleted(tmp_path: Path) -> None:
    # Process 1 of a container hears SIGTERM only with a handler of its own.
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)
        port = server.getsockname()[1]
        words = [f"--uri=http://127.0.0.1:{port}/m", "--model=m", f"--repository={tmp_path}"]
        with subprocess.Popen(
            [sys.executable, "-m", "conch.cli.entry", "fetch", *words],
            env={"PYTHONPATH": str(ROOT), "NO_PROXY": "*"},
        ) as fetching:
            connection, _ = server.accept()
            with connection:  # it waits for an answer that does not come
                fetching.send_signal(signal.SIGTERM)
                assert fetching.wait(timeout=30) == 143
    assert list(tmp_path.iterdir()) == []
