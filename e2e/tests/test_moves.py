"""Migrations and rollouts on real kubelets with the real Triton, under load: nothing fails."""

from typing import Any

import pytest

from e2e.bench.front_door.door import Door, front_door
from e2e.bench.front_door.load import Load
from e2e.install import Stage
from e2e.kubectl import wait_for
from e2e.moves import CRAWLS, FAILS, last_rollout, migrated, nodes_of, rolled, use
from e2e.scratch import Scratch, adding, python_model, service
from e2e.tests.test_drain import flow, none_failed

pytestmark = pytest.mark.cluster
PROTOCOLS = ("http", "grpc", "stream")
SCALING = {"minReplicas": 1, "maxReplicas": 3, "drainTimeout": "20s"}
CANARY = {
    "strategy": "Canary",
    "canary": {"steps": [20], "stepTime": "15s", "patience": "30s"},
}


def flows(door: Door, place: Scratch, name: str) -> list[Any]:
    return [flow(door, place, name, protocol) for protocol in PROTOCOLS]


def test_a_migration_fails_no_request(place: Scratch) -> None:
    pools = ("a100", "t4")
    place.apply(
        *python_model("add", adding(1)),
        service("moved", of="add", pools=pools, replicas=1, scaling=SCALING),
    )
    (before,) = nodes_of(place.await_ready("moved"))
    with front_door(place) as door, Load(*flows(door, place, "moved")) as load:
        load.more_answers(100)
        there = migrated(place, "there", service="moved", to={"pool": "t4"})
        load.more_answers(100)
        back = migrated(place, "back", service="moved", to={"node": before})
        load.more_answers(100)
    none_failed(load.outcomes)
    assert (there["phase"], back["phase"]) == ("Done", "Done"), (there, back)
    assert "it answers in" in there["warmth"]
    assert nodes_of(place.await_ready("moved")) == {before}


def scaled_beside_its_canary(place: Scratch, name: str, replicas: int) -> None:
    """Scale a service while a canary of it has a share; return once what serves has so many."""

    def rollout() -> dict[str, Any]:
        found: dict[str, Any] = place.there("modelservice", name)["status"].get("rollout") or {}
        return found

    def answering() -> int:
        pods = place.pods(name, ready=True)
        serves = place.there("modelservice", name)["status"]["revision"]
        return sum(p["metadata"]["labels"]["conch.dev/revision"] == serves for p in pods)

    wait_for("its share", lambda: rollout().get("percent"), timeout=90, seen=lambda: str(rollout()))
    serves = place.there("modelservice", name)["status"]["revision"]
    spec = f'{{"spec": {{"replicas": {replicas}}}}}'
    place.kubectl("patch", "modelservice", name, "--type=merge", "-p", spec)
    wait_for(
        "what serves", lambda: answering() == replicas, timeout=60, seen=lambda: str(rollout())
    )
    assert place.there("modelservice", name)["status"]["revision"] == serves, rollout()


def test_a_canary_takes_over_where_it_is_fine_and_goes_where_it_is_not(place: Scratch) -> None:
    place.apply(
        *python_model("add", adding(1)),
        service(
            "rolled",
            of="add",
            pools=("a100", "t4"),
            replicas=2,
            scaling=SCALING,
            rollout=CANARY,
            endpoint={"replay": True},
        ),
    )
    place.await_ready("rolled", 2)
    with front_door(place) as door:
        with Load(*flows(door, place, "rolled")) as load:
            load.more_answers(100)
            use(place, "again", adding(1) + "\n# again\n")
            scaled_beside_its_canary(place, "rolled", 3)
            good = rolled(place, "rolled", ("Done", "RolledBack"))
            load.more_answers(100)
        none_failed(load.outcomes)
        assert good["phase"] == "Done", good
        last = good["revision"]
        for name, code in (("fails", FAILS), ("crawls", CRAWLS)):
            with Load(*flows(door, place, "rolled")) as load:
                load.more_answers(100)
                before = last_rollout(place, "rolled")
                use(place, name, code)
                bad = rolled(place, "rolled", ("Done", "RolledBack"), past=before)
                load.more_answers(100)
            assert bad["phase"] == "RolledBack", bad
            assert place.there("modelservice", "rolled")["status"]["revision"] == last
            http, *_ = load.outcomes
            assert http.wrong == 0, (name, http.summary())
            met = sum(o.wrong for o in load.outcomes) / sum(o.sent for o in load.outcomes)
            assert met <= 0.2, [o.summary() for o in load.outcomes]
            use(place, "again", adding(1) + "\n# again\n")
            place.await_condition("rolled", "Stalled", status="False")
            place.await_ready("rolled", 3)
            last = place.there("modelservice", "rolled")["status"]["revision"]


def test_blue_green_waits_for_a_person_who_may_undo_it(place: Scratch) -> None:
    place.apply(
        *python_model("add", adding(1)),
        service("green", of="add", replicas=1, scaling=SCALING, rollout={"strategy": "BlueGreen"}),
    )
    place.await_ready("green")

    def serves() -> str:
        return str(place.there("modelservice", "green")["status"]["revision"])

    old = serves()
    with front_door(place) as door, Load(*flows(door, place, "green")) as load:
        load.more_answers(100)
        use(place, "again", adding(1) + "\n# again\n")
        new = rolled(place, "green", ("Waiting", "RolledBack"))["revision"]
        load.more_answers(100)
        assert serves() == old
        place.stage.tools.conch("rollout", "promote", "green", "-n", place.namespace)
        assert rolled(place, "green", ("Done", "RolledBack"))["phase"] == "Done"
        assert serves() == new
        load.more_answers(100)
        place.stage.tools.conch("rollout", "undo", "green", "-n", place.namespace)
        assert rolled(place, "green", ("Done", "RolledBack"), past=new)["phase"] == "Done"
        assert serves() == old
        load.more_answers(100)
    none_failed(load.outcomes)


def test_on_a_full_pool_the_only_replica_makes_room_while_requests_wait(
    place: Scratch, stage: Stage
) -> None:
    place.apply(
        *python_model("add", adding(1)),
        *python_model("rest", adding(1)),
        service("full", of="add", pools=("t4",), replicas=1, scaling=SCALING),
    )
    place.await_ready("full")
    pool = stage.tools.get("gpupool", "t4") or {}
    free = int(pool["status"]["free"])
    others = service("others", of="rest", pools=("t4",), replicas=free)
    others["spec"]["scaling"] = {"maxReplicas": max(1, free)}
    if free:
        place.apply(others)
        place.await_ready("others", free)
    with front_door(place) as door:
        loads = [flow(door, place, "full", p) for p in ("http", "grpc")]
        with Load(*loads) as load:
            load.more_answers(50)
            use(place, "again", adding(1) + "\n# again\n")
            done = rolled(place, "full", ("Done", "RolledBack"))
            load.more_answers(50)
    assert done["phase"] == "Done", done
    assert done["swaps"], done
