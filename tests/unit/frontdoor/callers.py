"""Services as their callers see them, and strategies for models of any kind."""

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from conch.api.model import Datatype
from conch.frontdoor.page import Addresses, ServicePage, page_of

Object = dict[str, Any]
ADDRESSES = Addresses(
    "http://conch-front-door.conch-system.svc", "conch-front-door.conch-system.svc:8001"
)
IMAGE = {"name": "image", "datatype": "FP32", "shape": [64]}
PROBABILITIES = {"name": "probabilities", "datatype": "FP32", "shape": [10]}


def model(
    inputs: Sequence[Object] = (IMAGE,),
    outputs: Sequence[Object] = (PROBABILITIES,),
    *,
    batch: int = 8,
    task: str | None = "image-classification",
) -> Object:
    accuracy = {"metric": "top1", "value": 0.9956, "dataset": "digits-test"}
    files = {"source": {"uri": "pvc://models/digits"}, "backend": "python"}
    return {
        "metadata": {"name": "digits", "namespace": "vision"},
        "spec": {
            "task": task,
            "inputs": list(inputs),
            "outputs": list(outputs),
            "variants": [
                {"name": "fp32", "maxBatchSize": batch, "accuracy": accuracy, **files},
                {"name": "int8", "maxBatchSize": 32, **files},
            ],
        },
    }


def service(endpoint: Object | None = None, **status: Any) -> Object:
    return {
        "metadata": {"name": "answers", "namespace": "vision"},
        "spec": {"model": {"name": "digits"}, "endpoint": endpoint or {}},
        "status": status,
    }


def page(
    inputs: Sequence[Object] = (IMAGE,),
    outputs: Sequence[Object] = (PROBABILITIES,),
    *,
    batch: int = 8,
    addresses: Addresses = ADDRESSES,
    task: str | None = None,
    **endpoint: Any,
) -> ServicePage:
    return page_of(service(endpoint), model(inputs, outputs, batch=batch, task=task), addresses)


NASTY = (
    "'; rm -rf ~ #",
    '"$(touch hacked)`touch hacked`',
    "</pre></code><script>alert(1)</script>",
    "END",
    "two\nEND\ntouch hacked\n",
    "\\",
    "${KEY}",
    "%s {0} {name} $title",
    "\u202e\u2028\x7f",
    "Größe 大きさ",
)
"""Names that mean something in HTML, JSON, Python or a shell."""

names = st.sampled_from(NASTY) | st.text(
    st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20
)
shapes = st.lists(st.integers(-1, 3), min_size=1, max_size=3)
small_tensors = st.builds(
    lambda name, datatype, shape: {"name": name, "datatype": datatype, "shape": shape},
    names,
    st.sampled_from([d.value for d in Datatype]),
    shapes,
)
tensors = st.lists(small_tensors, min_size=1, max_size=3, unique_by=lambda t: t["name"])
