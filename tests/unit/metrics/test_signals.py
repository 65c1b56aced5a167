"""From answers to signals: what is missing stays missing, what is absurd is said."""

import math

import pytest

from conch.api.signals import Key, Signals
from conch.metrics.queries import queries
from conch.metrics.series import Series, series_of
from conch.metrics.signals import parse

NOW = 1_700_000_000.0
KEY = Key("vision", "digits", "r1", "a100")
GOOD = {
    "inferences": 40.0,
    "requests": 20.0,
    "failures": 1.0,
    "executions": 10.0,
    "compute_input_us": 1e5,
    "compute_us": 8e5,
    "compute_output_us": 1e5,
    "queue_us": 2e5,
    "pending": 3.0,
    "pods": 2.0,
    "p99_us": 90_000.0,
    "scraped": NOW - 2,
    "scraped_first": NOW - 4,
}


def answers(
    values: dict[str, float] | None = None, key: Key = KEY, model: str = "digits"
) -> dict[str, list[Series]]:
    labels = {
        "namespace": key.namespace,
        "conch_dev_service": key.service,
        "conch_dev_revision": key.revision,
        "conch_dev_pool": key.pool,
        "model": model,
    }
    return {name: [Series(labels, v, NOW)] for name, v in {**GOOD, **(values or {})}.items()}


def merged(*parts: dict[str, list[Series]]) -> dict[str, list[Series]]:
    return {name: [one for part in parts for one in part.get(name, [])] for name in queries()}


def without(*names: str) -> dict[str, list[Series]]:
    return {name: series for name, series in answers().items() if name not in names}


def test_the_names_are_those_of_the_queries() -> None:
    assert set(GOOD) == set(queries())


def test_all_signals_of_a_service() -> None:
    [(key, s)] = parse(answers()).items()
    assert key == KEY
    assert (s.inferences, s.requests, s.failures, s.executions) == (40, 20, 1, 10)
    assert (s.mean_batch, s.pending, s.pods_scraped) == (4, 3, 2)
    # Copying counts: the instance is held meanwhile.
    assert s.mean_execution == pytest.approx(0.05)
    assert s.queue_seconds == pytest.approx(0.01)
    assert s.p99 == pytest.approx(0.09)
    assert (s.age, s.age_oldest, s.absurd) == (2, 4, None)
    assert s.items_per_request == 2
    assert s.busy == pytest.approx(0.5)


def test_silence_is_zero_and_no_nan() -> None:
    zero = dict.fromkeys(("inferences", "requests", "executions", "compute_us", "queue_us"), 0.0)
    s = parse(answers(zero))[KEY]
    assert (s.mean_batch, s.mean_execution, s.queue_seconds) == (0, 0, 0)
    assert s.items_per_request == 1
    assert s.absurd is None


@pytest.mark.parametrize("name", ["inferences", "requests", "executions", "pods", "scraped"])
def test_what_is_needed_and_missing_makes_no_signals(name: str) -> None:
    assert parse(without(name)) == {}


def test_what_is_optional_may_be_missing() -> None:
    s = parse(without("p99_us", "failures", "pending", "scraped_first"))[KEY]
    assert (s.p99, s.failures, s.pending, s.age_oldest) == (None, 0, 0, 2)


def test_no_answers_are_no_signals() -> None:
    assert parse({}) == {}
    assert parse({name: [] for name in queries()}) == {}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.001, 1e300])
@pytest.mark.parametrize("name", sorted(set(GOOD) - {"scraped", "scraped_first"}))
def test_absurd_numbers_are_a_fault_and_no_number(name: str, value: float) -> None:
    s = parse(answers({name: value}))[KEY]
    assert s.absurd is not None
    assert s == Signals(absurd=s.absurd)


def test_the_fault_says_what_and_how_much() -> None:
    assert parse(answers({"queue_us": math.nan}))[KEY].absurd == "queue time: nan"


def test_a_fault_stays_with_its_service() -> None:
    other = Key("text", "topics", "r9", "t4")
    found = parse(merged(answers({"requests": math.nan}), answers(key=other)))
    assert found[KEY].absurd
    assert found[other].absurd is None


def test_samples_of_the_future() -> None:
    assert parse(answers({"scraped": NOW + 1}))[KEY].age == 0
    assert "future" in str(parse(answers({"scraped": NOW + 60}))[KEY].absurd)


def test_only_the_entry_model_counts() -> None:
    both = merged(answers(), answers({"requests": 500.0}, model="resize"))
    assert parse(both, {("vision", "digits"): "digits"})[KEY].requests == 20
    assert parse(both, {("vision", "digits"): "resize"})[KEY].requests == 500
    assert parse(both, {("vision", "digits"): "absent"}) == {}


def test_two_models_and_no_entry_is_a_fault_in_words() -> None:
    both = merged(answers(), answers(model="resize"))
    assert "digits, resize" in str(parse(both)[KEY].absurd)


def test_series_of_a_prometheus_answer() -> None:
    result = [{"metric": {"a": "b"}, "value": [NOW, "1.5"]}, {"metric": {}, "value": [NOW, "NaN"]}]
    first, second = series_of(result)
    assert first == Series({"a": "b"}, 1.5, NOW)
    assert math.isnan(second.value)


@pytest.mark.parametrize(
    "element", [{}, {"metric": {}}, {"metric": {}, "values": []}, {"value": 3}]
)
def test_what_is_no_instant_vector_is_refused(element: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="instant vector"):
        series_of([element])
