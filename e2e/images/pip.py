"""Python packages for the interpreter of the images, whatever Python this runs on."""

import sys
from collections.abc import Iterable
from pathlib import Path

from e2e.cluster.commands import run
from e2e.images.base import PYTHON
from e2e.images.oci import machine_architecture

_GLIBC_MINORS = (17, 27, 28, 31, 34, 35, 36)  # the newest is the base layer's
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


def install(target: Path, requirements: Iterable[str], *, log: Path, closed: bool = False) -> None:
    """Installs wheels of `requirements` into `target`; with `closed`, none of what they need.

    Raises BuildError.
    """
    machine = _MACHINES.get(machine_architecture(), machine_architecture())
    command: list[str | Path] = [sys.executable, "-m", "pip", "install", "--no-compile"]
    command += ["--no-input", "--quiet", "--only-binary=:all:", "--target", target]
    command += ["--implementation", "cp", "--python-version", PYTHON]
    for minor in _GLIBC_MINORS:
        command += ["--platform", f"manylinux_2_{minor}_{machine}"]
    if closed:
        command.append("--no-deps")
    run([*command, *requirements], log=log)
