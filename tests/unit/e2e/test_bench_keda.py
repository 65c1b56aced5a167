import base64
from pathlib import Path

from e2e.bench import keda
from e2e.cluster.pki import Pki


def test_the_api_server_trusts_kedas_own_authority_and_hpa_may_ask() -> None:
    service, role, binding = keda.manifests(b"authority")
    assert service["metadata"]["name"] == "v1beta1.external.metrics.k8s.io"
    assert base64.b64decode(service["spec"]["caBundle"]) == b"authority"
    assert service["spec"]["service"] == {"namespace": "keda", "name": "keda-metrics-apiserver"}
    assert role["rules"][0]["apiGroups"] == ["external.metrics.k8s.io"]
    (subject,) = binding["subjects"]
    assert (subject["namespace"], subject["name"]) == ("kube-system", "horizontal-pod-autoscaler")


def test_its_certificate_is_good_for_the_name_that_the_api_server_asks_for() -> None:
    service = keda.manifests(b"")[0]["spec"]["service"]
    assert f"{service['name']}.{service['namespace']}.svc" in keda.IDENTITY.names
    assert keda.IDENTITY.mutual


def test_both_processes_agree_on_where_the_operator_answers(tmp_path: Path) -> None:
    operator, adapter = keda.parts(tmp_path, Pki(tmp_path / "certs"), tmp_path / "kubeconfig")
    served = [w.partition("=")[2] for w in operator.command.argv if "metrics-service-bind" in w]
    asked = [w.partition("=")[2] for w in adapter.command.argv if "metrics-service-address" in w]
    assert served == asked
    assert f"--cert-dir={tmp_path / 'certs'}" in operator.command.argv


def test_a_scaled_object_keeps_kedas_defaults() -> None:
    target = {"kind": "ModelService", "name": "race"}
    wish = keda.scaled_object(
        "race", target=target, query="sum(x)", pending=2, url="http://p", minimum=1, maximum=8
    )
    spec = wish["spec"]
    assert set(spec) == {"scaleTargetRef", "minReplicaCount", "maxReplicaCount", "triggers"}
    (trigger,) = spec["triggers"]
    assert trigger["metricType"] == "AverageValue"
    assert trigger["metadata"] == {"serverAddress": "http://p", "query": "sum(x)", "threshold": "2"}


def test_definitions_are_named_by_their_files() -> None:
    assert keda.crd_name(Path("keda.sh_scaledobjects.yaml")) == "scaledobjects.keda.sh"
