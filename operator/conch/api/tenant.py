"""Tenant: who shares the fleet, with what weight, guarantee and limit."""

from typing import Annotated

from pydantic import Field

from conch.api.base import KubeModel, Name, rule, rules
from conch.api.conditions import Condition
from conch.api.endpoint import RequestLimits

GPUs = Annotated[float, Field(ge=0, le=1_000_000)]
"""A number of GPUs; a share of one where pools divide them."""


class PriorityRange(KubeModel):
    """Which spec.priority the services of a tenant may have; what lies outside counts as the bound."""

    model_config = {
        "json_schema_extra": rules(
            rule("self.min <= self.max", "let priorities.min be at most priorities.max")
        )
    }

    min: Annotated[int, Field(ge=-1000000, le=1000000)] = -1000000
    """lowest priority"""
    max: Annotated[int, Field(ge=-1000000, le=1000000)] = 1000000
    """highest priority"""


class TenantSpec(KubeModel):
    """Namespaces that share one claim to the fleet."""

    model_config = {
        "json_schema_extra": rules(
            rule(
                "!has(self.quota) || !has(self.limit) || "
                "self.quota.all(a, !(a in self.limit) || self.quota[a] <= self.limit[a])",
                "let the quota of each accelerator be at most its limit",
            )
        )
    }

    namespaces: Annotated[list[Name], Field(min_length=1, max_length=256)]
    """namespaces of the tenant; each belongs to one tenant at most"""
    weight: Annotated[float, Field(gt=0, le=1_000_000)] = 1.0
    """share of the fleet in the long run, against the weights of the other tenants"""
    quota: Annotated[
        dict[str, GPUs],
        Field(
            max_length=64,
            description="GPUs that are guaranteed, by accelerator: there at once, and never taken",
        ),
    ] = {}
    limit: Annotated[
        dict[str, GPUs],
        Field(
            max_length=64,
            description="GPUs at most, by accelerator; none where an accelerator is not named",
        ),
    ] = {}
    preemptible: bool = True
    """false: nothing that runs is ever taken back, and so the tenant gets no more than its quota"""
    borrowing: bool = True
    """whether it may have more than its quota while others leave GPUs free"""
    lending: bool = True
    """whether others may use its quota while it does not"""
    priorities: PriorityRange = PriorityRange()
    requests: RequestLimits = RequestLimits()
    """what its callers may ask of all services together, through the front door"""


class Account(KubeModel):
    """What a tenant holds of one accelerator, and has held since it is known."""

    accelerator: str
    """accelerator of the pools"""
    gpus: float
    """GPUs held since asOf"""
    gpu_hours: float
    """GPU-hours until asOf"""
    cost: float
    """price of these GPU-hours, in the currency of the pools' prices"""
    cost_per_hour: float
    """price of an hour since asOf"""


class UsageRecord(KubeModel):
    """Usage as of a time; it goes on at the rate that stands here, so that no write is needed."""

    usage: float = 0.0
    """decayed mean of what was held, in GPUs of relative speed 1"""
    rate: float = 0.0
    """what is held since asOf, in GPUs of relative speed 1"""
    as_of: str | None = None
    """time of both"""
    accounts: list[Account] = []
    """by accelerator, for charge-back"""


class TenantStatus(KubeModel):
    """Facts about a tenant."""

    observed_generation: int | None = None
    """generation of the spec that the status is about"""
    services: int = 0
    """ModelServices of the tenant"""
    allocated: float = 0.0
    """GPUs that its pods hold, whatever their speed"""
    entitlement: float = 0.0
    """what it may have now, by quota, weight and usage, where others want theirs: in GPUs of relative speed 1"""
    share: float | None = None
    """allocated over entitlement, both in GPUs of relative speed 1; above 1 it borrows"""
    usage: float = 0.0
    """decayed mean of what was held, in GPUs of relative speed 1, when the status was written"""
    waiting: int = 0
    """replicas that are wished for and may not be had yet"""
    waiting_since: str | None = None
    """since when the one that waits longest does so"""
    record: UsageRecord | None = None
    """usage and charges as of a time; what is shown elsewhere is made from it"""
    conditions: list[Condition] = []
