"""What of a rollout stands in a status, what people ask for, and what would break callers."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from conch.api.model import Datatype, Tensor
from conch.api.names import ANNOTATION_ROLLOUT
from conch.api.rollout import RolloutPhase
from conch.decisions.rolling import Order, Rollout
from conch.provisioning.snapshot import Snapshot
from conch.reconcile.rollout_status import order_of, rejected, status_of, stored
from conch.reconcile.rollouts import breaks

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
    assert rejected(body(BACK), "r2", there) == "r1"
    assert rejected(body(BACK), "r3", there) is None, "another one is asked for"
    assert rejected(body(BACK), "r2", {}) is None, "there is nothing to stay with"
    assert rejected(body(BACK, "promote/r2"), "r2", there) is None, "somebody wants it"
    assert rejected(body(), "r2", there) is None


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
