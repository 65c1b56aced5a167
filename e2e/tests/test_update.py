import numpy as np
import pytest

from e2e.kubectl import wait_for
from e2e.questions import ask_rest
from e2e.scratch import READY_S, Scratch, adding, model, python_model, service, uids
from e2e.traffic import more_answers, steady

pytestmark = pytest.mark.cluster

BOUNDS = {"minReplicas": 2, "maxReplicas": 2, "drainTimeout": "5s"}


def test_updates_fail_no_request_and_a_bad_one_touches_nothing(place: Scratch) -> None:
    place.apply(
        *python_model("plus-one", adding(1))[:1],
        *python_model("plus-two", adding(2))[:1],
        *python_model("broken", "import no_such_module\n")[:1],
    )
    use(place, "plus-one")
    place.apply(service("served", pools=("t4", "a100"), scaling=BOUNDS))
    old = place.await_ready("served", 2)
    assert answer(place) == [2, 3, 4, 5]

    with steady(place, "served", rate=10) as tally:
        use(place, "plus-two")
        wait_for(
            "the new revision's answers", lambda: answer(place) == [3, 4, 5, 6], timeout=READY_S
        )
        new = place.await_ready("served", 2)
        assert not uids(new) & uids(old)
        revision = serving_revision(place)
        more_answers(tally)

        use(place, "broken")
        bad = place.await_condition("served", "Loaded", status="False", reason="LoadFailed")
        assert "No module named 'no_such_module'" in bad["message"]
        place.await_condition("served", "Ready", status="True", reason="Serving")
        assert serving_revision(place) == revision
        assert uids(new) <= uids(place.pods("served", ready=True))
        more_answers(tally)

        use(place, "plus-two")
        place.await_condition("served", "Stalled", status="False")
        assert uids(place.await_ready("served", 2)) == uids(new)
        more_answers(tally)
    assert answer(place) == [3, 4, 5, 6]


def use(place: Scratch, config_map: str) -> None:
    """Have the model read its files from another ConfigMap."""
    place.apply(model("served", source={"configMap": {"name": config_map}}))


def answer(place: Scratch) -> list[float]:
    """Return what the service answers to 1, 2, 3, 4."""
    given = np.array([[1, 2, 3, 4]], dtype=np.float32)
    found = ask_rest(place.address("served"), "served", given=("x", given), wanted="sum")
    return [float(x) for x in found[0]]


def serving_revision(place: Scratch) -> str:
    """Return the revision with the traffic."""
    selector = place.there("service", "served")["spec"]["selector"]
    return str(selector["conch.dev/revision"])
