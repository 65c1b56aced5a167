"""What callers are told of a service: facts of a ModelService and its Model, without I/O."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from pydantic import ValidationError

from conch.api.base import parse_duration
from conch.api.endpoint import Access, Endpoint
from conch.api.model import ModelSpec, Tensor, Variant

Object = Mapping[str, Any]

_MODEL_GONE = "There is no {kind} {name} at present, so its inputs and outputs are not known here."
_MODEL_BROKEN = "The {kind} {name} can't be read, so its inputs and outputs are not known here."
_MODEL_BARE = "The {kind} {name} does not say what its inputs and outputs are; its files do."


@dataclass(frozen=True)
class Addresses:
    """Where a front door is reached by whom the page is for."""

    url: str
    """Such as http://conch-front-door.conch-system.svc; services are below it."""
    grpc: str
    """Host and port, such as conch-front-door.conch-system.svc:8001."""
    own_host: bool = False
    """Whether ``url`` is the service's own host, so that it needs no path."""

    @classmethod
    def reached(cls, host: str, protocol: str | None = None, *, own_host: bool = False) -> Self:
        """Return the addresses as a caller knows them, who asked for a page.

        ``host`` is the request's Host header; ``protocol`` its X-Forwarded-Proto, which anybody may
        have written: what is not https is http. Both protocols are spoken at the one port.
        """
        secure = (protocol or "").strip().lower() == "https"
        scheme, port = ("https", 443) if secure else ("http", 80)
        bare = re.search(r":[0-9]+$", host) is None
        return cls(f"{scheme}://{host}", f"{host}:{port}" if bare else host, own_host)

    def of(self, namespace: str, service: str) -> str:
        """Return the address of a service, without a slash at its end."""
        root = self.url.rstrip("/")
        return root if self.own_host else f"{root}/{namespace}/{service}"


@dataclass(frozen=True)
class VariantFacts:
    """A variant, for people who choose a model."""

    name: str
    accuracy: str | None = None
    """Such as "top1 0.972 on digits-test"."""
    serves: bool = False
    """Whether it answers now."""


@dataclass(frozen=True)
class Bounds:
    """What a caller may ask for; times in seconds."""

    body_bytes: str
    """Largest request body, as a Kubernetes quantity."""
    silence: float
    """Longest silence of the model within a request or stream."""
    wait: float
    """Longest wait for a replica."""
    requests_per_second: float | None = None
    """For each tenant."""
    concurrent_requests: int | None = None
    """For each tenant."""

    @property
    def patience(self) -> float:
        """Seconds after which a caller may give up: the front door has answered by then."""
        return self.wait + self.silence


@dataclass(frozen=True)
class ServicePage:
    """A service as its callers see it."""

    namespace: str
    name: str
    model: str
    """The model's name in the protocol."""
    url: str
    """Without a slash at its end; ``{url}/v2/models/{model}`` is asked."""
    grpc: str
    """Host and port."""
    hosts: tuple[str, ...]
    """Host names by which the service is asked without a path."""
    keys: bool
    """Whether callers need a key."""
    bounds: Bounds
    revision: str | None = None
    """The one that has the traffic."""
    task: str | None = None
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    """Shapes of one item, without the batch; empty where nothing is known of them."""
    max_batch_size: int = 0
    """0: there is no batch dimension."""
    variants: tuple[VariantFacts, ...] = ()
    note: str | None = None
    """Why inputs and outputs are not known."""

    @property
    def title(self) -> str:
        """Namespace and name, by which gRPC metadata name the service."""
        return f"{self.namespace}/{self.name}"

    @property
    def described(self) -> bool:
        """Whether inputs and outputs are known."""
        return bool(self.inputs and self.outputs)

    @property
    def secure(self) -> bool:
        """Whether the front door is asked over TLS."""
        return self.url.startswith("https://")

    def shape(self, tensor: Tensor) -> tuple[int, ...]:
        """Return a tensor's shape as it is sent, the batch first where there is one; -1 is free."""
        return (-1, *tensor.shape) if self.max_batch_size else tuple(tensor.shape)


def page_of(service: Object, model: Object | None, addresses: Addresses) -> ServicePage:
    """Return the page of a ModelService; ``model`` is its Model or ClusterModel, None where gone.

    What can't be read is left out, and the page says so.
    """
    metadata, spec, status = service["metadata"], service["spec"], service.get("status") or {}
    kind, name = spec["model"].get("kind", "Model"), spec["model"]["name"]
    namespace = metadata["namespace"]
    endpoint = _endpoint(spec)
    found, note = _model(model)
    serving = status.get("variant") or spec["model"].get("variant")
    return ServicePage(
        namespace=namespace,
        name=metadata["name"],
        model=name,
        url=addresses.of(namespace, metadata["name"]),
        grpc=addresses.grpc,
        hosts=tuple(endpoint.hosts),
        keys=endpoint.access is Access.KEYS,
        bounds=_bounds(endpoint),
        revision=status.get("revision"),
        task=found.task if found else None,
        inputs=tuple(found.inputs) if found else (),
        outputs=tuple(found.outputs) if found else (),
        max_batch_size=_serving(found.variants, serving).max_batch_size if found else 0,
        variants=_variants(found.variants, status.get("variant")) if found else (),
        note=note.format(kind=kind, name=name) if note else None,
    )


def _endpoint(spec: Object) -> Endpoint:
    try:
        return Endpoint.model_validate(spec.get("endpoint") or {})
    except ValidationError:
        return Endpoint()


def _model(body: Object | None) -> tuple[ModelSpec | None, str | None]:
    """Return what a Model says, and what it lacks."""
    if body is None:
        return None, _MODEL_GONE
    try:
        spec = ModelSpec.model_validate(body.get("spec"))
    except ValidationError:
        return None, _MODEL_BROKEN
    return spec, None if spec.inputs and spec.outputs else _MODEL_BARE


def _serving(variants: Sequence[Variant], name: str | None) -> Variant:
    """Return the variant of that name; the first where there is none."""
    return next((v for v in variants if v.name == name), variants[0])


def _variants(variants: Sequence[Variant], serving: str | None) -> tuple[VariantFacts, ...]:
    return tuple(VariantFacts(v.name, _accuracy(v), v.name == serving) for v in variants)


def _accuracy(variant: Variant) -> str | None:
    told = variant.accuracy
    if told is None:
        return None
    return f"{told.metric} {told.value:g}" + (f" on {told.dataset}" if told.dataset else "")


def _bounds(endpoint: Endpoint) -> Bounds:
    limits = endpoint.limits
    return Bounds(
        body_bytes=endpoint.max_body,
        silence=parse_duration(endpoint.timeout),
        wait=parse_duration(endpoint.max_wait),
        requests_per_second=limits.requests_per_second,
        concurrent_requests=limits.concurrent_requests,
    )
