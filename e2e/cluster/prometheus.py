"""Prometheus, as a process of the host that discovers and scrapes pods."""

from pathlib import Path

import yaml

from e2e.cluster import settings
from e2e.cluster.api import Api
from e2e.cluster.parts import HttpProbe, Part
from e2e.cluster.pki import PROMETHEUS, Pki
from e2e.cluster.processes import Command, write_atomically
from e2e.cluster.services import Port, allow_reading, publish
from e2e.cluster.settings import Layout

URL = f"http://{settings.ADDRESS}:{settings.PROMETHEUS_PORT}"
NAMESPACE = "monitoring"
_META = "__meta_kubernetes_pod"


def prepare(layout: Layout, pki: Pki, url: str) -> None:
    """Writes its configuration. Rule files (*.yml) may be put into its folder `rules`."""
    pki.write_kubeconfig(PROMETHEUS, url, _kubeconfig(layout))
    write_atomically(_config(layout), yaml.safe_dump(config(layout), sort_keys=False))
    (layout.prometheus / "rules").mkdir(exist_ok=True)


def part(layout: Layout, bin_folder: Path) -> Part:
    argv = (
        str((bin_folder / "prometheus").resolve()),
        f"--config.file={_config(layout)}",
        f"--storage.tsdb.path={layout.prometheus / 'data'}",
        "--storage.tsdb.retention.time=24h",
        f"--web.listen-address={settings.ADDRESS}:{settings.PROMETHEUS_PORT}",
        "--web.enable-lifecycle",
        "--log.level=warn",
    )
    command = Command("prometheus", argv, (_config(layout), _kubeconfig(layout)))
    return Part(command, HttpProbe(f"{URL}/-/ready"))


def another(
    layout: Layout, bin_folder: Path, folder: Path, *, port: int, every_seconds: int
) -> Part:
    """A second one beside the cluster's, at a scrape interval of its own; `folder` gets its data."""
    folder.mkdir(parents=True, exist_ok=True)
    discovery = {"role": "pod", "kubeconfig_file": str(_kubeconfig(layout))}
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(scraping(discovery, every_seconds), sort_keys=False))
    argv = (
        str((bin_folder / "prometheus").resolve()),
        f"--config.file={path}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={settings.ADDRESS}:{port}",
        "--log.level=warn",
    )
    url = f"http://{settings.ADDRESS}:{port}/-/ready"
    return Part(Command(f"prometheus-{port}", argv, (path,)), HttpProbe(url))


def install(api: Api) -> None:
    """Lets it list pods, and lets pods reach it as Service monitoring/prometheus."""
    allow_reading(api, PROMETHEUS.user, [("", "pods")])
    port = Port("http", settings.PROMETHEUS_PORT, settings.PROMETHEUS_PORT)
    address = settings.PROMETHEUS_SERVICE_ADDRESS
    publish(api, namespace=NAMESPACE, name="prometheus", address=address, ports=[port])


def config(layout: Layout) -> dict[str, object]:
    """prometheus.yml of the local cluster."""
    rules = [str(layout.prometheus / "rules" / "*.yml")]
    discovery = {"role": "pod", "kubeconfig_file": str(_kubeconfig(layout))}
    return {**scraping(discovery), "rule_files": rules}


def scraping(discovery: dict[str, str], every_seconds: int = 1) -> dict[str, object]:
    """A configuration that scrapes so often the pods that ask for it by annotation."""
    every = f"{every_seconds}s"
    pods = {
        "job_name": "pods",
        "kubernetes_sd_configs": [discovery],
        "relabel_configs": _relabel_configs(),
    }
    return {
        "global": {
            "scrape_interval": every,
            "scrape_timeout": "1s",
            "evaluation_interval": every,
        },
        "scrape_configs": [pods],
    }


def _relabel_configs() -> list[dict[str, object]]:
    annotation = f"{_META}_annotation_prometheus_io"
    return [
        {"source_labels": [f"{annotation}_scrape"], "action": "keep", "regex": "true"},
        {"source_labels": [f"{_META}_phase"], "action": "drop", "regex": "Succeeded|Failed"},
        {
            "source_labels": [f"{annotation}_path"],
            "regex": "(.+)",
            "target_label": "__metrics_path__",
        },
        # From the pod's address, so that its many containers give one target, not one each.
        {
            "source_labels": [f"{_META}_ip", f"{annotation}_port"],
            "regex": "(.+);(.+)",
            "replacement": "$1:$2",
            "target_label": "__address__",
        },
        {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
        {"source_labels": [f"{_META}_name"], "target_label": "pod"},
        {"source_labels": [f"{_META}_node_name"], "target_label": "node"},
        # Only labels that stay as they are as long as the pod lives: one that changes would
        # make new series of old ones.
        {"action": "labelmap", "regex": f"{_META}_label_(conch_dev_(?:service|revision|pool))"},
    ]


def _config(layout: Layout) -> Path:
    return layout.prometheus / "prometheus.yml"


def _kubeconfig(layout: Layout) -> Path:
    return layout.prometheus / "kubeconfig"
