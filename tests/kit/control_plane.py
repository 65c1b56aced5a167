"""A real API server for tests: one control plane a session, a namespace of its own for each test."""

import itertools
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from conch.api.crd import KINDS
from e2e.cluster.artifacts import ensure_binaries
from e2e.cluster.controlplane import ControlPlane
from e2e.cluster.progress import terminal_reporter
from tests.kit.client import Client, manifests

ROOT = Path(__file__).resolve().parents[2]
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_SERVERS = ("etcd", "kube-apiserver", "kubectl")
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Kubectl:
    """kubectl as a user runs it."""

    program: Path
    kubeconfig: Path

    def __call__(self, *words: str, given: Any = None) -> subprocess.CompletedProcess[str]:
        """Run it; ``given`` is the object, or the list of objects, on its standard input."""
        objects = [] if given is None else given if isinstance(given, list) else [given]
        return subprocess.run(
            [self.program, *words],
            input=yaml.safe_dump_all(objects),
            env={
                "PATH": os.environ["PATH"],
                "KUBECONFIG": str(self.kubeconfig),
                "HOME": self._home,
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def ok(self, *words: str, given: Any = None) -> str:
        """Run it and return what it prints; it must succeed."""
        done = self(*words, given=given)
        assert done.returncode == 0, f"kubectl {' '.join(words)}: {done.stderr}"
        return done.stdout

    def refused(self, *words: str, given: Any = None) -> str:
        """Run it and return its complaint; it must fail."""
        done = self(*words, given=given)
        assert done.returncode != 0, f"kubectl {' '.join(words)} was not refused: {done.stdout}"
        return done.stderr

    @property
    def _home(self) -> str:
        # Its discovery cache must not outlive the API server, whose port may come again.
        return str(self.kubeconfig.parent)


@dataclass(frozen=True)
class Cluster:
    """An API server with Conch's kinds."""

    kubeconfig: Path
    client: Client
    kubectl: Kubectl

    def new_namespace(self) -> str:
        """Create a namespace that no other test uses and return its name."""
        name = f"test-{next(_numbers)}"
        self.client.create("/api/v1/namespaces", {"metadata": {"name": name}})
        return name


def install_crds(client: Client, *, timeout: float = 20) -> None:
    """Apply crds/ and return once the API server serves the kinds; AssertionError if it won't."""
    for path in sorted((ROOT / "crds").glob("*.yaml")):
        for manifest in manifests(path):
            client.apply(f"{CRDS}/{manifest['metadata']['name']}", manifest)
    deadline = time.monotonic() + timeout
    while missing := [k.crd_name for k in KINDS if not _established(client, k.crd_name)]:
        assert time.monotonic() < deadline, f"not established: {missing}"
        time.sleep(0.05)


def condition(item: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return the condition of a type, or an empty dictionary."""
    found = item.get("status", {}).get("conditions") or []
    return next((c for c in found if c["type"] == kind), {})


def _established(client: Client, name: str) -> bool:
    return condition(client.get(f"{CRDS}/{name}"), "Established").get("status") == "True"


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """An API server without controllers, scheduler and nodes: objects stay as they are written."""
    binaries = ensure_binaries(_SERVERS, report=terminal_reporter())
    directory = tmp_path_factory.mktemp("control-plane")
    with (
        ControlPlane.start(
            directory, binaries, with_controllers=False, with_scheduler=False
        ) as plane,
        Client(plane.kubeconfig) as client,
    ):
        install_crds(client)
        kubectl = Kubectl(binaries / "kubectl", plane.kubeconfig)
        yield Cluster(plane.kubeconfig, client, kubectl)


@pytest.fixture
def namespace(cluster: Cluster) -> str:
    """The name of an empty namespace."""
    return cluster.new_namespace()
