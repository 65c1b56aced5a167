"""The sample models and their services, as the examples write them, on the cluster at hand."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from e2e.cluster.cluster import Cluster
from e2e.cluster.progress import Reporter
from e2e.cluster.settings import Layout
from e2e.kubectl import Tools, wait_for
from examples.models.train import ensure_models as train

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
CLAIM = "models"


@dataclass(frozen=True)
class Sample:
    """A model service of the examples."""

    name: str
    namespace: str
    file: str
    output: str
    """The tensor with the class probabilities."""
    input: str


DIGITS = Sample("digits", "vision", "digits.yaml", output="probabilities", input="image")
TUMOR = Sample("tumor", "clinic", "tumor.yaml", output="probabilities", input="measurements")


def models_folder(cluster: Cluster) -> Path:
    """Return where the models lie: where the nodes of the local cluster see them."""
    return Layout.default().root / "models" if cluster.local else ROOT / "build" / "models"


def ensure_models(cluster: Cluster, report: Reporter) -> dict[str, Any]:
    """Train the models unless they are up to date; return their manifest."""
    with report.step("sample models"):
        return dict(train(models_folder(cluster)))


def documents(file: str) -> list[dict[str, Any]]:
    """Return the objects of an example."""
    text = (EXAMPLES / file).read_text()
    return [d for d in yaml.safe_load_all(text) if d]


def sourced(objects: list[dict[str, Any]], uri: str) -> list[dict[str, Any]]:
    """Return the objects with every Model's variants read from ``uri``."""
    out = copy.deepcopy(objects)
    for item in out:
        if item["kind"] in ("Model", "ClusterModel"):
            for variant in item["spec"]["variants"]:
                variant["source"]["uri"] = uri
    return out


def apply_claim(tools: Tools, namespace: str, folder: Path) -> None:
    """Give a namespace the claim ``models`` on a folder of the nodes.

    A volume that an earlier namespace of that name left can't be bound again, and goes first. The
    claim comes once its volume is there, and does not name it: where both name each other, the
    binder may put it off by 15 s.
    """
    volume, wish = _volume_and_claim(namespace, folder)
    name = volume["metadata"]["name"]
    left = _phase(tools, name)
    if left == "Bound" and tools.get("pvc", CLAIM, namespace):
        return
    if left is not None:
        tools.kubectl("delete", "pv", name, "--ignore-not-found")
    tools.apply(volume)
    wait_for("the volume of the models", lambda: _phase(tools, name), timeout=30, every=0.1)
    tools.apply(wish)


def _phase(tools: Tools, volume: str) -> str | None:
    body = tools.get("pv", volume) or {}
    phase = (body.get("status") or {}).get("phase")
    return None if phase is None else str(phase)


def _volume_and_claim(namespace: str, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    name = f"{CLAIM}-{namespace}"
    storage = {
        "storageClassName": "",
        "accessModes": ["ReadOnlyMany"],
    }
    linux = {"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]}
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            **storage,
            "capacity": {"storage": "1Gi"},
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": {"namespace": namespace, "name": CLAIM},
            "local": {"path": str(folder)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [linux]}]}},
        },
    }
    wish = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": CLAIM, "namespace": namespace},
        "spec": {
            **storage,
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
    return volume, wish
