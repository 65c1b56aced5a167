"""What kind, Docker and kubectl are asked for where the cluster is one of kind."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from e2e.cluster import kind, programs, settings
from e2e.cluster.artifacts import Image
from e2e.cluster.cluster import Choice, choose, kind_cluster
from e2e.cluster.progress import terminal_reporter
from e2e.cluster.settings import ClusterError, Layout

A100, T4 = settings.NODES


def docker_asked() -> bool:
    raise AssertionError("Docker need not be asked")


@pytest.mark.parametrize(
    ("env", "root", "docker", "wanted"),
    [
        ({"KUBECONFIG": "/a", "CONCH_CLUSTER": "kind"}, True, docker_asked, Choice.NAMED),
        ({}, True, docker_asked, Choice.LOCAL),
        ({}, False, lambda: True, Choice.KIND),
        ({}, False, lambda: False, Choice.LOCAL),
        ({"CONCH_CLUSTER": "kind"}, True, docker_asked, Choice.KIND),
        ({"CONCH_CLUSTER": "local"}, False, docker_asked, Choice.LOCAL),
    ],
)
def test_which_cluster_is_taken(
    env: dict[str, str], root: bool, docker: Callable[[], bool], wanted: Choice
) -> None:
    assert choose(env, root=root, docker=docker) is wanted


def test_an_unknown_cluster_is_refused_in_words() -> None:
    with pytest.raises(ClusterError, match="'minikube': it may be local or kind"):
        choose({"CONCH_CLUSTER": "minikube"}, root=True, docker=docker_asked)


def test_a_node_for_each_of_the_local_ones_with_labels_taint_and_models(tmp_path: Path) -> None:
    first, *workers = kind.config(tmp_path)["nodes"]
    assert first["role"] == "control-plane"
    assert [w["labels"]["nvidia.com/gpu.product"] for w in workers] == ["NVIDIA-A100", "Tesla-T4"]
    for each in workers:
        (patch,) = each["kubeadmConfigPatches"]
        (taint,) = yaml.safe_load(patch)["nodeRegistration"]["taints"]
        assert (taint["key"], taint["effect"]) == ("nvidia.com/gpu", "NoSchedule")
        # The same path there as here: that is what file:// sources name.
        (mount,) = each["extraMounts"]
        assert mount == {"hostPath": str(tmp_path), "containerPath": str(tmp_path)}


def test_gpus_are_claimed_by_the_nodes_status() -> None:
    *words, patch = kind.gpu_command(T4)
    assert words[:4] == ["patch", "node", "conch-worker2", "--subresource=status"]
    assert json.loads(patch)["status"]["allocatable"] == {"nvidia.com/gpu": "4"}
    assert kind.worker(A100) == "conch-worker"


def test_prometheus_scrapes_as_the_local_one_and_answers_at_the_same_address() -> None:
    objects = {o["kind"]: o for o in yaml.safe_load_all(kind.manifests())}
    assert objects["Service"]["spec"]["clusterIP"] == settings.PROMETHEUS_SERVICE_ADDRESS
    text = objects["ConfigMap"]["data"]["prometheus.yml"]
    (job,) = yaml.safe_load(text)["scrape_configs"]
    assert job["kubernetes_sd_configs"] == [{"role": "pod"}]
    pod = objects["Deployment"]["spec"]["template"]
    assert pod["metadata"]["labels"] == objects["Service"]["spec"]["selector"]


@pytest.mark.parametrize("there", [False, True])
def test_up_makes_what_is_missing_in_order(
    there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def run(words: list[str], *, given: str | None = None, timeout: float = 60) -> str:
        asked.append(words)
        if words[:3] == ["kind", "get", "clusters"]:
            return "other\nconch\n" if there else "other\n"
        return "172.18.0.2\n" if words[0] == "docker" else ""

    monkeypatch.setattr(programs, "run", run)
    monkeypatch.setattr(kind, "available", lambda: True)
    image = Image("a/b:c", tmp_path / "image.tar")
    layout = Layout(tmp_path / "state")
    kind.Kind(layout, tmp_path / "bin", tmp_path / "models").up(
        (image,), report=terminal_reporter()
    )

    made = [words for words in asked if words[:3] == ["kind", "create", "cluster"]]
    assert len(made) == (0 if there else 1)
    loaded = ["kind", "load", "image-archive", str(image.archive), "--name", "conch"]
    patched = [i for i, words in enumerate(asked) if "patch" in words]
    assert len(patched) == 2
    assert asked.index(loaded) < patched[0]
    assert asked[-1] == ["ip", "route", "replace", "10.96.0.0/16", "via", "172.18.0.2"]


def test_without_docker_it_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not kind.available()
    with pytest.raises(ClusterError, match="kind needs Docker"):
        kind_cluster(Layout(tmp_path), tmp_path).up((), report=terminal_reporter())
