"""What the operator shows of tenants, and the alerts on it: names and help, for all that use them."""

from collections.abc import Mapping
from typing import Any

LABELS = ("tenant",)
LABELS_BY_ACCELERATOR = ("tenant", "accelerator")

TENANT: Mapping[str, tuple[str, str]] = {
    "weight": (
        "conch_tenant_weight",
        "Weight of the tenant.",
    ),
    "services": (
        "conch_tenant_services",
        "ModelServices of the tenant.",
    ),
    "allocated": (
        "conch_tenant_allocated_gpus",
        "GPUs that the tenant's pods hold.",
    ),
    "entitlement": (
        "conch_tenant_entitlement_gpus",
        "GPUs that the tenant may have now, where others want theirs.",
    ),
    "share": (
        "conch_tenant_share_ratio",
        "What the tenant holds over what it is entitled to, by speed; above 1 it borrows.",
    ),
    "usage": (
        "conch_tenant_usage_gpus",
        "Decayed mean of what the tenant held, in GPUs of relative speed 1.",
    ),
    "waiting": (
        "conch_tenant_waiting_replicas",
        "Replicas that are wished for and may not be had yet.",
    ),
    "waiting_seconds": (
        "conch_tenant_waiting_seconds",
        "Seconds that the replica has waited which waits longest; 0 where none waits.",
    ),
}
"""Gauges by tenant: metric and help."""

CHARGES: Mapping[str, tuple[str, str]] = {
    "gpus": (
        "conch_tenant_gpus",
        "GPUs of an accelerator that the tenant's pods hold.",
    ),
    "cost_per_hour": (
        "conch_tenant_cost_per_hour",
        "Price of an hour of these GPUs, in the currency of the pools' prices.",
    ),
}
"""Gauges by tenant and accelerator: metric and help."""

CHARGED: Mapping[str, tuple[str, str]] = {
    "gpu_hours": (
        "conch_tenant_gpu_hours_total",
        "GPU-hours that the tenant held of an accelerator, since it is known.",
    ),
    "cost": (
        "conch_tenant_cost_total",
        "Price of these GPU-hours, in the currency of the pools' prices.",
    ),
}
"""Counters by tenant and accelerator: metric and help."""

ALL: Mapping[str, tuple[str, str]] = {**TENANT, **CHARGES, **CHARGED}

BEHIND = 0.9
"""Below this share a tenant that waits is behind what it is entitled to."""
BEHIND_FOR = "30m"
LONG_S = 6 * 3600
"""A replica that waits so many seconds is one that the fleet has no room for."""


def alerts() -> list[dict[str, Any]]:
    """Return the alerts as a rule file holds them."""
    return [
        _alert(
            "ConchTenantBehindItsShare",
            f"({_of('waiting')} > 0) and ({_of('share')} < {BEHIND})",
            hold=BEHIND_FOR,
            severity="warning",
            summary="Tenant {{ $labels.tenant }} waits for GPUs that it is entitled to",
            description="{{ $value }} replicas wait while the tenant holds less than 90 % of its "
            "entitlement. Replicas of others that may not be taken back, or GPUs of another kind, "
            "can be the reason. Who holds what: kubectl conch top tenants; the numbers of a service: "
            "kubectl conch explain SERVICE.",
        ),
        _alert(
            "ConchTenantWaitsLong",
            f"{_of('waiting_seconds')} > {LONG_S}",
            hold="5m",
            severity="info",
            summary="Tenant {{ $labels.tenant }} has waited for GPUs for "
            "{{ $value | humanizeDuration }}",
            description="Its services wish for more than there is by its weight, quota and limit. "
            "Add nodes, raise weight, quota or limit, or lower scaling.maxReplicas. Where it stands: "
            "kubectl conch top tenants.",
        ),
    ]


def _of(figure: str) -> str:
    """Return a figure by tenant, whichever of several operators shows it."""
    return f"max by (tenant) ({TENANT[figure][0]})"


def _alert(
    name: str, expr: str, *, hold: str, severity: str, summary: str, description: str
) -> dict[str, Any]:
    return {
        "alert": name,
        "expr": expr,
        "for": hold,
        "labels": {"severity": severity},
        "annotations": {"summary": summary, "description": description},
    }
