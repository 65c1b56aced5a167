"""The kinds as users write them."""

from typing import Any

import pytest
from pydantic import ValidationError

from conch.api.model import ModelSpec
from conch.api.pool import GPUPoolSpec
from conch.api.service import ModelKind, ModelServiceSpec, Scaling

MODEL: dict[str, Any] = {
    "task": "image-classification",
    "inputs": [{"name": "image", "datatype": "FP32", "shape": [64]}],
    "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [10]}],
    "variants": [
        {
            "name": "fp32",
            "source": {"uri": "pvc://models/digits-fp32", "sha256": "9f2c" * 16},
            "backend": "python",
            "maxBatchSize": 16,
            "accuracy": {"metric": "top1", "value": 0.972, "dataset": "digits-test"},
            "resources": {"gpus": 1, "memory": "2Gi"},
            "profile": {"NVIDIA-A100": {"fixedMs": 1.1, "perItemMs": 0.4}},
        }
    ],
}
SERVICE: dict[str, Any] = {
    "model": {"name": "digits"},
    "objective": {"p99": "50ms", "minAccuracy": 0.95},
    "scaling": {"minReplicas": 1, "maxReplicas": 8},
    "priority": 100,
    "placement": {"accelerators": ["NVIDIA-A100", "Tesla-T4"]},
    "podTemplate": {},
}


def test_a_model_reads_as_written() -> None:
    spec = ModelSpec.model_validate(MODEL)
    (variant,) = spec.variants
    assert variant.profile["NVIDIA-A100"].per_item_ms == 0.4
    assert variant.resources.memory == "2Gi"
    written = spec.to_dict()
    assert written["inputs"] == MODEL["inputs"]
    assert MODEL["variants"][0].items() <= written["variants"][0].items()


def test_a_service_reads_as_written_and_fills_in_defaults() -> None:
    spec = ModelServiceSpec.model_validate(SERVICE)
    assert spec.model.kind is ModelKind.MODEL
    assert spec.replicas is None
    assert spec.scaling.most == 8
    assert spec.scaling.scale_down_window is None
    assert ModelServiceSpec.model_validate(spec.to_dict()) == spec


def test_a_service_needs_no_more_than_its_model() -> None:
    spec = ModelServiceSpec.model_validate({"model": {"name": "digits"}})
    assert (spec.scaling.min_replicas, spec.scaling.most) == (1, 1)


def test_to_zero_is_allowed_only_as_the_lower_bound() -> None:
    assert Scaling(min_replicas=0, max_replicas=1).most == 1
    with pytest.raises(ValidationError):
        Scaling(max_replicas=0)


def test_a_pool_names_its_nodes() -> None:
    spec = GPUPoolSpec.model_validate(
        {"accelerator": "Tesla-T4", "nodeSelector": {"a": "b"}, "perGPU": {"cpu": "250m"}}
    )
    assert spec.resource_name == "nvidia.com/gpu"
    assert spec.to_dict()["perGPU"] == {"cpu": "250m"}
    with pytest.raises(ValidationError):
        GPUPoolSpec.model_validate({"accelerator": "Tesla-T4", "nodeSelector": {}})
