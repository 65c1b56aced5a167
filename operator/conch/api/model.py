"""Model and ClusterModel: what a model is, and the variants that it comes in."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from conch.api.base import Duration, KubeModel, Name, Quantity, Token, rule, rules
from conch.api.conditions import Condition

_SCHEMES = ("pvc", "file", "http", "https", "s3", "gs", "hf", "oci")


class Datatype(StrEnum):
    """Triton's tensor types, as in the KServe v2 protocol."""

    BOOL = "BOOL"
    UINT8 = "UINT8"
    UINT16 = "UINT16"
    UINT32 = "UINT32"
    UINT64 = "UINT64"
    INT8 = "INT8"
    INT16 = "INT16"
    INT32 = "INT32"
    INT64 = "INT64"
    FP16 = "FP16"
    BF16 = "BF16"
    FP32 = "FP32"
    FP64 = "FP64"
    BYTES = "BYTES"


class Tensor(KubeModel):
    """One input or output: its shape is of one item, without the batch; -1 is any length."""

    name: Token
    """name by which Triton and its callers know it"""
    datatype: Datatype
    """Triton's name of the type"""
    shape: Annotated[list[Annotated[int, Field(ge=-1)]], Field(min_length=1, max_length=16)]
    """shape of one item, without the batch; -1 is any length"""


class SecretRef(KubeModel):
    """A Secret in the namespace of the service."""

    name: Name
    """name of the Secret; docs/sources.md lists the keys that each kind of source takes"""


class ConfigMapRef(KubeModel):
    """A ConfigMap in the namespace of the service; its keys become files."""

    name: Name
    """name of the ConfigMap"""


class Source(KubeModel):
    """Where a variant's files come from: exactly one of uri and configMap."""

    model_config = {
        "json_schema_extra": rules(
            rule(
                "has(self.uri) != has(self.configMap)",
                "give exactly one source: either uri or configMap",
            )
        )
    }

    uri: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=2048,
            description="pvc://CLAIM/PATH, file:///PATH, http(s)://HOST/PATH, s3://BUCKET/PATH, "
            "gs://BUCKET/PATH, hf://ORGANISATION/NAME[@REVISION][/PATH], "
            "oci://REGISTRY/REPOSITORY[:TAG|@DIGEST]",
            json_schema_extra=rules(
                rule(
                    f"self.matches('^({'|'.join(_SCHEMES)})://.+')",
                    "must be a URI such as pvc://claim/path, s3://bucket/path or https://host/path",
                )
            ),
        ),
    ] = None
    config_map: ConfigMapRef | None = None
    sha256: Annotated[
        str | None,
        Field(
            max_length=64,
            description="of the file, or of a directory as `kubectl conch digest DIR` prints it",
            json_schema_extra=rules(
                rule("self.matches('^[0-9a-f]{64}$')", "must be 64 hexadecimal digits")
            ),
        ),
    ] = None
    secret_ref: SecretRef | None = None
    token_audience: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=512,
            description="for s3:// and gs://: the download gets a token of the pod's ServiceAccount "
            "for this audience, such as sts.amazonaws.com, where no webhook of the cloud gives one",
        ),
    ] = None


class Accuracy(KubeModel):
    """A measured quality of a variant; greater is better."""

    metric: Token
    """what was measured, such as top1"""
    value: float
    """compared with objective.minAccuracy of services"""
    dataset: Token | None = None
    """data set on which it was measured, not that of the training"""


class VariantResources(KubeModel):
    """What one replica needs."""

    gpus: Annotated[int, Field(ge=0, le=64)] = 1
    """devices of the pool that one replica takes: GPUs, or parts of them where the pool divides them; none in a pool without GPUs"""
    memory: Quantity | None = None
    """memory of Triton's container; unset: perGPU.memory of the pool for each device"""
    cpu: Quantity | None = None
    """cores of Triton's container; unset: perGPU.cpu of the pool for each device"""


class Profile(KubeModel):
    """Time of one execution of b items: fixedMs + b x perItemMs, in milliseconds."""

    fixed_ms: Annotated[float, Field(ge=0)]
    """milliseconds of one execution, whatever its batch"""
    per_item_ms: Annotated[float, Field(ge=0)]
    """milliseconds more for each item of the batch"""


class Variant(KubeModel):
    """One form of the model (fp32, int8, distilled): its files, quality and cost."""

    name: Name
    """name, which spec.model.variant of a service may ask for"""
    source: Source
    backend: Token
    """Triton's backend: python, onnxruntime, tensorrt, pytorch, openvino, ..."""
    max_batch_size: Annotated[int, Field(ge=0, le=4096)] = 0
    """largest batch; 0: the model has no batch dimension"""
    instances: Annotated[int, Field(ge=1, le=64)] = 1
    """copies of the model that one replica runs at once"""
    max_queue_delay: Duration | None = None
    """how long Triton waits to fill a batch"""
    accuracy: Accuracy | None = None
    resources: VariantResources = VariantResources()
    parameters: Annotated[dict[str, Annotated[str, Field(max_length=4096)]], Field()] = {}
    """passed to the backend, as parameters in Triton's configuration"""
    profile: Annotated[
        dict[str, Profile], Field(description="by accelerator; measured where absent")
    ] = {}


class ModelSpec(KubeModel):
    """What the model does, and in which variants it is there."""

    model_config = {
        "json_schema_extra": rules(
            rule(
                "self.variants.all(v, self.variants.exists_one(w, w.name == v.name))",
                "give each variant a name of its own",
            )
        )
    }

    task: Token | None = None
    """for people, such as image-classification"""
    inputs: Annotated[list[Tensor], Field(max_length=64)] = []
    """used for Triton's configuration where the files bring none"""
    outputs: Annotated[list[Tensor], Field(max_length=64)] = []
    """used for Triton's configuration where the files bring none"""
    warmup: Annotated[
        dict[str, Annotated[str, Field(max_length=65536)]],
        Field(
            max_length=64,
            description='by input: JSON of one item, such as "[0.1, 0.2]", with which a replica is '
            "asked before it takes another's place; zeros where an input is not named",
        ),
    ] = {}
    variants: Annotated[list[Variant], Field(min_length=1, max_length=32)]
    """of those that suit, the one with the fewest GPUs is chosen, then the first"""


class MeasuredProfile(KubeModel):
    """What the running replicas of a variant showed on an accelerator."""

    variant: str
    """variant of the model"""
    accelerator: str
    """accelerator of the pool"""
    fixed_ms: float | None = None
    """milliseconds of one execution, whatever its batch; unset: not known yet"""
    per_item_ms: float | None = None
    """milliseconds more for each item of the batch; unset: not known yet"""
    load_seconds: float | None = None
    """seconds that 9 of 10 starts take at most, from the node given to ready"""
    as_of: str | None = None
    """time of the measurement"""


class ModelStatus(KubeModel):
    """Facts about a model."""

    observed_generation: int | None = None
    """generation of the spec that the status is about"""
    conditions: list[Condition] = []
    profiles: list[MeasuredProfile] = []
    """what running replicas showed"""
