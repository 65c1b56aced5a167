"""What the planner sees of single replicas, and what it asks for because of it."""

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from conch.api.names import ANNOTATION_DISTURBED, ANNOTATION_MIGRATION
from conch.api.signals import Signals
from conch.decisions.fleet import ServiceKey
from conch.decisions.placement import Ledger
from conch.decisions.scaling import PoolLoad, ServiceLoad
from conch.decisions.shares import Grant
from conch.decisions.steps import Plan
from conch.metrics.replicas import ReplicaSignals
from conch.reconcile.kept_room import KeptRoom
from conch.reconcile.planner import Planner, misses
from conch.reconcile.profiles import Profiles
from conch.reconcile.replica_figures import PACE_S, ReplicaFigures
from conch.reconcile.settings import Planning
from conch.reconcile.status import Outcome
from conch.reconcile.store import Store
from tests.unit.reconcile import bodies
from tests.unit.reconcile.bodies import EPOCH_S, gathered, of_revision, store

if TYPE_CHECKING:
    from conch.decisions.scaling.account import Decided
    from conch.reconcile.gather import FleetFacts

Object = dict[str, Any]
NOW = EPOCH_S + 86_400.0
OBJECTIVE = {"p99": "100ms"}


class Writer:
    """Keeps what is asked for."""

    def __init__(self) -> None:
        self.made, self.deleted = list[Object](), list[str]()

    async def make_once(self, body: Object) -> bool:
        told = json.loads(json.dumps(body))
        if told in self.made:
            return False
        self.made.append(told)
        return True

    async def delete(self, kind: str, body: Object) -> None:
        self.deleted.append(f"{kind} {body['metadata']['name']}")


def revisions() -> dict[str, str]:
    made = store(ModelService=[bodies.model_service("digits"), bodies.model_service("faces")])
    return {f.key.name: str(f.service.revision) for f in gathered(made).services}


def running(
    annotations: dict[str, Object] | None = None,
    *,
    digits: str = "n1 n2 n3",
    faces: str = "n1",
    nodes: tuple[int, ...] = (4, 4, 4, 4),
) -> Store:
    """Return replicas on n1, n2 and so on, nodes of so many GPUs, by default beside an empty one."""
    where = {"digits": digits.split(), "faces": faces.split()}
    made = [bodies.node(f"n{n + 1}", gpus=gpus) for n, gpus in enumerate(nodes)]
    found: dict[str, list[Object]] = {"Node": made}
    for name, revision in revisions().items():
        count = len(where[name])
        pods = [bodies.pod(f"{name}-{on}", node=on) for on in where[name]]
        for pod in pods:
            pod["metadata"]["annotations"] = (annotations or {}).get(pod["metadata"]["name"])
        children = {"ReplicaSet": [bodies.replica_set(f"{name}-set", replicas=count)], "Pod": pods}
        for kind, those in children.items():
            for one in those:
                one["metadata"]["labels"] = bodies.labels(service=name)
            found.setdefault(kind, []).extend(of_revision(one, revision) for one in those)
        wished = bodies.model_service(name, replicas=count, objective=OBJECTIVE)
        found.setdefault("ModelService", []).append(wished)
        found.setdefault("Service", []).append(bodies.service(revision, name))
    return store(**found)


class Here:
    """A planner, and what it is told."""

    def __init__(self, kept: Store, planning: Planning = Planning.ON) -> None:
        self.fleet: FleetFacts = gathered(kept)
        self.figures, self.writer, self.room = ReplicaFigures(), Writer(), KeptRoom()
        self.planner = Planner(
            planning, cast("Any", self.writer), Profiles(kept), self.figures, self.room
        )
        self.now = NOW

    def look(self, busy: float = 0.8, **late: float) -> None:
        """Take over a scrape in which each is at 0.05 s, but for those named (s)."""
        self.now += PACE_S
        told = {}
        for facts in self.fleet.services:
            for pod in facts.service.pods:
                p99 = late.get(pod.name.replace("-", "_"), 0.05)
                use = busy if facts.key.name == "faces" else 0.1
                told[facts.key.namespace, pod.name] = ReplicaSignals(self.now, p99, use)
        self.figures.take(told, self.now)

    @property
    def kept(self) -> list[str]:
        """The nodes that have room for one alone."""
        return [room.node for room in self.room._rooms]

    def goes_on(self, kept: Store, phase: str | None) -> None:
        """Let the migration that was asked for be in a phase; None: nobody has looked at it."""
        (made,) = self.writer.made
        name = made["metadata"]["name"]
        (source,) = (
            p
            for f in self.fleet.services
            for p in f.service.pods
            if p.name == made["spec"]["replica"]
        )
        seat = {"pod": source.name, "uid": source.uid, "node": source.node, "pool": source.pool}
        metadata = bodies.meta(name, resourceVersion=f"{self.now:.0f}")
        status = {} if phase is None else {"phase": phase, "from": seat}
        kept.put("ModelMigration", {**made, "metadata": metadata, "status": status})
        if phase is not None:
            self._comes(kept, made, source.name, waits=phase == "Reserve")
        self.fleet = gathered(kept)
        self.now += PACE_S

    def _comes(self, kept: Store, made: Object, source: str, *, waits: bool) -> None:
        """Let another replica load where one is to be moved to, or wait for its admission."""
        if waits:
            new = bodies.gated("new")
            new["metadata"]["labels"] = (kept.get("Pod", source, "vision") or {})["metadata"][
                "labels"
            ]
            kept.put("Pod", new)
            return
        new = bodies.pod("new", node=made["spec"]["to"]["node"], status={"conditions": []})
        old = kept.get("Pod", source, "vision") or {}
        labels = {**old["metadata"]["labels"]}
        del labels["conch.dev/serving"]
        new["metadata"]["labels"] = labels
        new["metadata"]["annotations"] = {ANNOTATION_MIGRATION: made["metadata"]["name"]}
        kept.put("Pod", new)

    async def plan(self) -> Any:
        outcomes = []
        for facts in self.fleet.services:
            there = sum(p.ready for p in facts.service.pods)
            plan = Plan(shortage=max(0, (facts.spec.replicas or 0) - there))
            grant = Grant({"a100": 3})
            outcomes.append(Outcome(facts, plan, None, None, wanted=there, grant=grant))
        await self.planner.look(self.fleet, outcomes, {}, Ledger(), self.now)
        return self.planner.account


async def test_who_is_late_beside_a_busy_one_moves_to_a_node_without_others() -> None:
    here = Here(running())
    for _ in range(4):
        here.look(digits_n1=0.18)
    account = await here.plan()
    (made,) = here.writer.made
    assert made["spec"]["reason"] == "Interference"
    assert made["spec"]["replica"] == "digits-n1"
    assert made["spec"]["to"] == {"node": "n4"}
    (told,) = account["moves"]
    words = "it is at 1.80 of its objective beside faces-n1 (80% busy); others of it meet theirs"
    assert words in told["because"]
    assert words in made["spec"]["because"]


async def test_what_is_only_proposed_is_told_and_not_done() -> None:
    here = Here(running(), Planning.PROPOSE)
    for _ in range(4):
        here.look(digits_n1=0.18)
    account = await here.plan()
    assert [m["reason"] for m in account["moves"]] == ["Interference"]
    assert here.writer.made == []


@pytest.mark.parametrize("looks", [0, 1, 3])
async def test_too_few_looks_move_nobody(looks: int) -> None:
    here = Here(running())
    for _ in range(looks):
        here.look(digits_n1=0.18)
    assert (await here.plan())["moves"] == []


async def test_one_odd_look_moves_nobody() -> None:
    here = Here(running())
    for late in (0.05, 9.0, 0.05, 0.05, 0.05):
        here.look(digits_n1=late)
        assert (await here.plan())["moves"] == []


@pytest.mark.parametrize(
    ("told", "because"),
    [
        ({"busy": 0.2, "digits_n1": 0.18}, "none of them is busy"),
        ({"digits_n1": 0.18, "digits_n2": 0.2, "digits_n3": 0.3}, "all are slow"),
        ({"digits_n2": 0.18}, "has no neighbours"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
async def test_where_neighbours_are_not_to_blame_it_stays(
    told: dict[str, float], because: str
) -> None:
    here = Here(running())
    for _ in range(4):
        here.look(**told)
    account = await here.plan()
    assert account["moves"] == []
    assert because in account["refused"][0]["because"]


async def test_who_was_moved_away_from_neighbours_is_known_by_its_pod() -> None:
    quiet = {"digits-n2": {ANNOTATION_DISTURBED: "true"}, "digits-n3": {"other": "true"}}
    here = Here(running(quiet))
    outcomes = [Outcome(f, Plan(), None, None) for f in here.fleet.services]
    seen = here.planner._seen(here.fleet, outcomes, {}, Ledger(), NOW)
    assert {r.pod for r in seen.replicas if r.disturbed} == {"digits-n2"}


def load(p99: float | None, *, objective: float | None = 0.1, absurd: str | None = None) -> Any:
    signals = Signals(p99=p99, absurd=absurd)
    return ServiceLoad(
        (PoolLoad("t4", "T4", 1, 0, 0, None), PoolLoad("a", "A", 1, 0, 0, signals)),
        objective=objective,
    )


@pytest.mark.parametrize(
    ("told", "late"),
    [
        (load(0.11), True),
        (load(0.1), False),
        (load(None), False),
        (load(0.5, objective=None), False),
        (load(0.5, absurd="it makes no sense"), False),
    ],
)
def test_only_where_an_objective_is_missed_single_replicas_are_asked_for(
    told: ServiceLoad, *, late: bool
) -> None:
    assert misses(told) is late


async def test_use_is_by_instances_of_the_model() -> None:
    here = Here(running())
    for _ in range(4):
        here.look(busy=1.2)
    key = ServiceKey("vision", "faces")
    decided = cast("Decided", SimpleNamespace(load=ServiceLoad((), instances=2)))
    outcomes = [Outcome(f, Plan(), None, None) for f in here.fleet.services]
    seen = here.planner._seen(here.fleet, outcomes, {key: decided}, Ledger(), here.now)
    (busy,) = [r.busy for r in seen.replicas if r.service == key]
    assert busy == pytest.approx(0.6)


def fragmented() -> Store:
    """Return one small replica on each of two nodes, while one waits that needs a whole one."""
    found = running(digits="n1", faces="n2", nodes=(2, 2))
    found.put("Model", bodies.model("big", resources={"gpus": 2}))
    found.put("ModelService", bodies.model_service("big", model={"name": "big"}, replicas=1))
    return found


async def test_room_is_kept_while_the_move_that_makes_it_is_under_way() -> None:
    kept = fragmented()
    here = Here(kept)
    account = await here.plan()
    (move,) = account["moves"]
    assert move["reason"] == "Defragmentation"
    assert here.kept == [move["from"]]
    for phase, rooms in ((None, 1), ("Load", 1), ("RolledBack", 0)):
        here.goes_on(kept, phase)
        await here.plan()
        assert here.kept == [move["from"]] * rooms, phase
    assert here.writer.deleted == []


@pytest.mark.parametrize("phase", [None, "Reserve", "Load", "Warm", "Shift"])
async def test_a_move_under_way_goes_on_while_its_reason_lasts(phase: str | None) -> None:
    kept = running()
    here = Here(kept)
    for _ in range(4):
        here.look(digits_n1=0.18)
    await here.plan()
    here.goes_on(kept, phase)
    here.look(digits_n1=0.08)
    here.look(digits_n1=0.18)
    account = await here.plan()
    assert here.writer.deleted == []
    assert len(here.writer.made) == 1
    assert account["moves"] == account["later"] == []
    for _ in range(4):
        here.look()
    await here.plan()
    over = [] if phase == "Shift" else ["ModelMigration digits-interfe-uid-digi"]
    assert here.writer.deleted == over, "it meets its objective where it is"


async def test_what_is_only_proposed_keeps_nothing() -> None:
    here = Here(fragmented(), Planning.PROPOSE)
    assert (await here.plan())["moves"]
    assert here.kept == []
