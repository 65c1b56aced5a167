"""The cluster that demo, tests and benchmarks run on: the local one, or the one that the user names."""

import os
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster import artifacts, prometheus, settings
from e2e.cluster.local import PROGRAMS, LocalCluster
from e2e.cluster.prerequisites import ensure_prerequisites
from e2e.cluster.progress import Reporter
from e2e.cluster.settings import ClusterError, Layout

_TOOLS = ("kubectl", "helm")


@dataclass(frozen=True)
class Cluster:
    """How to reach the cluster. `local` tells whether it is our own, whose parts can be broken."""

    kubeconfig: Path
    prometheus_url: str
    node_address: str  # an address of the machine that the cluster's pods can reach
    bin: Path  # holds kubectl and helm
    local: bool


def ensure(report: Reporter) -> Cluster:
    """The cluster, working: with KUBECONFIG set, that one; otherwise the local one, brought up.

    For a cluster of KUBECONFIG, CONCH_PROMETHEUS_URL says where its Prometheus answers, and
    nothing is started. Raises ClusterError, BuildError or PrerequisiteError.
    """
    if named := os.environ.get("KUBECONFIG"):
        return _existing(Path(named), report)
    layout = Layout.default()
    ensure_prerequisites(report=report)
    built = artifacts.ensure(report=report, names=PROGRAMS)
    LocalCluster(layout, built.bin).up(built.images, report=report)
    return _local(layout, built.bin)


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
    return Cluster(layout.kubeconfig, prometheus.URL, settings.ADDRESS, bin_folder, local=True)
