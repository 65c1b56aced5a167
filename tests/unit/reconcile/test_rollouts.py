"""What of a rollout stands in a status, what people ask for, and what would break callers."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from conch.api.model import Datatype, Tensor
from conch.api.names import ANNOTATION_ROLLOUT, ANNOTATION_UNDO
from conch.api.rollout import RolloutPhase
from conch.api.service import ModelServiceSpec
from conch.decisions.rolling import Order, Rollout
from conch.provisioning.snapshot import Snapshot
from conch.reconcile.revisions import Choice, Runs, chosen, rejected, undone
from conch.reconcile.rollout_status import order_of, status_of, stored
from conch.reconcile.rollouts import breaks
from tests.unit.decisions.stories import pod, replica_set

BACK = Rollout("r2", "r1", RolloutPhase.ROLLED_BACK, 100.0, 160.0, step=1, message="too slow")


def body(rollout: Rollout | None = None, order: str | None = None) -> dict[str, Any]:
    status = {} if rollout is None else {"rollout": status_of(rollout).to_dict()}
    annotations = {} if order is None else {ANNOTATION_ROLLOUT: order}
    return {"metadata": {"annotations": annotations}, "status": status}


@pytest.mark.parametrize(
    "rollout",
    [
        BACK,
        Rollout("r2", "r1", RolloutPhase.PROGRESSING, 100.0, 160.0, 0, 5.0, message="a step"),
        Rollout("r2", None, RolloutPhase.DONE, 1.0, 2.0, swaps=True, promoted=True, message="-"),
    ],
)
def test_a_status_holds_all_that_a_rollout_goes_on_by(rollout: Rollout) -> None:
    assert stored(body(rollout)) == rollout


def test_what_can_not_be_read_is_none() -> None:
    for told in ("text", {"phase": "Elsewhere"}, {}):
        assert stored({"metadata": {}, "status": {"rollout": told}}) is None


def test_one_that_was_taken_back_is_stayed_away_from() -> None:
    there = {"r1": object()}
    assert rejected(body(BACK), "r2", there, BACK) == "r1"
    assert rejected(body(BACK), "r3", there, BACK) is None, "another one is asked for"
    assert rejected(body(BACK), "r2", {}, BACK) is None, "there is nothing to stay with"
    assert rejected(body(BACK, "promote/r2"), "r2", there, BACK) is None, "somebody wants it"
    assert rejected(body(), "r2", there, None) is None


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("promote/r2", Order.PROMOTE),
        ("abort/r2", Order.ABORT),
        ("pause/r2", Order.PAUSE),
        ("abort/r1", None),
        ("abort", None),
        ("explode/r2", None),
        ("", None),
    ],
)
def test_orders_are_for_one_revision(text: str, order: Order | None) -> None:
    assert order_of(body(order=text), "r2") is order


def described(inputs: dict[str, list[int]], outputs: dict[str, list[int]]) -> Snapshot:
    def tensors(named: dict[str, list[int]]) -> tuple[Tensor, ...]:
        made = (Tensor(name=n, datatype=Datatype.FP32, shape=s) for n, s in named.items())
        return tuple(made)

    return cast("Snapshot", SimpleNamespace(inputs=tensors(inputs), outputs=tensors(outputs)))


OLD = described({"x": [4]}, {"y": [2]})


@pytest.mark.parametrize(
    ("new", "words"),
    [
        (described({"x": [4]}, {"y": [2]}), None),
        (described({"x": [4]}, {"y": [2], "more": [1]}), None),
        (described({}, {}), None),
        (described({"x": [8]}, {"y": [2]}), "its inputs are x FP32[8] where they were x FP32[4]"),
        (described({"x": [4], "z": [1]}, {"y": [2]}), "its inputs are x FP32[4], z FP32[1]"),
        (described({"x": [4]}, {"y": [3]}), "its outputs are y FP32[3] where they were y FP32[2]"),
        (described({"x": [4]}, {"z": [2]}), "its outputs are z FP32[2]"),
    ],
)
def test_what_callers_could_not_do_any_more(new: Snapshot, words: str | None) -> None:
    found = breaks(OLD, new)
    assert found is words is None or (words is not None and words in (found or ""))


KEPT = {"r1": object(), "r2": object(), "r3": object()}
ANSWERS = [pod("o1")]


def choice(
    asked: str | None = "r2",
    *,
    known: Rollout | None = None,
    strategy: str = "Canary",
    undo: str | None = None,
    runs: Runs | None = None,
) -> Choice:
    made, spec = body(known), {"model": {"name": "digits"}, "rollout": {"strategy": strategy}}
    made["metadata"]["annotations"] |= {} if undo is None else {ANNOTATION_UNDO: undo}
    there = replace(runs or Runs("r1", [replica_set(1)], ANSWERS), rollout=known)
    return chosen(made, ModelServiceSpec.model_validate(spec), asked, KEPT, there)


def test_what_is_asked_for_is_wanted_or_on_trial_beside_what_serves() -> None:
    assert choice("r1") == Choice("r1", "r1")
    assert choice(strategy="Replace") == Choice("r2", "r1")
    assert choice() == Choice("r1", "r1", trial="r2")
    nothing = Runs("r1", [replica_set(0)], [])
    assert choice(runs=nothing) == Choice("r2", "r1"), "nothing is there to compare it with"
    assert choice(None) == Choice(None, "r1")
    assert choice(known=BACK) == Choice("r1", "r1", rejected="r2")


def test_what_is_undone_is_so_until_another_one_is_applied() -> None:
    assert choice(undo="r2/r3") == Choice("r3", "r1", undone="r2")
    assert choice("r1", undo="r1/r3") == Choice("r3", "r1", undone="r1")
    assert choice("r1", undo="r2/r3") == Choice("r1", "r1")
    assert choice(known=BACK, undo="r2/r3") == Choice("r3", "r1", undone="r2")


@pytest.mark.parametrize("text", ["r2", "r2/", "r2/r9", "r2/r2", "/r1", "", "/"])
def test_what_can_not_be_gone_back_to_is_not(text: str) -> None:
    made = body()
    made["metadata"]["annotations"][ANNOTATION_UNDO] = text
    assert undone(made, "r2", KEPT, None) is None


def test_one_that_did_not_come_up_again_is_not_gone_back_to_for_ever() -> None:
    failed = Rollout("r3", "r2", RolloutPhase.ROLLED_BACK, 1.0, 2.0, message="no progress")
    runs = Runs("r2", [replica_set(1, revision="r2")], [pod("n1", revision="r2")])
    assert choice(known=failed, undo="r2/r3", runs=runs) == Choice("r2", "r2")
