"""What the API server lets in, Conch can read: specs made by chance, judged by both."""

from typing import Any

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from conch.api.crd import BY_KIND
from conch.api.names import GROUP, VERSION
from tests.kit.client import ApiError
from tests.kit.control_plane import Cluster


def mostly(good: list[Any], bad: list[Any]) -> st.SearchStrategy[Any]:
    """Values that are right, and now and then one that is not."""
    return st.integers(0, 39).flatmap(lambda n: st.sampled_from(bad if n == 0 else good))


window = mostly(["1s", "1m30s", "1.5h", "24h", "86400s"], ["0s", "25h", "", "999999999h"])
cron = mostly(
    ["0 8 * * 1-5", "*/5 0-23/2 L jan,Feb sun#2", "0  8 1,15 * 5L"], ["0 8 * *", "60 8 * * *", "a"]
)
zone_name = mostly(["UTC", "Europe/Berlin", "America/Argentina/Ushuaia"], ["", "a b", "/UTC"])
duration = mostly(["50ms", "1m30s", "0s", "1.5h"], ["", "5", "5s\n", "1h ", "-1s"])
quantity = mostly(
    ["1", "250m", "2Gi", "1e3", "1E", ".5", "2.", "+1"],
    ["-1", "1e3Ki", "", "1_0", "1 Gi", ".", "E0", "1e999999999"],
)
name = mostly(["digits", "a.b", "9", "a" * 253], ["", "A", "-a", "a-", "a" * 254, "a\n"])
uri = mostly(["pvc://c/p", "file:///x", "https://h/p"], ["ftp://h", "pvc://", "x", "", "hf://a\nb"])
sha = mostly(["0" * 64], ["A" * 64, "0" * 63, "", "0" * 64 + "\n"])
token = mostly(["python", "NVIDIA-A100", "é x"], ["", "a" * 254])
text = st.text(max_size=4)
integer = mostly([1, 2, 16, 64], [-2, 0, 10**6])
number = mostly([1, 1.5, 0.7, 0.95, 1e300], [0, 0.0, -0.5])
share = mostly([1, 0.7], [0, 1.5, -0.5])
flag = st.booleans()


def part(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Any choice of these fields."""
    return st.fixed_dictionaries({}, optional=fields)


def with_all(
    required: dict[str, st.SearchStrategy[Any]], **optional: st.SearchStrategy[Any]
) -> st.SearchStrategy[dict[str, Any]]:
    """These required fields and any choice of the optional ones."""
    return st.fixed_dictionaries(required, optional=optional)


source = st.one_of(
    with_all({"uri": uri}, sha256=sha, secretRef=with_all({"name": name})),
    with_all({"configMap": with_all({"name": name})}, sha256=sha),
    mostly([{"uri": "file:///x"}], [{}, {"uri": "file:///x", "configMap": {"name": "c"}}]),
)
tensor = with_all(
    {
        "name": token,
        "datatype": mostly(["FP32", "BYTES"], ["fp32"]),
        "shape": st.lists(mostly([-1, 1, 64], [-2]), min_size=1, max_size=3),
    }
)
variant = with_all(
    {"name": name, "source": source, "backend": token},
    maxBatchSize=integer,
    instances=integer,
    maxQueueDelay=duration,
    accuracy=with_all({"metric": token, "value": number}, dataset=token),
    resources=part(gpus=integer, memory=quantity, cpu=quantity),
    parameters=st.dictionaries(text, text, max_size=2),
    profile=st.dictionaries(text, with_all({"fixedMs": number, "perItemMs": number}), max_size=2),
)
model_spec = with_all(
    {"variants": st.lists(variant, min_size=1, max_size=2)},
    task=token,
    inputs=st.lists(tensor, max_size=2),
)
schedule = with_all(
    {"start": cron, "end": st.one_of(cron, duration), "minReplicas": integer},
    name=mostly(["peak"], [""]),
    timeZone=zone_name,
)
opaque = st.lists(st.dictionaries(text, text, max_size=2), max_size=2)
service_spec = with_all(
    {"model": with_all({"name": name}, kind=mostly(["Model", "ClusterModel"], [""]), variant=name)},
    objective=part(p99=duration, minAccuracy=number),
    scaling=part(
        minReplicas=integer,
        maxReplicas=integer,
        window=window,
        scaleUpCooldown=window,
        targetUtilization=share,
        aggressiveness=mostly(["Economical", "Cautious"], ["balanced"]),
        schedules=st.lists(schedule, max_size=2),
        paused=flag,
        drainTimeout=duration,
    ),
    replicas=integer,
    priority=integer,
    placement=part(
        accelerators=st.lists(token, max_size=2),
        pools=st.lists(name, max_size=2),
        zones=st.lists(token, max_size=2),
        sites=st.lists(token, max_size=2),
        cpu=flag,
    ),
    disruption=mostly(["Protect", "Allow"], ["protect"]),
    podTemplate=part(
        labels=st.dictionaries(text, text, max_size=2),
        tolerations=opaque,
        env=opaque,
        runtimeClassName=text,
    ),
    triton=part(image=token, args=st.lists(text, max_size=2)),
)
pool_spec = with_all(
    {"accelerator": token, "nodeSelector": st.dictionaries(text, text, min_size=1, max_size=2)},
    resourceName=token,
    perGPU=part(cpu=quantity, memory=quantity),
    tolerations=opaque,
    relativeSpeed=number,
    pricePerGPUHour=number,
    spot=flag,
    edge=flag,
    elastic=flag,
    site=token,
    sharing=part(
        mode=mostly(["Whole", "MIG", "TimeSlice", "DRA", "CPU"], ["mig"]),
        devicesPerGPU=integer,
        deviceClass=name,
        driver=token,
    ),
    disruptionBudget=mostly(["1", "10%"], ["some", ""]),
)
objects = st.one_of(
    st.tuples(st.just("Model"), model_spec),
    st.tuples(st.just("ModelService"), service_spec),
    st.tuples(st.just("GPUPool"), pool_spec),
)


many = settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def dry_run(cluster: Cluster, name: str, spec: dict[str, Any]) -> dict[str, Any] | None:
    """Return the spec as the API server would store it, or None where it refuses it."""
    kind = BY_KIND[name]
    scope = "/namespaces/default" if kind.namespaced else ""
    path = f"/apis/{GROUP}/{VERSION}{scope}/{kind.plural}?dryRun=All&fieldValidation=Strict"
    manifest = {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": name,
        "metadata": {"generateName": "any-"},
        "spec": spec,
    }
    try:
        stored: dict[str, Any] = cluster.client.create(path, manifest)["spec"]
    except ApiError as error:
        if error.status != 422:  # Invalid; anything else is no verdict on the spec
            raise
        return None
    return stored


@many
@given(objects)
def test_what_the_api_server_accepts_conch_reads(
    cluster: Cluster, drawn: tuple[str, dict[str, Any]]
) -> None:
    name, spec = drawn
    stored = dry_run(cluster, name, spec)
    event(f"{name} {'refused' if stored is None else 'accepted'}")
    if stored is not None:
        model = BY_KIND[name].spec
        read = model.model_validate(stored)
        # The API server has filled in the same defaults as Conch would have.
        assert model.model_validate(spec) == read
        assert model.model_validate(read.to_dict()) == read


@many
@given(
    duration=duration | st.text("0123456789.hms", max_size=6),
    quantity=quantity | st.text("0123456789.+-eEmkMGi ", max_size=6),
)
def test_values_are_judged_alike(cluster: Cluster, duration: str, quantity: str) -> None:
    service = {"model": {"name": "m"}, "objective": {"p99": duration}}
    pool = {"nodeSelector": {"a": "b"}, "accelerator": "x", "perGPU": {"cpu": quantity}}
    specs: dict[str, dict[str, Any]] = {"ModelService": service, "GPUPool": pool}
    for name, spec in specs.items():
        accepted = dry_run(cluster, name, spec) is not None
        assert accepted == readable(name, spec)


def readable(name: str, spec: dict[str, Any]) -> bool:
    """Tell whether Conch can read a spec."""
    try:
        BY_KIND[name].spec.model_validate(spec)
    except ValidationError:
        return False
    return True
