"""To which revision ``rollout undo`` goes back, and what it says where it can't."""

from typing import Any

import pytest

from conch.api.names import ANNOTATION_UNDO, LABEL_REVISION
from conch.cli.plugin_rollout import Undo, described, undo
from conch.cli.plugin_target import PluginError
from tests.unit.cli.objects import Object, meta, service

KEPT = [
    {"metadata": meta(name, labels={LABEL_REVISION: name}), "revision": number}
    for number, name in enumerate(("r1", "r2", "r3"), start=1)
]


def stands(
    revision: str = "r3", *, stable: str = "r2", phase: str = "Done", pin: str | None = None
) -> Object:
    """Return a service after a rollout of a revision; it has the traffic unless that failed."""
    told: Any = {"revision": revision, "stable": stable, "phase": phase}
    told |= {"since": "-", "message": "words"}
    serving = revision if phase == "Done" else stable
    found = service(revision=serving, rollout=told)
    found["metadata"]["annotations"] = {} if pin is None else {ANNOTATION_UNDO: pin}
    return found


def test_it_goes_back_to_the_one_before_or_to_one_by_name_or_number() -> None:
    assert undo(stands(), KEPT, None).annotation == "r3/r2"
    assert undo(stands(), KEPT, "r1").annotation == "r3/r1"
    assert undo(stands(), KEPT, "1").annotation == "r3/r1"
    assert "until another than r3 is applied" in undo(stands(), KEPT, None).text


def test_undone_twice_is_as_it_was() -> None:
    back = stands("r2", stable="r3", pin="r3/r2")
    again = Undo(None, "revision r3, which is asked for, is to take over again")
    assert undo(back, KEPT, None) == again
    assert undo(back, KEPT, "r3") == again
    assert undo(back, KEPT, "r1").annotation == "r3/r1", "what is asked for is still r3"
    assert "r3 is asked for, and undone" in next(iter(described(back)))


def test_a_pin_of_another_time_says_nothing() -> None:
    later = stands(pin="r1/r2")
    assert undo(later, KEPT, None).annotation == "r3/r2"
    assert "undone" not in " ".join(described(later))


@pytest.mark.parametrize(
    ("found", "to", "words"),
    [
        (stands(phase="Progressing"), None, "kubectl conch rollout abort"),
        (stands(), "r3", "has the traffic already"),
        (stands(), "r9", "r9 is not kept"),
        (stands(stable="r0"), None, "r0 is not kept"),
        (stands(phase="RolledBack"), None, "revision r2 has the traffic already"),
        (service(revision="r1"), None, "the one before is not kept"),
    ],
)
def test_where_there_is_nothing_to_go_back_to_it_says_so(
    found: Object, to: str | None, words: str
) -> None:
    with pytest.raises(PluginError, match=words):
        undo(found, KEPT, to)


def test_one_that_was_taken_back_may_be_left_for_an_older_one() -> None:
    assert undo(stands(phase="RolledBack"), KEPT, "r1").annotation == "r3/r1"
