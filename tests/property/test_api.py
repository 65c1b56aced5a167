"""Properties of values and conditions."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conch.api.base import parse_duration, parse_quantity
from conch.api.conditions import ConditionType, Reason, Wish, updated
from conch.api.crd import BY_KIND, structural

UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
SUFFIXES = {"": 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30}

number = st.decimals(min_value=0, max_value=10**6, places=3).map(lambda d: format(d, "f"))
parts = st.lists(st.tuples(number, st.sampled_from(sorted(UNITS))), min_size=1, max_size=4)
wishes = st.lists(
    st.builds(
        Wish,
        type=st.sampled_from(ConditionType),
        status=st.sampled_from([True, False, None]),
        reason=st.sampled_from(Reason),
        message=st.text(max_size=20),
    ),
    unique_by=lambda w: w.type,
)


def cel_duration() -> re.Pattern[str]:
    """The expression that guards durations in the CRD; its $ is only the very end, as in RE2."""
    spec = structural(BY_KIND["ModelService"].spec)
    rule = spec["properties"]["scaling"]["properties"]["window"]["x-kubernetes-validations"][0]
    quoted = re.fullmatch(r"self\.matches\('(.*)'\)", rule["rule"])
    assert quoted
    return re.compile(quoted[1].replace("\\\\", "\\").removesuffix("$") + r"\Z")


@given(parts)
def test_a_duration_is_the_sum_of_its_parts(written: list[tuple[str, str]]) -> None:
    text = "".join(n + unit for n, unit in written)
    assert parse_duration(text) == pytest.approx(sum(float(n) * UNITS[u] for n, u in written))


@given(st.one_of(st.text(alphabet="0123456789.hms\n ", max_size=8), st.text(max_size=5)))
def test_reading_and_admission_agree_on_what_a_duration_is(text: str) -> None:
    try:
        parse_duration(text)
    except ValueError:
        accepted = False
    else:
        accepted = True
    assert accepted == bool(cel_duration().match(text))


@given(number, st.sampled_from(sorted(SUFFIXES)))
def test_a_quantity_is_its_number_times_its_suffix(n: str, suffix: str) -> None:
    assert parse_quantity(n + suffix) == pytest.approx(float(n) * SUFFIXES[suffix])


@given(wishes, wishes)
def test_conditions_reach_a_fixpoint(first: list[Wish], second: list[Wish]) -> None:
    """Once the facts stop changing, the list does too, whatever the clock says."""
    start = updated([], first, generation=1, now="2024-01-01T00:00:00Z")
    moved = updated(start, second, generation=2, now="2024-01-01T00:01:00Z")
    assert updated(moved, second, generation=2, now="2024-01-01T09:00:00Z") == moved
    assert updated(moved, reversed(second), generation=2, now="2024-01-01T09:00:00Z") == moved


@given(wishes, wishes)
def test_transition_times_follow_the_status_alone(first: list[Wish], second: list[Wish]) -> None:
    start = {c.type: c for c in updated([], first, generation=1, now="2024-01-01T00:00:00Z")}
    moved = updated(list(start.values()), second, generation=2, now="2024-01-01T00:01:00Z")
    for condition in moved:
        old = start.get(condition.type)
        kept = old is not None and old.status == condition.status
        expected = "2024-01-01T00:00:00Z" if kept else "2024-01-01T00:01:00Z"
        assert condition.last_transition_time == expected
