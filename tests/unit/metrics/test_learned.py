"""What the operator showed of what it had learned, read back."""

import pytest

from conch.metrics.learned import LEARNED, learned, learned_queries
from conch.metrics.series import Series

KEY = ("vision", "digits")
SCRAPED = [
    {"namespace": "vision", "service": "digits"},
    {"namespace": "conch-system", "exported_namespace": "vision", "service": "digits"},
    {
        "namespace": "conch-system",
        "exported_namespace": "vision",
        "service": "conch-metrics",
        "exported_service": "digits",
    },
]


def told(value: float, at: float, **labels: str) -> Series:
    return Series({"namespace": "vision", "service": "digits"} | labels, value, at)


def test_each_figure_is_asked_of_the_whole_fleet_at_once() -> None:
    asked = learned_queries(60.0)
    assert asked.keys() == LEARNED.keys()
    assert asked["beta"] == (
        "max by (namespace, service, exported_namespace, exported_service) "
        "(last_over_time(conch_service_beta[60000ms]))"
    )


@pytest.mark.parametrize("labels", SCRAPED, ids=["honor_labels", "pod", "service"])
def test_the_service_is_found_however_it_is_scraped(labels: dict[str, str]) -> None:
    past = {1.0: {"beta": [Series(labels, 0.7, 1.0)], "peak": [Series(labels, 90.0, 1.0)]}}
    assert learned(past) == {KEY: {"beta": 0.7, "peak": 90.0}}


def test_the_last_value_counts_and_of_two_at_once_the_highest() -> None:
    past = {
        1.0: {"beta": [told(5.0, 1.0)]},
        2.0: {"beta": [told(0.4, 2.0), told(0.9, 2.0, exported_namespace="vision")]},
        3.0: {"peak": [told(8.0, 3.0)]},
    }
    assert learned(past) == {KEY: {"beta": 0.9, "peak": 8.0}}


def test_nothing_is_known_of_others() -> None:
    assert learned({}) == {}
    assert learned({1.0: {"beta": [told(0.4, 1.0, service="faces")]}}).keys() == {
        ("vision", "faces")
    }
