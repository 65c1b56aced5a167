"""How ``top`` looks: for people at 100 columns, and as CSV for charge-back."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence

from rich.console import Console

from conch.cli.plugin_tenants import Charge, TenantUse, Trend
from conch.cli.plugin_top import Holder, PoolUse
from conch.cli.plugin_view import age, table

CSV_HEADER = ("tenant", "accelerator", "gpus", "gpu_hours", "cost", "cost_per_hour", "as_of")
_ARROWS = {Trend.RISING: "↑", Trend.STEADY: "→", Trend.FALLING: "↓"}
_PREFIXES = ("NVIDIA-", "Tesla-", "AMD-", "Intel-")
"""What names of accelerators are told without, where that leaves no doubt."""
_NOTHING = "There is no GPUPool; apply one that selects the nodes to use."


def show_top(out: Console, pools: Sequence[PoolUse]) -> None:
    """Print who holds which GPUs, in short."""
    if not pools:
        out.print(_NOTHING)
        return
    rows = table("POOL", "ACCELERATOR", "NODES", "GPUS", "USED", "FREE")
    for p in pools:
        rows.add_row(p.pool, p.accelerator, *_numbers(p))
    out.print(rows)
    out.print()
    holders = table("POOL", "HELD BY", "REPLICAS", "GPUS", "SHARE")
    for p in pools:
        for h in p.holders:
            holders.add_row(p.pool, _holder(h), str(h.pods), f"{h.gpus:g}", _part(h, p))
    out.print(holders if holders.row_count else "No GPU is held.")


def show_gpus(out: Console, pools: Sequence[PoolUse]) -> None:
    """Print who holds which GPUs, whose tenant that is, and what an hour costs."""
    if not pools:
        out.print(_NOTHING)
        return
    rows = table("POOL", "ACCELERATOR", "NODES", "GPUS", "USED", "FREE", "USED/H", "FREE/H")
    for p in pools:
        costs = (amount(p.used_cost_per_hour), amount(p.free_cost_per_hour))
        rows.add_row(p.pool, p.accelerator, *_numbers(p), *costs)
    out.print(rows)
    out.print()
    holders = table("POOL", "HELD BY", "TENANT", "REPLICAS", "GPUS", "SHARE", "COST/H")
    for p in pools:
        for h in p.holders:
            amounts = (str(h.pods), f"{h.gpus:g}", _part(h, p), amount(h.cost_per_hour))
            holders.add_row(p.pool, _holder(h), h.tenant, *amounts)
    out.print(holders if holders.row_count else "No GPU is held.")


def _numbers(p: PoolUse) -> tuple[str, ...]:
    return (f"{p.ready_nodes}/{p.nodes}", *(f"{n:g}" for n in (p.gpus, p.used, p.free)))


def _holder(holder: Holder) -> str:
    return holder.name if holder.service else f"{holder.name} (not Conch's)"


def _part(holder: Holder, pool: PoolUse) -> str:
    return f"{holder.gpus / pool.gpus:.0%}" if pool.gpus else "-"


_TENANT_COLUMNS = (
    "TENANT",
    "WEIGHT",
    "SVCS",
    "GPUS",
    "ENTITLED",
    "SHARE",
    "USAGE",
    "WAITING",
    "COST/H",
    "GPU-H",
    "COST",
    "ACCELERATORS",
)


def show_tenants(out: Console, tenants: Sequence[TenantUse]) -> None:
    """Print one line for each tenant."""
    if not tenants:
        out.print("No tenant has a service, and no Tenant is there.")
        return
    rows = table(*_TENANT_COLUMNS, gap=1, right=_TENANT_COLUMNS[1:-1])
    arrows = out.encoding.lower().startswith("utf")
    short = shortened({c.accelerator for t in tenants for c in t.charges})
    for t in tenants:
        held = ", ".join(f"{c.gpus:.3g} {short[c.accelerator]}" for c in t.charges if c.gpus)
        rows.add_row(*_cells(t, arrows=arrows), held or "-")
    out.print(rows)


def _cells(t: TenantUse, *, arrows: bool) -> tuple[str, ...]:
    return (
        t.tenant if t.declared else f"({t.tenant})",
        f"{t.weight:g}",
        str(t.services),
        f"{t.allocated:.3g}",
        _figure(t.entitlement),
        "-" if t.share is None else f"{t.share:.2f}",
        _usage(t, arrows=arrows),
        _waiting(t),
        amount(t.cost_per_hour),
        amount(t.gpu_hours),
        amount(t.cost),
    )


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _usage(t: TenantUse, *, arrows: bool) -> str:
    if t.usage is None or t.trend is None:
        return "-"
    return f"{round(t.usage, 2):.3g} {_ARROWS[t.trend] if arrows else t.trend}"


def _waiting(t: TenantUse) -> str:
    """Return the replicas that wait, and for how long the first of them does."""
    if t.waiting is None:
        return "-"
    since = "" if t.waiting_seconds is None or not t.waiting else f" {age(t.waiting_seconds)}"
    return f"{t.waiting}{since}"


def amount(value: float | None) -> str:
    """Return money or GPU-hours with two decimals, and none where that is a large part already."""
    if value is None:
        return "-"
    return f"{value:.2f}" if abs(value) < 1000 else f"{value:.0f}"


def shortened(accelerators: Iterable[str]) -> dict[str, str]:
    """Return names of accelerators without their makers', all in full where two would be the same."""
    names = sorted(accelerators)
    short = {name: _without_maker(name) for name in names}
    return short if len(set(short.values())) == len(names) else dict(zip(names, names, strict=True))


def _without_maker(name: str) -> str:
    for prefix in _PREFIXES:
        if name.startswith(prefix) and name != prefix:
            return name.removeprefix(prefix)
    return name


def tenants_csv(tenants: Iterable[TenantUse]) -> str:
    """Return a row for each tenant and accelerator, by name, below a header; empty: not known."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_HEADER)
    for t in sorted(tenants, key=lambda t: t.tenant):
        for c in t.charges:
            writer.writerow((t.tenant, c.accelerator, *_amounts(c), t.as_of))
    return text.getvalue().rstrip("\n")


def _amounts(c: Charge) -> Iterator[str]:
    """Yield the amounts with a millionth as the smallest part, never as 1e-05 or 1e+16."""
    for value in (c.gpus, c.gpu_hours, c.cost, c.cost_per_hour):
        yield "" if value is None else f"{value:.6f}".rstrip("0").rstrip(".")
