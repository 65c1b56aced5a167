"""The front door of the release, and what is asked through it."""

import os
import secrets
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from e2e.bench.front_door.flow import Flow, Protocol
from e2e.install import NAMESPACE, RELEASE, Stage
from e2e.kubectl import condition, wait_for
from e2e.scratch import Object, Scratch

NAME = f"{RELEASE}-front-door"
PODS = "conch.dev/front-door=on"
LABEL_KEYS = "conch.dev/api-keys"
KNOWN_S = 60.0
HTTP_PORT, GRPC_PORT = 80, 8001


@dataclass(frozen=True)
class Door:
    """Where the front door is asked, and a key for it."""

    stage: Stage
    address: str
    """Of its Service in the cluster."""
    key: str

    def flow(self, name: str, place: str, service: str, protocol: Protocol, **other: Any) -> Flow:
        """Return a flow to a service in the namespace ``place``, of a model of its name."""
        keys = {"Authorization": f"Bearer {self.key}"}
        model = other.pop("model", service)  # unless another is given
        if protocol == "http":
            where = f"{self.address}:{HTTP_PORT}"
            prefix = f"/{place}/{service}"
            return Flow(name, protocol, where, model, prefix=prefix, headers=keys, **other)
        keys["conch-service"] = f"{place}/{service}"
        return Flow(name, protocol, f"{self.address}:{GRPC_PORT}", model, headers=keys, **other)

    def pods(self) -> list[Object]:
        """Return its pods that are not on their way out."""
        found = self.stage.tools.list("pods", "-n", NAMESPACE, "-l", PODS)
        return [p for p in found if "deletionTimestamp" not in p["metadata"]]

    def await_ready(self, replicas: int = 2) -> list[Object]:
        """Return its pods once exactly so many are there, and ready."""

        def ready() -> list[Object] | None:
            pods = self.pods()
            fine = [p for p in pods if condition(p, "Ready").get("status") == "True"]
            return fine if len(fine) == len(pods) == replicas else None

        found: list[Object] = wait_for("the front door's pods", ready, timeout=120)
        return found


@contextmanager
def key_of(stage: Stage, tenant: str) -> Iterator[str]:
    """Make a key for a tenant, a namespace here, and revoke it in the end."""
    key = secrets.token_hex(16)
    name = f"keys-{tenant}"
    stage.tools.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": NAMESPACE, "labels": {LABEL_KEYS: tenant}},
            "stringData": {"test": key},
        }
    )
    try:
        yield key
    finally:
        stage.tools.kubectl("delete", "secret", name, "-n", NAMESPACE, "--ignore-not-found")


@contextmanager
def front_door(place: Scratch) -> Iterator[Door]:
    """Yield the release's front door, with a key of the place's namespace."""
    service = place.stage.tools.get("service", NAME, NAMESPACE)
    if service is None:
        raise LookupError(f"there is no Service {NAMESPACE}/{NAME}: the release has no front door")
    with key_of(place.stage, place.namespace) as key:
        yield Door(place.stage, str(service["spec"]["clusterIP"]), key)


def processes(pod: Object, word: str) -> list[int]:
    """Return the processes of a pod, on this machine, with a word in their command line."""
    uid = pod["metadata"]["uid"]
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            groups = (entry / "cgroup").read_text()
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        mine = uid in groups or uid.replace("-", "_") in groups
        if mine and any(Path(w.decode(errors="replace")).name == word for w in words[:2]):
            found.append(int(entry.name))
    return found


def kill(pod: Object, word: str) -> tuple[float, float]:
    """Kill a pod's processes of a name at once; return the times just before and just after."""
    found = processes(pod, word)
    if not found:
        raise LookupError(f"{pod['metadata']['name']} has no process {word}")
    before = monotonic()
    for process in found:
        os.kill(process, signal.SIGKILL)
    return before, monotonic()
