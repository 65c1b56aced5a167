"""No data is a value: without metrics nothing scales down."""

from collections.abc import Iterator
from time import monotonic, sleep

import pytest

from e2e.cluster.cluster import ensure
from e2e.cluster.local import LocalCluster
from e2e.cluster.progress import terminal_reporter
from e2e.cluster.settings import Layout
from e2e.install import Stage
from e2e.scratch import Scratch, adding, python_model, service, uids

pytestmark = pytest.mark.cluster

WINDOW_S = 10
PACE = {"window": "10s", "scaleDownWindow": f"{WINDOW_S}s"}


@pytest.fixture
def local(stage: Stage) -> Iterator[LocalCluster]:
    """The local cluster, all of whose parts run again in the end."""
    if not stage.cluster.local:
        pytest.skip("the Prometheus of the cluster that KUBECONFIG names is not ours to stop")
    yield LocalCluster(Layout.default(), stage.cluster.bin)
    ensure(terminal_reporter())


def test_without_prometheus_nothing_scales_down_until_it_is_back(
    place: Scratch, local: LocalCluster
) -> None:
    bounds = {"minReplicas": 1, "maxReplicas": 2, **PACE}
    place.apply(
        *python_model("idle", adding(1)),
        service("idle", pools=("t4", "a100"), scaling=bounds, replicas=2),
    )
    pods = place.await_ready("idle", 2)

    local.stop_part("prometheus", report=terminal_reporter())
    place.apply(service("idle", pools=("t4", "a100"), scaling=bounds))
    place.kubectl("patch", "modelservice", "idle", "--type=merge", "-p", UNSET)
    blind = place.await_condition("idle", "ScalingActive", status="Unknown", reason="NoMetrics")
    assert "none is removed" in blind["message"]
    assert stays(place, WINDOW_S * 2) == uids(pods)

    ensure(terminal_reporter())
    (left,) = place.await_ready("idle", 1)
    assert uids([left]) < uids(pods)
    place.await_condition("idle", "ScalingActive", status="True", reason="Scaling")


UNSET = '{"spec": {"replicas": null}}'


def stays(place: Scratch, seconds: float) -> set[str]:
    """Return all pods that were seen in so much time; one that leaves meanwhile is an error."""
    until, seen = monotonic() + seconds, uids(place.pods("idle"))
    while monotonic() < until:
        now = uids(place.pods("idle"))
        assert now >= seen, "a pod left"
        seen |= now
        sleep(1)
    return seen
