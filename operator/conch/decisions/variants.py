"""Which variant of a model a service runs."""

from conch.api.model import ModelSpec, Variant
from conch.api.service import ModelServiceSpec


def choose(model: ModelSpec, service: ModelServiceSpec) -> Variant | str:
    """Return the variant, or a sentence on why none suits.

    A named variant is taken as it is. Otherwise, of those that are accurate enough, the one that
    needs the fewest GPUs; among equals the one listed first.
    """
    names = ", ".join(v.name for v in model.variants)
    wanted = service.model.variant
    if wanted is not None:
        named = [v for v in model.variants if v.name == wanted]
        return named[0] if named else f"model has no variant {wanted!r}; it has: {names}"
    floor = service.objective.min_accuracy
    fit = [
        v
        for v in model.variants
        if floor is None or (v.accuracy is not None and v.accuracy.value >= floor)
    ]
    if not fit:
        return f"no variant reaches objective.minAccuracy {floor:g}; the model has: " + ", ".join(
            f"{v.name} ({v.accuracy.value:g})" if v.accuracy else f"{v.name} (not measured)"
            for v in model.variants
        )
    return min(fit, key=lambda v: v.resources.gpus)
