"""A model service as most tests want it, and small changes of it."""

from collections.abc import Mapping
from typing import Any

from conch.api.model import ModelSpec
from conch.api.pool import GPUPoolSpec
from conch.api.service import ModelServiceSpec
from conch.provisioning.metadata import Owner
from conch.provisioning.resources import Pool
from conch.provisioning.snapshot import Images, Snapshot, snapshot

IMAGES = Images(triton="nvcr.io/nvidia/tritonserver:24.10-py3", conch="ghcr.io/conch-dev/conch:0.1")
OWNER = Owner(
    "conch.dev/v1alpha1", "ModelService", "digits", "11111111-2222-3333-4444-555555555555"
)
POOL = Pool(
    "a100",
    GPUPoolSpec.model_validate(
        {
            "accelerator": "NVIDIA-A100",
            "nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-A100"},
            "perGPU": {"cpu": "500m", "memory": "1Gi"},
            "tolerations": [
                {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
            ],
        }
    ),
)
MODEL: dict[str, Any] = {
    "inputs": [{"name": "image", "datatype": "FP32", "shape": [64]}],
    "outputs": [{"name": "label", "datatype": "BYTES", "shape": [-1]}],
    "variants": [
        {
            "name": "fp32",
            "source": {"uri": "pvc://models/digits/fp32"},
            "backend": "python",
            "maxBatchSize": 16,
        }
    ],
}
SERVICE: dict[str, Any] = {"model": {"name": "digits"}}


def model_spec(**variant: Any) -> ModelSpec:
    """Return the example's model, with fields of its variant as given (as in a manifest)."""
    written = {**MODEL, "variants": [{**MODEL["variants"][0], **variant}]}
    return ModelSpec.model_validate(written)


def service_spec(**fields: Any) -> ModelServiceSpec:
    """Return the example's service, with fields as given."""
    return ModelServiceSpec.model_validate({**SERVICE, **fields})


def example(
    *,
    spec: dict[str, Any] | None = None,
    variant: dict[str, Any] | None = None,
    images: Images = IMAGES,
    service: str = "digits",
    namespace: str = "vision",
    file_prefixes: tuple[str, ...] = (),
    endpoints: Mapping[str, str] | None = None,
) -> Snapshot:
    """Return the snapshot of the example with changes in its service and its variant."""
    model = model_spec(**(variant or {}))
    return snapshot(
        service_spec(**(spec or {})),
        model,
        model.variants[0],
        service=service,
        namespace=namespace,
        images=images,
        file_prefixes=file_prefixes,
    ).through(endpoints or {})
