"""What a ModelService means now: its spec, its model, its variant, its revision. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import ValidationError

from conch.api.base import KubeModel
from conch.api.conditions import Reason
from conch.api.model import ModelSpec, Variant
from conch.api.service import ModelServiceSpec
from conch.decisions import variants
from conch.provisioning.snapshot import Images, Snapshot, snapshot
from conch.provisioning.source import source_problem

Object = dict[str, Any]
M = TypeVar("M", bound=KubeModel)


@dataclass(frozen=True)
class Fault:
    """Why something can't be used, in words for the one who wrote it."""

    reason: Reason
    message: str


@dataclass(frozen=True)
class Resolved:
    """The wanted revision of a service, and the model's description of its variant."""

    snapshot: Snapshot
    variant: Variant
    warmup: Mapping[str, str] = field(default_factory=dict)
    """JSON of one item by input, for requests before a replica's first callers."""


def parsed(model: type[M], part: Mapping[str, Any] | None) -> M | Fault:
    """Return a part of an object as its model, or what is wrong with it, field by field."""
    try:
        return model.model_validate(part or {})
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        return Fault(Reason.INVALID_SPEC, "; ".join(lines))


def resolve(
    service: Object,
    spec: ModelServiceSpec,
    model: Object | None,
    *,
    images: Images,
    file_prefixes: tuple[str, ...],
    model_spec: ModelSpec | Fault | None = None,
) -> Resolved | Fault:
    """Return the revision that a service asks for, or why there is none.

    ``model_spec``: that of the model, where it has been read already.
    """
    ref = f"{spec.model.kind} {spec.model.name!r}"
    if model is None:
        return Fault(
            Reason.MODEL_NOT_FOUND,
            f"{ref} does not exist; apply it, or correct spec.model.name",
        )
    model_spec = model_spec or parsed(ModelSpec, model.get("spec"))
    if isinstance(model_spec, Fault):
        return Fault(Reason.MODEL_INVALID, f"{ref}: {model_spec.message}")
    variant = variants.choose(model_spec, spec)
    if isinstance(variant, str):
        return Fault(Reason.NO_VARIANT, f"{ref}: {variant}")
    problem = source_problem(variant.source, file_prefixes)
    if problem:
        return Fault(Reason.MODEL_INVALID, f"{ref}: {problem}")
    metadata = service["metadata"]
    made = snapshot(
        spec,
        model_spec,
        variant,
        service=metadata["name"],
        namespace=metadata["namespace"],
        images=images,
        file_prefixes=file_prefixes,
    )
    return Resolved(made, variant, model_spec.warmup)


def stored(revision: Object, service: Object, spec: ModelServiceSpec, name: str) -> Snapshot | None:
    """Return the snapshot that a ControllerRevision keeps, or None when it can't be read."""
    try:
        return Snapshot.from_data(
            revision.get("data") or {},
            service=service["metadata"]["name"],
            namespace=service["metadata"]["namespace"],
            revision=name,
            spec=spec,
        )
    except (KeyError, ValueError, TypeError):
        return None
