"""2,000 services behind one front door: how fast it follows, whom that disturbs, and its memory.

A real API server with real objects, and the front door's agent and HAProxy as processes of this
machine; the pods are played on the loopback. Besides the changes that are measured, many services
are asked all the time.
"""

import http.client
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import Any, Self

from e2e.bench.front_door import fleet
from e2e.bench.front_door.backends import backends
from e2e.bench.front_door.fleet import Named
from e2e.bench.front_door.flow import Flow, quantile, together
from e2e.bench.front_door.load import Load
from e2e.cluster.artifacts import ensure_binaries
from e2e.cluster.controlplane import ControlPlane
from e2e.cluster.progress import terminal_reporter
from tests.kit.client import Client
from tests.kit.control_plane import Cluster, Kubectl, install_crds
from tests.kit.front_door import FrontDoor

Figures = dict[str, Any]
Tell = Callable[[str, float], None]
_SERVERS = ("etcd", "kube-apiserver", "kubectl")
LONGEST_S = 1800.0
GIVE_UP_S = 60.0
EVERY_S = 0.01
CALM_S = 1.0
"""Without an answer of a pod, after which it answers no more."""


@dataclass(frozen=True)
class Pace:
    """How much there is, and how much is changed."""

    services: int = 2000
    changes: int = 20
    new: int = 10
    asked: int = 40
    """Services that are asked all the time."""
    rate: float = 5.0
    """Requests a second to each."""


QUICK = Pace(services=200, changes=5, new=3)


def measure(pace: Pace, tell: Tell) -> Figures:
    """Return the figures; ``tell`` hears what is done, and which share of all."""
    with TemporaryDirectory(prefix="conch-many-") as name:
        folder = Path(name)
        numbers = range(pace.services + pace.new)
        played = {
            Named(n).address(pod): Named(n).path.removeprefix("/")
            for n in numbers
            for pod in (0, 1)
        }
        with api_server(folder / "plane") as cluster, backends(folder / "pods", played):
            tell(f"{pace.services} services", 0.0)
            _furnish(cluster.client, pace, tell)
            with started(cluster, folder / "door") as (door, seconds):
                return {"start_s_at_2000": seconds, **_changed(cluster.client, door, pace, tell)}


@contextmanager
def api_server(folder: Path) -> Iterator[Cluster]:
    """Run an API server without anything that acts by itself."""
    binaries = ensure_binaries(_SERVERS, report=terminal_reporter())
    with (
        ControlPlane.start(folder, binaries, with_controllers=False, with_scheduler=False) as plane,
        Client(plane.kubeconfig) as client,
    ):
        install_crds(client)
        yield Cluster(plane.kubeconfig, client, Kubectl(binaries / "kubectl", plane.kubeconfig))


def _furnish(client: Client, pace: Pace, tell: Tell) -> None:
    fleet.namespaces(client)
    made = 0

    def advance() -> None:
        nonlocal made
        made += 1
        if made % 200 == 0:
            tell(f"{made} of {pace.services} services", 0.3 * made / pace.services)

    fleet.services(client, pace.services, advance)


@contextmanager
def started(cluster: Cluster, folder: Path) -> Iterator[tuple[FrontDoor, float]]:
    """Run a front door; yield it, and the seconds that it took until it knew all services."""
    folder.mkdir()
    door = FrontDoor(cluster, folder)
    began = monotonic()
    try:
        door.start()
        yield door, round(monotonic() - began, 1)
    except BaseException:
        print(door.logs())
        raise
    finally:
        door.stop()


def _changed(client: Client, door: FrontDoor, pace: Pace, tell: Tell) -> Figures:
    sleep(15)  # until workers of the start are gone
    asked = [Named(n) for n in range(pace.asked)]
    flows = [_steady(n, door, pace) for n in asked]
    changing = range(pace.asked, pace.asked + pace.changes)
    added, removed, new = [], [], []
    memory = Memory(door)
    before = memory.mb()
    with Load(*flows) as load:
        load.more_answers(200)
        calm = load.tally
        for i, number in enumerate(changing):
            tell(f"endpoints change, {i + 1} of {pace.changes}", 0.4 + 0.4 * i / pace.changes)
            with Caller(door, Named(number)) as caller:
                added.append(_another_pod(client, caller))
                removed.append(_one_leaves(client, caller))
            fleet.delete(client, Named(number), 0)
            memory.look()
        for i in range(pace.new):
            tell(f"a new service, {i + 1} of {pace.new}", 0.8 + 0.2 * i / pace.new)
            new.append(_new_service(client, door, Named(pace.services + i)))
            memory.look()
        load.more_answers(200)
    found = together("others", load.outcomes)
    assert calm.wrong == 0
    return {
        "services": pace.services,
        "endpoint_change_s_at_2000": max([*added, *removed]),
        "new_service_s_at_2000": max(new),
        "disturbed_at_2000": found.wrong,
        "rss_mb_at_2000": round(sum(before.values()), 1),
        "many": {
            "pod_added_s": _spread(added),
            "pod_removed_s": _spread(removed),
            "new_service_s": _spread(new),
            "others": found.summary(),
            "rss_mb": before,
            "rss_mb_peak": memory.peak,
            "reloads": _metric(door, "conch_front_door_reloads"),
        },
    }


def _spread(seconds: list[float]) -> Figures:
    ordered = sorted(seconds)
    return {
        "median": round(median(ordered), 3),
        "p90": round(quantile(ordered, 0.9), 3),
        "longest": round(ordered[-1], 3),
    }


def _steady(named: Named, door: FrontDoor, pace: Pace) -> Flow:
    return Flow(
        named.name,
        "http",
        f"127.0.0.1:{door.http}",
        named.name,
        prefix=named.path,
        headers={"Authorization": f"Bearer {fleet.key_of(named.namespace)}"},
        rate=pace.rate,
        seconds=LONGEST_S,
        connections=2,
        seed=named.number,
        questions=1,
    )


class Caller:
    """Asks one service again and again over one connection, which is opened again where it ends."""

    def __init__(self, door: FrontDoor, named: Named) -> None:
        self.named = named
        self._door = door
        self._connection: http.client.HTTPConnection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            self._connection.close()

    def ask(self) -> tuple[int, str]:
        """Return status, and the address of the pod that answered; 0 where nobody did."""
        path = f"{self.named.path}/v2/models/{self.named.name}/infer"
        headers = {"Authorization": f"Bearer {fleet.key_of(self.named.namespace)}"}
        body = '{"inputs":[]}'
        try:
            if self._connection is None:
                address = ("127.0.0.1", self._door.http)
                self._connection = http.client.HTTPConnection(*address, timeout=5)
            self._connection.request("POST", path, body, headers)
            with self._connection.getresponse() as answer:
                text = answer.read()
        except (OSError, http.client.HTTPException):
            self._connection = None
            return 0, ""
        return answer.status, json.loads(text)["model_version"] if answer.status == 200 else ""

    def until(self, holds: Callable[[int, str], bool]) -> float:
        """Ask until an answer is as wanted; return when it came."""
        deadline = monotonic() + GIVE_UP_S
        while monotonic() < deadline:
            told = self.ask()
            if holds(*told):
                return monotonic()
            sleep(EVERY_S)
        raise TimeoutError(f"{self.named.path}: not within {GIVE_UP_S:g} s, but {told}")


def _another_pod(client: Client, caller: Caller) -> float:
    """Add a pod to a service; return the seconds from the write that makes it ready to its first answer."""
    status, before = caller.ask()
    assert (status, before) == (200, caller.named.address(0)), f"{status} {before}"
    fleet.pod(client, caller.named, 1)
    began = monotonic()
    fleet.get_ready(client, caller.named, 1)
    return caller.until(lambda _, address: address == caller.named.address(1)) - began


def _one_leaves(client: Client, caller: Caller) -> float:
    """Take the traffic from a pod; return the seconds until its last answer."""
    leaves = caller.named.address(0)
    began = last = monotonic()
    fleet.drain(client, caller.named, 0)
    while monotonic() - last < CALM_S:
        status, address = caller.ask()
        assert status == 200, f"{caller.named.path}: {status}"
        if address == leaves:
            last = monotonic()
        sleep(EVERY_S)
    return last - began


def _new_service(client: Client, door: FrontDoor, named: Named) -> float:
    """Make a service with a ready pod; return the seconds from then to its first answer."""
    fleet.service(client, named)
    began = monotonic()
    fleet.get_ready(client, named, 0)
    with Caller(door, named) as caller:
        return caller.until(lambda status, _: status == 200) - began


class Memory:
    """Resident memory of a front door, in MB."""

    def __init__(self, door: FrontDoor) -> None:
        assert door.haproxy is not None
        assert door.agent is not None
        self._roots = {"haproxy": door.haproxy.pid, "agent": door.agent.pid}
        self.peak: dict[str, float] = {}
        """The most of each that was seen, workers that were replaced included."""

    def mb(self) -> dict[str, float]:
        """Return what each has now, with all that it began."""
        return {name: round(_mb(root), 1) for name, root in self._roots.items()}

    def look(self) -> None:
        """See how much it is now."""
        now = self.mb()
        self.peak = {name: max(mb, self.peak.get(name, 0.0)) for name, mb in now.items()}


def _mb(root: int) -> float:
    """Return the resident memory of a process and of all that it began."""
    mine = _resident(root)
    children = Path(f"/proc/{root}/task/{root}/children")
    return mine + sum(_mb(int(pid)) for pid in children.read_text().split())


def _resident(process: int) -> float:
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _metric(door: FrontDoor, name: str) -> float:
    lines = door.metrics().splitlines()
    return next((float(x.split()[1]) for x in lines if x.startswith(f"{name} ")), 0.0)
