"""What is done to three services under load: moves, new revisions, other sizes, drains, kills."""

import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from conch.api.names import PORT_FRONT_DOOR_AGENT
from e2e.bench.front_door.door import Door
from e2e.bench.front_door.load import Load
from e2e.kubectl import wait_for
from e2e.moves import (
    CRAWLS,
    FAILS,
    drain,
    kill_operator,
    last_rollout,
    migrated,
    nodes_of,
    opened_again,
    rolled,
    use,
)
from e2e.scratch import Object, Scratch, adding, python_model, service

POOLS = ("a100", "t4")
METRIC = "conch_front_door_canary_requests_total{"
MOVER, SIZED, ROLLED = "mover", "sized", "rolled"
SERVICES = (MOVER, SIZED, ROLLED)
STEPS = [5]
SCALING = {"minReplicas": 1, "maxReplicas": 2, "drainTimeout": "20s"}
PHASES = ("Reserve", "Load", "Warm", "Shift", "Drain")
MOMENTS = ("its first replica starts", "it gets 5 %", "takes over")
"""Of a rollout, by words of its message; the last is any after the canary's last step."""
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Window:
    """When something was done, by CLOCK_MONOTONIC (s), and to what."""

    what: str
    service: str
    began: float
    ended: float


@dataclass
class Acts:
    """Does things and notes when."""

    place: Scratch
    door: Door
    load: Load
    tell: Tell
    windows: list[Window] = field(default_factory=list)
    kills: int = 0
    done: dict[str, int] = field(default_factory=dict)
    endings: list[Mapping[str, Any]] = field(default_factory=list)
    """Statuses of the bad rollouts."""
    met: dict[str, float] = field(default_factory=dict)
    """By revision of a bad rollout, the requests that met it."""

    @contextmanager
    def noted(self, what: str, service: str) -> Iterator[None]:
        """Note when the body runs, and count it."""
        number = self.done.get(what, 0) + 1
        self.tell(f"{what} {number}")
        began = monotonic()
        yield
        self.windows.append(Window(what, service, began, monotonic()))
        self.done[what] = number
        self.load.more_answers(20)

    def migrate(self, *, killed_in: str | None = None) -> None:
        """Move the mover's replica to the other pool; kill the operator once a phase is reached."""
        number, there = self.done.get("migration", 0), self._other_pool()
        name = f"move-{number}"
        with self.noted("migration", MOVER), self._killed(lambda: self._phase(name), killed_in):
            found = migrated(self.place, name, service=MOVER, to={"pool": there})
        assert found["phase"] == "Done", found

    def may_migrate(self) -> bool:
        """Tell whether the pool to which the mover would go has a GPU that is free."""
        return self._has_room(self._other_pool())

    def may_have_neighbour(self) -> bool:
        """Tell whether the mover's pool has a GPU that is free."""
        return self._has_room(self._pool())

    def _has_room(self, name: str) -> bool:
        pool = self.place.stage.tools.get("gpupool", name) or {}
        return int(pool["status"]["free"]) > 0

    def _pool(self) -> str:
        (node,) = nodes_of(self.place.await_ready(MOVER))
        return next(p for p in POOLS if node.endswith(p))

    def _other_pool(self) -> str:
        return next(p for p in POOLS if p != self._pool())

    def _phase(self, name: str) -> str:
        found = self.place.get("modelmigration", name) or {}
        return str((found.get("status") or {}).get("phase"))

    def roll(self, *, killed_at: str | None = None) -> None:
        """Have another revision take over."""
        number = self.done.get("rollout", 0)
        past = last_rollout(self.place, ROLLED)
        with self.noted("rollout", ROLLED), self._killed(self._message, killed_at):
            use_of(self.place, f"good-{number}", adding(1) + f"\n# {number}\n")
            found = rolled(self.place, ROLLED, ("Done", "RolledBack"), past=past)
        assert found["phase"] == "Done", found
        self.place.await_ready(ROLLED, 2)

    def roll_back(self, name: str, code: str) -> None:
        """Have a bad revision come and be taken back by itself, and its good one be asked for again."""
        past = last_rollout(self.place, ROLLED)
        with self.noted(f"bad rollout ({name})", ROLLED):
            use_of(self.place, name, code)
            found = rolled(self.place, ROLLED, ("Done", "RolledBack"), past=past)
        assert found["phase"] == "RolledBack", found
        self.endings.append(found)
        revision = str(found["revision"])
        self.met[revision] = canary_requests(self.door, revision)
        number = self.done.get("rollout", 0) - 1
        use_of(self.place, f"good-{number}", adding(1) + f"\n# {number}\n")
        self.place.await_condition(ROLLED, "Stalled", status="False")
        self.place.await_ready(ROLLED, 2)

    def _message(self) -> str:
        status = (self.place.get("modelservice", ROLLED) or {}).get("status") or {}
        told = status.get("rollout") or {}
        over = told.get("step") is None and told.get("phase") == "Progressing"
        return "takes over" if over and told.get("percent") else str(told.get("message"))

    def size(self, replicas: int) -> None:
        """Have another number of replicas."""
        with self.noted("scale change", SIZED):
            spec = f'{{"spec": {{"replicas": {replicas}}}}}'
            self.place.kubectl("patch", "modelservice", SIZED, "--type=merge", "-p", spec)
            self.place.await_ready(SIZED, replicas)

    def drain(self) -> None:
        """Drain the mover's node by plain kubectl drain, and open it again."""
        (node,) = nodes_of(self.place.await_ready(MOVER))
        with opened_again(self.place.stage, node):
            with self.noted("drain", MOVER):
                drain(self.place.stage, node)
            for name, count in ((MOVER, 1), (SIZED, 1), (ROLLED, 2)):
                assert node not in nodes_of(self.place.await_ready(name, count))

    def neighbour(self) -> None:
        """Start an unrelated replica on the mover's node, and let it go again."""
        self.place.apply(service("unrelated", of="apart", pools=(self._pool(),)))
        with self.noted("neighbour", MOVER):
            self.place.await_ready("unrelated")
        self.place.kubectl("delete", "modelservice", "unrelated", "--wait=true")
        wait_for("its end", lambda: not self.place.pods("unrelated"), timeout=60)

    @contextmanager
    def _killed(self, state: Callable[[], str], wanted: str | None) -> Iterator[None]:
        """Kill the operator once while the body runs, as soon as a state is reached."""
        if wanted is None:
            yield
            return
        over, killed = threading.Event(), threading.Event()

        def watch() -> None:
            while not over.is_set():
                if wanted in state():
                    kill_operator(self.place.stage)
                    killed.set()
                    return
                time.sleep(0.05)

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
        # A phase may be over before it is seen: it is killed in the next move.
        self.kills += killed.is_set()


def use_of(place: Scratch, name: str, code: str) -> None:
    """Have the rolled service's model read its code from a ConfigMap of that name."""
    use(place, name, code, model_name=ROLLED)


def prepare(place: Scratch) -> None:
    """Apply the services, each of a model of its own name, and wait for them."""
    canary = {"steps": STEPS, "stepTime": "5s", "patience": "20s"}
    for name, replicas, more in _services(canary):
        place.apply(
            *python_model(name, adding(1)),
            service(name, pools=POOLS, replicas=replicas, scaling=SCALING, **more),
        )
    place.apply(*python_model("apart", adding(1)))
    for name, replicas in ((MOVER, 1), (SIZED, 1), (ROLLED, 2)):
        place.await_ready(name, replicas)


def _services(canary: Object) -> Iterator[tuple[str, int, Object]]:
    """Yield names, replicas and what else they ask for."""
    yield MOVER, 1, {}
    yield SIZED, 1, {}
    rollout = {"strategy": "Canary", "canary": canary}
    yield ROLLED, 2, {"rollout": rollout, "endpoint": {"replay": True}}


BAD: Mapping[str, str] = {"errors": FAILS, "latency": CRAWLS}


def canary_requests(door: Door, revision: str) -> float:
    """Return the requests that met a canary of the rolled service, of all front-door replicas."""
    found = 0.0
    for pod in door.await_ready():
        url = f"http://{pod['status']['podIP']}:{PORT_FRONT_DOOR_AGENT}/metrics"
        with urllib.request.urlopen(url, timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        mine = (line for line in lines if line.startswith(METRIC) and f'"{revision}"' in line)
        found += sum(float(line.rsplit(" ", 1)[1]) for line in mine)
    return found
