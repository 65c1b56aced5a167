"""Models, services and pools made by chance, and histories of edits: A, then B, then C.

Everything here is let in by the CRDs. Much of it is fine, some of it can't work: a model that is not
there, fields that no ReplicaSet takes, more memory than any node has.
"""

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from conch.api.model import ModelSpec
from conch.api.service import ModelServiceSpec
from tests.kit.client import Object
from tests.kit.fleet import BROKEN_URI

Spec = dict[str, Any]


@dataclass(frozen=True)
class Wish:
    """What a user has applied: a service and its model, which may be missing."""

    service: Spec
    model: Spec | None


@dataclass(frozen=True)
class History:
    """A, B and C. Where it is ``rushed``, B comes before anything of A could be done."""

    first: Wish
    then: Wish
    last: Wish
    rushed: bool

    @property
    def reverts(self) -> bool:
        """Whether it ends as it began."""
        return self.first == self.last

    def size(self) -> int:
        """How much there is to read."""
        return len(_text(self))

    def simpler(self) -> Iterator["History"]:
        """Yield histories with one part less, those that lack most first."""
        found = [replace(self, then=self.last), replace(self, then=self.first)]
        if not self.reverts:
            found.append(replace(self, first=self.last))
        found += [replace(self, first=less) for less in _lesser(self.first)]
        found += [replace(self, then=less) for less in _lesser(self.then)]
        found += [replace(self, last=less) for less in _lesser(self.last)]
        known = {_text(self)}
        for other in sorted(found, key=History.size):
            if _text(other) not in known and other.size() < self.size():
                known.add(_text(other))
                yield other


def _text(history: History) -> str:
    wishes = [history.first, history.then, history.last]
    return json.dumps([(w.service, w.model) for w in wishes], sort_keys=True)


_NEEDED = {"model", "variants"}


def _lesser(wish: Wish) -> Iterator[Wish]:
    for service in _without_one(wish.service):
        if _let_in(ModelServiceSpec, service | {"model": {**service["model"], "name": "some"}}):
            yield replace(wish, service=service)
    if wish.model is not None:
        for variants in _without_one({"variants": wish.model["variants"]}):
            model = {**wish.model, **variants}
            if _let_in(ModelSpec, model):
                yield replace(wish, model=model)


def _let_in(kind: type[BaseModel], spec: Spec) -> bool:
    """Tell whether a spec is one that the API server takes."""
    try:
        kind.model_validate(spec)
    except ValidationError:
        return False
    return True


def _without_one(part: Any) -> Iterator[Any]:
    """Yield copies of a nested value, each without one field or item that may be left out."""
    if isinstance(part, dict):
        for key, value in part.items():
            if key not in _NEEDED:
                yield {k: copy.deepcopy(v) for k, v in part.items() if k != key}
            for less in _without_one(value):
                yield {**copy.deepcopy(part), key: less}
    elif isinstance(part, list):
        for index, value in enumerate(part):
            if len(part) > 1:
                yield copy.deepcopy(part[:index] + part[index + 1 :])
            for less in _without_one(value):
                yield [*copy.deepcopy(part[:index]), less, *copy.deepcopy(part[index + 1 :])]


def mostly(good: list[Any], bad: list[Any], *, one_in: int = 12) -> st.SearchStrategy[Any]:
    """Values that work, and now and then one that does not."""
    return st.integers(1, one_in).flatmap(lambda n: st.sampled_from(bad if n == one_in else good))


def some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Spec]:
    """Any choice of these fields."""
    return st.fixed_dictionaries({}, optional=fields)


_source = mostly(
    [
        {"uri": "https://models.example/digits.tar"},
        {"uri": "https://models.example/digits.tar", "sha256": "9f2c" * 16},
        {"uri": "https://models.example/other.tar", "secretRef": {"name": "login"}},
        {"configMap": {"name": "files"}},
    ],
    [
        {"uri": BROKEN_URI},
        {"uri": "https://host-alone"},
        {"uri": "file:///not/allowed"},
        {"uri": "pvc://no-such-claim/digits"},
    ],
    one_in=8,
)
_resources = some(
    gpus=st.integers(0, 2),
    memory=mostly(["1Gi", "1536Mi"], ["1Ei"]),
    cpu=mostly(["1", "250m"], ["1E"]),
)


def _variant(name: str) -> st.SearchStrategy[Spec]:
    return st.fixed_dictionaries(
        {
            "name": st.just(name),
            "source": _source,
            "backend": st.sampled_from(["python", "onnxruntime"]),
        },
        optional={
            "maxBatchSize": st.integers(0, 4),
            "instances": st.integers(1, 2),
            "maxQueueDelay": st.sampled_from(["1ms", "1s", "0s"]),
            "accuracy": st.fixed_dictionaries(
                {"metric": st.just("top1"), "value": st.sampled_from([0.5, 0.75, 0.99])}
            ),
            "resources": _resources,
            "parameters": st.dictionaries(st.sampled_from("ab"), st.text(max_size=3), max_size=2),
            "profile": st.just({"NVIDIA-A100": {"fixedMs": 1.5, "perItemMs": 0.25}}),
        },
    )


_tensor = st.sampled_from(
    [
        {"name": "image", "datatype": "FP32", "shape": [64]},
        {"name": "image", "datatype": "FP32", "shape": [-1, 64]},
        {"name": "text", "datatype": "BYTES", "shape": [1]},
    ]
)
_model = st.fixed_dictionaries(
    {
        "variants": st.one_of(
            st.tuples(_variant("fp32")),
            st.tuples(_variant("fp32"), _variant("int8")),
            st.tuples(_variant("int8"), _variant("fp32")),
        ).map(list),
        "inputs": st.lists(_tensor, max_size=1),
        "outputs": st.lists(_tensor, max_size=1),
    }
)
_env = mostly(
    [
        [],
        [{"name": "A", "value": "b"}],
        [{"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
    ],
    [[{"value": "without a name"}], [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]],
)
_template = st.builds(
    lambda usual, odd: usual | odd,
    some(
        labels=mostly([{"team": "vision"}, {"conch.dev/serving": "off"}], [{"team": "not valid!"}]),
        annotations=st.sampled_from([{"note": "mine"}, {"prometheus.io/port": "1"}]),
        env=_env,
        tolerations=st.just([{"key": "team", "operator": "Exists"}]),
        volumes=st.just([{"name": "extra", "emptyDir": {}}]),
        priorityClassName=st.just("system-node-critical"),
        serviceAccountName=st.just("default"),
    ),
    mostly(
        [{}],
        [
            {"tolerations": [{"key": "team", "operator": "Perhaps"}]},
            {"nodeSelector": {"disk": "none-has-it"}},
            {"priorityClassName": "no-such-class"},
            {"runtimeClassName": "no-such-runtime"},
            {"serviceAccountName": "no-such-account"},
            {"volumeMounts": [{"name": "no-such-volume", "mountPath": "/x"}]},
        ],
        one_in=4,
    ),
)
_placement = st.one_of(
    st.sampled_from(
        [
            {},
            {"pools": ["a100"]},
            {"pools": ["t4", "a100"]},
            {"accelerators": ["NVIDIA-A100"]},
            {"accelerators": ["Tesla-T4", "NVIDIA-L4"]},
            {"pools": ["l4"]},
        ]
    ),
    mostly([{}], [{"pools": ["nowhere"]}, {"accelerators": ["none"]}], one_in=3),
)


def _scaling(least: int, more: int, rest: Spec) -> Spec:
    return {"minReplicas": least, **({"maxReplicas": least + more} if more else {}), **rest}


_bounds = st.builds(
    _scaling,
    st.integers(0, 2),
    st.integers(1, 3),
    some(window=st.just("30s"), targetUtilization=st.just(0.5), pendingTimeout=st.just("5m")),
)
_service = st.fixed_dictionaries(
    {
        "model": st.fixed_dictionaries({}, optional={"variant": mostly(["fp32"], ["none"])}),
        "scaling": _bounds,
        "placement": _placement,
    },
    optional={
        "replicas": st.integers(0, 3),
        "objective": some(p99=st.just("50ms"), minAccuracy=mostly([0.5, 0.7], [2.0])),
        "priority": st.sampled_from([-5, 0, 100]),
        "disruption": st.sampled_from(["Protect", "Allow"]),
        "podTemplate": _template,
        "triton": some(
            image=st.just("triton:another"),
            args=st.sampled_from([["--log-verbose=1"], [], ["--no-such-argument", ""]]),
        ),
    },
)
_wishes = st.builds(Wish, _service, mostly([0], [1]).flatmap(lambda n: st.none() if n else _model))


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Draw a history. In some only a little changes; some end as they began."""
    first = draw(_wishes)
    then = draw(st.one_of(_edits(first), _wishes))
    last = draw(st.one_of(st.just(first), _edits(then), _wishes))
    return History(first, then, last, rushed=draw(st.booleans()))


@st.composite
def _edits(draw: st.DrawFn, wish: Wish) -> Wish:
    """A wish with one field of the service, or the model, as another has it."""
    other = draw(_wishes)
    changes: list[Wish] = [replace(wish, model=other.model)]
    changes += [
        replace(wish, service={**wish.service, key: value}) for key, value in other.service.items()
    ]
    return draw(st.sampled_from(changes))


_amounts = some(cpu=st.sampled_from(["1", "500m"]), memory=st.sampled_from(["1Gi", "2Gi"]))
pools: st.SearchStrategy[Spec] = some(
    perGPU=_amounts,
    tolerations=st.just([{"key": "nvidia.com/gpu", "operator": "Exists"}]),
    relativeSpeed=st.sampled_from([0.5, 2.0]),
    pricePerGPUHour=st.sampled_from([0.5, 3]),
    elastic=st.booleans(),
    spot=st.booleans(),
)
"""What may be edited in a pool while services use it."""


def drawn(strategy: st.SearchStrategy[Any], count: int, number: int) -> list[Any]:
    """Return ``count`` different values; the same for the same number, where the same modules are loaded.

    Hypothesis draws on the constants of a project's modules.
    """
    found: dict[str, Any] = {}

    @seed(number)
    @settings(
        max_examples=2 * count,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(value: Any) -> None:
        found.setdefault(repr(value), value)

    collect()
    values = list(found.values())
    # What comes first is simple; what comes later is varied.
    return values[-count:]


def described(history: History) -> list[Object]:
    """Return a history as a user would write it, for people."""
    return [
        {name: {"service": wish.service, "model": wish.model}}
        for name, wish in (("A", history.first), ("B", history.then), ("C", history.last))
    ]
