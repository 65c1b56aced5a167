"""Processes that outlive the tool which started them, and are found again by their records."""

import contextlib
import hashlib
import json
import os
import signal
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

_POLL_S = 0.02
_MAX_LOG = 16 << 20  # bytes; a longer log is set aside when its process starts again


@dataclass(frozen=True)
class Command:
    """A program to run; `inputs` are files that it reads once, at its start."""

    name: str
    argv: tuple[str, ...]
    inputs: tuple[Path, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Changes whenever a process started earlier no longer is what this command would start."""
        hasher = hashlib.sha256()
        for word in (*self.argv, *(f"{key}={value}" for key, value in sorted(self.env.items()))):
            hasher.update(word.encode() + b"\0")
        for path in self.inputs:
            hasher.update(path.read_bytes() + b"\0")
        return hasher.hexdigest()


@dataclass(frozen=True)
class Record:
    """What tells one process from every other, also after its PID has been used again."""

    name: str
    pid: int
    start_time: int  # clock ticks after boot
    boot: str
    digest: str

    def alive(self) -> bool:
        """Whether this very process still runs; a zombie does not."""
        return self.boot == boot_id() and start_time(self.pid) == self.start_time

    def age(self) -> float:
        """For how many seconds the process has run."""
        uptime = float(Path("/proc/uptime").read_text().split()[0])
        return uptime - self.start_time / os.sysconf("SC_CLK_TCK")


class Group(Protocol):
    """Something that a process and all its descendants stay in, such as a cgroup."""

    def entry(self, name: str) -> Path:
        """The file to which a process writes its PID to join the group `name`; made if need be."""
        ...

    def members(self, name: str) -> Collection[int]:
        """The PIDs in the group `name`."""
        ...


class Supervisor:
    """Starts and stops processes; the records lie in `directory`, the logs in `directory`/logs.

    With a `group`, a process is found even if the tool was killed before it wrote the record.
    With `die_with_parent`, processes are killed when the thread that started them ends.
    """

    def __init__(
        self, directory: Path, *, group: Group | None = None, die_with_parent: bool = False
    ) -> None:
        self._directory = directory
        self._group = group
        self._die_with_parent = die_with_parent

    def log(self, name: str) -> Path:
        """The file that gets what the process says."""
        return self._directory / "logs" / f"{name}.log"

    def names(self) -> list[str]:
        """The processes on record, running or not."""
        return sorted(path.stem for path in self._directory.glob("*.json"))

    def running(self, name: str) -> Record | None:
        """The record of the process `name` if that process is alive."""
        record = self._read(name)
        return record if record and record.alive() else None

    def runs(self, command: Command) -> bool:
        """Whether the process runs, started by just this command."""
        record = self.running(command.name)
        return record is not None and record.digest == command.digest

    def start(self, command: Command) -> Record:
        """Starts a process in a session of its own; ends an earlier one of the same name first."""
        self.clear(command)
        pid = self._spawn(command)
        record = Record(command.name, pid, start_time(pid) or 0, boot_id(), command.digest)
        self._write(record)
        return record

    def clear(self, command: Command, *, grace: float = 5.0) -> None:
        """Ends whatever an earlier start of this command's name has left running."""
        self.stop(command.name, grace=grace)
        self._end_strays(command)

    def stop(self, name: str, *, grace: float = 5.0) -> None:
        """Ends the process `name`: SIGTERM, and SIGKILL after `grace` seconds. Idempotent."""
        record = self._read(name)
        if record:
            end([record], grace=grace)
        self._path(name).unlink(missing_ok=True)

    def stop_all(self, *, grace: float = 5.0) -> None:
        """Ends every process on record, all at once."""
        records = [record for name in self.names() if (record := self._read(name))]
        end(records, grace=grace)
        for record in records:
            self._path(record.name).unlink(missing_ok=True)

    def tail(self, name: str, lines: int = 15) -> str:
        """The last lines of the log."""
        try:
            text = self.log(name).read_text(errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def _spawn(self, command: Command) -> int:
        log = self.log(command.name)
        log.parent.mkdir(parents=True, exist_ok=True)
        if log.exists() and log.stat().st_size > _MAX_LOG:
            log.replace(log.with_suffix(".log.1"))
        argv = self._wrapped(command)
        append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        return os.posix_spawn(
            argv[0],
            argv,
            {**_environment(), **command.env},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(log), append, 0o644),
                (os.POSIX_SPAWN_DUP2, 1, 2),
                *((os.POSIX_SPAWN_CLOSE, number) for number in _inheritable()),
            ],
            setsid=True,
        )

    def _wrapped(self, command: Command) -> list[str]:
        """The command behind programs that prepare the process and then become it."""
        argv = list(command.argv)
        if self._die_with_parent:
            argv = ["/usr/bin/setpriv", "--pdeathsig", "KILL", "--", *argv]
        if self._group:
            join = 'echo $$ >"$0" && exec "$@"'
            argv = ["/bin/sh", "-c", join, str(self._group.entry(command.name)), *argv]
        return argv

    def _end_strays(self, command: Command) -> None:
        """Ends what an earlier tool started and had no time to record.

        Only the same program: containerd's group also holds the pods' shims, which live on.
        """
        if not self._group:
            return
        program = Path(command.argv[0]).resolve()
        strays = [
            Record(command.name, pid, started, boot_id(), "")
            for pid in self._group.members(command.name)
            if (started := start_time(pid)) and _runs_program(pid, program)
        ]
        end(strays, grace=2.0)

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}.json"

    def _read(self, name: str) -> Record | None:
        try:
            return Record(**json.loads(self._path(name).read_text()))
        except FileNotFoundError:
            return None

    def _write(self, record: Record) -> None:
        write_atomically(self._path(record.name), json.dumps(asdict(record)))


def end(records: Collection[Record], *, grace: float) -> None:
    """Ends these processes: SIGTERM, then SIGKILL to those that live after `grace` seconds."""
    for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, 10.0)):
        for record in records:
            if record.alive():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(record.pid, number)
        if wait_until(lambda: not any(map(_lives, records)), timeout=patience):
            return


def start_time(pid: int) -> int | None:
    """When the process started, in clock ticks after boot; None if there is none, or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field, the program's name in parentheses, may hold anything.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in {"Z", "X"} else int(fields[19])


def boot_id() -> str:
    """Names the machine's current boot: start times and PIDs mean nothing across boots."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def wait_until(condition: Callable[[], bool], *, timeout: float) -> bool:
    """Whether the condition came true within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_S)
    return True


def write_atomically(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Replaces the file at once: a reader, or a crash, finds the old or the new one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as handle:
        handle.write(text)
    fresh.replace(path)


def _lives(record: Record) -> bool:
    _reap(record.pid)
    return record.alive()


def _reap(pid: int) -> None:
    """Takes the exit status if the process was our child, so that no zombie stays."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _runs_program(pid: int, program: Path) -> bool:
    try:
        return Path(f"/proc/{pid}/exe").resolve() == program
    except OSError:
        return False


def _inheritable() -> list[int]:
    """Descriptors of whoever runs us, such as a lock's: what lives on must not hold them."""
    found = []
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208  # names are numbers, not paths
        with contextlib.suppress(OSError):  # that of the listing itself is closed by now
            if int(name) > 2 and os.get_inheritable(int(name)):
                found.append(int(name))
    return found


def _environment() -> dict[str, str]:
    # Not the caller's: a proxy, a GOFLAGS or a KUBECONFIG there must not change the cluster.
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {"PATH": path, "HOME": os.environ.get("HOME", "/"), "LANG": "C.UTF-8"}
