from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from e2e.models import DIGITS, TUMOR, Sample
from e2e.questions import ask_grpc, ask_rest
from e2e.samples import questions
from e2e.scratch import Scratch, sample_objects

pytestmark = pytest.mark.cluster

ASKED = 60
BATCH = {DIGITS: 6, TUMOR: 4}
POOLS = ("a100", "t4")


def test_both_samples_answer_right_on_each_pool_over_rest_and_grpc(place: Scratch) -> None:
    services = [(sample, pool) for sample in (DIGITS, TUMOR) for pool in POOLS]
    for sample, pool in services:
        wish = {"placement": {"pools": [pool]}}
        objects = sample_objects(place.stage, sample, name=f"{sample.name}-{pool}", spec=wish)
        place.apply(*objects)
    for sample, pool in services:
        (pod,) = place.await_ready(f"{sample.name}-{pool}")
        assert pod["metadata"]["labels"]["conch.dev/pool"] == pool
        assert pod["spec"]["nodeName"] == f"conch-{pool}" or not place.stage.cluster.local

    with ThreadPoolExecutor() as threads:
        shares = list(threads.map(lambda each: share_right(place, *each), services))

    for (sample, pool), share in zip(services, shares, strict=True):
        stated = place.there("model", sample.name)["spec"]["variants"][0]["accuracy"]["value"]
        # Of 60 items at most four more are wrong than stated.
        assert share >= stated - 4 / ASKED, f"{sample.name} on {pool}: {share} of {ASKED} right"


def share_right(place: Scratch, sample: Sample, pool: str) -> float:
    """Ask one half over REST and the other over gRPC; return the share of right answers."""
    address = place.address(f"{sample.name}-{pool}")
    asked, right = questions(sample, ASKED), 0
    assert len(asked) == ASKED
    for number, start in enumerate(range(0, ASKED, BATCH[sample])):
        part = asked[start : start + BATCH[sample]]
        given = (sample.input, np.concatenate([q.value for q in part]))
        ask = (ask_rest, ask_grpc)[number % 2]
        answer = ask(address, sample.name, given=given, wanted=sample.output)
        assert answer.shape == (len(part), len(part[0].names))
        assert np.allclose(answer.sum(axis=1), 1, atol=1e-3)
        likeliest = answer.argmax(axis=1)
        right += sum(q.names[i] == q.truth for q, i in zip(part, likeliest, strict=True))
    return right / ASKED
