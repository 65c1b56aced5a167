"""The front door's pods: replaced under load, and with agents that end again and again."""

import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from e2e import front_door
from e2e.bench.front_door.door import kill, processes
from e2e.install import NAMESPACE, Stage
from e2e.kubectl import condition, wait_for
from e2e.scratch import Object

pytestmark = pytest.mark.cluster

AGENT, KEPT_S = "conch", 60.0
CALLERS = 8
PAUSE_S = 0.02


@dataclass
class Callers:
    """Kept-alive connections that never ask twice: what came of their requests.

    HAProxy answers them itself, for want of a key: what is tried here needs no model.
    """

    address: str
    answered: int = 0
    failed: list[str] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def ask(self) -> None:
        """Ask until stopped."""
        connection = http.client.HTTPConnection(self.address, front_door.HTTP_PORT, timeout=20)
        while not self.stopped.is_set():
            try:
                connection.request("GET", "/")
                told = connection.getresponse()
                told.read()
                assert told.status == http.client.UNAUTHORIZED
                self.answered += 1
            except (OSError, http.client.HTTPException) as error:
                self.failed.append(repr(error))
                connection.close()
            time.sleep(PAUSE_S)
        connection.close()


@contextmanager
def callers(stage: Stage) -> Iterator[Callers]:
    """Have callers ask meanwhile."""
    found = Callers(front_door.address(stage.tools))
    threads = [threading.Thread(target=found.ask) for _ in range(CALLERS)]
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        found.stopped.set()
        for thread in threads:
            thread.join()


def await_agent(pod: Object) -> None:
    """Wait until a pod's agent runs."""
    wait_for("an agent", lambda: processes(pod, AGENT), timeout=KEPT_S)


def test_replicas_are_replaced_without_a_failed_request(stage: Stage) -> None:
    before = {p["metadata"]["uid"] for p in front_door.await_ready(stage.tools)}
    with callers(stage) as asking:
        deployment = f"deployment/{front_door.NAME}"
        stage.tools.kubectl("-n", NAMESPACE, "rollout", "restart", deployment)
        stage.tools.kubectl(
            *("-n", NAMESPACE, "rollout", "status", deployment, "--timeout=120s"), timeout=130
        )

        def all_gone() -> bool:
            found = stage.tools.list("pods", "-n", NAMESPACE, "-l", front_door.SELECTOR)
            return not before & {p["metadata"]["uid"] for p in found}

        # Idle connections would hold them for closeGraceSeconds; these ask, and are told.
        wait_for("the end of the old replicas", all_gone, timeout=KEPT_S)
    assert asking.failed == []
    assert asking.answered > CALLERS


def test_agents_that_end_again_and_again_take_no_replica_out(stage: Stage) -> None:
    if not stage.cluster.local:
        pytest.skip("ends processes of this machine")
    pods = front_door.await_ready(stage.tools)
    with callers(stage) as asking:
        for _ in range(3):
            for pod in pods:
                await_agent(pod)
            for pod in pods:
                kill(pod, AGENT)
            for pod in front_door.pods(stage.tools):
                assert condition(pod, "Ready")["status"] == "True"
        for pod in pods:
            await_agent(pod)
    assert asking.failed == []
    now = {p["metadata"]["uid"]: p for p in front_door.pods(stage.tools)}
    for pod in pods:
        statuses = now[pod["metadata"]["uid"]]["status"]["initContainerStatuses"]
        (agent,) = [s for s in statuses if s["name"] == "agent"]
        assert agent["restartCount"] == 0
