"""The pod template of a revision in a pool, as the restricted Pod Security Standard wants it."""

import math
from collections.abc import Sequence
from typing import Any

from conch.api.base import parse_quantity
from conch.api.names import (
    ANNOTATION_DEVICES,
    FETCH_CONTAINER,
    GATE,
    GROUP,
    LABEL_HOST,
    LABEL_SERVING,
    LABEL_ZONE,
    PORT_GRPC,
    PORT_HTTP,
    PORT_METRICS,
    SERVING,
    TRITON_CONTAINER,
)
from conch.provisioning.coexistence import Marks, marks
from conch.provisioning.config_map import CONFIG_FILE
from conch.provisioning.device_claim import claim_template_name
from conch.provisioning.metadata import labels, selector
from conch.provisioning.probes import probes
from conch.provisioning.resources import (
    DEVICES_CLAIM,
    Pool,
    devices,
    host_share,
    requirements,
    triton_requirements,
)
from conch.provisioning.service_account import service_account_name
from conch.provisioning.snapshot import Snapshot
from conch.provisioning.source import DOWNLOADED, Location, Scheme, location
from conch.provisioning.volumes import (
    CACHE,
    CONFIG,
    CREDENTIALS,
    IDENTITY,
    MODELS,
    SOURCE,
    TOKEN,
    fetch_mounts,
    triton_mounts,
    volumes,
)

USER = 65532
"""The user and group of both containers."""
PRE_STOP_SECONDS = 5
"""Until every node has heard that a pod which is stopped gets no new connections."""
GRACE_MARGIN_SECONDS = 5
"""For Triton to unload after the last answer."""
UNREACHABLE_SECONDS = 15
"""After which a replica on a node that went silent is made again elsewhere."""
_TAINTS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
_SCRAPE = {
    "prometheus.io/scrape": "true",
    "prometheus.io/port": str(PORT_METRICS),
    "prometheus.io/path": "/metrics",
}
_ENV = {
    "PYTHONDONTWRITEBYTECODE": "1",  # the file system is read-only
    "HOME": "/tmp",  # noqa: S108  # the user has no entry in the image's passwd
}
_NO_GPUS = {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"}
"""NVIDIA's runtime, where it is the node's default, shows all GPUs to images that ask for none."""
_FILE_NAMES = {
    "onnxruntime": "model.onnx",
    "openvino": "model.xml",
    "python": "model.py",
    "pytorch": "model.pt",
    "tensorrt": "model.plan",
}
"""What Triton's backends call their file: a source of one file is given that name."""


def pod_template(snapshot: Snapshot, pool: Pool, *, gated: bool) -> dict[str, Any]:
    """Return the template of the pods; with the gate they wait until Conch places them."""
    extra = snapshot.pod_template
    return {
        "metadata": {
            "labels": pod_labels(snapshot, pool),
            "annotations": _annotations(snapshot, pool),
        },
        "spec": {
            **({"schedulingGates": [{"name": GATE}]} if gated else {}),
            **_marks(snapshot).spec,
            **_optional(snapshot),
            **_claims(snapshot, pool),
            **_apart(snapshot),
            "serviceAccountName": extra.service_account_name
            or service_account_name(snapshot.service),
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": grace_seconds(snapshot),
            "securityContext": _pod_security(),
            "affinity": _affinity(pool, snapshot.zones),
            "tolerations": _tolerations(snapshot, pool),
            "volumes": volumes(snapshot),
            "initContainers": [_fetch(snapshot, pool)],
            "containers": [_triton(snapshot, pool)],
        },
    }


def pod_labels(snapshot: Snapshot, pool: Pool) -> dict[str, str]:
    """Return the labels of a pod; users' own may not take the place of Conch's."""
    users = {k: v for k, v in snapshot.pod_template.labels.items() if not _is_ours(k)}
    ours = labels(snapshot.service, revision=snapshot.revision, pool=pool.name)
    return {**_marks(snapshot).labels, **users, **ours, LABEL_SERVING: SERVING}


def _marks(snapshot: Snapshot) -> Marks:
    return marks(
        snapshot.others,
        tenant=snapshot.tenant,
        priority=snapshot.priority,
        disruption=snapshot.disruption,
    )


def _annotations(snapshot: Snapshot, pool: Pool) -> dict[str, str]:
    asked = _claims(snapshot, pool)
    count = {ANNOTATION_DEVICES: f"{pool.spec.counted_as}={devices(snapshot.variant, pool)}"}
    return {
        **_marks(snapshot).annotations,
        **{k: v for k, v in snapshot.pod_template.annotations.items() if not _is_ours(k)},
        **_SCRAPE,
        **(count if asked else {}),
    }


def _claims(snapshot: Snapshot, pool: Pool) -> dict[str, Any]:
    """Return the part of the spec that asks a DRA driver for devices, where one gives them."""
    name = claim_template_name(snapshot, pool)
    if name is None:
        return {}
    return {"resourceClaims": [{"name": DEVICES_CLAIM, "resourceClaimTemplateName": name}]}


def _is_ours(name: str) -> bool:
    return name.startswith(f"{GROUP}/")


def _optional(snapshot: Snapshot) -> dict[str, Any]:
    """Return the parts of the spec that stand there only where users set them."""
    extra = snapshot.pod_template
    parts = {
        "imagePullSecrets": extra.image_pull_secrets,
        "nodeSelector": extra.node_selector,
        "runtimeClassName": extra.runtime_class_name,
        "priorityClassName": extra.priority_class_name,
    }
    return {k: v for k, v in parts.items() if v}


def grace_seconds(snapshot: Snapshot) -> int:
    """Return how long a pod that is stopped may take, in whole seconds."""
    return PRE_STOP_SECONDS + math.ceil(snapshot.drain_seconds) + GRACE_MARGIN_SECONDS


def _pod_security() -> dict[str, Any]:
    return {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,
        # Large model volumes are not walked through again at each start.
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _container_security() -> dict[str, Any]:
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def _affinity(pool: Pool, zones: Sequence[str]) -> dict[str, Any]:
    """Return the affinity to the pool's nodes: one term, which a pin can narrow to one node."""
    wanted = [
        {"key": key, "operator": "In", "values": [value]}
        for key, value in sorted(pool.spec.node_selector.items())
    ]
    if zones:
        wanted.append({"key": LABEL_ZONE, "operator": "In", "values": [*zones]})
    terms = {"nodeSelectorTerms": [{"matchExpressions": wanted}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}


def _apart(snapshot: Snapshot) -> dict[str, Any]:
    """Return what the scheduler spreads pods by: those that Conch does not place itself."""
    if not snapshot.apart:
        return {}
    chosen = {"matchLabels": {**selector(snapshot.service), LABEL_SERVING: SERVING}}
    return {
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": key,
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": chosen,
            }
            for key in (LABEL_ZONE, LABEL_HOST)
        ]
    }


def _tolerations(snapshot: Snapshot, pool: Pool) -> list[dict[str, Any]]:
    given = [*snapshot.pod_template.tolerations]
    given += [t for t in pool.spec.tolerations if t not in given]
    keys = {t.get("key") for t in given}
    ours = [
        {
            "key": taint,
            "operator": "Exists",
            "effect": "NoExecute",
            "tolerationSeconds": UNREACHABLE_SECONDS,
        }
        for taint in _TAINTS
        if taint not in keys
    ]
    return [*given, *ours]


def _env(snapshot: Snapshot, *more: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a container's environment; what users set goes before what Conch would."""
    users = {e.get("name") for e in snapshot.pod_template.env}
    ours = [*({"name": k, "value": v} for k, v in _ENV.items()), *more]
    return [*(e for e in ours if e["name"] not in users), *snapshot.pod_template.env]


def _cache_env() -> tuple[dict[str, Any], ...]:
    """Return what the fetch needs of the node's cache.

    It is no argument, so that revisions whose Conch image is too old for it don't mind.
    """
    facts = {"CONCH_POD_NAME": "metadata.name", "CONCH_POD_UID": "metadata.uid"}
    return (
        {"name": "CONCH_CACHE", "value": CACHE},
        *(
            {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}
            for name, path in facts.items()
        ),
    )


def _container(snapshot: Snapshot, name: str, image: str) -> dict[str, Any]:
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "env": _env(snapshot),
        "securityContext": _container_security(),
        # Whatever a container says last, such as Triton's own error, stands in the pod's status.
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def _fetch(snapshot: Snapshot, pool: Pool) -> dict[str, Any]:
    return {
        **_container(snapshot, FETCH_CONTAINER, snapshot.fetch_image),
        **({"env": _env(snapshot, *_cache_env())} if snapshot.cache else {}),
        "command": ["conch", "fetch"],
        "args": fetch_args(snapshot),
        "resources": requirements(host_share(snapshot.variant, pool)),
        "volumeMounts": fetch_mounts(snapshot),
    }


def fetch_args(snapshot: Snapshot) -> list[str]:
    """Return the arguments of ``conch fetch``.

    A revision keeps its Conch image while the operator is upgraded: an argument that exists may
    never change its meaning, and a new one is given only where a source needs it.
    """
    variant = snapshot.variant
    place = location(variant.source)
    args = [f"--uri={place.uri}", f"--model={snapshot.model}", f"--repository={MODELS}"]
    args.append(f"--config={CONFIG}/{CONFIG_FILE}")
    if variant.source.sha256:
        args.append(f"--sha256={variant.source.sha256}")
    if variant.backend in _FILE_NAMES:
        args.append(f"--file-name={_FILE_NAMES[variant.backend]}")
    if place.scheme not in DOWNLOADED:
        args.append(f"--source-dir={_source_dir(snapshot, place)}")
        return args
    if variant.source.secret_ref:
        args.append(f"--credentials={CREDENTIALS}")
    if place.scheme in (Scheme.HTTP, Scheme.HTTPS):
        return args
    if variant.source.secret_ref:
        args.append(f"--secret-name={variant.source.secret_ref.name}")
    if variant.source.token_audience:
        args.append(f"--token={IDENTITY}/{TOKEN}")
    if snapshot.endpoint:
        args.append(f"--endpoint={snapshot.endpoint}")
    return args


def _source_dir(snapshot: Snapshot, place: Location) -> str:
    """Return where the files are in the pod."""
    path = place.path
    if place.scheme is Scheme.FILE:
        path = place.path.removeprefix(snapshot.file_root or place.path).strip("/")
    return f"{SOURCE}/{path}" if path else SOURCE


def _triton(snapshot: Snapshot, pool: Pool) -> dict[str, Any]:
    ports = {"http": PORT_HTTP, "grpc": PORT_GRPC, "metrics": PORT_METRICS}
    return {
        **_container(snapshot, TRITON_CONTAINER, snapshot.triton_image),
        **({} if devices(snapshot.variant, pool) else {"env": _env(snapshot, _NO_GPUS)}),
        # No command: the entry point of NVIDIA's image prepares the driver's libraries.
        "args": ["tritonserver", *triton_args(snapshot)],
        "ports": [
            {"name": name, "containerPort": port, "protocol": "TCP"} for name, port in ports.items()
        ],
        "resources": triton_requirements(
            snapshot.variant, pool, response_cache=snapshot.response_cache
        ),
        "volumeMounts": triton_mounts(snapshot),
        "lifecycle": {"preStop": {"sleep": {"seconds": PRE_STOP_SECONDS}}},
        **probes(snapshot.model),
    }


def triton_args(snapshot: Snapshot) -> list[str]:
    """Return the arguments of the server: one model, and an end when it does not load."""
    return [
        f"--model-repository={MODELS}",
        "--model-control-mode=explicit",
        f"--load-model={snapshot.model}",
        "--exit-on-error=true",
        f"--exit-timeout-secs={math.ceil(snapshot.drain_seconds)}",
        "--metrics-config=summary_latencies=true",
        *(["--disable-auto-complete-config"] if _is_complete(snapshot) else []),
        *_cache_args(snapshot),
        *snapshot.triton_args,
        # Of two, Triton takes the last: by it the front door knows whose pod answers.
        f"--id={snapshot.namespace}/{snapshot.service}",
    ]


def _cache_args(snapshot: Snapshot) -> list[str]:
    if not snapshot.response_cache:
        return []
    return [f"--cache-config=local,size={int(parse_quantity(snapshot.response_cache))}"]


def _is_complete(snapshot: Snapshot) -> bool:
    """Return whether the configuration lacks nothing that Triton would ask the model for.

    For that it starts the Python process of a model once more than it needs to serve: seconds
    on a small share of a CPU. Files of other formats describe themselves cheaply.
    """
    return snapshot.variant.backend == "python" and bool(snapshot.inputs and snapshot.outputs)
