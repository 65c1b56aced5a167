"""Nodes: for each a containerd and a kubelet of its own, and GPUs that its status claims."""

import hashlib
import http.client
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from e2e.cluster import network, programs, settings
from e2e.cluster.api import Api, ApiError, Object
from e2e.cluster.artifacts import Image
from e2e.cluster.parts import HttpProbe, Part, SocketProbe
from e2e.cluster.pki import Identity, Pki, kubelet
from e2e.cluster.processes import Command, wait_until, write_atomically
from e2e.cluster.settings import ClusterError, Layout, NodeSpec

_KUBELET_PORT = 10250
_KUBELET_HEALTH_PORT = 10248
_CNI_FOLDERS = ("/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni")
_CNI_CACHE = Path("/var/lib/cni/results")
_CONTAINER_LOGS = Path("/var/log/containers")
_MAX_SOCKET_PATH = 107  # a limit of the kernel
TAINT = {"key": settings.GPU, "value": "present", "effect": "NoSchedule"}


@dataclass(frozen=True)
class Node:
    """One node's files and processes."""

    spec: NodeSpec
    layout: Layout
    bin: Path
    pki: Pki

    @property
    def root(self) -> Path:
        return self.layout.node(self.spec)

    @property
    def socket(self) -> Path:
        """containerd's, for `ctr --address` and the kubelet."""
        return self.root / "containerd.sock"

    @property
    def pod_logs(self) -> Path:
        return self.root / "pod-logs"

    def identities(self) -> tuple[Identity, Identity]:
        return kubelet(self.spec.name, self.spec.address)

    def prepare(self, url: str) -> None:
        """Writes the configuration files; `url` is the API server's."""
        if len(str(self.socket) + ".ttrpc") > _MAX_SOCKET_PATH:
            raise ClusterError(
                f"{self.layout.root} is too long a path for Unix sockets below it;"
                " set CONCH_CLUSTER_DIR to a shorter one"
            )
        # Not the host's: its name servers need not be reachable from pods.
        files = {
            self._containerd_config: containerd_config(self),
            self.root / "cni" / "10-conch.conflist": json.dumps(cni_config(self), indent=1),
            self._kubelet_config: yaml.safe_dump(kubelet_config(self)),
            self.root / "resolv.conf": "",
        }
        for path, text in files.items():
            if not path.exists() or path.read_text() != text:
                write_atomically(path, text)
        self.pki.write_kubeconfig(self.identities()[0], url, self._kubeconfig)

    def containerd(self) -> Part:
        program = str(programs.find("containerd"))
        inputs = (self._containerd_config,)
        command = Command(
            f"containerd-{self.spec.name}",
            (program, f"--config={self._containerd_config}"),
            inputs,
        )
        return Part(command, SocketProbe(self.socket))

    def kubelet(self) -> Part:
        labels = ",".join(f"{key}={value}" for key, value in node_labels(self.spec).items())
        argv = (
            str((self.bin / "kubelet").resolve()),
            f"--config={self._kubelet_config}",
            f"--kubeconfig={self._kubeconfig}",
            f"--root-dir={self.root / 'kubelet'}",
            f"--cert-dir={self.root / 'kubelet-pki'}",
            f"--hostname-override={self.spec.name}",
            f"--node-ip={self.spec.address}",
            f"--node-labels={labels}",
        )
        inputs = (self._kubelet_config, self._kubeconfig)
        probe = HttpProbe(f"http://{self.spec.address}:{_KUBELET_HEALTH_PORT}/healthz")
        return Part(Command(f"kubelet-{self.spec.name}", argv, inputs), probe)

    def import_images(self, images: tuple[Image, ...]) -> list[str]:
        """Gives containerd the images that it lacks or that have changed; returns their names."""
        stamps_file = self.root / "images.json"
        stamps = json.loads(stamps_file.read_text()) if stamps_file.exists() else {}
        present = set(self._ctr("images", "list", "-q").split())
        missing = [
            image
            for image in images
            if image.name not in present or stamps.get(image.name) != _stamp(image)
        ]
        for image in missing:
            self._ctr("images", "import", str(image.archive))
            stamps[image.name] = _stamp(image)
            write_atomically(stamps_file, json.dumps(stamps, indent=1))
        return [image.name for image in missing]

    def shim_sockets(self) -> list[Path]:
        """The sockets, at a place common to all of the host, of this node's containerd shims."""
        tasks = self.root / "containerd-state" / "io.containerd.runtime.v2.task"
        addresses = [path.read_text().strip() for path in tasks.glob("*/*/address")]
        return [Path(address.removeprefix("unix://")) for address in addresses]

    def _ctr(self, *arguments: str) -> str:
        command = ["ctr", f"--address={self.socket}", "--namespace=k8s.io", *arguments]
        return programs.run(command, timeout=300)

    @property
    def _containerd_config(self) -> Path:
        return self.root / "containerd.toml"

    @property
    def _kubelet_config(self) -> Path:
        return self.root / "kubelet.yaml"

    @property
    def _kubeconfig(self) -> Path:
        return self.root / "kubelet.kubeconfig"


def node_labels(spec: NodeSpec) -> dict[str, str]:
    """As NVIDIA's GPU feature discovery sets them."""
    return {
        "nvidia.com/gpu.product": spec.gpu_product,
        "nvidia.com/gpu.count": str(spec.gpus),
        "nvidia.com/gpu.present": "true",
    }


def containerd_config(node: Node) -> str:
    """containerd.toml: nothing at places that the host's own containerd uses."""
    root = node.root
    return f"""\
version = 2
root = "{root / "containerd"}"
state = "{root / "containerd-state"}"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs"]

[grpc]
address = "{node.socket}"

[plugins."io.containerd.internal.v1.opt"]
path = "{root / "containerd-opt"}"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{settings.PAUSE_IMAGE}"
netns_mounts_under_state_dir = true
# Without CAP_SYS_RESOURCE, as in many sandboxes, no score can be lowered, and every pod fails.
restrict_oom_score_adj = true
disable_apparmor = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{_cni_folder()}"
conf_dir = "{root / "cni"}"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
Root = "{root / "runc"}"
"""


def cni_config(node: Node) -> Object:
    """A point-to-point link for each pod: all traffic is routed, so services work within a node too."""
    ipam = {
        "type": "host-local",
        "ranges": [[{"subnet": node.spec.pod_network, "gateway": network.gateway(node.spec)}]],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": str(node.root / "cni-addresses"),
    }
    plugins = [{"type": "ptp", "ipMasq": False, "mtu": 1500, "ipam": ipam}]
    return {"cniVersion": "0.4.0", "name": node.spec.name, "plugins": plugins}


def kubelet_config(node: Node) -> Object:
    """The KubeletConfiguration."""
    spec, root = node.spec, node.root
    serving = node.pki.pair(node.identities()[1])
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": spec.address,
        "port": _KUBELET_PORT,
        "healthzBindAddress": spec.address,
        "healthzPort": _KUBELET_HEALTH_PORT,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(node.pki.authority)},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(serving.certificate),
        "tlsPrivateKeyFile": str(serving.key),
        "containerRuntimeEndpoint": f"unix://{node.socket}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{spec.cgroup}",
        "clusterDomain": "cluster.local",
        "clusterDNS": [settings.DNS_SERVICE_ADDRESS],
        "resolvConf": str(root / "resolv.conf"),
        "podLogsDir": str(node.pod_logs),
        "volumePluginDir": str(root / "volume-plugins"),
        "registerWithTaints": [TAINT],
        "failSwapOn": False,
        "oomScoreAdj": 0,
        # The nodes share one machine: each offers half of its memory, and all of its disk until
        # that is almost full.
        "systemReserved": {"memory": f"{_memory_kib() // 2}Ki"},
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,  # images come from archives; none can be pulled again
        "imageGCLowThresholdPercent": 99,
        "serializeImagePulls": False,
        "enableControllerAttachDetach": True,
        "eventRecordQPS": 50,
        "kubeAPIQPS": 100,
        "kubeAPIBurst": 200,
        "shutdownGracePeriod": "0s",
        "rotateCertificates": False,
    }


def settle(api: Api, spec: NodeSpec) -> list[str]:
    """Puts right the node's GPUs, labels and taint where they are lost; returns what was.

    A kubelet that starts again sets to zero what it does not know from a device plugin.
    """
    path = f"/api/v1/nodes/{spec.name}"
    node = api.get(path)
    lost = missing(node, spec)
    if "GPUs" in lost:
        amounts = {settings.GPU: str(spec.gpus)}
        api.merge(f"{path}/status", {"status": {"capacity": amounts, "allocatable": amounts}})
    if "labels" in lost:
        api.merge(path, {"metadata": {"labels": node_labels(spec)}})
    if "taint" in lost:
        taints = [*node["spec"].get("taints", []), TAINT]
        version = node["metadata"]["resourceVersion"]
        api.merge(path, {"metadata": {"resourceVersion": version}, "spec": {"taints": taints}})
    return lost


def missing(node: Object, spec: NodeSpec) -> list[str]:
    """Which of GPUs, labels and taint a Node object lacks."""
    status, gpus = node.get("status", {}), str(spec.gpus)
    amounts = [status.get(kind, {}).get(settings.GPU) for kind in ("capacity", "allocatable")]
    labels = node["metadata"].get("labels", {})
    wanted = node_labels(spec).items()
    found = {
        "GPUs": amounts == [gpus, gpus],
        "labels": all(labels.get(key) == value for key, value in wanted),
        "taint": any(_same_taint(taint) for taint in node.get("spec", {}).get("taints", [])),
    }
    return [what for what, is_there in found.items() if not is_there]


def is_ready(node: Object | None) -> bool:
    """Whether a Node object says Ready."""
    conditions = node.get("status", {}).get("conditions", []) if node else []
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def await_ready(api: Api, spec: NodeSpec, *, timeout: float = 60.0) -> None:
    """Returns once the node is Ready and settled. Raises ClusterError after `timeout` seconds."""

    def ready() -> bool:
        try:
            return is_ready(api.find(f"/api/v1/nodes/{spec.name}")) and not settle(api, spec)
        except (ApiError, OSError, http.client.HTTPException):
            return False  # a conflict, or a server under load: the next look tells

    if not wait_until(ready, timeout=timeout):
        node = api.find(f"/api/v1/nodes/{spec.name}")
        raise ClusterError(f"node {spec.name} is not ready: {_why(node)}")


def remove_leftovers(node: Node) -> None:
    """Removes the files of this node's pods that lie at places common to all of the host."""
    for path in node.shim_sockets():
        path.unlink(missing_ok=True)
    for path in _CNI_CACHE.glob(f"{node.spec.name}-*"):
        path.unlink(missing_ok=True)
    for link in _CONTAINER_LOGS.glob("*.log"):
        if link.is_symlink() and node.pod_logs in link.readlink().parents:
            link.unlink()
    for folder in (Path("/run/containerd/s"), _CNI_CACHE, _CONTAINER_LOGS):
        _remove_if_empty(folder)


def _same_taint(taint: dict[str, Any]) -> bool:
    return all(taint.get(key) == value for key, value in TAINT.items())


def _why(node: Object | None) -> str:
    if node is None:
        return "its kubelet has not registered it"
    conditions = node.get("status", {}).get("conditions", [])
    said = [each.get("message", "") for each in conditions if each["type"] == "Ready"]
    return said[0] if said else "its kubelet has not reported"


def _stamp(image: Image) -> str:
    """Changes with the archive, without reading it: they hold hundreds of megabytes."""
    stat = image.archive.stat()
    words = f"{image.archive.resolve()} {stat.st_mtime_ns} {stat.st_size}"
    return hashlib.sha256(words.encode()).hexdigest()


def _cni_folder() -> Path:
    for folder in map(Path, _CNI_FOLDERS):
        if (folder / "ptp").exists():
            return folder
    places = ", ".join(_CNI_FOLDERS)
    raise ClusterError(f"no CNI plugins in {places}; install containernetworking-plugins")


def _memory_kib() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1])
    raise ClusterError("/proc/meminfo does not say how much memory there is")


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
