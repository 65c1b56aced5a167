"""etcd, the API server and the controllers: of the cluster, or alone for tests."""

import http.client
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from e2e.cluster import settings
from e2e.cluster.api import Api, ApiError
from e2e.cluster.parts import HttpProbe, Part, Runner
from e2e.cluster.pki import (
    ADMIN,
    CLIENTS,
    CONTROLLER_MANAGER,
    KUBELET_CLIENT,
    SCHEDULER,
    Identity,
    Pki,
    apiserver,
)
from e2e.cluster.ports import LOOPBACK, free_ports
from e2e.cluster.processes import Command, Supervisor, wait_until

# The default of 20 requests a second makes 1,000 Deployments take minutes.
_FRUGAL = {"GOGC": "400"}
"""Cores are scarcer than memory where a whole control plane shares a machine with what it runs."""
_RATES = ("--kube-api-qps=500", "--kube-api-burst=1000")
_KWOK_STAGES = ("node/fast", "node/heartbeat-with-lease", "pod/fast")


@dataclass(frozen=True)
class Ports:
    """One for each server of a control plane."""

    etcd: int = 12379
    etcd_peer: int = 12380
    apiserver: int = 6443
    controller_manager: int = 10257
    scheduler: int = 10259
    kwok: int = 10247

    @classmethod
    def free(cls) -> "Ports":
        """Ports of the loopback interface that nobody uses now."""
        return cls(*free_ports(6))


@dataclass(frozen=True)
class Plan:
    """Where a control plane lives and listens, and the commands that make it."""

    directory: Path
    bin: Path
    address: str
    ports: Ports
    pki: Pki

    @property
    def url(self) -> str:
        return f"https://{self.address}:{self.ports.apiserver}"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.directory / "admin.kubeconfig"

    def prepare(self, others: tuple[Identity, ...] = ()) -> None:
        """Writes certificates and kubeconfigs; `others` get certificates too."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.pki.ensure(
            [apiserver([self.address, settings.API_SERVICE_ADDRESS]), *CLIENTS, *others]
        )
        for identity in (ADMIN, CONTROLLER_MANAGER, SCHEDULER):
            self.pki.write_kubeconfig(identity, self.url, self._kubeconfig(identity))

    def etcd(self) -> Part:
        client = f"http://{LOOPBACK}:{self.ports.etcd}"
        peer = f"http://{LOOPBACK}:{self.ports.etcd_peer}"
        flags = [
            f"--data-dir={self.directory / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            # What a power cut would lose here is a cluster for tests.
            "--unsafe-no-fsync",
            "--quota-backend-bytes=4294967296",
            "--log-level=warn",
        ]
        return Part(self._command("etcd", flags), HttpProbe(f"{client}/health"), stop_within=2)

    def apiserver(self) -> Part:
        pair, client = self.pki.pair(apiserver([])), self.pki.pair(KUBELET_CLIENT)
        key = self.pki.service_account_key
        flags = [
            f"--etcd-servers=http://{LOOPBACK}:{self.ports.etcd}",
            f"--bind-address={self.address}",
            f"--advertise-address={self.address}",
            f"--secure-port={self.ports.apiserver}",
            f"--service-cluster-ip-range={settings.SERVICE_NETWORK}",
            f"--client-ca-file={self.pki.authority}",
            f"--tls-cert-file={pair.certificate}",
            f"--tls-private-key-file={pair.key}",
            # The nodes' names mean nothing to the host's resolver.
            "--kubelet-preferred-address-types=InternalIP",
            f"--kubelet-certificate-authority={self.pki.authority}",
            f"--kubelet-client-certificate={client.certificate}",
            f"--kubelet-client-key={client.key}",
            # API servers of extensions, such as one of metrics, know it by the same certificate,
            # and believe nobody else who their caller is.
            f"--proxy-client-cert-file={client.certificate}",
            f"--proxy-client-key-file={client.key}",
            f"--requestheader-client-ca-file={self.pki.authority}",
            f"--requestheader-allowed-names={KUBELET_CLIENT.user}",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            "--max-requests-inflight=800",
            "--max-mutating-requests-inflight=400",
            "--shutdown-delay-duration=0s",
        ]
        if self.address == LOOPBACK:
            # No pod could use it, and a loopback address is refused as an endpoint.
            flags.append("--endpoint-reconciler-type=none")
        inputs = (pair.certificate, self.pki.authority)
        command = self._command("kube-apiserver", flags, inputs)
        return Part(command, HttpProbe(f"{self.url}/readyz"), stop_within=3)

    def controller_manager(self) -> Part:
        pair = self.pki.pair_named("ca")
        flags = [
            *self._client_flags(CONTROLLER_MANAGER, self.ports.controller_manager),
            f"--root-ca-file={self.pki.authority}",
            f"--service-account-private-key-file={self.pki.service_account_key}",
            f"--cluster-signing-cert-file={pair.certificate}",
            f"--cluster-signing-key-file={pair.key}",
            "--use-service-account-credentials=true",
            "--node-monitor-grace-period=40s",
            "--concurrent-replicaset-syncs=20",
        ]
        return self._client_part("kube-controller-manager", flags, self.ports.controller_manager)

    def scheduler(self) -> Part:
        flags = self._client_flags(SCHEDULER, self.ports.scheduler)
        return self._client_part("kube-scheduler", flags, self.ports.scheduler)

    def kwok(self, stages: Path) -> Part:
        """Plays the kubelet for nodes that carry the annotation kwok.x-k8s.io/node=fake."""
        files = [path for name in _KWOK_STAGES for path in sorted((stages / name).glob("*.yaml"))]
        flags = [
            f"--kubeconfig={self.kubeconfig}",
            "--manage-all-nodes=false",
            # Renewed leases, or the node controller takes the nodes for dead after 40 s.
            "--node-lease-duration-seconds=40",
            "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
            f"--server-address={self.address}:{self.ports.kwok}",
            *(f"--config={path}" for path in files),
        ]
        url = f"http://{self.address}:{self.ports.kwok}/healthz"
        return Part(self._command("kwok", flags, tuple(files)), HttpProbe(url), stop_within=2)

    def _client_flags(self, identity: Identity, port: int) -> list[str]:
        kubeconfig = self._kubeconfig(identity)
        return [
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            f"--bind-address={self.address}",
            f"--secure-port={port}",
            "--leader-elect=false",
            *_RATES,
        ]

    def _client_part(self, program: str, flags: list[str], port: int) -> Part:
        probe = HttpProbe(f"https://{self.address}:{port}/healthz")
        return Part(self._command(program, flags, (self.pki.authority,)), probe, stop_within=3)

    def _command(self, program: str, flags: list[str], inputs: tuple[Path, ...] = ()) -> Command:
        path = (self.bin / program).resolve()
        return Command(program, (str(path), *flags), inputs, env=_FRUGAL)

    def _kubeconfig(self, identity: Identity) -> Path:
        return self.directory / f"{identity.file}.kubeconfig"


@dataclass(frozen=True)
class ControlPlane:
    """A running control plane without nodes, for tests; it ends with the process that started it."""

    kubeconfig: Path
    url: str
    supervisor: Supervisor

    @classmethod
    def start(
        cls,
        directory: Path,
        artifacts_bin: Path,
        *,
        ports: Ports | None = None,
        with_controllers: bool = True,
        with_scheduler: bool = True,
        kwok: bool = False,
        kwok_stages: Path | None = None,
    ) -> "ControlPlane":
        """Starts it on the loopback interface and returns once it serves, after some seconds.

        `directory` gets its data and logs; `ports` are free ones by default, so any number run
        side by side. With `kwok`, nodes annotated kwok.x-k8s.io/node=fake, and pods bound to
        them, become ready by themselves; `kwok_stages` says how (Artifacts.kwok_stages).
        Raises ClusterError if a part does not start. Call from the thread that lives longest.
        """
        if kwok and kwok_stages is None:
            raise ValueError("kwok needs kwok_stages")
        directory = directory.absolute()
        plan = Plan(
            directory, artifacts_bin, LOOPBACK, ports or Ports.free(), Pki(directory / "pki")
        )
        supervisor = Supervisor(directory / "processes", die_with_parent=True)
        try:
            plan.prepare()
            _start(plan, Runner(supervisor), with_controllers, with_scheduler, kwok_stages)
        except BaseException:
            supervisor.stop_all(grace=0)
            raise
        return cls(plan.kubeconfig, plan.url, supervisor)

    def stop(self) -> None:
        """Ends all its processes. The data stay in the directory."""
        self.supervisor.stop_all(grace=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def await_api(kubeconfig: Path) -> None:
    """Returns once the administrator may do things: a moment after the server is ready."""

    def answers() -> bool:
        try:
            Api.from_kubeconfig(kubeconfig).get("/api/v1/namespaces/default")
        except (ApiError, OSError, http.client.HTTPException):
            return False
        return True

    if not wait_until(answers, timeout=30):
        raise settings.ClusterError("the API server is ready but has no namespace `default`")


def _start(
    plan: Plan, runner: Runner, controllers: bool, scheduler: bool, kwok_stages: Path | None
) -> None:
    runner.start(plan.etcd())
    parts = [plan.etcd(), plan.apiserver()]
    runner.start(plan.apiserver())
    for part in parts:
        runner.ensure(part)
    await_api(plan.kubeconfig)
    parts = [plan.controller_manager()] if controllers else []
    parts += [plan.scheduler()] if scheduler else []
    parts += [plan.kwok(kwok_stages)] if kwok_stages else []
    for part in parts:
        runner.start(part)
    for part in parts:
        runner.ensure(part)
