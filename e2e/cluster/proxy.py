"""kube-proxy: one for both nodes, which share the host's network namespace."""

import json
from pathlib import Path

from e2e.cluster import settings
from e2e.cluster.parts import HttpProbe, Part
from e2e.cluster.pki import PROXY, Pki
from e2e.cluster.processes import Command, write_atomically
from e2e.cluster.settings import Layout

_HEALTH_PORT = 10256
_METRICS_PORT = 10249


def prepare(layout: Layout, pki: Pki, url: str) -> None:
    """Writes its configuration."""
    pki.write_kubeconfig(PROXY, url, _kubeconfig(layout))
    write_atomically(_config(layout), json.dumps(config(layout), indent=1))


def part(layout: Layout, bin_folder: Path) -> Part:
    argv = (str((bin_folder / "kube-proxy").resolve()), f"--config={_config(layout)}")
    command = Command("kube-proxy", argv, (_config(layout), _kubeconfig(layout)))
    return Part(command, HttpProbe(f"http://{settings.ADDRESS}:{_HEALTH_PORT}/healthz"))


def config(layout: Layout) -> dict[str, object]:
    """The KubeProxyConfiguration: it leaves the host's own connection tracking as it is."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(_kubeconfig(layout)), "qps": 100, "burst": 200},
        "mode": "iptables",
        "hostnameOverride": settings.NODES[0].name,
        "bindAddress": settings.ADDRESS,
        "healthzBindAddress": f"{settings.ADDRESS}:{_HEALTH_PORT}",
        "metricsBindAddress": f"{settings.ADDRESS}:{_METRICS_PORT}",
        "clusterCIDR": settings.CLUSTER_NETWORK,
        "nodePortAddresses": [settings.HOST_NETWORK],
        "iptables": {"localhostNodePorts": False, "minSyncPeriod": "0.2s", "syncPeriod": "30s"},
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
        "oomScoreAdj": 0,
    }


def _config(layout: Layout) -> Path:
    return layout.proxy / "config.json"


def _kubeconfig(layout: Layout) -> Path:
    return layout.proxy / "kubeconfig"
