"""What every kind shares: the pydantic base, value types, and the CEL rules that guard them."""

import re
from functools import lru_cache
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
DURATION_WHOLE = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"
_NAME = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
_ROUNDING = 1e-6
_UNIT_SECONDS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_SUFFIXES = {
    "": 1.0,
    "n": 1e-9,
    "u": 1e-6,
    "m": 1e-3,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
    "T": 1e12,
    "P": 1e15,
    "E": 1e18,
    "Ki": 2.0**10,
    "Mi": 2.0**20,
    "Gi": 2.0**30,
    "Ti": 2.0**40,
    "Pi": 2.0**50,
    "Ei": 2.0**60,
}
# A number has an exponent or a suffix, never both.
_NUMBER = r"([0-9]+\.?[0-9]*|\.[0-9]+)"
_SUFFIX = "[numkMGTPE]|[KMGTPE]i"
_QUANTITY = re.compile(rf"([+-]?{_NUMBER})(?:[eE]([+-]?[0-9]+)|({_SUFFIX})?)")
# CEL's own quantity() takes "." and "E0", and keeps an API server busy for minutes with 1e999999999.
_QUANTITY_WHOLE = rf"^[+]?{_NUMBER}([eE][+-]?[0-9]{{1,2}}|{_SUFFIX})?$"
# At least 1, and within 64 bits.
_BYTES = r"^[1-9][0-9]{0,8}(\.[0-9]{1,3})?(k|M|G|Ki|Mi|Gi)?$"
_BYTES_WORDS = "must be a number of bytes, such as 512Ki, 64Mi or 2Gi"


class KubeModel(BaseModel):
    """A part of a Kubernetes object: camelCase outside, unknown fields refused, never changed."""

    # A field's docstring is its description, for `kubectl explain` and docs/reference/.
    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
    )

    def to_dict(self) -> dict[str, Any]:
        """Return the part as it stands in a manifest, without fields that are unset."""
        return self.model_dump(by_alias=True, exclude_none=True, mode="json")


@lru_cache(maxsize=1024)
def parse_duration(text: str) -> float:
    """Return the seconds that a duration such as ``50ms``, ``1m30s`` means.

    Raises ValueError with a sentence for people when the text is no duration.
    """
    # Python's $ matches before a final line break too, that of CEL does not; hence fullmatch.
    if not re.fullmatch(DURATION_WHOLE, text):
        raise ValueError(f"{text!r} is not a duration: write for example 50ms, 30s or 5m")
    return sum(float(n) * _UNIT_SECONDS[unit] for n, unit in DURATION.findall(text))


def parse_quantity(text: str) -> float:
    """Return the number that a Kubernetes quantity such as ``250m`` or ``2Gi`` means.

    Raises ValueError with a sentence for people when the text is no quantity.
    """
    match = _QUANTITY.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is not a quantity: write for example 500m, 2 or 4Gi")
    return float(f"{match[1]}e{match[3] or 0}") * _SUFFIXES[match[4] or ""]


def _checked_duration(text: str) -> str:
    parse_duration(text)
    return text


def _checked_quantity(text: str) -> str:
    parse_quantity(text)
    if not re.fullmatch(_QUANTITY_WHOLE, text):
        raise ValueError(f"{text!r} is below zero or too long: write for example 500m, 2 or 4Gi")
    return text


def matching(pattern: str, words: str) -> AfterValidator:
    """Return the check that the whole of a text is as ``pattern`` has it; ``words`` say what to write."""
    whole = re.compile(pattern.removeprefix("^").removesuffix("$"))

    def checked(text: str) -> str:
        if not whole.fullmatch(text):
            raise ValueError(f"{text!r} {words}")
        return text

    return AfterValidator(checked)


def matching_rules(pattern: str, words: str) -> dict[str, Any]:
    """Return what ``matching`` checks, as CEL."""
    return rules(rule(f"self.matches('{cel(pattern)}')", words))


def cel(expression: str) -> str:
    """Return a regular expression as it stands in a string of CEL."""
    return expression.replace("\\", "\\\\")


def rule(expression: str, message: str) -> dict[str, str]:
    """Return one CEL rule for ``x-kubernetes-validations``; the message says what to do."""
    return {"rule": expression, "message": message}


def rules(*items: dict[str, str]) -> dict[str, Any]:
    """Return the schema extra that carries CEL rules."""
    return {"x-kubernetes-validations": list(items)}


def within(least: float, most: float, words: str) -> AfterValidator:
    """Return the check that a duration is from ``least`` to ``most`` seconds; ``words`` say so."""

    def checked(text: str) -> str:
        # CEL counts nanoseconds: what it lets in by rounding may be read.
        if not least - _ROUNDING <= parse_duration(text) <= most + _ROUNDING:
            raise ValueError(f"{text!r} is not a duration {words}")
        return text

    return AfterValidator(checked)


def within_rules(least: float, most: float, words: str) -> dict[str, Any]:
    """Return what ``within`` checks, as CEL."""
    whole = f"self.matches('{cel(DURATION_WHOLE)}')"
    bounds = f"duration(self) >= duration('{least:g}s') && duration(self) <= duration('{most:g}s')"
    return rules(
        rule(whole, "must be a duration such as 50ms, 30s or 5m"),
        # A longer text may be a number that CEL can't hold.
        rule(f"!{whole} || (self.size() <= 9 && {bounds})", f"must be a duration {words}"),
    )


Duration = Annotated[
    str,
    AfterValidator(_checked_duration),
    Field(
        max_length=32,
        json_schema_extra=rules(
            rule(
                f"self.matches('{cel(DURATION_WHOLE)}')",
                "must be a duration such as 50ms, 30s or 5m",
            )
        ),
    ),
]
Quantity = Annotated[
    str,
    AfterValidator(_checked_quantity),
    Field(
        max_length=32,
        json_schema_extra=rules(
            rule(
                f"self.matches('{cel(_QUANTITY_WHOLE)}')",
                "must be a quantity of zero or more, such as 500m, 2 or 4Gi",
            )
        ),
    ),
]
Bytes = Annotated[
    str,
    matching(_BYTES, _BYTES_WORDS),
    Field(max_length=32, json_schema_extra=matching_rules(_BYTES, _BYTES_WORDS)),
]
"""A quantity of bytes, of one at least."""
Name = Annotated[
    str,
    Field(
        min_length=1,
        max_length=253,
        json_schema_extra=rules(
            rule(
                f"self.matches('{_NAME}')",
                "must be the name of an object: lower-case letters, digits, '-' and '.'",
            )
        ),
    ),
]
Token = Annotated[str, Field(min_length=1, max_length=253)]
"""Any text that may not be empty."""
Opaque = Annotated[
    dict[str, Any],
    Field(json_schema_extra={"type": "object", "x-kubernetes-preserve-unknown-fields": True}),
]
"""A part of the Kubernetes API that Conch passes on as it is."""
