"""The cluster that demo, tests and benchmarks run on: our own, one of kind, or the user's."""

import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from e2e.cluster import artifacts, kind, prometheus, settings
from e2e.cluster.artifacts import Image
from e2e.cluster.local import PROGRAMS, LocalCluster
from e2e.cluster.prerequisites import ensure_prerequisites
from e2e.cluster.progress import Reporter
from e2e.cluster.settings import ClusterError, Layout

_TOOLS = ("kubectl", "helm")


ROOT = Path(__file__).resolve().parents[2]


class Choice(StrEnum):
    """Where the cluster comes from."""

    NAMED = "the one that KUBECONFIG names"
    LOCAL = "processes of this machine"
    KIND = "kind, on Docker"


class Backend(Protocol):
    """What brings a cluster up and gives its nodes images."""

    def up(self, images: tuple[Image, ...], *, report: Reporter) -> None:
        """Has the cluster running; what works already is left alone."""
        ...

    def load_images(self, images: tuple[Image, ...], *, report: Reporter) -> None:
        """Gives the nodes the images that they lack."""
        ...


@dataclass(frozen=True)
class Cluster:
    """How to reach the cluster. `local` tells whether it is our own, whose parts can be broken."""

    kubeconfig: Path
    prometheus_url: str
    node_address: str  # an address of the machine that the cluster's pods can reach
    bin: Path  # holds kubectl and helm
    local: bool
    backend: Backend | None = field(default=None, compare=False)
    """What loads images; None for a cluster of the user's own, which pulls them."""


def choose(env: Mapping[str, str], *, root: bool, docker: Callable[[], bool]) -> Choice:
    """Which cluster to use: KUBECONFIG's, CONCH_CLUSTER's, ours where we are root, else kind's.

    ``docker`` tells whether kind could run here; it is asked only where that matters.
    """
    if env.get("KUBECONFIG"):
        return Choice.NAMED
    match env.get("CONCH_CLUSTER", ""):
        case "kind":
            return Choice.KIND
        case "local":
            return Choice.LOCAL
        case "":
            return Choice.KIND if not root and docker() else Choice.LOCAL
        case other:
            raise ClusterError(f"CONCH_CLUSTER is {other!r}: it may be local or kind")


def chosen() -> Choice:
    """Which cluster to use on this machine, as its user says."""
    root = os.geteuid() == 0 and platform.system() == "Linux"
    return choose(os.environ, root=root, docker=kind.available)


def ensure(report: Reporter) -> Cluster:
    """The cluster, working: with KUBECONFIG set, that one; otherwise one that is brought up.

    For a cluster of KUBECONFIG, CONCH_PROMETHEUS_URL says where its Prometheus answers, and
    nothing is started. Raises ClusterError, BuildError or PrerequisiteError.
    """
    if chosen() is Choice.NAMED:
        return _existing(Path(os.environ["KUBECONFIG"]), report)
    return ensure_own(report)


def ensure_own(report: Reporter) -> Cluster:
    """As `ensure`, but for KUBECONFIG: a cluster that is brought up here."""
    layout = Layout.default()
    if chosen() is Choice.KIND:
        return _kind(layout, report)
    ensure_prerequisites(report=report)
    built = artifacts.ensure(report=report, names=PROGRAMS)
    LocalCluster(layout, built.bin).up(built.images, report=report)
    return _local(layout, built.bin)


def kind_cluster(layout: Layout, bin_folder: Path) -> kind.Kind:
    """The cluster of kind; its nodes see the folder of built models."""
    return kind.Kind(layout, bin_folder, ROOT / "build" / "models")


def _kind(layout: Layout, report: Reporter) -> Cluster:
    backend = kind_cluster(layout, artifacts.ensure_binaries(_TOOLS, report=report))
    backend.up(artifacts.ensure_images(report=report), report=report)
    url = kind.PROMETHEUS_URL
    return Cluster(backend.kubeconfig, url, "", backend.bin, local=False, backend=backend)


def _existing(kubeconfig: Path, report: Reporter) -> Cluster:
    if not kubeconfig.is_file():
        raise ClusterError(f"KUBECONFIG names {kubeconfig}, which is no file")
    url = os.environ.get("CONCH_PROMETHEUS_URL", "")
    tools = artifacts.ensure_binaries(_TOOLS, report=report)
    layout = Layout.default()
    if kubeconfig.absolute() == layout.kubeconfig:
        return _local(layout, tools)
    if not url:
        raise ClusterError(
            "KUBECONFIG is set: set CONCH_PROMETHEUS_URL too, to where its Prometheus answers"
        )
    return Cluster(kubeconfig, url, os.environ.get("CONCH_NODE_ADDRESS", ""), tools, local=False)


def _local(layout: Layout, bin_folder: Path) -> Cluster:
    backend = LocalCluster(layout, bin_folder)
    return Cluster(
        layout.kubeconfig,
        prometheus.URL,
        settings.ADDRESS,
        bin_folder,
        local=True,
        backend=backend,
    )
