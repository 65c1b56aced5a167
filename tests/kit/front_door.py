"""A front door for tests: the real HAProxy and the real agent, and pods that are loopback servers."""

import base64
import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from e2e.cluster.ports import free_ports
from tests.kit.control_plane import ROOT, Cluster
from tests.kit.haproxy_binary import haproxy_binary
from tests.kit.proxy import wait_for

Object = dict[str, Any]
HOME = "conch-system"
DOMAIN = "models.test"
SERVICES = "/apis/conch.dev/v1alpha1/namespaces/{}/modelservices"
WITH_US = ("/usr/bin/setpriv", "--pdeathsig", "KILL", "--")
"""What is started ends with the thread that started it."""
KEY = "a-key-of-the-tests-0123456789"
_addresses = (
    f"127.{1 + os.getpid() % 250}.{i}.{j}" for i, j in itertools.product(range(250), range(1, 250))
)


@dataclass(frozen=True)
class Answer:
    """What came of a request."""

    status: int
    body: str
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def json(self) -> Object:
        """The body as JSON."""
        found: Object = json.loads(self.body)
        return found


@dataclass
class Pod:
    """A pod as an object, and the process that answers for it."""

    name: str
    namespace: str
    uid: str
    address: str
    process: subprocess.Popen[str] | None

    @property
    def path(self) -> str:
        """Its path in the API."""
        return f"/api/v1/namespaces/{self.namespace}/pods/{self.name}"

    def mode(self, mode: str) -> int:
        """Have it behave in another way; return how many inferences it answered so far."""
        url = f"http://{self.address}:8000/mode/{mode}"
        with urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=5) as told:
            answered: int = json.load(told)["answered"]
            return answered

    def kill(self) -> None:
        """End its process at once."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


class FrontDoor:
    """HAProxy and its agent, in a directory of their own; and what they stand before."""

    def __init__(self, cluster: Cluster, directory: Path, *options: str) -> None:
        self.cluster, self.client, self.directory = cluster, cluster.client, directory
        self._options = options
        self.http, self.https, self.health, self.agent_port = free_ports(4)
        self.url = f"http://127.0.0.1:{self.http}"
        self.haproxy: subprocess.Popen[bytes] | None = None
        self.agent: subprocess.Popen[bytes] | None = None
        self.pods: list[Pod] = []

    def start(self) -> None:
        """Start both and wait until they know the cluster."""
        self._conch("--prepare").wait(30)
        self.start_haproxy()
        self.start_agent()
        wait_for(self.ready, "the front door", timeout=30)

    def start_haproxy(self) -> None:
        """Start HAProxy as its container does."""
        master, config = self.directory / "master.sock", self.directory / "haproxy.cfg"
        with (self.directory / "haproxy.log").open("ab") as log:
            self.haproxy = subprocess.Popen(
                [*WITH_US, str(haproxy_binary()), "-W", "-S", str(master), "-f", str(config)],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def crash_haproxy(self) -> None:
        """End HAProxy as the end of its container does: master and workers at once."""
        assert self.haproxy is not None
        os.killpg(self.haproxy.pid, signal.SIGKILL)
        self.haproxy.wait()

    def start_agent(self) -> None:
        """Start the agent."""
        self.agent = self._conch()

    def _conch(self, *more: str) -> subprocess.Popen[bytes]:
        ports = {
            "--port": self.agent_port,
            "--http-port": self.http,
            "--https-port": self.https,
            "--health-port": self.health,
        }
        words = [str(w) for pair in ports.items() for w in pair]
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory),
            "PYTHONPATH": str(ROOT / "operator"),
        }
        with (self.directory / "agent.log").open("ab") as log:
            return subprocess.Popen(
                [
                    *(*WITH_US, sys.executable, "-m", "conch.cli.main", "front-door"),
                    *("--directory", str(self.directory), "--address", "127.0.0.1"),
                    *("--kubeconfig", str(self.cluster.kubeconfig), "--domain", DOMAIN),
                    *words,
                    *self._options,
                    *more,
                ],
                stdout=log,
                stderr=log,
                env=env,
            )

    def ready(self) -> bool:
        """Tell whether the kubelet would call it ready, and the agent has looked once."""
        with contextlib.suppress(OSError):
            if fetch(f"http://127.0.0.1:{self.health}/healthz").status != 200:
                return False
            return fetch(f"http://127.0.0.1:{self.agent_port}/report").status == 200
        return False

    def report(self, query: str = "") -> Object:
        """Return what the agent tells the operator."""
        return fetch(f"http://127.0.0.1:{self.agent_port}/report{query}", timeout=40).json

    def metrics(self) -> str:
        """Return what Prometheus would scrape."""
        return fetch(f"http://127.0.0.1:{self.agent_port}/metrics").body

    def logs(self) -> str:
        """Return what both said, for a failed test."""
        files = (self.directory / "agent.log", self.directory / "haproxy.log")
        return "\n".join(f.read_text()[-4000:] for f in files if f.exists())

    def stop(self) -> None:
        """End all processes."""
        for process in (self.agent, self.haproxy):
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(5)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        for pod in self.pods:
            pod.kill()

    def key(self, namespace: str, *, tenant: str | None = None, key: str = KEY) -> str:
        """Make a Secret with a key of a tenant: of a namespace that belongs to none, by default."""
        name = f"key-{tenant or namespace}"
        path = f"/api/v1/namespaces/{HOME}/secrets"
        body = {
            "metadata": {"name": name, "labels": {"conch.dev/api-keys": tenant or namespace}},
            "data": {"one": base64.b64encode(key.encode()).decode()},
        }
        self.client.create(path, body)
        return f"{path}/{name}"

    def service(self, namespace: str, name: str, *, pods: int = 1, **endpoint: Any) -> list[Pod]:
        """Make a ModelService of one revision with so many pods that are ready."""
        accounts = f"/api/v1/namespaces/{namespace}/serviceaccounts"
        if self.client.find(f"{accounts}/default") is None:
            self.client.create(accounts, {"metadata": {"name": "default"}})
        self.client.create(
            SERVICES.format(namespace),
            {
                "apiVersion": "conch.dev/v1alpha1",
                "kind": "ModelService",
                "metadata": {"name": name},
                "spec": {"model": {"name": "digits"}, "endpoint": endpoint},
            },
        )
        self.client.create(
            f"/api/v1/namespaces/{namespace}/services",
            {
                "metadata": {"name": name, "labels": {"app.kubernetes.io/managed-by": "conch"}},
                "spec": {
                    "ports": [{"port": 8000}],
                    "selector": {
                        "conch.dev/service": name,
                        "conch.dev/revision": "r1",
                        "conch.dev/serving": "on",
                    },
                },
            },
        )
        return [self.pod(namespace, name) for _ in range(pods)]

    def pod(
        self, namespace: str, service: str, *, answers: bool = True, revision: str = "r1"
    ) -> Pod:
        """Make a pod that is ready, and the process that answers for it."""
        address = next(_addresses)
        path = f"/api/v1/namespaces/{namespace}/pods"
        args = ["tritonserver", "--load-model=digits", f"--id={namespace}/{service}"]
        made = self.client.create(
            path,
            {
                "metadata": {
                    "name": f"{service}-{address.replace('.', '-')}",
                    "labels": {
                        "conch.dev/service": service,
                        "conch.dev/revision": revision,
                        "conch.dev/serving": "on",
                    },
                },
                "spec": {
                    "containers": [{"name": "triton", "image": "triton", "args": args}],
                    "automountServiceAccountToken": False,
                },
            },
        )
        meta = made["metadata"]
        process = self.answering(address, f"{namespace}/{service}") if answers else None
        pod = Pod(meta["name"], namespace, meta["uid"], address, process)
        self.pods.append(pod)
        self.set_ready(pod)
        return pod

    def canary(self, namespace: str, service: str, said: str | None) -> None:
        """Give a service's canary a share, as REVISION=PERCENT; None ends it."""
        path = f"/api/v1/namespaces/{namespace}/services/{service}"
        self.client.merge(path, {"metadata": {"annotations": {"conch.dev/canary": said}}})

    def select(self, namespace: str, service: str, revision: str) -> None:
        """Promote a revision: it is selected from now on, and there is no canary."""
        path = f"/api/v1/namespaces/{namespace}/services/{service}"
        self.client.merge(
            path,
            {
                "metadata": {"annotations": {"conch.dev/canary": None}},
                "spec": {"selector": {"conch.dev/revision": revision}},
            },
        )

    def answering(self, address: str, service: str) -> subprocess.Popen[str]:
        """Start a process that answers at an address as a pod of a service does."""
        process = subprocess.Popen(
            [*WITH_US, sys.executable, "-m", "tests.kit.replica", address, service, "digits"],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT / 'operator'}:{ROOT}"},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "ready"
        return process

    def set_ready(self, pod: Pod, *, ready: bool = True) -> None:
        """Have the API say that a pod is ready, or not."""
        conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
        status = {"podIP": pod.address, "phase": "Running", "conditions": conditions}
        self.client.merge(f"{pod.path}/status", {"status": status})

    def drain(self, pod: Pod) -> None:
        """Take a pod's traffic label off, as the operator does."""
        self.client.merge(pod.path, {"metadata": {"labels": {"conch.dev/serving": None}}})

    def delete(self, pod: Pod) -> None:
        """Delete a pod's object at once."""
        self.client.delete(pod.path, grace_seconds=0)

    def infer(
        self, service: str, *, key: str | None = KEY, sleep: float = 0, timeout: float = 30
    ) -> Answer:
        """Ask a service for one inference by its path."""
        body = {"inputs": [{"name": "x"}], "parameters": {"sleep": sleep}}
        return self.ask(f"/{service}/v2/models/digits/infer", body, key=key, timeout=timeout)

    def ask(
        self, path: str, body: Object | None = None, *, key: str | None = KEY, **more: Any
    ) -> Answer:
        """Ask for a path."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        headers |= more.pop("headers", {})
        data = None if body is None else json.dumps(body).encode()
        return fetch(self.url + path, data=data, headers=headers, **more)


def fetch(
    url: str,
    *,
    data: bytes | None = None,
    headers: dict[str, str] | None = None,
    timeout: float = 30,
    method: str | None = None,
) -> Answer:
    """Ask for a URL over a connection of its own; an error status is an answer, too."""
    request = urllib.request.Request(url, data=data, headers=headers or {}, method=method)
    begun = time.monotonic()
    try:
        with urllib.request.urlopen(request, timeout=timeout) as told:
            text = told.read().decode()
            return Answer(told.status, text, dict(told.headers), time.monotonic() - begun)
    except urllib.error.HTTPError as error:
        with error:
            text = error.read().decode()
            return Answer(error.code, text, dict(error.headers), time.monotonic() - begun)


@contextlib.contextmanager
def front_door(cluster: Cluster, *options: str) -> Iterator[FrontDoor]:
    """Run a front door on an API server; what both said is printed where the body fails."""
    if cluster.client.find(f"/api/v1/namespaces/{HOME}") is None:
        cluster.client.create("/api/v1/namespaces", {"metadata": {"name": HOME}})
    # The names of sockets may have a hundred letters.
    with tempfile.TemporaryDirectory(prefix="door-") as directory:
        door = FrontDoor(cluster, Path(directory), *options)
        try:
            door.start()
            yield door
        except BaseException:
            sys.stderr.write(door.logs())
            raise
        finally:
            door.stop()
