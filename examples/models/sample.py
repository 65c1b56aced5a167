"""A trained model, the held-out data that it is judged by, and how it is judged."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]
_JUDGED_AT_ONCE = 16
_TIMED_CALLS = 20


@dataclass(frozen=True)
class Sample:
    """A model of one input and of class probabilities as its first output."""

    name: str
    model: onnx.ModelProto
    dataset: str
    held_out: Floats
    labels: Labels


@dataclass(frozen=True)
class Judgement:
    """Share of held-out items whose likeliest class is right, and time on one core."""

    top1: float
    items: int
    ms_per_item: float


def session(model: onnx.ModelProto) -> ort.InferenceSession:
    """Return a session on one thread, as the served model has it."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def run(model: onnx.ModelProto, items: Floats) -> Floats:
    """Return the first output of ``model`` for each of ``items``."""
    runner = session(model)
    name = runner.get_inputs()[0].name
    return np.concatenate([runner.run(None, {name: part})[0] for part in _parts(items)])


def judge(sample: Sample) -> Judgement:
    """Measure a sample on its held-out data."""
    likeliest = run(sample.model, sample.held_out).argmax(axis=1)
    return Judgement(
        top1=round(float((likeliest == sample.labels).mean()), 4),
        items=len(sample.labels),
        ms_per_item=round(_milliseconds(sample), 2),
    )


def _parts(items: Floats) -> Iterator[Floats]:
    return (items[i : i + _JUDGED_AT_ONCE] for i in range(0, len(items), _JUDGED_AT_ONCE))


def _milliseconds(sample: Sample) -> float:
    runner = session(sample.model)
    call = {runner.get_inputs()[0].name: sample.held_out[:1]}
    runner.run(None, call)
    started = time.process_time()
    for _ in range(_TIMED_CALLS):
        runner.run(None, call)
    return (time.process_time() - started) / _TIMED_CALLS * 1e3
