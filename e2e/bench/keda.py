"""KEDA beside the local cluster: its operator and its metrics server as processes of the host.

Both are built from KEDA's own Go module, and are the administrator: its rights are no part of what
is measured. The API server finds the metrics server by an APIService; Kubernetes' own HPA
controller asks it there.
"""

import base64
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.cluster.api import Api
from e2e.cluster.binaries import ensure_binaries, ensure_keda_crds
from e2e.cluster.parts import HttpProbe, Part, Runner
from e2e.cluster.pki import Identity, Pki
from e2e.cluster.ports import LOOPBACK, free_ports
from e2e.cluster.processes import Command, Supervisor
from e2e.cluster.progress import Reporter
from e2e.cluster.services import Port, publish
from e2e.cluster.settings import ADDRESS
from e2e.kubectl import Tools, condition, wait_for

Object = dict[str, Any]
NAMESPACE = "keda"
SERVICE = "keda-metrics-apiserver"
SERVICE_ADDRESS = "10.96.0.91"
API_GROUP, API_VERSION = "external.metrics.k8s.io", "v1beta1"
API_SERVICE = f"{API_VERSION}.{API_GROUP}"
ADAPTER_PORT = 16443
READER = "keda-external-metrics-reader"
OPERATOR, ADAPTER = "keda-operator", "keda-adapter"
# KEDA asks for its certificate under these names; each of the two is the other's client too.
IDENTITY = Identity(
    "tls",
    "keda",
    names=(LOOPBACK, f"{SERVICE}.{NAMESPACE}.svc", f"{OPERATOR}.{NAMESPACE}.svc"),
    mutual=True,
)


@dataclass(frozen=True)
class Built:
    """KEDA's programs, and the folder of its CustomResourceDefinitions."""

    bin: Path
    crds: Path


def ensure(report: Reporter) -> Built:
    """Build KEDA unless it is there."""
    crds = ensure_keda_crds(report=report)
    return Built(ensure_binaries((OPERATOR, ADAPTER), report=report), crds)


@contextlib.contextmanager
def running(tools: Tools, built: Built, folder: Path, *, report: Reporter) -> Iterator[None]:
    """Have KEDA run, and HPA get its metrics, while the body runs; nothing of it stays."""
    pki = Pki(folder / "certs")
    pki.ensure([IDENTITY])
    supervisor = Supervisor(folder / "processes", die_with_parent=True)
    runner = Runner(supervisor)
    try:
        with report.step("KEDA"):
            tools.kubectl("apply", "--server-side", "-f", str(built.crds))
            for path in sorted(built.crds.glob("*.yaml")):
                name = crd_name(path)
                tools.kubectl("wait", "--for=condition=Established", f"crd/{name}")
            _publish(tools.kubeconfig)
            for part in parts(built.bin, pki, tools.kubeconfig):
                runner.ensure(part)
            tools.apply(*manifests(pki.authority.read_bytes()))
            wait_for("the metrics of KEDA", lambda: _serves(tools), timeout=60)
        yield
    finally:
        with report.step("removing KEDA"):
            remove(tools, built)
            supervisor.stop_all()


def parts(bin_folder: Path, pki: Pki, kubeconfig: Path) -> list[Part]:
    """Return the two processes, the operator first: the other asks it."""
    probe, grpc, metrics, adapter_metrics = free_ports(4)
    certs = pki.authority.parent
    env = {
        "KUBECONFIG": str(kubeconfig),
        "POD_NAMESPACE": NAMESPACE,
        "KEDA_CLUSTER_OBJECT_NAMESPACE": NAMESPACE,
        "WATCH_NAMESPACE": "",
    }
    operator = [
        f"--metrics-bind-address={LOOPBACK}:{metrics}",
        f"--health-probe-bind-address={LOOPBACK}:{probe}",
        f"--metrics-service-bind-address={LOOPBACK}:{grpc}",
        f"--cert-dir={certs}",
        "--zap-log-level=info",
    ]
    pair = pki.pair(IDENTITY)
    adapter = [
        f"--bind-address={ADDRESS}",
        f"--secure-port={ADAPTER_PORT}",
        f"--cert-dir={certs}",
        f"--tls-cert-file={pair.certificate}",
        f"--tls-private-key-file={pair.key}",
        f"--metrics-service-address={LOOPBACK}:{grpc}",
        f"--port={adapter_metrics}",
        f"--lister-kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--zap-log-level=error",
    ]
    return [
        _part(bin_folder, OPERATOR, operator, env, f"http://{LOOPBACK}:{probe}/readyz"),
        _part(bin_folder, ADAPTER, adapter, env, f"https://{ADDRESS}:{ADAPTER_PORT}/readyz"),
    ]


def _part(bin_folder: Path, name: str, flags: list[str], env: dict[str, str], url: str) -> Part:
    argv = (str((bin_folder / name).resolve()), *flags)
    return Part(Command(name, argv, env=env), HttpProbe(url), ready_within=90.0)


def _publish(kubeconfig: Path) -> None:
    api = Api.from_kubeconfig(kubeconfig)
    port = Port("https", 443, ADAPTER_PORT)
    publish(api, namespace=NAMESPACE, name=SERVICE, address=SERVICE_ADDRESS, ports=[port])


def manifests(authority: bytes) -> list[Object]:
    """Return what makes the API server ask KEDA, and lets the HPA controller do so."""
    rbac = "rbac.authorization.k8s.io"
    metadata = {"name": READER}
    rules = [{"apiGroups": [API_GROUP], "resources": ["*"], "verbs": ["get", "list"]}]
    hpa = {
        "kind": "ServiceAccount",
        "name": "horizontal-pod-autoscaler",
        "namespace": "kube-system",
    }
    role = {"apiGroup": rbac, "kind": "ClusterRole", "name": READER}
    return [
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": API_SERVICE},
            "spec": {
                "group": API_GROUP,
                "version": API_VERSION,
                "service": {"namespace": NAMESPACE, "name": SERVICE},
                "caBundle": base64.b64encode(authority).decode(),
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
            },
        },
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRole",
            "metadata": metadata,
            "rules": rules,
        },
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": metadata,
            "roleRef": role,
            "subjects": [hpa],
        },
    ]


def scaled_object(name: str, *, target: Object, query: str, pending: float, **spec: Any) -> Object:
    """Return a ScaledObject that wants one replica for each ``pending`` that ``query`` counts.

    ``spec`` has ``url`` (of Prometheus), ``minimum`` and ``maximum``; all else is KEDA's default.
    """
    trigger = {
        "type": "prometheus",
        "metricType": "AverageValue",
        "metadata": {
            "serverAddress": spec["url"],
            "query": query,
            "threshold": f"{pending:g}",
        },
    }
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": name},
        "spec": {
            "scaleTargetRef": target,
            "minReplicaCount": spec["minimum"],
            "maxReplicaCount": spec["maximum"],
            "triggers": [trigger],
        },
    }


def crd_name(path: Path) -> str:
    """Return the name of the definition in a file, which is GROUP_PLURAL.yaml."""
    group, plural = path.stem.split("_")
    return f"{plural}.{group}"


def _serves(tools: Tools) -> bool:
    body = tools.get("apiservice", API_SERVICE)
    return bool(condition(body, "Available").get("status") == "True")


def remove(tools: Tools, built: Built) -> None:
    """Remove all of it, also what a run that was killed has left.

    The APIService goes first: while nothing answers there, no namespace can be removed.
    """
    gone = ("--ignore-not-found", "--wait=false")
    tools.kubectl("delete", "apiservice", API_SERVICE, *gone)
    tools.kubectl("delete", "clusterrole,clusterrolebinding", READER, *gone)
    for name in sorted(crd_name(path) for path in built.crds.glob("*.yaml")):
        if tools.get("crd", name) is not None:
            _release(tools, name)
            tools.kubectl("delete", "crd", name, "--timeout=60s", timeout=90)
    tools.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=60s")


def _release(tools: Tools, plural: str) -> None:
    """Take KEDA's finalizers off what is left: nobody may be there who would."""
    for item in tools.list(plural, "-A"):
        name, namespace = item["metadata"]["name"], item["metadata"]["namespace"]
        patch = '{"metadata":{"finalizers":null}}'
        tools.kubectl("patch", plural, name, "-n", namespace, "--type=merge", "-p", patch)
