"""Replicas are asked with inputs of any type, and what they answer is understood."""

from collections.abc import Sequence
from typing import Any

import pytest

from conch.api.model import Datatype, Tensor
from conch.clients.triton import ReplicaRefuses, Replicas, ReplicaUnreachable, TritonReplicas
from conch.clients.triton_fake import FakeReplicas
from tests.kit.kserve import ModelServer, Served

HERE, NOBODY = "127.77.3.1", "127.77.3.2"


def tensor(name: str, datatype: Datatype, *shape: int) -> Tensor:
    return Tensor(name=name, datatype=datatype, shape=list(shape))


def served(*inputs: Tensor, most: int = 0) -> Served:
    return Served("vision/digits", "digits", inputs, [tensor("y", Datatype.FP16, 2)], most)


async def timed(
    *inputs: Tensor, values: dict[str, str] | None = None, most: int = 0, model: str = "digits"
) -> tuple[Sequence[float], ModelServer]:
    with ModelServer(served(*inputs, most=most), pod=HERE) as server:
        return await TritonReplicas().timed(HERE, model, values or {}, count=3), server


async def test_all_types_are_asked_with_zeros() -> None:
    inputs = [tensor(str(kind), kind, 2, -1) for kind in Datatype]
    seconds, server = await timed(*inputs)
    assert len(seconds) == 3
    assert all(s > 0 for s in seconds)
    assert [a.inputs for a in server.asked] == 3 * [{str(kind): (2, 1) for kind in Datatype}]


async def test_a_batch_has_one_item_and_values_are_those_of_the_model() -> None:
    values = {"text": '["a", "b"]', "x": "[[1.5, 2], [3, 4]]"}
    inputs = [tensor("text", Datatype.BYTES, -1), tensor("x", Datatype.FP32, 2, 2)]
    _, server = await timed(*inputs, values=values, most=8)
    first = server.asked[0]
    assert first.inputs == {"text": (1, 2), "x": (1, 2, 2)}
    assert [i["data"] for i in first.body["inputs"]] == [["a", "b"], [1.5, 2, 3, 4]]


@pytest.mark.parametrize("values", [{"x": "no JSON"}, {"x": '["text"]'}, {"x": "[1, 2, 3, 4, 5]"}])
async def test_what_it_refuses_is_told_in_its_words(values: dict[str, str]) -> None:
    with pytest.raises(ReplicaRefuses):
        await timed(tensor("x", Datatype.FP32, 2, 2), values=values)


async def test_another_model_is_refused() -> None:
    with pytest.raises(ReplicaRefuses, match="status 404"):
        await timed(tensor("x", Datatype.FP32, 2), model="other")


@pytest.mark.parametrize("replicas", [TritonReplicas(), FakeReplicas({HERE: 0.1})])
async def test_the_fake_does_as_the_real_ones(replicas: Replicas) -> None:
    with ModelServer(served(tensor("x", Datatype.FP32, 2)), pod=HERE):
        assert len(await replicas.timed(HERE, "digits", {}, count=2)) == 2
    with pytest.raises(ReplicaUnreachable, match=NOBODY):
        await replicas.timed(NOBODY, "digits", {}, count=1)


def test_a_fake_fails_as_it_is_told() -> None:
    fake: Any = FakeReplicas({HERE: ReplicaRefuses("no")})
    assert isinstance(fake.seconds[HERE], ReplicaRefuses)
