"""The data plane does not need the operator, and an upgrade of it restarts no pod."""

import pytest

from e2e.install import NAMESPACE, RELEASE, ROOT, Stage
from e2e.kubectl import Tools, names, wait_for
from e2e.scratch import READY_S, Object, Scratch, adding, python_model, service, uids
from e2e.traffic import more_answers, steady

pytestmark = pytest.mark.cluster

OTHER_IMAGE = "127.0.0.1:1/triton:another"
OTHER_ARGUMENT = "--log-verbose=1"


def test_a_lost_pod_comes_back_without_the_operator_which_then_rewrites_nothing(
    place: Scratch, stage: Stage
) -> None:
    place.apply(*python_model("add", adding(1)), service("add", pools=("t4",)))
    (lost,) = place.await_ready("add")

    scale_operator(stage.tools, 0)
    try:
        place.kubectl("delete", "pod", lost["metadata"]["name"], "--grace-period=1")
        (found,) = wait_for(
            "another pod",
            lambda: [p for p in place.pods("add", ready=True) if uids([p]) != uids([lost])],
            timeout=READY_S,
        )
        with steady(place, "add", rate=5) as tally:
            more_answers(tally, 20)
        before = written(place)
    finally:
        scale_operator(stage.tools, 1)

    await_decisions(place, "after-return")
    assert uids(place.pods("add")) == uids([found])
    assert written(place) == before


def test_an_upgrade_with_other_defaults_of_triton_restarts_no_pod(
    place: Scratch, stage: Stage
) -> None:
    place.apply(*python_model("add", adding(1)), service("add", pools=("t4",)))
    pods, before = place.await_ready("add"), written(place)
    kept = stage.tools.helm("get", "values", RELEASE, "-n", NAMESPACE, "-o", "yaml")
    try:
        settings = (f"triton.image={OTHER_IMAGE}", f"triton.args={{{OTHER_ARGUMENT}}}")
        upgrade(stage.tools, kept, *(word for each in settings for word in ("--set", each)))
        # The new operator is at work, and gives new services the new image.
        place.apply(service("new", of="add", pools=("a100",)))
        place.await_condition("new", "Ready", status="False", reason="ImageUnavailable")
        assert images(place, "new") == {OTHER_IMAGE}
        assert OTHER_ARGUMENT in arguments(place, "new")
    finally:
        upgrade(stage.tools, kept)
    await_decisions(place, "after-upgrade")
    assert uids(place.pods("add")) == uids(pods)
    assert written(place) == before


def written(place: Scratch) -> dict[str, int]:
    """Return the generation of each ReplicaSet of the service: it counts changes of the spec."""
    return {s["metadata"]["name"]: s["metadata"]["generation"] for s in sets(place, "add")}


def sets(place: Scratch, name: str) -> list[Object]:
    """Return the ReplicaSets of a service."""
    return place.all("replicasets", "-l", f"conch.dev/service={name}")


def images(place: Scratch, name: str) -> set[str]:
    """Return the Triton images that a service's pods are made with."""
    return {t["image"] for t in tritons(place, name)}


def arguments(place: Scratch, name: str) -> list[str]:
    """Return the arguments that a service's only Triton is started with."""
    (triton,) = tritons(place, name)
    return list(triton["args"])


def tritons(place: Scratch, name: str) -> list[Object]:
    """Return the Triton containers of a service's templates."""
    return [s["spec"]["template"]["spec"]["containers"][0] for s in sets(place, name)]


def await_decisions(place: Scratch, name: str) -> None:
    """Wait until an operator has decided on the fleet: it judges a service made just now."""
    place.apply(service(name, of="no-such-model"))
    place.await_condition(name, "Ready", status="False", reason="ModelNotFound")


def scale_operator(tools: Tools, replicas: int) -> None:
    """Set how many operators run; return once none is left, or the only one leads."""
    tools.kubectl("-n", NAMESPACE, "scale", "deploy", "conch", f"--replicas={replicas}")
    await_operators(tools, replicas)


def await_operators(tools: Tools, replicas: int) -> None:
    """Wait until no operator is left, or the one that is there leads."""

    def right() -> bool:
        label = "app.kubernetes.io/name=conch"
        there = names(tools.list("pods", "-n", NAMESPACE, "-l", label))
        lease = tools.get("lease", "conch-operator", NAMESPACE) or {}
        holder = lease.get("spec", {}).get("holderIdentity") or ""
        return len(there) == replicas and all(holder.startswith(name) for name in there)

    wait_for(f"{replicas} operators, the only one in the lead", right, timeout=READY_S)


def upgrade(tools: Tools, values: str, *words: str) -> None:
    """Upgrade the release to these values, and more; return once the new operator leads."""
    tools.run(
        "helm",
        *("upgrade", RELEASE, str(ROOT / "charts" / "conch"), "--namespace", NAMESPACE),
        *("--reset-values", "--values", "-", "--skip-crds", "--wait", "--timeout", "180s", *words),
        given=values,
        timeout=200,
    )
    await_operators(tools, 1)
