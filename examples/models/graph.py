"""ONNX models from nodes and constants, in a form that ONNX Runtime has read since 1.10."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSETS = {"": 15, "ai.onnx.ml": 3}
_IR_VERSION = 8


@dataclass(frozen=True)
class Port:
    """An input or output: a batch of items, each a row of ``width`` floats."""

    name: str
    width: int

    def info(self) -> onnx.ValueInfoProto:
        """Return its description in a graph."""
        return helper.make_tensor_value_info(self.name, TensorProto.FLOAT, ["batch", self.width])


def node(
    operator: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any
) -> onnx.NodeProto:
    """Return one node."""
    return helper.make_node(operator, inputs, outputs, **attributes)


def build(
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, NDArray[Any]],
    *,
    source: Port,
    results: Sequence[Port],
) -> onnx.ModelProto:
    """Return the checked model; constants of float become float32, of int become int64."""
    graph = helper.make_graph(
        list(nodes),
        "sample",
        [source.info()],
        [port.info() for port in results],
        [numpy_helper.from_array(_plain(value), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
    model = helper.make_model(
        graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="conch-examples"
    )
    onnx.checker.check_model(model)
    return model


def _plain(value: NDArray[Any]) -> NDArray[Any]:
    wanted = np.float32 if np.issubdtype(value.dtype, np.floating) else np.int64
    return np.ascontiguousarray(value, dtype=wanted)
