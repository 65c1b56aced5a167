"""What the pods of one revision depend on, kept so that they can be made again at any time.

A revision is a digest of what users wrote. What the installation chose (images, arguments and
environment of Triton) is kept in the snapshot but is no part of the digest, so that an upgrade of
Conch, or another default, makes no new revision.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from conch.api.base import KubeModel
from conch.api.model import ModelSpec, Tensor, Variant
from conch.api.service import Disruption, ModelKind, ModelServiceSpec, PodTemplate
from conch.provisioning.coexistence import Coexistence
from conch.provisioning.source import Scheme, endpoint_key, file_root, location

_REVISION_LENGTH = 10
_MEASURED = ("accuracy", "profile")
"""Parts of a variant that describe it and change nothing in its pods."""


@dataclass(frozen=True)
class Images:
    """What the installation runs: its images, where a service names none, and Triton's settings."""

    triton: str
    conch: str
    triton_args: tuple[str, ...] = ()
    """Before the service's own: of two, Triton takes the last."""
    triton_env: Mapping[str, str] = field(default_factory=dict)
    """Where the service does not set a variable of that name."""


@dataclass(frozen=True)
class Snapshot:
    """One revision of a service.

    ``drain_seconds``, ``disruption``, ``zones``, ``apart`` and ``priority`` follow the service.
    """

    service: str
    namespace: str
    revision: str
    model_kind: ModelKind
    model: str
    variant: Variant
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    pod_template: PodTemplate
    triton_image: str
    triton_args: tuple[str, ...]
    fetch_image: str
    drain_seconds: float
    disruption: Disruption
    file_root: str | None = None
    """For a ``file://`` source, the directory of the nodes that is mounted."""
    endpoint: str | None = None
    """Where the installation has its source's protocol spoken; never kept, so that a mirror that
    is moved counts for the next pod."""
    cache: bool = False
    """Whether new pods use the cache of their node: the installation's choice, and never kept."""
    zones: tuple[str, ...] = ()
    """Where new pods may run; anywhere where none is named."""
    apart: bool = False
    """Whether pods had better not share nodes and zones: some stand by for the others."""
    response_cache: str | None = None
    """Bytes of each pod for answers, as users write them; None for none."""
    priority: int = 0
    """Within the bounds of the tenant."""
    others: Coexistence = field(default_factory=Coexistence)
    """Who else acts on pods: the installation's choice, and never kept."""
    tenant: str | None = None
    """Whose the service is, where other controllers are to know it."""

    def following(self, spec: ModelServiceSpec) -> Self:
        """Return the snapshot with what a service may change without a new revision."""
        return replace(self, **_of_service(spec))

    def alike(self, other: "Snapshot") -> Self:
        """Return the same; what equals a part of ``other`` is that very object, kept once."""
        parts = ("variant", "inputs", "outputs", "pod_template")
        mine = {name: (getattr(self, name), getattr(other, name)) for name in parts}
        return replace(self, **{n: theirs for n, (own, theirs) in mine.items() if own == theirs})

    def beside(self, others: Coexistence, *, tenant: str | None = None) -> Self:
        """Return the snapshot for a cluster where others act on pods too."""
        return replace(self, others=others, tenant=tenant)

    def through(self, endpoints: Mapping[str, str]) -> Self:
        """Return the snapshot with the endpoint that the installation has for its source."""
        key = endpoint_key(location(self.variant.source))
        return replace(self, endpoint=endpoints.get(key) if key else None)

    def to_data(self) -> dict[str, Any]:
        """Return what lasts of the snapshot, for the ``data`` of a ControllerRevision."""
        return {
            "model": {"kind": str(self.model_kind), "name": self.model},
            "variant": self.variant.to_dict(),
            "inputs": [t.to_dict() for t in self.inputs],
            "outputs": [t.to_dict() for t in self.outputs],
            "podTemplate": self.pod_template.to_dict(),
            "tritonImage": self.triton_image,
            "tritonArgs": list(self.triton_args),
            "fetchImage": self.fetch_image,
            **({"fileRoot": self.file_root} if self.file_root else {}),
            **({"responseCache": self.response_cache} if self.response_cache else {}),
        }

    @classmethod
    def from_data(
        cls,
        data: dict[str, Any],
        *,
        service: str,
        namespace: str,
        revision: str,
        spec: ModelServiceSpec,
    ) -> Self:
        """Return the snapshot that ``to_data`` wrote, following ``spec`` as it is now.

        Raises KeyError or ValueError when the data are not such.
        """
        return cls(
            service=service,
            namespace=namespace,
            revision=revision,
            model_kind=ModelKind(data["model"]["kind"]),
            model=data["model"]["name"],
            variant=Variant.model_validate(data["variant"]),
            inputs=tuple(Tensor.model_validate(t) for t in data["inputs"]),
            outputs=tuple(Tensor.model_validate(t) for t in data["outputs"]),
            pod_template=PodTemplate.model_validate(data["podTemplate"]),
            triton_image=data["tritonImage"],
            triton_args=tuple(data["tritonArgs"]),
            fetch_image=data["fetchImage"],
            file_root=data.get("fileRoot"),
            response_cache=data.get("responseCache"),
            **_of_service(spec),
        )


def snapshot(
    spec: ModelServiceSpec,
    model: ModelSpec,
    variant: Variant,
    *,
    service: str,
    namespace: str,
    images: Images,
    file_prefixes: Sequence[str] = (),
) -> Snapshot:
    """Return the snapshot of a service as it and its model are written now.

    ``file_prefixes`` are the directories that the installation allows for ``file://`` sources.
    Raises ValueError where the variant's source can't be used (see ``source_problem``).
    """
    place = location(variant.source)
    return Snapshot(
        service=service,
        namespace=namespace,
        revision=revision_of(spec, model, variant),
        model_kind=spec.model.kind,
        model=spec.model.name,
        variant=variant.model_copy(update={"accuracy": None, "profile": {}}),
        inputs=tuple(model.inputs),
        outputs=tuple(model.outputs),
        pod_template=_with_env(spec.pod_template, images.triton_env),
        triton_image=spec.triton.image or images.triton,
        triton_args=(*images.triton_args, *spec.triton.args),
        fetch_image=images.conch,
        file_root=file_root(place, file_prefixes) if place.scheme is Scheme.FILE else None,
        response_cache=spec.triton.response_cache,
        **_of_service(spec),
    )


def _of_service(spec: ModelServiceSpec) -> dict[str, Any]:
    """Return what a service may change without a new revision."""
    return {
        "drain_seconds": spec.scaling.seconds("drain_timeout"),
        "disruption": spec.disruption,
        "zones": tuple(spec.placement.zones),
        "apart": spec.scaling.standby > 0,
        "priority": spec.priority,
    }


def _with_env(template: PodTemplate, env: Mapping[str, str]) -> PodTemplate:
    """Return the template with the installation's variables, where it does not set them itself."""
    own = {e.get("name") for e in template.env}
    more = [{"name": name, "value": env[name]} for name in sorted(env.keys() - own)]
    return template.model_copy(update={"env": [*more, *template.env]}) if more else template


def revision_of(spec: ModelServiceSpec, model: ModelSpec, variant: Variant) -> str:
    """Return the name of the revision: a digest over what its pods run, as users wrote it.

    Scaling, placement, measured quality and what the installation chose are left out.
    """
    parts = {
        "model": {"kind": str(spec.model.kind), "name": spec.model.name},
        "variant": _written(variant, exclude=_MEASURED),
        "inputs": [_written(t) for t in model.inputs],
        "outputs": [_written(t) for t in model.outputs],
        "podTemplate": _written(spec.pod_template),
        "triton": _written(spec.triton),
    }
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_REVISION_LENGTH]


def _written(part: KubeModel, exclude: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return a part without its defaults: a field that a later version adds makes no revision."""
    return part.model_dump(by_alias=True, exclude_defaults=True, exclude=set(exclude), mode="json")
