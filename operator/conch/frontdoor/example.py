"""One request that fits a model, made from its tensors."""

import math
from dataclasses import dataclass

from conch.api.model import Datatype, Tensor
from conch.frontdoor.page import ServicePage

FREE = 4
"""How long the example makes a dimension of any length."""

MOST_IN_JSON = 1024
"""Elements of all inputs together above which the example sends bytes, as callers should too."""

_FLOATS = (Datatype.FP16, Datatype.BF16, Datatype.FP32, Datatype.FP64)
_BYTES_ONLY = (Datatype.FP16, Datatype.BF16)
_NUMPY = {
    Datatype.BOOL: "np.bool_",
    Datatype.BF16: "ml_dtypes.bfloat16",  # numpy has none of its own
    Datatype.FP16: "np.float16",
    Datatype.FP32: "np.float32",
    Datatype.FP64: "np.float64",
    Datatype.BYTES: "np.object_",
}
_SIZES = {Datatype.BOOL: 1, Datatype.BF16: 2, Datatype.BYTES: 4}
"""Bytes of an element that is zero; of BYTES that is an empty text behind its length."""

Scalar = bool | int | float | str


def bytes_only(tensor: Tensor) -> bool:
    """Tell whether Triton neither takes nor gives JSON of a tensor."""
    return tensor.datatype in _BYTES_ONLY


@dataclass(frozen=True)
class Example:
    """A value for one input: the same element throughout."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    """As it is sent, a batch of one first where the model has batches."""

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def size(self) -> int:
        """Number of bytes where all elements are zero."""
        width = _SIZES.get(self.datatype) or int("".join(filter(str.isdigit, self.datatype))) // 8
        return width * self.count

    @property
    def element(self) -> Scalar:
        """Each element, as JSON and Python have it."""
        if self.datatype in _FLOATS:
            return 0.5
        if self.datatype is Datatype.BOOL:
            return True
        return "text" if self.datatype is Datatype.BYTES else 1

    @property
    def numpy(self) -> str:
        """What a program calls numpy's type for it."""
        return _NUMPY.get(self.datatype, f"np.{self.datatype.value.lower()}")


def examples(page: ServicePage) -> tuple[Example, ...]:
    """Return a value for each input."""
    return tuple(_example(page, tensor) for tensor in page.inputs)


def _example(page: ServicePage, tensor: Tensor) -> Example:
    batch = (1,) if page.max_batch_size else ()
    item = (FREE if size < 0 else size for size in tensor.shape)
    return Example(tensor.name, tensor.datatype, (*batch, *item))


def in_json(page: ServicePage) -> bool:
    """Tell whether the example's inputs stand in the JSON, instead of as bytes behind it."""
    few = sum(e.count for e in examples(page)) <= MOST_IN_JSON
    return few and not any(bytes_only(t) for t in page.inputs)


def answered_in_json(page: ServicePage) -> bool:
    """Tell whether all outputs can stand in the JSON of the answer."""
    return not any(bytes_only(t) for t in page.outputs)


def request(page: ServicePage) -> dict[str, object]:
    """Return the JSON of the request; where inputs are not in it, their bytes follow in order."""
    asked = {} if answered_in_json(page) else {"outputs": _outputs(page)}
    return {"inputs": [_input(e, in_json=in_json(page)) for e in examples(page)], **asked}


def _input(example: Example, *, in_json: bool) -> dict[str, object]:
    head = {"name": example.name, "datatype": str(example.datatype), "shape": [*example.shape]}
    if in_json:
        return {**head, "data": [example.element] * example.count}
    return {**head, "parameters": {"binary_data_size": example.size}}


def _outputs(page: ServicePage) -> list[dict[str, object]]:
    return [
        {"name": t.name, **({"parameters": {"binary_data": True}} if bytes_only(t) else {})}
        for t in page.outputs
    ]
