"""GPUPools as written, with the nodes that they match and the devices that these offer. Pure."""

from collections.abc import Iterable

from conch.api.conditions import Reason
from conch.api.pool import GPUPoolSpec, SharingMode
from conch.decisions.fleet import Node, Pool
from conch.reconcile import devices
from conch.reconcile.resolve import Fault
from conch.reconcile.store import Store

_NO_DRA = Fault(
    Reason.INVALID_SPEC,
    "sharing.mode DRA: the operator runs without --dra (dra.enabled of the chart), so it may not "
    "read ResourceSlices; enable it, or choose another mode",
)


def usable(spec: GPUPoolSpec, *, dra: bool) -> GPUPoolSpec | Fault:
    """Return a pool with its resource named as its devices are counted, or why it is of no use."""
    if spec.sharing.mode is SharingMode.DRA and not dra:
        return _NO_DRA
    if spec.counted_as == spec.resource_name:
        return spec
    return spec.model_copy(update={"resource_name": spec.counted_as})


def with_nodes(specs: dict[str, GPUPoolSpec], nodes: list[Node], store: Store) -> tuple[Pool, ...]:
    """Return the pools with their nodes, on which devices of DRA are counted where a pool has any."""
    drivers = devices.drivers(specs.values())
    if drivers:
        slices, claims = store.all("ResourceSlice"), store.all("ResourceClaim")
        nodes = devices.with_devices(nodes, drivers, slices=slices, claims=claims)
    return tuple(Pool(name, spec, _matching(nodes, spec)) for name, spec in specs.items())


def _matching(nodes: Iterable[Node], spec: GPUPoolSpec) -> tuple[Node, ...]:
    return tuple(
        n for n in nodes if all(n.labels.get(k) == v for k, v in spec.node_selector.items())
    )
