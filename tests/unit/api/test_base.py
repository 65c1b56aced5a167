"""Durations and quantities as users write them."""

import pytest
from pydantic import TypeAdapter, ValidationError

from conch.api.base import Bytes, Duration, KubeModel, Quantity, parse_duration, parse_quantity


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("50ms", 0.05), ("30s", 30), ("5m", 300), ("1.5h", 5400), ("1m30s", 90), ("0s", 0)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "5 s", "-5s", "5d", "s", "1.s", "5s\n", "٥s", "1e3s"])  # noqa: RUF001
def test_a_bad_duration_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration: write for example 50ms, 30s or 5m"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("250m", 0.25),
        ("2", 2),
        (".5", 0.5),
        ("2.", 2),
        ("1e3", 1000),
        ("1E3", 1000),
        ("1E", 1e18),
        ("4Gi", 4 * 2**30),
        ("1.5k", 1500),
        ("-1", -1),
        ("100n", 1e-7),
    ],
)
def test_quantities(text: str, number: float) -> None:
    assert parse_quantity(text) == pytest.approx(number)


@pytest.mark.parametrize("text", ["", "Gi", "1 Gi", "1gi", "1e3Ki", "1GB", "one", "2\n", ".", "1e"])
def test_a_bad_quantity_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity: write for example 500m, 2 or 4Gi"):
        parse_quantity(text)


@pytest.mark.parametrize("text", ["-1Gi", "-0", "1e999999999"])
def test_fields_take_no_quantity_below_zero_or_beyond_reason(text: str) -> None:
    with pytest.raises(ValidationError, match="is below zero or too long"):
        TypeAdapter(Quantity).validate_python(text)


@pytest.mark.parametrize("text", ["1", "64Mi", "1.5Gi", "100M", "2k", "999999999Gi"])
def test_bytes(text: str) -> None:
    assert TypeAdapter(Bytes).validate_python(text) == text
    assert 1 <= parse_quantity(text) < 2**63


@pytest.mark.parametrize(
    "text", ["", "0", "0.5", "-1", "500m", "64MB", "64 Mi", "1e6", "64Mi\n", "1" * 10, "1Ti"]
)
def test_what_is_no_number_of_bytes_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValidationError, match="must be a number of bytes, such as 512Ki, 64Mi"):
        TypeAdapter(Bytes).validate_python(text)


def test_fields_keep_what_the_user_wrote() -> None:
    assert TypeAdapter(Duration).validate_python("1m30s") == "1m30s"
    assert TypeAdapter(Quantity).validate_python("1024Mi") == "1024Mi"


class _Part(KubeModel):
    some_field: int | None = None


def test_manifests_are_camel_case_without_unset_fields() -> None:
    assert _Part(some_field=3).to_dict() == {"someField": 3}
    assert _Part().to_dict() == {}
    assert _Part.model_validate({"someField": 3}) == _Part(some_field=3)


def test_unknown_fields_are_refused() -> None:
    with pytest.raises(ValidationError, match="somefield"):
        _Part.model_validate({"somefield": 3})
