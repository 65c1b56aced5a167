"""Chart and examples before a real API server: what users apply is taken as it is written."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.cluster.artifacts import ensure_binaries
from e2e.cluster.progress import terminal_reporter
from tests.kit.control_plane import Cluster

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "conch"
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
SETTINGS = ("networkPolicy.enabled=true", "sources.filePrefixes={/srv/models}")
STRICT = ("apply", "--dry-run=server", "--validate=strict", "-f", "-")


@pytest.fixture(scope="module")
def helm() -> Path:
    return ensure_binaries({"helm"}, report=terminal_reporter()) / "helm"


def call(helm: Path, *words: str) -> str:
    sets = [word for setting in SETTINGS for word in ("--set", setting)]
    done = subprocess.run(
        [helm, *words, *sets], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def namespaces(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [d for d in documents if d["kind"] == "Namespace"]


def test_the_chart_applies(cluster: Cluster, namespace: str, helm: Path) -> None:
    text = call(helm, "template", "conch", str(CHART), "-n", namespace, "--skip-crds")
    objects = [d for d in yaml.safe_load_all(text) if d]
    said = cluster.kubectl.ok(*STRICT, given=objects)
    assert len(said.splitlines()) == len(objects)


def test_the_charts_pods_are_admitted_where_pods_are_restricted(
    cluster: Cluster, namespace: str, helm: Path
) -> None:
    cluster.kubectl.ok(
        "label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted"
    )
    text = call(helm, "template", "conch", str(CHART), "-n", namespace)
    objects = [d for d in yaml.safe_load_all(text) if d]
    deployments = [d for d in objects if d["kind"] == "Deployment"]
    assert {d["metadata"]["name"] for d in deployments} == {"conch", "conch-front-door"}
    account = [d for d in objects if d["kind"] == "ServiceAccount"]
    cluster.kubectl.ok("apply", "-f", "-", given=account)
    for deployment in deployments:
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": deployment["metadata"]["name"], "namespace": namespace},
            "spec": deployment["spec"]["template"]["spec"],
        }
        cluster.kubectl.ok(*STRICT, given=pod)


def test_notes_say_what_is_missing_and_what_is_next(
    cluster: Cluster, namespace: str, helm: Path
) -> None:
    def notes(*words: str) -> str:
        install = ("install", "conch", str(CHART), "-n", namespace, "--dry-run=server")
        reach = ("--kubeconfig", str(cluster.kubeconfig), "--skip-crds")
        return call(helm, *install, *reach, *words).partition("NOTES:")[2]

    assert "NOT SCALED BY LOAD" in notes()
    assert "NOT SCALED BY LOAD" not in notes("--set", "prometheus.url=http://prometheus:9090")
    assert f"kubectl -n {namespace} rollout status deployment/conch" in notes()


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda f: f.name)
def test_examples_apply_as_they_stand(cluster: Cluster, file: Path) -> None:
    documents = [d for d in yaml.safe_load_all(file.read_text()) if d]
    # storage.yaml says that digits.yaml goes first.
    before = namespaces(list(yaml.safe_load_all((ROOT / "examples" / "digits.yaml").read_text())))
    for made in [*before, *namespaces(documents)]:
        cluster.kubectl.ok("apply", "-f", "-", given=made)
    said = cluster.kubectl.ok(*STRICT, given=documents)
    assert len(said.splitlines()) == len(documents)
