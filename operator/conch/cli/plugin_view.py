"""How answers look: 80 columns, plain where the output is not a terminal."""

import json
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import StrEnum
from typing import Any

import yaml
from pydantic.alias_generators import to_camel
from rich.console import Console, JustifyMethod
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from conch.api.conditions import Reason
from conch.cli.plugin_explain import ConditionLine, Explanation, PodLine, PoolLine
from conch.cli.plugin_tenants import TenantUse


class Format(StrEnum):
    """What ``-o`` takes; unset: text for people."""

    JSON = "json"
    YAML = "yaml"


WIDE = 200
"""Columns of a list that no terminal bounds: no line of it is folded, so that grep finds it."""


def show(write: Callable[[Console], None], *, wide: bool = False) -> None:
    """Print what ``write`` writes; plain, without spaces at line ends, where no terminal is."""
    out = Console(highlight=False, emoji=False, markup=False)
    if out.is_terminal:
        write(out)
        return
    if wide:
        out.width = WIDE
    with out.capture() as captured:
        write(out)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def dump(answer: Any, form: Format) -> str:
    """Return an answer for programs."""
    data = plain(answer)
    if form is Format.JSON:
        return json.dumps(data, indent=2)
    text: str = yaml.safe_dump(data, sort_keys=False, width=1000)
    return text.rstrip()


def age(seconds: float) -> str:
    """Return a length of time as kubectl shows it: 12s, 5m, 3h, 2d."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{int(seconds // size)}{unit}"
    return f"{max(0, int(seconds))}s"


def table(*columns: str, gap: int = 2, right: Collection[str] = ()) -> Table:
    """Return a table without lines; long words are folded, not cut.

    ``gap``: spaces between columns; ``right``: the columns that end below each other.
    """
    made = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0))
    for column in columns:
        justify: JustifyMethod = "right" if column in right else "left"
        made.add_column(column, overflow="fold", header_style="bold", justify=justify)
    return made


def warn(notes: Iterable[str]) -> None:
    """Say what an answer lacks, beside it."""
    for note in notes:
        print(f"Note: {note}", file=sys.stderr)


def show_explanation(out: Console, e: Explanation) -> None:
    """Print an explanation."""
    _head(out, e)
    _show_why(out, e)
    _section(out, "Conditions")
    for condition in e.conditions:
        _show_condition(out, condition)
    if not e.conditions:
        _indented(out, "none yet: no operator has looked at this service")
    _section(out, "Pools, the preferred first")
    _show_pools(out, e.pools)
    if e.pods:
        _section(out, "Replicas")
        out.print(_pod_table(e.pods))
    if e.events:
        _section(out, "Last events")
        for event in e.events:
            _item(out, f"{age(event.age_seconds)} ago  {event.reason}: {event.message}")
    for note in e.notes:
        out.print(f"Note: {note}")
    _section(out, "What to do")
    for line in e.todo or ("Nothing: all is as wanted.",):
        _item(out, line)


def _show_why(out: Console, e: Explanation) -> None:
    if not (e.why or e.changes):
        return
    _section(out, "Why this many replicas")
    for line in e.why:
        _item(out, line)
    for change in e.changes[-_CHANGES:]:
        _item(out, f"{age(change.age_seconds)} ago {change.message}")


def _head(out: Console, e: Explanation) -> None:
    out.print(Text(f"{e.namespace}/{e.name}", style="bold"))
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    wanted = "?" if e.desired is None else e.desired
    rows = {
        "Model": f"{e.model}, variant {e.variant or 'not chosen yet'}",
        "Revision": _revision(e),
        "Replicas": f"{e.ready} answer, {e.replicas} placed, {wanted} wanted (bounds: {e.bounds})",
        "Tenant": _tenant(e),
        "URL": e.url or "none yet",
        "gRPC": e.grpc or "none yet",
        "Callers": e.callers,
        "Operator": e.operator
        + (", told to leave this service alone (paused)" if e.paused else ""),
    }
    for name, text in rows.items():
        grid.add_row(f"  {name}", text)
    out.print(grid)


def _tenant(e: Explanation) -> str:
    t = e.tenant
    if t is None:
        return "unknown"
    name = t.tenant if t.declared else f"{e.namespace} itself, which no Tenant names"
    parts = [f"{name} (weight {t.weight:g}): holds {_gpus(t.allocated)}, {_entitled(t)}"]
    for word, amounts in (("quota", t.quota), ("limit", t.limit)):
        if amounts:
            parts.append(f"{word} {', '.join(f'{a.accelerator} {a.gpus:g}' for a in amounts)}")
    if any(c.reason in _SHORT_OF_SHARE for c in e.conditions):
        parts.append("this service waits for it, see Conditions")
    return "; ".join(parts)


def _gpus(count: float) -> str:
    return f"{count:.3g} GPU" + ("" if count == 1 else "s")


def _entitled(t: TenantUse) -> str:
    if t.entitlement is None:
        return "what it may have is not known yet"
    share = "" if t.share is None else f" (share {t.share:.2f})"
    return f"may have {t.entitlement:.3g} now{share}"


def _revision(e: Explanation) -> str:
    if e.wanted_revision and e.revision and e.wanted_revision != e.revision:
        return f"{e.revision} has the traffic, {e.wanted_revision} is to replace it"
    return e.revision or e.wanted_revision or "none yet"


def _section(out: Console, title: str) -> None:
    out.print()
    out.print(Text(title, style="bold"))


def _indented(out: Console, text: str, by: int = 2) -> None:
    out.print(Padding(Text(text, overflow="fold"), (0, 0, 0, by)))


def _item(out: Console, text: str) -> None:
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row("  -", text)
    out.print(grid)


_CHANGES = 3
"""Steps up or down, the last ones."""
_SHORT_OF_SHARE = (Reason.AWAITING_SHARE, Reason.TENANT_LIMIT, Reason.LIMITED_BY_SHARE)
_ABNORMAL = ("Reconciling", "Stalled")


def _show_condition(out: Console, c: ConditionLine) -> None:
    fine = (c.status == "True") != (c.type in _ABNORMAL)
    style = "yellow" if c.status == "Unknown" else "green" if fine else "red"
    line = Text(f"  {c.type}: ")
    line.append(c.status, style=style)
    line.append(f"  {c.reason}, since {age(c.age_seconds)}")
    out.print(line)
    _indented(out, c.message, by=6)


def _show_pools(out: Console, pools: Sequence[PoolLine]) -> None:
    if not pools:
        _indented(out, "none is known")
        return
    rows = table("  POOL", "ACCELERATOR", "READY", "FREE/GPUS", "ROOM FOR", "ONE REPLICA NEEDS")
    for p in pools:
        rows.add_row(
            f"  {p.pool}",
            p.accelerator,
            f"{p.ready}/{p.replicas}",
            f"{p.free_gpus}/{p.gpus}",
            "-" if p.room is None else str(p.room),
            p.replica_needs or "-",
        )
    out.print(rows)
    for p in pools:
        if p.says:
            _indented(out, f"{p.pool}: {p.says}")


def _pod_table(pods: Iterable[PodLine]) -> Table:
    rows = table("  POD", "POOL", "NODE", "AGE", "STATE")
    for p in sorted(pods, key=lambda p: (p.revision, p.pool, -p.age_seconds, p.name)):
        rows.add_row(f"  {p.name}", p.pool, p.node, age(p.age_seconds), p.state)
    return rows


def show_overview(out: Console, lines: Sequence[dict[str, Any]], *, with_namespace: bool) -> None:
    """Print services at a glance."""
    head = ("NAME", "READY", "WHY", "SCALING", "POOLS")
    rows = table(*(("NAMESPACE", *head) if with_namespace else head))
    for line in lines:
        pools = ", ".join(f"{n} {c}" for n, c in line["pools"].items())
        wanted = "?" if line["wanted"] is None else str(line["wanted"])
        cells = [line["name"], f"{line['ready']}/{wanted}"]
        cells += [line["reason"], line["scaling"], pools or "-"]
        rows.add_row(*([line["namespace"], *cells] if with_namespace else cells))
    out.print(rows)


def plain(value: Any) -> Any:
    """Return an answer for programs: names as the Kubernetes API spells them, ages in seconds."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain({f.name: getattr(value, f.name) for f in fields(value)})
    if isinstance(value, Mapping):
        return {_key(k): _number(k, v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    # YAML takes no words but plain ones.
    return str(value) if isinstance(value, str) else value


def _key(name: str) -> str:
    """Return a field's name as the API spells it; names of objects stay as they are."""
    return to_camel(name) if "_" in name else name


def _number(name: str, value: Any) -> Any:
    if not isinstance(value, float):
        return plain(value)
    if name in ("age_seconds", "waiting_seconds"):
        return int(value)
    return float(f"{value:.6g}") if abs(value) < 1000 else round(value, 3)
