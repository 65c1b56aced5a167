"""The Helm chart, as helm renders it."""

import functools
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.cluster.artifacts import ensure_binaries
from e2e.cluster.progress import terminal_reporter

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "conch"
NAMESPACE = "conch-system"

Object = dict[str, Any]
Objects = dict[tuple[str, str], Object]


@pytest.fixture(scope="session")
def helm() -> Path:
    """The program helm."""
    return ensure_binaries({"helm"}, report=terminal_reporter()) / "helm"


def call(helm: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run helm; its exit status is the caller's matter."""
    return subprocess.run([helm, *words], capture_output=True, text=True, check=False, timeout=60)


def template(helm: Path, *settings: str, kinds: tuple[str, ...] = ()) -> str:
    """Return what a release `conch` would apply, as text; ``kinds`` are the cluster's own further."""
    done = call(helm, *_words(settings, kinds))
    assert done.returncode == 0, done.stderr
    return done.stdout


@functools.cache
def rendered(helm: Path, *settings: str, kinds: tuple[str, ...] = ()) -> Objects:
    """Return what a release `conch` would apply, by kind and name."""
    objects = [o for o in yaml.safe_load_all(template(helm, *settings, kinds=kinds)) if o]
    return {(o["kind"], o["metadata"]["name"]): o for o in objects}


def refused(helm: Path, *settings: str, kinds: tuple[str, ...] = ()) -> str:
    """Return why helm renders nothing."""
    done = call(helm, *_words(settings, kinds))
    assert done.returncode != 0, done.stdout
    return done.stderr


def _words(settings: tuple[str, ...], kinds: tuple[str, ...]) -> list[str]:
    sets = [word for setting in settings for word in ("--set", setting)]
    known = [word for kind in kinds for word in ("--api-versions", kind)]
    return ["template", "conch", str(CHART), "-n", NAMESPACE, *sets, *known]
