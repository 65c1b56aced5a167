"""Running the build tools: each with a log file, each failure naming both."""

import os
import shlex
import subprocess
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

_TAIL_LINES = 12


class BuildError(Exception):
    """Something that the local cluster is made of could not be built or fetched."""


def run(
    command: Sequence[str | Path],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> None:
    """Runs `command` to its end, its output appended to `log`; `env` adds to this process's.

    Raises BuildError, naming the command, its exit status, the log and the log's last lines.
    """
    words = [str(word) for word in command]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as output:
        output.write(f"$ {shlex.join(words)}\n")
        output.flush()
        try:
            done = subprocess.run(
                words,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                cwd=cwd,
                check=False,
            )
        except OSError as error:
            raise BuildError(f"cannot run {words[0]}: {error}") from error
    if done.returncode:
        raise BuildError(_explain(words, done.returncode, log))


def _explain(words: Sequence[str], status: int, log: Path) -> str:
    with log.open(errors="replace") as lines:
        tail = "".join(deque(lines, maxlen=_TAIL_LINES))
    return f"`{shlex.join(words)}` exited with {status}; its log is {log}, which ends:\n{tail}"
