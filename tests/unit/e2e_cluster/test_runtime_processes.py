import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from e2e.cluster.processes import (
    Command,
    Record,
    Supervisor,
    boot_id,
    end,
    start_time,
    wait_until,
    write_atomically,
)

SLEEP = Command("sleeper", ("/bin/sleep", "60"))


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    made = Supervisor(tmp_path)
    yield made
    made.stop_all(grace=0)


class FolderGroup:
    """Stands for a cgroup: each process that enters leaves its PID in a file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def entry(self, name: str) -> Path:
        return self._folder / name

    def members(self, name: str) -> Collection[int]:
        path = self._folder / name
        return [int(word) for word in path.read_text().split()] if path.exists() else []


def test_a_started_process_is_found_by_another_supervisor(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    record = supervisor.start(SLEEP)

    other = Supervisor(tmp_path)
    assert other.running("sleeper") == record
    assert other.names() == ["sleeper"]
    other.stop("sleeper")
    assert not record.alive()
    assert supervisor.running("sleeper") is None


def test_stopping_what_never_ran_does_nothing(supervisor: Supervisor) -> None:
    supervisor.stop("nobody")
    assert supervisor.names() == []


def test_a_process_that_ignores_sigterm_is_killed(supervisor: Supervisor) -> None:
    script = "trap '' TERM; echo armed; while :; do sleep 0.1; done"
    record = supervisor.start(Command("stubborn", ("/bin/sh", "-c", script)))
    assert wait_until(lambda: "armed" in supervisor.tail("stubborn"), timeout=10)

    supervisor.stop("stubborn", grace=0.2)

    assert not record.alive()


def test_another_process_with_the_recorded_pid_is_left_alone(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    with subprocess.Popen(["/bin/sleep", "60"]) as innocent:
        started = start_time(innocent.pid)
        assert started is not None
        reused = Record("sleeper", innocent.pid, started - 1, boot_id(), "")
        other_boot = Record("sleeper", innocent.pid, started, "before the reboot", "")

        assert not reused.alive()
        assert not other_boot.alive()
        end([reused, other_boot], grace=0)
        assert innocent.poll() is None
        innocent.kill()


def test_a_zombie_is_not_alive() -> None:
    child = os.posix_spawn("/bin/true", ["/bin/true"], {})
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)  # it has ended, and is not reaped
    assert start_time(child) is None
    os.waitpid(child, 0)


def test_a_changed_command_or_input_is_noticed(supervisor: Supervisor, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("one")
    command = Command("sleeper", SLEEP.argv, (config,))
    supervisor.start(command)
    assert supervisor.runs(command)
    assert not supervisor.runs(Command("sleeper", ("/bin/sleep", "61"), (config,)))

    config.write_text("two")
    assert not supervisor.runs(command)


def test_starting_again_replaces_the_process(supervisor: Supervisor) -> None:
    first = supervisor.start(SLEEP)
    second = supervisor.start(SLEEP)
    assert not first.alive()
    assert second.alive()


def test_output_goes_to_the_log(supervisor: Supervisor) -> None:
    supervisor.start(Command("talker", ("/bin/sh", "-c", "echo out; echo err >&2")))
    assert wait_until(lambda: supervisor.running("talker") is None, timeout=10)
    assert supervisor.tail("talker").splitlines() == ["out", "err"]
    assert supervisor.tail("talker", lines=1) == "err"


def _open_files(pid: int) -> list[Path]:
    found = []
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the loader closes its own meanwhile
            found.append(path.readlink())
    return found


def test_files_that_the_caller_was_given_are_not_held_open(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    with (tmp_path / "lock").open("w") as lock:
        os.set_inheritable(lock.fileno(), True)
        record = supervisor.start(SLEEP)
        assert record.alive()
        held = _open_files(record.pid)
    assert held
    assert tmp_path / "lock" not in held


def test_the_callers_environment_stays_outside(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example")
    supervisor.start(Command("shell", ("/usr/bin/env",), env={"OWN": "yes"}))
    assert wait_until(lambda: "OWN=yes" in supervisor.tail("shell"), timeout=10)
    assert "PROXY" not in supervisor.tail("shell", lines=100)


def test_a_process_without_a_record_is_ended_before_its_successor_starts(tmp_path: Path) -> None:
    groups = tmp_path / "groups"
    groups.mkdir()
    killed_tool = Supervisor(tmp_path / "a", group=FolderGroup(groups))
    stray = killed_tool.start(SLEEP)
    assert wait_until(lambda: "sleep" in program(stray.pid), timeout=10)
    (tmp_path / "a" / "sleeper.json").unlink()  # as if killed before it was written

    supervisor = Supervisor(tmp_path / "a", group=FolderGroup(groups))
    fresh = supervisor.start(SLEEP)

    assert not stray.alive()
    assert fresh.alive()
    supervisor.stop_all(grace=0)


def test_other_programs_in_the_group_live_on(tmp_path: Path) -> None:
    groups = tmp_path / "groups"
    groups.mkdir()
    with subprocess.Popen(["/bin/sh", "-c", "read line"], stdin=subprocess.PIPE) as shim:
        (groups / "sleeper").write_text(f"{shim.pid}\n")
        supervisor = Supervisor(tmp_path, group=FolderGroup(groups))
        supervisor.start(SLEEP)
        assert shim.poll() is None
        supervisor.stop_all(grace=0)


def test_processes_of_a_test_end_with_the_test_run(tmp_path: Path) -> None:
    script = f"""
import os, signal
from pathlib import Path
from e2e.cluster.processes import Command, Supervisor, wait_until
supervisor = Supervisor(Path({str(tmp_path)!r}), die_with_parent=True)
pid = supervisor.start(Command("child", ("/bin/sleep", "60"))).pid
assert wait_until(lambda: b"sleep" in Path(f"/proc/{{pid}}/cmdline").read_bytes()[:20], timeout=10)
os.kill(os.getpid(), signal.SIGKILL)
"""
    run = subprocess.run([sys.executable, "-c", script], check=False)
    assert run.returncode == -signal.SIGKILL
    supervisor = Supervisor(tmp_path)
    assert supervisor.names() == ["child"]
    assert wait_until(lambda: supervisor.running("child") is None, timeout=10)


def test_a_file_is_replaced_whole_and_with_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "secret"
    write_atomically(path, "one", mode=0o600)
    write_atomically(path, "two", mode=0o600)
    assert path.read_text() == "two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["secret"]


def program(pid: int) -> str:
    return Path(f"/proc/{pid}/exe").readlink().name
