"""How fairly policies share a fleet between tenants, on recorded workloads."""
