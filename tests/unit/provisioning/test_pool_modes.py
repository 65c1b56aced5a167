"""What pods ask for in pools of each mode, and where they may run."""

from typing import Any

import pytest

from conch.api.pool import GPUPoolSpec
from conch.provisioning.device_claim import claim_template, claim_template_name
from conch.provisioning.pod import pod_template
from conch.provisioning.resources import Pool, devices
from conch.provisioning.snapshot import Snapshot
from tests.kit.rendering import OWNER, POOL, example, service_spec

DRA = {"mode": "DRA", "deviceClass": "gpu.example.com"}


def place(name: str = "p", **fields: Any) -> Pool:
    return Pool(name, GPUPoolSpec.model_validate({**POOL.spec.to_dict(), **fields}))


def snapshot(gpus: int = 1, **resources: Any) -> Snapshot:
    return example(variant={"resources": {"gpus": gpus, **resources}})


def pod(of: Snapshot, pool: Pool) -> Any:
    return pod_template(of, pool, gated=False)


def triton(of: Snapshot, pool: Pool) -> Any:
    return pod(of, pool)["spec"]["containers"][0]


def environment(container: Any) -> dict[str, str]:
    return {e["name"]: e.get("value", "") for e in container["env"]}


@pytest.mark.parametrize("mode", ["MIG", "TimeSlice"])
def test_parts_of_gpus_are_asked_for_by_their_resource(mode: str) -> None:
    pool = place(resourceName="nvidia.com/part", sharing={"mode": mode, "devicesPerGPU": 4})
    limits = triton(snapshot(2), pool)["resources"]["limits"]
    assert limits == {"nvidia.com/part": "2", "cpu": "1000m", "memory": "2Gi"}


class TestCPU:
    POOL = place(sharing={"mode": "CPU"})

    @pytest.mark.parametrize(("gpus", "cpu"), [(0, "500m"), (1, "500m"), (3, "1500m")])
    def test_a_replica_gets_the_share_of_its_gpus_and_of_one_at_least(
        self, gpus: int, cpu: str
    ) -> None:
        resources = triton(snapshot(gpus), self.POOL)["resources"]
        assert resources["limits"] == resources["requests"]
        assert (resources["limits"]["cpu"], len(resources["limits"])) == (cpu, 2)
        assert devices(snapshot(gpus).variant, self.POOL) == 0

    def test_what_the_variant_says_goes_before_the_pools_share(self) -> None:
        limits = triton(snapshot(cpu="8"), self.POOL)["resources"]["limits"]
        assert limits == {"cpu": "8", "memory": "1Gi"}

    def test_gpus_of_the_node_are_hidden(self) -> None:
        """NVIDIA's runtime would show them all, and KIND_AUTO of the configuration take them."""
        assert environment(triton(snapshot(), self.POOL))["NVIDIA_VISIBLE_DEVICES"] == "void"
        assert "NVIDIA_VISIBLE_DEVICES" not in environment(triton(snapshot(), POOL))

    def test_unless_the_user_wants_them(self) -> None:
        own = {"env": [{"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"}]}
        found = triton(example(spec={"podTemplate": own}), self.POOL)
        assert environment(found)["NVIDIA_VISIBLE_DEVICES"] == "all"


class TestDRA:
    POOL = place(sharing=DRA)

    def test_a_pod_gets_its_devices_by_a_claim(self) -> None:
        made = pod(snapshot(2), self.POOL)
        name = claim_template_name(snapshot(2), self.POOL)
        assert made["spec"]["resourceClaims"] == [
            {"name": "devices", "resourceClaimTemplateName": name}
        ]
        resources = made["spec"]["containers"][0]["resources"]
        assert resources["claims"] == [{"name": "devices"}]
        assert resources["limits"] == {"cpu": "1000m", "memory": "2Gi"}
        assert "claims" not in made["spec"]["initContainers"][0]["resources"]

    def test_and_says_how_many_where_its_spec_does_not(self) -> None:
        found = pod(snapshot(2), self.POOL)["metadata"]["annotations"]
        assert found["conch.dev/devices"] == "conch.dev/dra-gpu.example.com=2"

    def test_users_can_not_say_it_for_themselves(self) -> None:
        own = {"annotations": {"conch.dev/devices": "conch.dev/dra-gpu.example.com=100"}}
        found = pod(example(spec={"podTemplate": own}), POOL)["metadata"]["annotations"]
        assert "conch.dev/devices" not in found

    def test_the_template_asks_for_exactly_so_many_and_goes_with_the_service(self) -> None:
        made = claim_template(snapshot(2), self.POOL, owner=OWNER)
        assert made is not None
        (request,) = made["spec"]["spec"]["devices"]["requests"]
        assert request["exactly"]["deviceClassName"] == "gpu.example.com"
        assert request["exactly"]["count"] == 2
        assert made["metadata"]["ownerReferences"][0]["uid"] == OWNER.uid
        assert made["metadata"]["labels"]["conch.dev/revision"] == snapshot(2).revision

    def test_another_class_is_another_template_since_one_can_not_be_changed(self) -> None:
        other = place(sharing={**DRA, "deviceClass": "mig.example.com"})
        names = {claim_template_name(snapshot(), p) for p in (self.POOL, other)}
        assert len(names) == 2

    def test_names_keep_within_their_limit(self) -> None:
        name = claim_template_name(example(service="s" * 52), place("p" * 200, sharing=DRA))
        assert name is not None
        assert len(name) <= 63

    def test_a_replica_that_needs_none_claims_none(self) -> None:
        assert claim_template(snapshot(0), self.POOL, owner=OWNER) is None
        made = pod(snapshot(0), self.POOL)
        assert "resourceClaims" not in made["spec"]
        assert "claims" not in made["spec"]["containers"][0]["resources"]
        assert "conch.dev/devices" not in made["metadata"]["annotations"]

    def test_other_pools_make_none(self) -> None:
        assert claim_template(snapshot(), POOL, owner=OWNER) is None


class TestZones:
    def test_are_a_bound_besides_the_pools_labels(self) -> None:
        made = pod(example(spec={"placement": {"zones": ["a", "b"]}}), POOL)
        affinity = made["spec"]["affinity"]["nodeAffinity"]
        (term,) = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
        assert term["matchExpressions"] == [
            {"key": "nvidia.com/gpu.product", "operator": "In", "values": ["NVIDIA-A100"]},
            {"key": "topology.kubernetes.io/zone", "operator": "In", "values": ["a", "b"]},
        ]

    def test_follow_the_service_and_make_no_revision(self) -> None:
        plain, bound = example(), example(spec={"placement": {"zones": ["a"]}})
        assert plain.revision == bound.revision
        assert plain.following(service_spec(placement={"zones": ["a"]})) == bound
        assert plain.to_data() == bound.to_data()
