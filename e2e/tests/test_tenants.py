"""Tenants share real GPUs' places: eight of two kinds, real kubelets, real Triton, under load.

Usage counts half after a minute here, so that what takes a day elsewhere takes a test.
"""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from e2e.kubectl import condition, wait_for
from e2e.load import Load, request_body
from e2e.scratch import READY_S, Scratch, adding, python_model, scratch, service

pytestmark = pytest.mark.cluster

POOLS = ("a100", "t4")
GPUS = 8
RATE_RPS = 12.0
BODY = request_body("x", "FP32", [[1.0, 2.0, 3.0, 4.0]])


@dataclass(frozen=True)
class Team:
    """A tenant with one namespace."""

    place: Scratch
    tenant: str

    def serve(
        self, name: str, replicas: int, *, pools: tuple[str, ...] = POOLS, **spec: Any
    ) -> None:
        """Ask for a service of so many replicas, of a model that adds one."""
        self.place.apply(
            *python_model(name, adding(1.0)),
            service(
                name,
                pools=pools,
                replicas=replicas,
                scaling={"minReplicas": 0, "maxReplicas": GPUS, "drainTimeout": "5s"},
                **spec,
            ),
        )

    def ready(self, name: str) -> int:
        """Return how many replicas answer."""
        body = self.place.get("modelservice", name) or {}
        return int((body.get("status") or {}).get("readyReplicas", 0))

    def await_ready(self, name: str, least: int, most: int = GPUS) -> int:
        """Return the replicas that answer once they are from ``least`` to ``most``."""

        def enough() -> int | None:
            found = self.ready(name)
            return found if least <= found <= most else None

        found: int = wait_for(
            f"{least} to {most} replicas of {self.tenant}/{name}",
            enough,
            timeout=READY_S,
            seen=lambda: f"{self.ready(name)}: {self.place.condition(name, 'Admitted')}",
        )
        return found

    @property
    def status(self) -> dict[str, Any]:
        """What the Tenant says."""
        body = self.place.stage.tools.get("tenant", self.tenant) or {}
        return body.get("status") or {}

    def load(self, name: str, seconds: float = READY_S) -> Load:
        """Return a load on a service: requests that are never tried again."""
        url = f"http://{self.place.address(name)}:8000/v2/models/{name}/infer"
        return Load(url, BODY, rate=RATE_RPS, seconds=seconds)


@pytest.fixture
def teams(place: Scratch, request: pytest.FixtureRequest) -> Iterator[dict[str, Team]]:
    """Three teams whose Tenants are as a test's marker says; ``place`` only names them."""
    specs: dict[str, dict[str, Any]] = request.param
    tools = place.stage.tools
    with contextlib.ExitStack() as stack:
        found = {}
        for name, spec in specs.items():
            own = stack.enter_context(scratch(place.stage, f"{place.namespace[:40]}-{name}"))
            tenant = re.sub("[^a-z0-9-]", "-", own.namespace)
            tools.apply(
                {
                    "apiVersion": "conch.dev/v1alpha1",
                    "kind": "Tenant",
                    "metadata": {"name": tenant},
                    "spec": {"namespaces": [own.namespace], **spec},
                }
            )
            stack.callback(tools.kubectl, "delete", "tenant", tenant, "--ignore-not-found")
            found[name] = Team(own, tenant)
        yield found


def free_of_others(team: Team) -> None:
    """Wait until no pod of an earlier test holds a GPU."""
    tools = team.place.stage.tools

    def free() -> bool:
        pools = [tools.get("gpupool", name) or {} for name in POOLS]
        return sum(int(p.get("status", {}).get("free", 0)) for p in pools) == GPUS

    wait_for(f"{GPUS} free GPUs", free, timeout=READY_S)


@pytest.mark.parametrize("teams", [{"a": {}, "b": {}}], indirect=True)
def test_a_flood_gives_way_and_a_hog_waits_its_turn(teams: dict[str, Team]) -> None:
    a, b = teams["a"], teams["b"]
    free_of_others(a)
    a.serve("flood", GPUS)
    assert a.await_ready("flood", GPUS) == GPUS  # idle GPUs are anyone's
    with a.load("flood") as load:
        b.serve("wakes", GPUS)
        # By speed the fleet is 12; with equal weights and a's past, b is entitled to half at least.
        wait_for(
            "b at its entitlement",
            lambda: (b.status.get("share") or 0.0) >= 0.8 and b.status.get("entitlement", 0) >= 6,
            timeout=READY_S,
            seen=lambda: str({t: teams[t].status for t in teams}),
        )
        assert b.ready("wakes") >= 2
        assert a.ready("flood") >= 1
        hog = a.place.await_condition("flood", "Admitted", status="False", reason="AwaitingShare")
        assert a.tenant in hog["message"]
        told(a)
    assert load.tally.answered > 0
    assert not load.tally.failures, load.tally.failures[:3]
    assert a.status["entitlement"] <= b.status["entitlement"]

    # b leaves: what it held is anyone's again, and its past counts against it.
    b.place.kubectl("delete", "modelservice", "wakes")
    assert a.await_ready("flood", GPUS) == GPUS


@pytest.mark.parametrize(
    "teams",
    [
        {
            "a": {"weight": 4},
            "owner": {"quota": {"NVIDIA-A100": 2, "Tesla-T4": 1}},
            "poor": {"weight": 0.5},
        }
    ],
    indirect=True,
)
def test_a_quota_is_there_at_once_and_nobody_starves(teams: dict[str, Team]) -> None:
    a, owner, poor = teams["a"], teams["owner"], teams["poor"]
    free_of_others(a)
    a.serve("flood", GPUS)
    a.await_ready("flood", GPUS)
    with a.load("flood") as load:
        owner.serve("mine", 3)
        # However young a's replicas are, and however heavy its weight.
        owner.await_ready("mine", 3)
        poor.serve("small", 1)
        poor.await_ready("small", 1)
        assert owner.ready("mine") == 3, "a quota was touched"
        # The rest is a's, but for what its past costs it.
        assert a.ready("flood") >= 2
    assert not load.tally.failures, load.tally.failures[:3]


@pytest.mark.parametrize("teams", [{"a": {}}], indirect=True)
def test_a_low_priority_yields_to_a_high_one(teams: dict[str, Team]) -> None:
    a = teams["a"]
    free_of_others(a)
    a.serve("low", GPUS, priority=-10)
    a.await_ready("low", GPUS)
    with a.load("low") as load:
        a.serve("high", 2, priority=10)
        a.await_ready("high", 2)
        a.await_ready("low", GPUS - 2, GPUS - 2)
    assert not load.tally.failures, load.tally.failures[:3]


@pytest.mark.parametrize(
    "teams", [{"lodger": {}, "landlord": {"quota": {"NVIDIA-A100": 2}}}], indirect=True
)
def test_who_has_another_place_moves_there_before_its_own_is_taken(teams: dict[str, Team]) -> None:
    lodger, landlord = teams["lodger"], teams["landlord"]
    free_of_others(lodger)
    lodger.serve("lodges", GPUS // 2)
    lodger.await_ready("lodges", GPUS // 2)
    with lodger.load("lodges") as load:
        landlord.serve("owns", 2, pools=("a100",))
        landlord.await_ready("owns", 2)
        lodger.await_ready("lodges", GPUS // 2, GPUS // 2)
    assert not load.tally.failures, load.tally.failures[:3]
    moves = lodger.place.all("modelmigrations")
    assert {(m["spec"]["reason"], m["status"]["phase"]) for m in moves} == {("Reclaim", "Done")}
    assert len(moves) == 2


def told(team: Team) -> None:
    """The command says who holds what."""
    said = team.place.stage.tools.conch("top", "tenants", "-o", "csv")
    lines = [line for line in said.splitlines() if line.startswith(f"{team.tenant},")]
    assert lines, said
    assert condition({"status": team.status}, "Ready")["status"] == "True"
