"""The ConfigMap with Triton's config.pbtxt, used where the model's files bring none."""

import math
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as triton

from conch.api.base import parse_duration
from conch.api.model import Tensor, Variant
from conch.provisioning.metadata import Owner, labels, metadata
from conch.provisioning.snapshot import Snapshot

CONFIG_FILE = "config.pbtxt"
_BYTES = "BYTES"


def config_map_name(service: str, revision: str) -> str:
    """Return the name of the ConfigMap of a revision."""
    return f"{service}-{revision}"


def config_map(snapshot: Snapshot, *, owner: Owner) -> dict[str, Any]:
    """Return the manifest of the ConfigMap, one a revision."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(
            config_map_name(snapshot.service, snapshot.revision),
            snapshot.namespace,
            labels=labels(snapshot.service, revision=snapshot.revision),
            owner=owner,
        ),
        "data": {CONFIG_FILE: config_pbtxt(snapshot)},
    }


def config_pbtxt(snapshot: Snapshot) -> str:
    """Return Triton's configuration of the model in protobuf's text format."""
    variant = snapshot.variant
    config = triton.ModelConfig(
        name=snapshot.model,
        backend=variant.backend,
        max_batch_size=variant.max_batch_size,
        input=[triton.ModelInput(**_tensor(t)) for t in snapshot.inputs],
        output=[triton.ModelOutput(**_tensor(t)) for t in snapshot.outputs],
        instance_group=[_instances(variant)],
        parameters={
            k: triton.ModelParameter(string_value=v) for k, v in variant.parameters.items()
        },
    )
    if snapshot.response_cache:
        config.response_cache.enable = True
    if variant.max_batch_size > 1:
        config.dynamic_batching.CopyFrom(_batching(variant))
    return str(text_format.MessageToString(config))


def _tensor(tensor: Tensor) -> dict[str, Any]:
    name = "STRING" if tensor.datatype == _BYTES else tensor.datatype
    return {
        "name": tensor.name,
        "data_type": triton.DataType.Value(f"TYPE_{name}"),
        "dims": tensor.shape,
    }


def _instances(variant: Variant) -> Any:
    """Return the instances: on the GPUs that Triton sees, on the CPU where it sees none.

    KIND_GPU would refuse to load in a build of Triton for CPU.
    """
    group = triton.ModelInstanceGroup
    kind = group.KIND_AUTO if variant.resources.gpus else group.KIND_CPU
    return group(count=variant.instances, kind=kind)


def _batching(variant: Variant) -> Any:
    delay = parse_duration(variant.max_queue_delay) if variant.max_queue_delay else 0.0
    return triton.ModelDynamicBatching(max_queue_delay_microseconds=math.ceil(delay * 1e6))
