"""A ModelService and its Model in a file, as the simulator takes them."""

import json
from typing import Any

import pytest
import yaml

from conch.decisions.scaling import Profile
from conch.simulate.files import Description, FileError, described

SERVICE = """\
apiVersion: conch.dev/v1alpha1
kind: ModelService
metadata: {name: digits, namespace: vision}
spec:
  model: {name: digits}
  objective: {p99: 50ms}
  scaling: {minReplicas: 2, maxReplicas: 40}
  placement: {accelerators: [Tesla-T4, NVIDIA-A100]}
"""
MODEL = """\
apiVersion: conch.dev/v1alpha1
kind: Model
metadata: {name: digits, namespace: vision}
spec:
  variants:
  - name: fp32
    source: {uri: "pvc://models/digits"}
    backend: python
    maxBatchSize: 8
    instances: 2
    maxQueueDelay: 2ms
    resources: {gpus: 2}
    profile:
      NVIDIA-A100: {fixedMs: 1, perItemMs: 0.5}
      Tesla-T4: {fixedMs: 3, perItemMs: 2}
"""


def read(*parts: str, **more: Any) -> Description:
    return described("---\n".join(parts), "digits.yaml", **more)


def changed(text: str, **fields: Any) -> str:
    """Return a Model with fields of its variant changed; None takes one away."""
    body = yaml.safe_load(text)
    variant = body["spec"]["variants"][0]
    variant.update(fields)
    body["spec"]["variants"][0] = {k: v for k, v in variant.items() if v is not None}
    return yaml.safe_dump(body, sort_keys=False)


def test_a_service_with_its_model_is_a_workload() -> None:
    found = read(SERVICE, MODEL)
    workload = found.workload
    assert workload.profile == Profile(0.003, 0.002)
    assert (workload.accelerator, workload.name) == ("Tesla-T4", "digits")
    assert (workload.max_batch, workload.instances, workload.gpus) == (8, 2, 2)
    assert (workload.queue_delay, workload.objective) == (0.002, 0.05)
    assert (workload.minimum, workload.maximum) == (2, 40)
    assert found.load_seconds is None
    assert found.notes == ()


def test_another_accelerator_may_be_asked_for() -> None:
    assert read(MODEL, SERVICE, accelerator="NVIDIA-A100").workload.profile.fixed == 0.001
    with pytest.raises(FileError, match="no profile on 'H100'; it has: NVIDIA-A100, Tesla-T4"):
        read(MODEL, SERVICE, accelerator="H100")


def test_what_was_measured_counts_more_than_what_was_declared() -> None:
    rows = [
        {
            "variant": "fp32",
            "accelerator": "Tesla-T4",
            "fixedMs": 4,
            "perItemMs": 1,
            "loadSeconds": 31,
        },
        {"variant": "other", "accelerator": "Tesla-T4", "fixedMs": 9, "perItemMs": 9},
    ]
    model = yaml.safe_load(MODEL) | {"status": {"profiles": rows}}
    found = read(SERVICE, yaml.safe_dump(model))
    assert found.workload.profile == Profile(0.004, 0.001)
    assert found.load_seconds == 31


def test_json_lists_and_cluster_models_are_read() -> None:
    service = yaml.safe_load(
        SERVICE.replace("{name: digits}", "{name: digits, kind: ClusterModel}")
    )
    model = yaml.safe_load(MODEL) | {"kind": "ClusterModel", "metadata": {"name": "digits"}}
    body = {"kind": "List", "apiVersion": "v1", "items": [service, model]}
    assert read(json.dumps(body, indent="\t")).workload.name == "digits"


def test_the_first_variant_with_a_profile_stands_in_and_is_named() -> None:
    body = yaml.safe_load(MODEL)
    second = dict(body["spec"]["variants"][0], name="fp16")
    del body["spec"]["variants"][0]["profile"]
    body["spec"]["variants"].append(second)
    (note,) = read(SERVICE, yaml.safe_dump(body)).notes
    assert "fp32, which Conch would run, has no profile: simulated is fp16" in note


@pytest.mark.parametrize(
    ("old", "new", "note"),
    [
        (", maxReplicas: 40", "", "maxReplicas is unset, so there are never more than 2"),
        ("{p99: 50ms}", "{}", "no request counts as late"),
        ("50ms", "4ms", "a run takes 5 ms, longer than spec.objective.p99 of 4ms"),
        ("  placement", "  replicas: 3\n  placement", "spec.replicas is set"),
        ("[Tesla-T4, NVIDIA-A100]", "[H100]", "no profile of fp32 is on an accelerator"),
    ],
)
def test_what_makes_a_simulation_less_telling_is_said(old: str, new: str, note: str) -> None:
    (found,) = read(SERVICE.replace(old, new), MODEL).notes
    assert note in found


def test_without_a_profile_the_lines_to_add_are_shown() -> None:
    with pytest.raises(FileError) as error:
        read(SERVICE, changed(MODEL, profile=None))
    text = str(error.value)
    assert "digits.yaml, line 17: Model 'digits': variant 'fp32' has no profile" in text
    assert "      profile:\n        Tesla-T4: {fixedMs: 5, perItemMs: 2}" in text
    assert "kubectl get model digits -o yaml" in text


OTHER = SERVICE.replace("name: digits, n", "name: other, n")
BROKEN = {
    "nothing": ([""], "digits.yaml has no ModelService"),
    "no service": ([MODEL], "has no ModelService: add the one to simulate"),
    "two services": (
        [SERVICE, OTHER, MODEL],
        r"several ModelServices \(digits, other\).*--service",
    ),
    "no model": (
        [SERVICE],
        "line 5: ModelService 'digits': its Model 'digits' of namespace vision",
    ),
    "other namespace": ([SERVICE, MODEL.replace("vision", "v2")], "has Model 'digits' of v2"),
    "no YAML": (["a: [1\nb: 2"], "digits.yaml, line 2: no YAML or JSON"),
    "no object": (["- 1"], "line 1: no Kubernetes object"),
    "unknown field": (
        [SERVICE.replace("minReplicas", "least"), MODEL],
        "line 7: ModelService 'digits': spec.scaling.least: Extra inputs",
    ),
    "no duration": (
        [SERVICE.replace("50ms", "50x"), MODEL],
        "line 6: .*objective.p99.*'50x' is not a",
    ),
    "wrong type": (
        [SERVICE, MODEL.replace("fixedMs: 3", "fixedMs: fast")],
        "line 24: Model 'digits': spec.variants.0.profile.Tesla-T4.fixedMs",
    ),
    "no variant": (
        [SERVICE.replace("{name: digits}", "{name: digits, variant: x}"), MODEL],
        "variant 'x'",
    ),
    "no time": (
        [SERVICE, MODEL.replace("{fixedMs: 3, perItemMs: 2}", "{fixedMs: 0, perItemMs: 0}")],
        "0 ms",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_can_not_be_simulated_is_refused_with_its_place(case: str) -> None:
    parts, message = BROKEN[case]
    with pytest.raises(FileError, match=message):
        read(*parts)


def test_one_of_several_services_is_named() -> None:
    assert read(SERVICE, OTHER, MODEL, service="other").workload.name == "other"
    with pytest.raises(FileError, match="no ModelService 'x'; it has: digits, other"):
        read(SERVICE, OTHER, MODEL, service="x")
