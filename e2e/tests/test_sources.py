"""A model from a bucket: its Secret is missing, then there; the pod that waits goes on by itself."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from e2e.cluster.settings import ADDRESS
from e2e.questions import ask_rest
from e2e.scratch import Object, Scratch, adding, model, service
from tests.kit.model_servers import PASSWORD, S3, USER

pytestmark = pytest.mark.cluster

SOURCE = {
    "uri": "s3://models/bucket",
    "secretRef": {"name": "bucket-reader"},
    "tokenAudience": "sts.amazonaws.com",
}


@pytest.fixture
def s3(place: Scratch, tmp_path: Path) -> Iterator[S3]:
    """An S3 server that pods reach."""
    if not place.stage.cluster.local:
        pytest.skip("pods of a cluster of your own may not reach a server on this machine")
    with S3.start(tmp_path, host=ADDRESS) as found:
        found.put("bucket", {"model.py": adding(1).encode(), "weights.bin": bytes(1 << 20)})
        found.relay.forget()
        yield found


def test_a_model_comes_from_a_bucket_once_its_secret_is_there(place: Scratch, s3: S3) -> None:
    place.apply(model("bucket", source=SOURCE), service("bucket", pools=("t4",)))
    told = place.await_condition("bucket", "Loaded", status="False", reason="SourceUnavailable")
    assert "Secret 'bucket-reader' does not exist in the service's namespace" in told["message"]
    assert not s3.relay.asked

    place.apply(reader(s3.relay.url))
    (pod,) = place.await_ready("bucket")
    assert answer(place) == [2, 3, 4, 5]

    fetched = pod["status"]["initContainerStatuses"][0]
    said = place.kubectl("logs", pod["metadata"]["name"], "-c", "fetch") + str(fetched)
    assert "bucket: 2 files, " in said
    assert PASSWORD not in said
    fetch, triton = (mounts(pod["spec"][k][0]) for k in ("initContainers", "containers"))
    assert {"/credentials", "/identity"} <= fetch
    assert not {"/credentials", "/identity"} & triton


def mounts(container: Object) -> set[str]:
    """Return where a container has its volumes."""
    return {m["mountPath"] for m in container["volumeMounts"]}


def reader(url: str) -> Object:
    """Return the Secret by which the bucket is read."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "bucket-reader"},
        "stringData": {
            "AWS_ACCESS_KEY_ID": USER,
            "AWS_SECRET_ACCESS_KEY": PASSWORD,
            "AWS_ENDPOINT_URL": url,
        },
    }


def answer(place: Scratch) -> list[float]:
    """Return what the service answers to 1, 2, 3, 4."""
    given = np.array([[1, 2, 3, 4]], dtype=np.float32)
    found = ask_rest(place.address("bucket"), "bucket", given=("x", given), wanted="sum")
    return [float(x) for x in found[0]]
