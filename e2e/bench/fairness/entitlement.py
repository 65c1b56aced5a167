"""What tenants are entitled to: one rule for all policies.

The GPUs of a fleet are filled in by weight, as water is: nobody gets more than the GPUs of its work
that has come and is not done, and what one leaves goes to the others (weighted max-min fairness;
Ghodsi et al., Dominant Resource Fairness, NSDI 2011, with one resource).
"""

from collections.abc import Mapping


def water_fill(
    demand: Mapping[str, float], weights: Mapping[str, float], capacity: float
) -> dict[str, float]:
    """Return the entitlement of each tenant, in the unit of demand and capacity."""
    filled: dict[str, float] = {}
    left, weight = capacity, sum(weights[t] for t, d in demand.items() if d > 0)
    for tenant in sorted(demand, key=lambda t: (demand[t] / weights[t], t)):
        if demand[tenant] <= 0:
            filled[tenant] = 0.0
            continue
        filled[tenant] = min(demand[tenant], left * weights[tenant] / weight)
        left -= filled[tenant]
        weight -= weights[tenant]
    return filled


def slices(weights: Mapping[str, float], capacity: int) -> dict[str, int]:
    """Return whole GPUs by weight that add up to the capacity (largest remainders first)."""
    total = sum(weights.values())
    exact = {tenant: capacity * weight / total for tenant, weight in weights.items()}
    found = {tenant: int(gpus) for tenant, gpus in exact.items()}
    by_remainder = sorted(exact, key=lambda t: (found[t] - exact[t], t))
    for tenant in by_remainder[: capacity - sum(found.values())]:
        found[tenant] += 1
    return found
