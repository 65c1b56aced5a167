"""A ModelService and its Model from a file, as the simulator takes them."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from conch.api.base import KubeModel, parse_duration
from conch.api.model import MeasuredProfile, ModelSpec, Variant
from conch.api.service import ModelServiceSpec
from conch.decisions import variants
from conch.decisions.scaling import Profile
from conch.simulate.workload import Workload

Object = dict[str, Any]
M = TypeVar("M", bound=KubeModel)

_MODELS = ("Model", "ClusterModel")
_PROFILE = """\
      profile:
        {accelerator}: {{fixedMs: 5, perItemMs: 2}}   # a run of b items takes fixedMs + b x perItemMs"""


class FileError(Exception):
    """A file can't be simulated; the message says where and what to do."""


@dataclass(frozen=True)
class Description:
    """What a file says of a service."""

    workload: Workload
    load_seconds: float | None
    """From created to ready, as the Model's status has it."""
    notes: tuple[str, ...]
    """What people should know."""


@dataclass(frozen=True)
class _Document:
    """One object of a file, with the place of its parts."""

    file: str
    body: Object
    node: yaml.Node

    @property
    def kind(self) -> str:
        return str(self.body.get("kind"))

    @property
    def name(self) -> str:
        metadata = self.body.get("metadata")
        return str(metadata.get("name")) if isinstance(metadata, dict) else ""

    @property
    def namespace(self) -> str | None:
        metadata = self.body.get("metadata")
        return metadata.get("namespace") if isinstance(metadata, dict) else None

    @property
    def title(self) -> str:
        return f"{self.kind} {self.name!r}"

    def error(self, text: str, *path: str | int) -> FileError:
        """Return an error about a part of the object."""
        line = _line(self.node, path)
        return FileError(f"{self.file}, line {line}: {self.title}: {text}")

    def part(self, model: type[M], name: str) -> M:
        """Return a part of the object as its model. Raises FileError."""
        try:
            return model.model_validate(self.body.get(name) or {})
        except ValidationError as error:
            first = error.errors()[0]
            path = (name, *first["loc"])
            raise self.error(f"{'.'.join(map(str, path))}: {first['msg']}", *path) from error


def described(
    text: str, file: str, *, service: str | None = None, accelerator: str | None = None
) -> Description:
    """Return what the text of a file says of a service, the only one unless named.

    Raises FileError.
    """
    documents = list(_documents(text, file))
    chosen = _service(documents, file, service)
    spec = chosen.part(ModelServiceSpec, "spec")
    model = _model(documents, chosen, spec)
    found, measured = model.part(ModelSpec, "spec"), _measured(model)
    variant, notes = _variant(found, spec, model, measured)
    profiles = _profiles(variant, measured)
    on = _accelerator(model, variant, profiles, accelerator, spec.placement.accelerators)
    if spec.placement.accelerators and on not in spec.placement.accelerators:
        notes.append(f"no profile of {variant.name} is on an accelerator of spec.placement")
    load = next((m.load_seconds for m in measured if _key(m) == (variant.name, on)), None)
    return Description(
        workload=Workload(
            name=chosen.name,
            profile=profiles[on],
            accelerator=on,
            max_batch=max(1, variant.max_batch_size),
            instances=variant.instances,
            queue_delay=parse_duration(variant.max_queue_delay or "0s"),
            objective=parse_duration(spec.objective.p99) if spec.objective.p99 else None,
            scaling=spec.scaling,
            gpus=variant.resources.gpus,
        ),
        load_seconds=load,
        notes=(*notes, *_remarks(spec, profiles[on].seconds(1))),
    )


def _remarks(spec: ModelServiceSpec, run: float) -> Iterator[str]:
    if spec.scaling.max_replicas is None:
        yield (
            f"spec.scaling.maxReplicas is unset, so there are never more than {spec.scaling.most} "
            "replicas; set it to see how many are needed"
        )
    if spec.objective.p99 is None:
        yield "spec.objective.p99 is unset, so no request counts as late"
    elif run > parse_duration(spec.objective.p99):
        yield (
            f"a run takes {run * 1e3:g} ms, longer than spec.objective.p99 of {spec.objective.p99}: "
            "every request is late"
        )
    if spec.replicas is not None:
        yield "spec.replicas is set, which keeps that many; simulated as if it were unset"


def _documents(text: str, file: str) -> Iterator[_Document]:
    """Yield the objects of a file, those of lists one by one. Raises FileError."""
    loader = yaml.SafeLoader(_plain(text))
    try:
        while loader.check_node():
            node = loader.get_node()
            if node is not None:
                yield from _objects(file, loader.construct_document(node), node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it can't be parsed"
        raise FileError(f"{file}{where}: no YAML or JSON: {problem}") from error
    finally:
        loader.dispose()


def _plain(text: str) -> str:
    """Return JSON as YAML takes it: indented by tabs it would not be."""
    try:
        return json.dumps(json.loads(text), indent=1) if "\t" in text else text
    except ValueError:
        return text


def _objects(file: str, body: Any, node: yaml.Node) -> Iterator[_Document]:
    if body is None:
        return
    if not isinstance(body, dict):
        line = node.start_mark.line + 1
        raise FileError(f"{file}, line {line}: no Kubernetes object: it has no fields")
    items = body.get("items")
    if body.get("kind", "").endswith("List") and isinstance(items, list):
        for index, item in enumerate(items):
            yield from _objects(file, item, _at(node, ("items", index)))
    else:
        yield _Document(file, body, node)


def _service(documents: Iterable[_Document], file: str, name: str | None) -> _Document:
    services = [d for d in documents if d.kind == "ModelService"]
    fit = [d for d in services if name in (None, d.name)]
    if len(fit) == 1:
        return fit[0]
    names = ", ".join(d.name for d in services)
    if not services:
        raise FileError(f"{file} has no ModelService: add the one to simulate, with its Model")
    if not fit:
        raise FileError(f"{file} has no ModelService {name!r}; it has: {names}")
    raise FileError(f"{file} has several ModelServices ({names}): name one with --service")


def _model(documents: Iterable[_Document], service: _Document, spec: ModelServiceSpec) -> _Document:
    models = [d for d in documents if d.kind in _MODELS]
    for document in models:
        same = document.kind == "ClusterModel" or (
            (document.namespace or "default") == (service.namespace or "default")
        )
        if (document.kind, document.name) == (spec.model.kind, spec.model.name) and same:
            return document
    there = ", ".join(f"{d.title} of {d.namespace or 'default'}" for d in models) or "no model"
    wanted = f"{spec.model.kind} {spec.model.name!r}"
    where = f" of namespace {service.namespace or 'default'}" if spec.model.kind == "Model" else ""
    raise service.error(
        f"its {wanted}{where} is not in the file, which has {there}. Add it, for example from "
        f"`kubectl get {spec.model.kind.lower()} {spec.model.name} -o yaml`, after a line ---",
        "spec",
        "model",
    )


def _measured(model: _Document) -> list[MeasuredProfile]:
    status = model.body.get("status")
    rows = status.get("profiles") if isinstance(status, dict) else None
    try:
        return [MeasuredProfile.model_validate(row) for row in rows or []]
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise model.error(f"status.profiles: {field}: {first['msg']}", "status") from error


def _key(measured: MeasuredProfile) -> tuple[str, str]:
    return measured.variant, measured.accelerator


def _profiles(variant: Variant, measured: Iterable[MeasuredProfile]) -> dict[str, Profile]:
    """Return a variant's profiles by accelerator: what was measured, else what was declared."""
    declared = {
        accelerator: Profile(p.fixed_ms / 1e3, p.per_item_ms / 1e3)
        for accelerator, p in variant.profile.items()
    }
    return declared | {
        m.accelerator: Profile(m.fixed_ms / 1e3, m.per_item_ms / 1e3)
        for m in measured
        if m.variant == variant.name and m.fixed_ms is not None and m.per_item_ms is not None
    }


def _variant(
    model: ModelSpec,
    service: ModelServiceSpec,
    document: _Document,
    measured: Sequence[MeasuredProfile],
) -> tuple[Variant, list[str]]:
    """Return the variant that Conch would run, else the first that has a profile."""
    choice = variants.choose(model, service)
    if isinstance(choice, str):
        raise document.error(choice, "spec", "variants")
    if service.model.variant is not None or _profiles(choice, measured):
        return choice, []
    for other in model.variants:
        if _profiles(other, measured):
            note = f"variant {choice.name}, which Conch would run, has no profile: simulated is {other.name}"
            return other, [note]
    return choice, []


def _accelerator(
    model: _Document,
    variant: Variant,
    profiles: Mapping[str, Profile],
    asked: str | None,
    placement: Sequence[str],
) -> str:
    """Return the accelerator to simulate. Raises FileError where no profile fits."""
    index = [v["name"] for v in model.body["spec"]["variants"]].index(variant.name)
    path = ("spec", "variants", index)
    if asked is not None and profiles and asked not in profiles:
        raise model.error(
            f"variant {variant.name!r} has no profile on {asked!r}; it has: {', '.join(profiles)}",
            *path,
        )
    if not profiles:
        name = asked or next(iter(placement), "NVIDIA-A100")
        raise model.error(
            f"variant {variant.name!r} has no profile, so nobody knows how long a run takes. Add "
            f"to the variant, with your figures:\n{_PROFILE.format(accelerator=name)}\n"
            "A Model that served has measured ones in its status.profiles: "
            f"kubectl get {model.kind.lower()} {model.name} -o yaml",
            *path,
        )
    if any(profile.seconds(1) <= 0 for profile in profiles.values()):
        raise model.error("a profile of 0 ms serves any load: give the time of a run", *path)
    wishes = [*([asked] if asked else []), *placement, *profiles]
    return next(wish for wish in wishes if wish in profiles)


def _at(node: yaml.Node, path: Sequence[str | int]) -> yaml.Node:
    """Return the deepest node on a path of names and indices that there is."""
    for step in path:
        below = _child(node, step)
        if below is None:
            break
        node = below
    return node


def _child(node: yaml.Node, step: str | int) -> yaml.Node | None:
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int):
        return node.value[step] if step < len(node.value) else None
    if isinstance(node, yaml.MappingNode):
        return next((value for key, value in node.value if key.value == step), None)
    return None


def _line(node: yaml.Node, path: Sequence[str | int]) -> int:
    return int(_at(node, path).start_mark.line) + 1
