from pathlib import Path

from e2e.cluster import prometheus
from e2e.cluster.controlplane import Plan, Ports
from e2e.cluster.pki import KUBELET_CLIENT, Pki
from e2e.cluster.settings import Layout


def test_extensions_believe_the_api_server_alone_who_their_caller_is(tmp_path: Path) -> None:
    plan = Plan(tmp_path, tmp_path / "bin", "127.0.0.1", Ports(), Pki(tmp_path / "pki"))
    argv = plan.apiserver().command.argv
    flags = dict(word.split("=", 1) for word in argv if word.startswith("--"))
    assert flags["--requestheader-allowed-names"] == KUBELET_CLIENT.user
    shown = Pki(tmp_path / "pki").pair(KUBELET_CLIENT)
    assert flags["--proxy-client-cert-file"] == str(shown.certificate)
    assert flags["--proxy-client-key-file"] == str(shown.key)


def test_a_second_prometheus_has_an_interval_and_a_place_of_its_own(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "cluster")
    part = prometheus.another(layout, tmp_path, tmp_path / "own", port=19090, every_seconds=5)
    text = (tmp_path / "own" / "prometheus.yml").read_text()
    assert "scrape_interval: 5s" in text
    assert str(layout.prometheus / "kubeconfig") in text
    assert f"--storage.tsdb.path={tmp_path / 'own' / 'data'}" in part.command.argv
    assert "scrape_interval': '1s" in str(prometheus.config(layout))
