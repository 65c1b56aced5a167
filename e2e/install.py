"""Puts Conch on a cluster as users do: CRDs by kubectl, the operator by Helm."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from conch.clients.clock import SystemClock
from conch.decisions.shares.usage import HALF_LIFE_S
from conch.reconcile.views import seconds_of
from e2e.cluster.artifacts import Image, ensure_images
from e2e.cluster.cluster import Cluster, ensure
from e2e.cluster.progress import Reporter
from e2e.cluster.settings import Layout
from e2e.kubectl import Tools, wait_for
from e2e.models import ensure_models, models_folder

ROOT = Path(__file__).resolve().parent.parent
NAMESPACE = "conch-system"
RELEASE = "conch"
HELM_TIMEOUT_S = 180.0
CACHE_SIZE = "2Gi"
ON_GPU_NODES = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
DOMAIN = "models.test"
"""In which services have hosts; no name server knows it, so tests name hosts in their requests."""


@dataclass(frozen=True)
class Stage:
    """A cluster with Conch on it, and the sample models where its nodes can read them."""

    cluster: Cluster
    tools: Tools
    models: Path
    manifest: dict[str, Any]
    """Digests and measured accuracy of the models."""


def ensure_stage(
    report: Reporter,
    *,
    tick_seconds: float = 2.0,
    relist_seconds: float = 60.0,
    half_life_seconds: float = HALF_LIFE_S,
) -> Stage:
    """Bring up cluster, models and operator, as far as they are not there yet.

    ``half_life_seconds`` is that of what tenants used.
    """
    cluster = ensure(report)
    tools = Tools(cluster.bin, cluster.kubeconfig)
    manifest = ensure_models(cluster, report)
    models = models_folder(cluster)
    pace = {
        "tickSeconds": tick_seconds,
        "relistSeconds": relist_seconds,
        "usageHalfLifeSeconds": half_life_seconds,
    }
    install(tools, cluster, models, report=report, pace=pace)
    return Stage(cluster, tools, models, manifest)


def install(
    tools: Tools, cluster: Cluster, models: Path, *, report: Reporter, pace: dict[str, float]
) -> None:
    """Install or upgrade CRDs and operator, and wait until the operator leads."""
    with report.step("CRDs"):
        tools.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "crds"))
        for path in sorted((ROOT / "crds").glob("*.yaml")):
            name = yaml.safe_load(path.read_text())["metadata"]["name"]
            tools.kubectl("wait", "--for=condition=Established", f"crd/{name}", "--timeout=30s")
    with report.step("Conch by Helm"):
        images = ensure_images(report=report)
        if cluster.backend:
            # The sources may have changed since the cluster came up.
            cluster.backend.load_images(images, report=report)
        values = chart_values(cluster, models, images, pace=pace)
        forget_cut_off(tools)
        tools.run(
            "helm",
            *("upgrade", "--install", RELEASE, str(ROOT / "charts" / "conch")),
            *("--namespace", NAMESPACE, "--create-namespace", "--values", "-"),
            *("--skip-crds", "--wait", "--timeout", "120s"),
            given=yaml.safe_dump(values),
            timeout=HELM_TIMEOUT_S,
        )
    with report.step("the operator leads"):
        wait_for("a leader", lambda: _leader(tools), timeout=60)


def forget_cut_off(tools: Tools) -> None:
    """Remove what an upgrade that was killed has left, for Helm would wait for it for ever."""
    pending = "owner=helm,name=conch,status in (pending-install,pending-upgrade,pending-rollback)"
    now = SystemClock().wall()
    for record in tools.list("secrets", "-n", NAMESPACE, "-l", pending):
        if now - seconds_of(record["metadata"]["creationTimestamp"]) > HELM_TIMEOUT_S:
            tools.kubectl("delete", "secret", record["metadata"]["name"], "-n", NAMESPACE)


def _leader(tools: Tools) -> bool:
    lease = tools.get("lease", "conch-operator", NAMESPACE)
    holder = (lease or {}).get("spec", {}).get("holderIdentity")
    pods = tools.list("pods", "-n", NAMESPACE, "-l", "app.kubernetes.io/name=conch")
    return any(holder and holder.startswith(p["metadata"]["name"]) for p in pods)


def chart_values(
    cluster: Cluster, models: Path, images: Sequence[Image], *, pace: dict[str, float]
) -> dict[str, object]:
    """Return the chart's values for this cluster: its image, its Prometheus, its taints."""
    conch = next(i.name for i in images if "/conch:" in i.name)
    return {
        "image": {"tag": conch.rpartition(":")[2]},
        "prometheus": {"url": cluster.prometheus_url},
        # Replicas stay where tests put them.
        "operator": {**pace, "planner": "propose"},
        "sources": {"filePrefixes": [str(models)]},
        "tolerations": ON_GPU_NODES,
        "cache": cache_values(cluster),
        "frontDoor": front_door_values(),
    }


def front_door_values() -> dict[str, object]:
    """Return the front door: small, beside all else on two cores, and never throttled."""
    tiny = {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}}
    return {
        "domain": DOMAIN,
        "tolerations": ON_GPU_NODES,
        "haproxy": {"resources": tiny, "threads": 1},
        "agent": {"resources": tiny},
        "closeGraceSeconds": 30,
    }


def cache_values(cluster: Cluster) -> dict[str, object]:
    """Return the nodes' cache: both nodes of the local cluster share one, which goes with it.

    Nothing is written to the nodes of a cluster of the user's own.
    """
    if not cluster.local:
        return {"enabled": False}
    path = Layout.default().root / "cache"
    return {"enabled": True, "path": str(path), "size": CACHE_SIZE, "reserve": "1Gi"}
