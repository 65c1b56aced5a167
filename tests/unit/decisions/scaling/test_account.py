"""A decision with all that it was made from."""

from dataclasses import replace

import pytest

from conch.decisions.scaling.account import Decided, figures
from conch.decisions.scaling.recover import shown
from tests.unit.decisions.scaling.story import Story, story


def told(tale: Story) -> dict[str, float]:
    return figures(Decided(tale.seen, tale.last, tale.now))


def test_it_is_told_how_long_the_window_still_holds_what_is_there() -> None:
    tale = story(ready=2)
    tale.run(13.0, 600)
    assert "window_left_s" not in told(tale)
    tale.run(1.0, 90)
    left = told(tale)["window_left_s"]
    assert 0 < left < 300
    tale.run(1.0, 30)
    # A load that calms down needs a smaller part of the window.
    assert left / 4 < told(tale)["window_left_s"] <= left - 30


def test_what_a_replica_serves_and_what_is_late_follow_from_it() -> None:
    tale = story(ready=1)
    tale.run(5.0, 30)
    found = told(tale)
    assert found["mu"] == 5.0  # on the slower of both accelerators
    assert found["late"] < 0.01
    tale.run(30.0, 20)
    assert told(tale)["late"] > 0.5


def test_of_an_unknown_model_neither_is_told() -> None:
    tale = story(profiles=False)
    tale.run(5.0, 5)
    assert not {"mu", "late"} & told(tale).keys()


def test_what_was_learned_of_the_load_is_told_even_where_nothing_is_measured() -> None:
    tale = story(ready=2)
    tale.run(13.0, 600)
    assert told(tale)["peak"] == pytest.approx(13.0)
    assert 500 < told(tale)["watched"] <= 600
    blind = replace(tale.last, capacity=None)
    assert shown(tale.state.margin).items() <= figures(Decided(tale.seen, blind, 0.0)).items()
