"""CustomResourceDefinitions, generated from the pydantic models.

``python -m conch.api.crd DIRECTORY`` writes one file a kind; crds/ holds its output, and a test
compares the two.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from conch.api.base import KubeModel, rule
from conch.api.migration import ModelMigrationSpec, ModelMigrationStatus
from conch.api.model import ModelSpec, ModelStatus
from conch.api.names import GROUP, VERSION
from conch.api.pool import GPUPoolSpec, GPUPoolStatus
from conch.api.service import ModelServiceSpec, ModelServiceStatus
from conch.api.tenant import TenantSpec, TenantStatus

_DROPPED = ("title", "additionalProperties", "exclusiveMinimum", "exclusiveMaximum", "const")


@dataclass(frozen=True)
class Column:
    """One column of ``kubectl get``; priority 1 shows with ``-o wide`` only."""

    name: str
    path: str
    type: str = "string"
    priority: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the column as the CRD spells it."""
        wide = {"priority": self.priority} if self.priority else {}
        return {"name": self.name, "type": self.type, "jsonPath": self.path, **wide}


@dataclass(frozen=True)
class Kind:
    """One kind of the group: how it is named, shaped and shown."""

    kind: str
    plural: str
    short: tuple[str, ...]
    namespaced: bool
    spec: type[KubeModel]
    status: type[KubeModel]
    columns: tuple[Column, ...]
    description: str
    scale: bool = False
    rules: tuple[dict[str, str], ...] = ()
    """CEL rules on the whole object, such as on its name."""

    @property
    def crd_name(self) -> str:
        """The name of the CustomResourceDefinition."""
        return f"{self.plural}.{GROUP}"


def _condition(name: str, field: str) -> str:
    return f".status.conditions[?(@.type=='{name}')].{field}"


_AGE = Column("Age", ".metadata.creationTimestamp", "date")
_READY = Column("Ready", _condition("Ready", "status"))
_WHY = Column("Reason", _condition("Ready", "reason"))
# The API server prints the first match of a path alone, so a column can't list all variants.
_MODEL_COLUMNS = (
    Column("Task", ".spec.task"),
    Column("Variant", ".spec.variants[0].name"),
    Column("Backend", ".spec.variants[0].backend"),
    Column("Accuracy", ".spec.variants[0].accuracy.value"),
    Column("Source", ".spec.variants[0].source.uri", priority=1),
    _AGE,
)

KINDS: tuple[Kind, ...] = (
    Kind(
        kind="ModelService",
        plural="modelservices",
        short=("msvc",),
        namespaced=True,
        spec=ModelServiceSpec,
        status=ModelServiceStatus,
        description="A model offered as a service: Conch provisions, places and scales it.",
        scale=True,
        rules=(
            rule(
                "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$') && "
                "size(self.metadata.name) <= 52",
                "choose a name of at most 52 lower-case letters, digits and '-' that begins with "
                "a letter: a Service gets it",
            ),
        ),
        columns=(
            Column("Model", ".spec.model.name"),
            Column("Variant", ".status.variant"),
            Column("Desired", ".status.desiredReplicas", "integer"),
            Column("Replicas", ".status.replicas", "integer"),
            Column("Available", ".status.readyReplicas", "integer"),
            _READY,
            _WHY,
            Column("Where", ".status.where", priority=1),
            Column("Scaling", _condition("ScalingActive", "reason"), priority=1),
            Column("Message", _condition("Ready", "message"), priority=1),
            Column("URL", ".status.url", priority=1),
            _AGE,
        ),
    ),
    Kind(
        kind="Model",
        plural="models",
        short=("mdl",),
        namespaced=True,
        spec=ModelSpec,
        status=ModelStatus,
        description="A custom model of one namespace, with its variants.",
        columns=_MODEL_COLUMNS,
    ),
    Kind(
        kind="ClusterModel",
        plural="clustermodels",
        short=("cmdl",),
        namespaced=False,
        spec=ModelSpec,
        status=ModelStatus,
        description="A preset model of the platform's catalogue, open to every namespace.",
        columns=_MODEL_COLUMNS,
    ),
    Kind(
        kind="GPUPool",
        plural="gpupools",
        short=("gpool",),
        namespaced=False,
        spec=GPUPoolSpec,
        status=GPUPoolStatus,
        description="Nodes of one accelerator class.",
        columns=(
            Column("Accelerator", ".spec.accelerator"),
            Column("Nodes", ".status.nodes", "integer"),
            Column("GPUs", ".status.gpus", "integer"),
            Column("Allocated", ".status.allocated", "integer"),
            Column("Free", ".status.free", "integer"),
            _READY,
            Column("Speed", ".spec.relativeSpeed", "number", priority=1),
            Column("Price", ".spec.pricePerGPUHour", "number", priority=1),
            _AGE,
        ),
    ),
    Kind(
        kind="Tenant",
        plural="tenants",
        short=("ten",),
        namespaced=False,
        spec=TenantSpec,
        status=TenantStatus,
        description="Namespaces that share one claim to the GPUs: weight, guarantee and limit.",
        columns=(
            Column("Weight", ".spec.weight", "number"),
            Column("Services", ".status.services", "integer"),
            Column("Allocated", ".status.allocated", "number"),
            Column("Entitlement", ".status.entitlement", "number"),
            Column("Share", ".status.share", "number"),
            Column("Usage", ".status.usage", "number"),
            Column("Waiting", ".status.waiting", "integer"),
            Column("Waiting-Since", ".status.waitingSince", "date"),
            _READY,
            Column("Namespaces", ".spec.namespaces", priority=1),
            Column("Message", _condition("Ready", "message"), priority=1),
            _AGE,
        ),
    ),
    Kind(
        kind="ModelMigration",
        plural="modelmigrations",
        short=("mmig",),
        namespaced=True,
        spec=ModelMigrationSpec,
        status=ModelMigrationStatus,
        description="One move of one replica: another answers first, then the old one is drained.",
        columns=(
            Column("Service", ".spec.service"),
            Column("Phase", ".status.phase"),
            Column("From", ".status.from.node"),
            Column("To", ".status.to.node"),
            Column("Reason", ".spec.reason"),
            Column("Because", ".spec.because", priority=1),
            Column("Message", ".status.message", priority=1),
            _AGE,
        ),
    ),
)
BY_KIND: Mapping[str, Kind] = {k.kind: k for k in KINDS}


def structural(model: type[KubeModel]) -> dict[str, Any]:
    """Return the structural OpenAPI schema of a model: no references, no ``null`` types."""
    schema = model.model_json_schema(by_alias=True)
    result: dict[str, Any] = _structured(schema, schema.get("$defs", {}))
    return result


def _structured(node: Any, defs: Mapping[str, Any]) -> Any:
    if isinstance(node, list):
        return [_structured(item, defs) for item in node]
    if not isinstance(node, dict):
        return node
    node = _resolved(node, defs)
    verbatim = ("properties", "default", "$defs")
    out = {k: _structured(v, defs) for k, v in node.items() if k not in (*_DROPPED, *verbatim)}
    if "default" in node:
        out["default"] = _without_nulls(node["default"])
    if "properties" in node:
        out["properties"] = {k: _structured(v, defs) for k, v in node["properties"].items()}
    if isinstance(node.get("additionalProperties"), dict):
        out["additionalProperties"] = _structured(node["additionalProperties"], defs)
    if "minItems" in out or out.get("type") == "array":
        out.setdefault("maxItems", 256)
    return _bounded(out, node)


def _without_nulls(value: Any) -> Any:
    """Drop unset fields from a default: the API server refuses a default that holds null."""
    if isinstance(value, dict):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    return value


def _resolved(node: dict[str, Any], defs: Mapping[str, Any]) -> dict[str, Any]:
    """Replace a reference and the ``anyOf: [X, null]`` of an optional field by what they mean."""
    rest = {k: v for k, v in node.items() if k not in ("$ref", "anyOf", "allOf")}
    if "$ref" in node:
        return _resolved({**defs[node["$ref"].rsplit("/", 1)[1]], **rest}, defs)
    if "anyOf" in node:
        (only,) = [n for n in node["anyOf"] if n.get("type") != "null"]
        rest = {k: v for k, v in rest.items() if not (k == "default" and v is None)}
        return _resolved({**only, **rest}, defs)
    return node


def _bounded(out: dict[str, Any], node: Mapping[str, Any]) -> dict[str, Any]:
    """Spell open bounds in OpenAPI v3.0's way, and finish opaque objects and maps."""
    if "exclusiveMinimum" in node:
        out |= {"minimum": node["exclusiveMinimum"], "exclusiveMinimum": True}
    if out.get("x-kubernetes-preserve-unknown-fields"):
        out.pop("additionalProperties", None)
    if out.get("default") in ({}, []) and out.get("type") != "object":
        out.pop("default")
    return out


def crd(kind: Kind) -> dict[str, Any]:
    """Return the CustomResourceDefinition of a kind, ready to apply."""
    subresources: dict[str, Any] = {"status": {}}
    if kind.scale:
        subresources["scale"] = {
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": kind.crd_name, "labels": {"app.kubernetes.io/name": "conch"}},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "names": _names(kind),
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": _object_schema(kind)},
                    "subresources": subresources,
                    "additionalPrinterColumns": [c.to_dict() for c in kind.columns],
                }
            ],
        },
    }


def _names(kind: Kind) -> dict[str, Any]:
    return {
        "kind": kind.kind,
        "listKind": f"{kind.kind}List",
        "plural": kind.plural,
        "singular": kind.kind.lower(),
        "shortNames": list(kind.short),
        "categories": ["conch"],
    }


def _object_schema(kind: Kind) -> dict[str, Any]:
    checks = {"x-kubernetes-validations": list(kind.rules)} if kind.rules else {}
    return {
        "type": "object",
        "description": kind.description,
        **checks,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": structural(kind.spec),
            "status": structural(kind.status),
        },
    }


def write(directory: Path) -> list[Path]:
    """Write one YAML file a kind into ``directory`` and return their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for kind in KINDS:
        path = directory / f"{kind.crd_name}.yaml"
        path.write_text(
            "# Generated from operator/conch/api by `make crds`; do not edit.\n"
            + yaml.safe_dump(crd(kind), sort_keys=False, width=100)
        )
        written.append(path)
    return written


if __name__ == "__main__":
    for generated in write(Path(sys.argv[1])):
        sys.stdout.write(f"{generated}\n")
