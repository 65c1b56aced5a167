import json
from pathlib import Path

import pytest

from e2e.cluster import __main__ as command
from e2e.cluster import artifacts, cluster, prometheus
from e2e.cluster.controlplane import Ports
from e2e.cluster.host import HostRecord
from e2e.cluster.local import ClusterState, NodeState, PartState
from e2e.cluster.progress import Reporter, terminal_reporter
from e2e.cluster.settings import ClusterError

WORKS = PartState("etcd", 12, None)
DEAD = PartState("kubelet", None, "not running")
NODE = NodeState("conch-a100", True, "NVIDIA-A100", 4, None)


@pytest.fixture
def report() -> Reporter:
    return terminal_reporter()


@pytest.fixture(autouse=True)
def tools(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Stands for kubectl and helm, so that nothing is built."""
    monkeypatch.setattr(artifacts, "ensure_binaries", lambda *_, **__: tmp_path / "bin")
    monkeypatch.setenv("CONCH_CLUSTER_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("CONCH_PROMETHEUS_URL", raising=False)
    return tmp_path / "bin"


def test_kubeconfig_names_the_cluster_to_use(
    report: Reporter, tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "theirs"
    config.touch()
    monkeypatch.setenv("KUBECONFIG", str(config))
    monkeypatch.setenv("CONCH_PROMETHEUS_URL", "http://prometheus.example")
    found = cluster.ensure(report)
    assert found == cluster.Cluster(config, "http://prometheus.example", "", tools, local=False)


def test_kubeconfig_of_the_local_cluster_is_the_local_cluster(
    report: Reporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "state" / "kubeconfig"
    config.parent.mkdir()
    config.touch()
    monkeypatch.setenv("KUBECONFIG", str(config))
    found = cluster.ensure(report)
    assert found.local
    assert found.prometheus_url == prometheus.URL


def test_another_cluster_without_its_prometheus_is_refused_in_words(
    report: Reporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "theirs"
    config.touch()
    monkeypatch.setenv("KUBECONFIG", str(config))
    with pytest.raises(ClusterError, match="CONCH_PROMETHEUS_URL"):
        cluster.ensure(report)


def test_a_kubeconfig_that_is_not_there_is_refused_in_words(
    report: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere/config")
    with pytest.raises(ClusterError, match="/nowhere/config"):
        cluster.ensure(report)


def test_health_takes_every_part_every_node_and_the_network() -> None:
    assert ClusterState((WORKS,), (NODE,), None).healthy
    assert not ClusterState((WORKS, DEAD), (NODE,), None).healthy
    assert not ClusterState((WORKS,), (NODE,), "no bridge").healthy
    poor = NodeState("conch-t4", True, "Tesla-T4", 0, "lost its GPUs")
    assert not ClusterState((WORKS,), (NODE, poor), None).healthy


def test_down_means_that_nothing_runs() -> None:
    assert ClusterState((), (), "it is not up").down
    assert ClusterState((DEAD,), (), None).down
    assert not ClusterState((WORKS, DEAD), (), None).down


def test_status_of_no_cluster_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["status"]) == 1
    assert "down" in capsys.readouterr().out
    assert command.main(["status", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["healthy"] is False


def test_free_ports_differ() -> None:
    ports = Ports.free()
    assert len({*vars(ports).values()}) == 6


def test_the_host_is_remembered_as_it_was(tmp_path: Path) -> None:
    record = HostRecord({"net/ipv4/ip_forward": "0"}, ("/var/lib/kubelet",), {"iptables": ["nat"]})
    record.write(tmp_path / "host.json")
    assert HostRecord.load(tmp_path / "host.json") == record
    assert HostRecord.load(tmp_path / "nothing") is None
