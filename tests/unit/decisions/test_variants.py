"""Which variant of a model a service runs."""

from typing import Any

from conch.api.model import ModelSpec
from conch.decisions.variants import choose
from tests.kit.rendering import MODEL, service_spec


def model(**accuracies: float | None) -> ModelSpec:
    """Return a model with these variants; each needs as many GPUs as its name has letters."""
    base = MODEL["variants"][0]
    variants: list[dict[str, Any]] = []
    for name, value in accuracies.items():
        accuracy = None if value is None else {"metric": "top1", "value": value}
        written = {**base, "name": name, "resources": {"gpus": len(name)}}
        variants.append({**written, "accuracy": accuracy} if accuracy else written)
    return ModelSpec.model_validate({**MODEL, "variants": variants})


def chosen(of: ModelSpec, *, variant: str | None = None, floor: float | None = None) -> str:
    spec = service_spec(
        model={"name": "digits", "variant": variant}, objective={"minAccuracy": floor}
    )
    found = choose(of, spec)
    return found if isinstance(found, str) else found.name


def test_the_one_that_needs_the_fewest_gpus_is_chosen() -> None:
    assert chosen(model(large=0.9, tiny=0.8, medium=0.85)) == "tiny"


def test_among_equals_the_first_listed() -> None:
    assert chosen(model(fp32=None, int8=None)) == "fp32"


def test_one_below_the_floor_is_not_chosen_and_the_floor_itself_suffices() -> None:
    assert chosen(model(large=0.95, tiny=0.8), floor=0.95) == "large"


def test_one_that_was_not_measured_meets_no_floor() -> None:
    assert chosen(model(large=0.95, tiny=None), floor=0.5) == "large"


def test_a_named_one_is_taken_as_it_is() -> None:
    assert chosen(model(large=0.95, tiny=0.8), variant="tiny", floor=0.9) == "tiny"


def test_an_unknown_name_lists_what_there_is() -> None:
    text = chosen(model(large=0.95, tiny=0.8), variant="fp8")
    assert text == "model has no variant 'fp8'; it has: large, tiny"


def test_an_unreachable_floor_lists_what_is_reached() -> None:
    text = chosen(model(large=0.9, tiny=None), floor=0.99)
    assert "minAccuracy 0.99" in text
    assert text.endswith("large (0.9), tiny (not measured)")
