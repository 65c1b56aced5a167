"""kind behind the local cluster's interface: nodes are containers of Docker, GPUs are labels.

Not tried where this was written, for want of Docker; what it asks of kind and kubectl is tested.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from e2e.cluster import nodes, programs, prometheus, settings
from e2e.cluster.api import Object
from e2e.cluster.artifacts import Image
from e2e.cluster.progress import Reporter
from e2e.cluster.settings import ClusterError, Layout, NodeSpec

NAME = "conch"
NODE_IMAGE = "kindest/node:v1.34.0"
PROMETHEUS_IMAGE = "docker.io/prom/prometheus:v2.53.5"
PROMETHEUS_URL = f"http://{settings.PROMETHEUS_SERVICE_ADDRESS}:{settings.PROMETHEUS_PORT}"
"""The same address from pods and, by a route, from this machine."""
_POD_NETWORK = "10.244.0.0/16"
_CREATE_S, _LOAD_S = 600.0, 900.0


def available() -> bool:
    """Whether Docker and kind are installed and Docker answers."""
    if not (shutil.which("docker") and shutil.which("kind")):
        return False
    return programs.attempt(["docker", "info"]).returncode == 0


@dataclass(frozen=True)
class Kind:
    """The cluster `conch` of kind; `folder` of this machine is seen by its nodes too."""

    layout: Layout
    bin: Path
    folder: Path

    @property
    def kubeconfig(self) -> Path:
        return self.layout.root / "kind.kubeconfig"

    def up(self, images: tuple[Image, ...], *, report: Reporter) -> None:
        """Makes the cluster unless it is there, and gives it images, GPUs and Prometheus."""
        if not available():
            raise ClusterError(
                "kind needs Docker, and kind itself: go install sigs.k8s.io/kind@v0.30.0"
            )
        self.layout.root.mkdir(parents=True, exist_ok=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        with report.step("kind"):
            if NAME not in programs.run(["kind", "get", "clusters"]).split():
                given = yaml.safe_dump(config(self.folder))
                programs.run(create_command(self.kubeconfig), given=given, timeout=_CREATE_S)
        self.load_images(images, report=report)
        with report.step("GPUs"):
            for place in settings.NODES:
                self._kubectl(*gpu_command(place))
        with report.step("Prometheus"):
            self._kubectl("apply", "--server-side", "-f", "-", given=manifests())
            self._kubectl(*f"-n {prometheus.NAMESPACE} rollout status deploy/prometheus".split())
        with report.step("routes to Services"):
            address = programs.run(address_command(control_plane()))
            for command in route_commands(address.strip()):
                programs.run(command)

    def load_images(self, images: tuple[Image, ...], *, report: Reporter) -> None:
        """Gives the nodes these images."""
        with report.step("images"):
            for image in images:
                programs.run(load_command(image.archive), timeout=_LOAD_S)

    def down(self, *, report: Reporter) -> None:
        """Removes the cluster; its routes go with Docker's network."""
        with report.step("kind"):
            programs.run(["kind", "delete", "cluster", "--name", NAME], timeout=_CREATE_S)
        self.kubeconfig.unlink(missing_ok=True)

    def _kubectl(self, *words: str, given: str | None = None) -> str:
        program = str(self.bin / "kubectl")
        command = [program, f"--kubeconfig={self.kubeconfig}", *words]
        return programs.run(command, given=given, timeout=180)


def control_plane() -> str:
    """The container of the control plane."""
    return f"{NAME}-control-plane"


def worker(spec: NodeSpec) -> str:
    """The node that stands for one of the local cluster, as kind numbers them."""
    number = settings.NODES.index(spec) + 1
    return f"{NAME}-worker{number if number > 1 else ''}"


def config(folder: Path) -> Object:
    """The configuration for kind: a control plane, and a node for each of the local cluster's."""
    return {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "name": NAME,
        "networking": {
            "serviceSubnet": settings.SERVICE_NETWORK,
            "podSubnet": _POD_NETWORK,
        },
        "nodes": [
            {"role": "control-plane", "image": NODE_IMAGE},
            *(_worker(spec, folder) for spec in settings.NODES),
        ],
    }


def _worker(spec: NodeSpec, folder: Path) -> Object:
    joining = {
        "kind": "JoinConfiguration",
        "nodeRegistration": {"taints": [nodes.TAINT]},
    }
    return {
        "role": "worker",
        "image": NODE_IMAGE,
        "labels": nodes.node_labels(spec),
        "extraMounts": [{"hostPath": str(folder), "containerPath": str(folder)}],
        "kubeadmConfigPatches": [yaml.safe_dump(joining)],
    }


def create_command(kubeconfig: Path) -> list[str]:
    """Makes the cluster; its configuration comes on standard input."""
    words = ["kind", "create", "cluster", "--name", NAME, "--config", "-"]
    return [*words, "--kubeconfig", str(kubeconfig), "--wait", "180s"]


def load_command(archive: Path) -> list[str]:
    """Gives an image's archive to every node."""
    return ["kind", "load", "image-archive", str(archive), "--name", NAME]


def gpu_command(spec: NodeSpec) -> list[str]:
    """Arguments of kubectl that make a node claim its GPUs."""
    amounts = {settings.GPU: str(spec.gpus)}
    patch = {"status": {"capacity": amounts, "allocatable": amounts}}
    words = ["patch", "node", worker(spec), "--subresource=status", "--type=merge"]
    return [*words, "-p", json.dumps(patch)]


def address_command(container: str) -> list[str]:
    """Prints the address of a node's container."""
    form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
    return ["docker", "inspect", "-f", form, container]


def route_commands(address: str) -> list[list[str]]:
    """Make Services reachable from this machine, through a node at ``address``."""
    return [["ip", "route", "replace", settings.SERVICE_NETWORK, "via", address]]


def manifests() -> str:
    """Prometheus as pods of the cluster, reached at the address that the local one has too."""
    return yaml.safe_dump_all([*_account(), *_server()])


def _account() -> Sequence[Object]:
    metadata = {"name": "prometheus", "namespace": prometheus.NAMESPACE}
    group = "rbac.authorization.k8s.io"
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}]
    subject = {"kind": "ServiceAccount", **metadata}
    role = {"apiGroup": group, "kind": "ClusterRole", "name": "conch-prometheus"}
    cluster_wide = {"apiVersion": f"{group}/v1", "metadata": {"name": "conch-prometheus"}}
    return (
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": prometheus.NAMESPACE}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
        {**cluster_wide, "kind": "ClusterRole", "rules": rules},
        {**cluster_wide, "kind": "ClusterRoleBinding", "roleRef": role, "subjects": [subject]},
    )


def _server() -> Sequence[Object]:
    metadata = {"name": "prometheus", "namespace": prometheus.NAMESPACE}
    labels = {"app": "prometheus"}
    text = yaml.safe_dump(prometheus.scraping({"role": "pod"}))
    port = settings.PROMETHEUS_PORT
    container = {
        "name": "prometheus",
        "image": PROMETHEUS_IMAGE,
        "args": ["--config.file=/etc/conch/prometheus.yml", f"--web.listen-address=:{port}"],
        "ports": [{"containerPort": port}],
        "volumeMounts": [{"name": "config", "mountPath": "/etc/conch"}],
        "readinessProbe": {"httpGet": {"path": "/-/ready", "port": port}},
    }
    pod = {
        "serviceAccountName": "prometheus",
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": "prometheus"}}],
        "tolerations": [{"key": settings.GPU, "operator": "Exists"}],
    }
    return (
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": metadata,
            "data": {"prometheus.yml": text},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {
                "clusterIP": settings.PROMETHEUS_SERVICE_ADDRESS,
                "selector": labels,
                "ports": [{"port": port, "targetPort": port}],
            },
        },
    )
