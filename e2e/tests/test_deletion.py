import pytest

from e2e.kubectl import names, wait_for
from e2e.models import TUMOR
from e2e.scratch import READY_S, Scratch, adding, python_model, sample_objects, service, uids
from e2e.traffic import more_answers, steady

pytestmark = pytest.mark.cluster

KINDS = (
    "pods",
    "replicasets",
    "services",
    "endpointslices",
    "poddisruptionbudgets",
    "serviceaccounts",
    "configmaps",
    "controllerrevisions",
    "persistentvolumeclaims",
)
SLOW = f"import time\ntime.sleep(600)\n{adding(0)}"
"""A model that is still loading when it is deleted."""


def children(place: Scratch, *services: str) -> list[str]:
    """Return all that belongs to services, volumes included."""
    wanted = f"conch.dev/service in ({', '.join(services)})"
    found = place.all(",".join(KINDS), "-l", wanted)
    volumes = place.stage.tools.list("persistentvolumes", "-l", wanted)
    mine = [v for v in volumes if v["spec"]["claimRef"]["namespace"] == place.namespace]
    return [f"{o['kind']}/{o['metadata']['name']}" for o in (*found, *mine)]


def test_a_service_deleted_while_loading_leaves_nothing(place: Scratch) -> None:
    place.apply(
        *python_model("slow", SLOW),
        # Triton hears SIGTERM only once it has loaded, so the grace period is waited for.
        service("slow", pools=("a100",), scaling={"drainTimeout": "1s"}),
        *sample_objects(place.stage, TUMOR, name="from-file"),
    )
    names_of_services = ("slow", "from-file")
    wait_for(
        "both to be loading, from a volume each",
        lambda: (
            all(len(place.pods(name)) == 1 for name in names_of_services)
            and any(c.startswith("PersistentVolume/") for c in children(place, "from-file"))
        ),
        timeout=READY_S,
    )
    wait_for("Triton to load", lambda: running(place, "slow"), timeout=READY_S)
    assert place.condition("slow", "Ready")["status"] == "False"

    place.kubectl("delete", "modelservice", *names_of_services)
    # What the first of that name left does not stand in the way of the second.
    place.apply(*sample_objects(place.stage, TUMOR, name="from-file"))
    place.await_ready("from-file")
    place.kubectl("delete", "modelservice", "from-file")
    wait_for(
        "nothing to be left",
        lambda: not children(place, *names_of_services),
        timeout=READY_S,
        seen=lambda: str(children(place, *names_of_services)),
    )


def running(place: Scratch, name: str) -> bool:
    """Tell whether Triton of the only pod runs."""
    (pod,) = place.pods(name)
    statuses = pod.get("status", {}).get("containerStatuses") or []
    return any("running" in s["state"] for s in statuses)


def test_a_model_deleted_while_in_use_harms_nothing(place: Scratch) -> None:
    bounds = {"minReplicas": 1, "maxReplicas": 2}
    place.apply(*python_model("add", adding(1)), service("add", pools=("t4",), scaling=bounds))
    pods = place.await_ready("add")
    with steady(place, "add", rate=5) as tally:
        place.kubectl("delete", "model", "add")
        stalled = place.await_condition("add", "Stalled", status="True", reason="ModelNotFound")
        assert "add" in stalled["message"]
        place.await_condition("add", "Ready", status="True", reason="Serving")

        place.kubectl("scale", "modelservice", "add", "--replicas=2")
        assert uids(place.await_ready("add", 2)) > uids(pods)
        more_answers(tally, 20)
        place.kubectl("scale", "modelservice", "add", "--replicas=1")
        (left,) = place.await_ready("add", 1)
    assert names([left]) == names(pods)
