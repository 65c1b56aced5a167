"""The local cluster as a whole: its parts, how they come up in order, and what state they are in."""

import contextlib
import fcntl
import http.client
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster import controlplane, dns, network, nodes, prometheus, proxy, settings
from e2e.cluster.api import Api, ApiError, Object
from e2e.cluster.artifacts import ALL, Image
from e2e.cluster.cgroups import Cgroups
from e2e.cluster.host import HostRecord
from e2e.cluster.nodes import Node
from e2e.cluster.parts import Part, Runner
from e2e.cluster.pki import ADMIN, Pki
from e2e.cluster.processes import Supervisor
from e2e.cluster.progress import Reporter
from e2e.cluster.settings import ClusterError, Layout

# What it takes; kwok only plays nodes, for tests of control planes without any.
PROGRAMS = tuple(name for name in ALL if name != "kwok")

# One for the machine: the bridge, the addresses and the cgroups are there only once.
_LOCK = Path("/run/conch-cluster.lock")


@dataclass(frozen=True)
class PartState:
    """A part as it is now; `problem` is None if it works."""

    name: str
    pid: int | None
    problem: str | None


@dataclass(frozen=True)
class NodeState:
    """A node as the API server sees it now."""

    name: str
    ready: bool
    gpu_product: str
    gpus: int
    problem: str | None


@dataclass(frozen=True)
class ClusterState:
    """All of it; `problem` is about what is neither a part nor a node."""

    parts: tuple[PartState, ...]
    nodes: tuple[NodeState, ...]
    problem: str | None

    @property
    def healthy(self) -> bool:
        problems = [each.problem for each in self.parts] + [each.problem for each in self.nodes]
        return not any([*problems, self.problem])

    @property
    def down(self) -> bool:
        """Whether nothing of it runs."""
        return not any(part.pid for part in self.parts)


class LocalCluster:
    """The cluster whose files lie in `layout`, run from the programs in `bin_folder`."""

    def __init__(self, layout: Layout, bin_folder: Path) -> None:
        self._layout = layout
        self._bin = bin_folder
        self._pki = Pki(layout.pki)
        self.nodes = [Node(spec, layout, bin_folder, self._pki) for spec in settings.NODES]
        self._plan = controlplane.Plan(
            layout.control_plane, bin_folder, settings.ADDRESS, controlplane.Ports(), self._pki
        )
        self._cgroups = Cgroups.detect()
        self._runner = Runner(Supervisor(layout.processes, group=self._cgroups))

    def up(self, images: tuple[Image, ...], *, report: Reporter) -> None:
        """Starts what does not run and mends what does not work; returns once all of it works.

        Raises ClusterError, which says what failed and which log tells more.
        """
        with locked(report):
            self._prepare_host()
            self._start_first()
            with report.step("control plane"):
                self._await_control_plane()
            for node in self.nodes:
                self._runner.start(node.kubelet())
            with report.step("images"):
                self._import(images, report)
            with report.step("kubelets, kube-proxy, Prometheus"):
                self._await_rest()
            with report.step("nodes"):
                api = Api.from_kubeconfig(self._layout.kubeconfig)
                for node in self.nodes:
                    nodes.await_ready(api, node.spec)

    def load_images(self, images: tuple[Image, ...], *, report: Reporter) -> None:
        """Gives both nodes the images that they lack or that have changed."""
        with locked(report), report.step("images"):
            self._import(images, report)

    def stop_part(self, name: str, *, report: Reporter) -> None:
        """Ends one part, to see what happens without it; `start_part` or `up` starts it again."""
        part = self._part(name)
        with locked(report):
            self._runner.supervisor.stop(name, grace=part.stop_within)

    def start_part(self, name: str, *, report: Reporter) -> None:
        """Starts one part that was stopped or died; returns once it works."""
        part = self._part(name)
        with locked(report):
            self._runner.ensure(part)

    def lose_node(self, name: str, *, report: Reporter) -> None:
        """Ends a node and all that runs on it at once, as a power cut does; `up` brings it back."""
        specs = {node.spec.name: node.spec for node in self.nodes}
        if name not in specs:
            raise ClusterError(f"no node is named {name}; there are {', '.join(specs)}")
        with locked(report):
            self._cgroups.kill_node(specs[name])

    def _part(self, name: str) -> Part:
        parts = {part.name: part for part in self.parts()}
        if name not in parts:
            raise ClusterError(f"no part is named {name}; there are {', '.join(parts)}")
        return parts[name]

    def parts(self) -> list[Part]:
        """All processes, in the order in which they depend on each other."""
        return [
            self._plan.etcd(),
            self._plan.apiserver(),
            *self._controllers(),
            *(node.containerd() for node in self.nodes),
            *(node.kubelet() for node in self.nodes),
            *self._services(),
        ]

    def state(self) -> ClusterState:
        """What runs and what does not; changes nothing."""
        if not self._layout.host_record.exists():
            return ClusterState((), (), "it is not up")
        with ThreadPoolExecutor() as pool:
            parts = tuple(pool.map(self._part_state, self.parts()))
        up = network.is_up(self._layout.root)
        problem = None if up else f"the bridge {settings.BRIDGE} or its firewall rules are missing"
        return ClusterState(parts, self._node_states(), problem)

    def _prepare_host(self) -> None:
        network.check_owner(self._layout.root)
        if not self._layout.host_record.exists():
            HostRecord.take().write(self._layout.host_record)
        network.up(self._layout.root)
        for node in self.nodes:
            self._cgroups.make(node.spec.cgroup)
        identities = tuple(each for node in self.nodes for each in node.identities())
        url = self._plan.url
        self._plan.prepare(identities)
        for node in self.nodes:
            node.prepare(url)
        proxy.prepare(self._layout, self._pki, url)
        prometheus.prepare(self._layout, self._pki, url)
        dns.prepare(self._layout, self._pki, url)

    def _start_first(self) -> None:
        """What needs nothing else, or waits for it by itself: so they start side by side."""
        self._runner.start(self._plan.etcd())
        self._runner.start(self._plan.apiserver())
        for node in self.nodes:
            self._runner.start(node.containerd())

    def _await_control_plane(self) -> None:
        self._runner.ensure(self._plan.etcd())
        self._runner.ensure(self._plan.apiserver())
        controlplane.await_api(self._plan.kubeconfig)
        self._pki.write_kubeconfig(ADMIN, self._plan.url, self._layout.kubeconfig)
        for part in self._controllers():
            self._runner.start(part)
        api = Api.from_kubeconfig(self._layout.kubeconfig)
        prometheus.install(api)
        if dns.available(self._bin):
            dns.install(api)
        for part in self._controllers():
            self._runner.ensure(part)

    def _await_rest(self) -> None:
        parts = [*(node.kubelet() for node in self.nodes), *self._services()]
        for part in parts:
            self._runner.start(part)
        for part in parts:
            self._runner.ensure(part)

    def _import(self, images: tuple[Image, ...], report: Reporter) -> None:
        for node in self.nodes:
            self._runner.ensure(node.containerd())
        with ThreadPoolExecutor() as pool:
            imported = pool.map(lambda node: node.import_images(images), self.nodes)
            for node, names in zip(self.nodes, imported, strict=True):
                for name in names:
                    report.info(f"{node.spec.name}: imported {name}")

    def _controllers(self) -> list[Part]:
        return [self._plan.controller_manager(), self._plan.scheduler()]

    def _services(self) -> list[Part]:
        parts = [proxy.part(self._layout, self._bin), prometheus.part(self._layout, self._bin)]
        if dns.available(self._bin):
            parts.append(dns.part(self._layout, self._bin))
        return parts

    def _part_state(self, part: Part) -> PartState:
        record = self._runner.supervisor.running(part.name)
        return PartState(part.name, record.pid if record else None, self._runner.failure(part))

    def _node_states(self) -> tuple[NodeState, ...]:
        try:
            api = Api.from_kubeconfig(self._layout.kubeconfig)
            found = [api.find(f"/api/v1/nodes/{node.spec.name}") for node in self.nodes]
        except (ApiError, OSError, http.client.HTTPException) as error:
            found = [None] * len(self.nodes)
            problem: str | None = f"the API server does not tell: {error}"
        else:
            problem = None
        return tuple(
            _node_state(node.spec, seen, problem)
            for node, seen in zip(self.nodes, found, strict=True)
        )


@contextlib.contextmanager
def locked(report: Reporter) -> Iterator[None]:
    """Keeps other runs of the tool on this machine waiting meanwhile."""
    with _LOCK.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with report.step("waiting for another run of this tool"):
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _node_state(spec: settings.NodeSpec, node: Object | None, problem: str | None) -> NodeState:
    if node is None:
        return NodeState(spec.name, False, spec.gpu_product, 0, problem or "not registered")
    ready = nodes.is_ready(node)
    lost = nodes.missing(node, spec)
    if not ready:
        problem = "not ready"
    elif lost:
        problem = f"lost its {' and '.join(lost)}"
    gpus = int(node["status"].get("allocatable", {}).get(settings.GPU, "0"))
    return NodeState(spec.name, ready, spec.gpu_product, gpus, problem)
