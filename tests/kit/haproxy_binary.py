"""The real HAProxy on this machine; Debian's package is installed where it is missing."""

import functools
from pathlib import Path

from e2e.cluster.prerequisites import HAPROXY, ensure_program
from e2e.cluster.progress import terminal_reporter


@functools.cache
def haproxy_binary() -> Path:
    """Return the program's path. Raises PrerequisiteError or BuildError.

    Installing takes root and apt-get; the service that the package brings is not started.
    """
    return ensure_program(HAPROXY, report=terminal_reporter())
