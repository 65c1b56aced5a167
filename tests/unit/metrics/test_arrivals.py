"""What the front door counted, by service: what makes no sense is left out, never guessed."""

import math

import pytest

from conch.api.signals import Arrivals
from conch.metrics.arrivals import arrival_queries, arrivals
from conch.metrics.queries import queries
from conch.metrics.series import Series
from conch.metrics.signals import parse

NOW = 1_700_000_000.0
DIGITS = ("vision", "digits")
GOOD = {
    "arrivals": 20.0,
    "arrivals_under_way": 3.0,
    "arrivals_scraped": NOW - 4.0,
    "arrivals_doors": 2.0,
}


def answers(**values: float | None) -> dict[str, list[Series]]:
    labels = {"service_namespace": "vision", "service": "digits"}
    told = {**GOOD, **values}
    return {
        name: [Series({} if name == "arrivals_doors" else labels, v, NOW)]
        for name, v in told.items()
        if v is not None
    }


def test_the_names_are_those_of_the_queries() -> None:
    assert set(GOOD) == set(arrival_queries())
    assert not set(GOOD) & set(queries())


def test_what_was_counted_of_a_service() -> None:
    assert arrivals(answers()) == {DIGITS: Arrivals(20.0, 3.0, doors=2, age=4.0)}


def test_a_service_that_nobody_asks_now_has_none_under_way() -> None:
    assert arrivals(answers(arrivals_under_way=None))[DIGITS].under_way == 0.0


def test_without_a_scrape_in_time_no_replica_of_the_front_door_counts() -> None:
    assert arrivals(answers(arrivals_doors=None))[DIGITS].doors == 0


@pytest.mark.parametrize(
    "odd",
    [
        {"arrivals": None},
        {"arrivals": math.nan},
        {"arrivals": math.inf},
        {"arrivals": -1.0},
        {"arrivals": 1e13},
        {"arrivals_under_way": math.nan},
        {"arrivals_under_way": -1.0},
        {"arrivals_scraped": None},
        {"arrivals_scraped": math.nan},
        {"arrivals_scraped": NOW + 60.0},
    ],
)
def test_what_is_missing_or_absurd_is_left_out(odd: dict[str, float | None]) -> None:
    assert arrivals(answers(**odd)) == {}


@pytest.mark.parametrize("doors", [math.nan, math.inf, -3.0])
def test_no_absurd_number_of_replicas_counts(doors: float) -> None:
    assert arrivals(answers(arrivals_doors=doors))[DIGITS].doors == 0


def test_a_label_that_the_scrape_sets_too_is_the_front_doors_own() -> None:
    labels = {"service_namespace": "vision", "service": "metrics", "exported_service": "digits"}
    renamed = {name: [Series(labels, v, NOW)] for name, v in GOOD.items()}
    assert set(arrivals(renamed)) == {DIGITS}
    both = {name: [*renamed[name], *answers()[name]] for name in GOOD}
    assert arrivals(both) == {DIGITS: Arrivals(40.0, 6.0, doors=4, age=4.0)}


def test_replicas_signals_are_not_touched_by_it() -> None:
    assert parse(answers()) == {}
