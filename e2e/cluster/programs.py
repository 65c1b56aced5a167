"""Running the host's programs to their end."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from e2e.cluster.settings import ClusterError

# Where distributions keep what only root runs, which need not be on the caller's PATH.
_PLACES = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


def find(name: str) -> Path:
    """The program's path. Raises ClusterError if the host has none of that name."""
    found = shutil.which(name, path=":".join(_PLACES)) or shutil.which(name)
    if not found:
        raise ClusterError(f"the program `{name}` is not installed")
    return Path(found)


def attempt(
    arguments: Sequence[str], *, given: str | None = None, timeout: float = 60.0
) -> subprocess.CompletedProcess[str]:
    """Runs a program with `given` on its standard input; its exit status is the caller's matter.

    `timeout` is in seconds; ClusterError if it takes longer.
    """
    command = [str(find(arguments[0])), *arguments[1:]]
    try:
        return subprocess.run(
            command, input=given, capture_output=True, text=True, check=False, timeout=timeout
        )
    except subprocess.TimeoutExpired as error:
        raise ClusterError(f"`{' '.join(command)}` took over {timeout:.0f} s") from error


def run(arguments: Sequence[str], *, given: str | None = None, timeout: float = 60.0) -> str:
    """What the program prints. Raises ClusterError with its complaint if it fails."""
    done = attempt(arguments, given=given, timeout=timeout)
    if done.returncode:
        said = done.stderr.strip() or done.stdout.strip()
        raise ClusterError(f"`{' '.join(arguments)}` exited with {done.returncode}: {said}")
    return done.stdout
