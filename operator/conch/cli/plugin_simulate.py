"""``simulate``: what a service would have needed and done under a recorded load."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from conch.api.base import parse_duration
from conch.cli import plugin_simulate_view as view
from conch.cli.plugin_target import PluginError
from conch.cli.plugin_view import show
from conch.simulate import load_times as loads
from conch.simulate.arrivals import Floats
from conch.simulate.files import Description, FileError, described
from conch.simulate.load_times import LoadTimes
from conch.simulate.policies import PolicyError, PolicyMaker, parse
from conch.simulate.report import Course, Figures, course, figures
from conch.simulate.run import WARM_UP, Failures, Outcome, simulate
from conch.simulate.traces import Trace, TraceError, read_trace

_USAGE = 2
_CLAIRVOYANT = "clairvoyant"


class Output(StrEnum):
    """What ``--output`` takes."""

    TABLE = "table"
    JSON = "json"
    PNG = "png"


@dataclass(frozen=True)
class Runs:
    """Policies on one trace, in the order asked for."""

    description: Description
    trace: Trace
    arrivals: Floats
    load_times: LoadTimes
    seed: int
    failures: Failures | None

    def outcome(self, maker: PolicyMaker) -> Outcome:
        """Return what comes of a policy."""
        workload = self.description.workload
        return simulate(
            workload,
            self.arrivals,
            maker(workload, self.arrivals, self.load_times),
            load_times=self.load_times,
            seed=self.seed,
            span=self.trace.span,
            gaps=self.trace.gaps,
            failures=self.failures,
        )

    def course(self, outcome: Outcome, buckets: int) -> Course:
        """Return the course of a run."""
        return course(
            self.arrivals, outcome, span=self.trace.span, gaps=self.trace.gaps, buckets=buckets
        )


def simulate_command(
    *,
    file: Annotated[
        str,
        typer.Option(
            "--file", "-f", help="a ModelService and its Model with a profile; -: standard input"
        ),
    ],
    trace: Annotated[
        Path, typer.Option(help="CSV (.gz too): timestamp, or start_s,rate_rps; docs/simulate.md")
    ],
    policy: Annotated[
        list[str] | None,
        typer.Option(
            help="conch (default), hpa:0.5, kpa, keda:pending=4, forecast, static:8, clairvoyant; "
            "repeatable",
            show_default=False,
        ),
    ] = None,
    load_time: Annotated[
        str | None,
        typer.Option(
            help="from created to ready, such as 45s, or `drawn` from those of a production fleet; "
            "unset: as measured in the Model's status, else drawn",
            show_default=False,
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            help="thin the trace to so many requests/s in the mean, or multiply its counts or rates",
            show_default=False,
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(help="from then on: 36h into the trace, or a time", show_default=False),
    ] = None,
    end: Annotated[
        str | None,
        typer.Option(help="until then: 48h into the trace, or a time", show_default=False),
    ] = None,
    node_failures: Annotated[
        str | None,
        typer.Option(
            help="mean time until a node of 4 replicas fails, such as 24h", show_default=False
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="of all that is drawn")] = 0,
    service: Annotated[
        str | None, typer.Option(help="of several ModelServices in FILE", show_default=False)
    ] = None,
    accelerator: Annotated[
        str | None,
        typer.Option(help="whose profile counts; unset: the preferred", show_default=False),
    ] = None,
    output: Annotated[Output, typer.Option("--output", "-o")] = Output.TABLE,
    plot: Annotated[
        Path | None,
        typer.Option(
            help="write a PNG there too; unset with -o png: SERVICE.png", show_default=False
        ),
    ] = None,
) -> None:
    """Simulate a service on a trace of requests: GPUs needed, latency, cost."""
    try:
        makers = [(text, parse(text)) for text in dict.fromkeys(policy or ["conch"])]
        description = described(
            _read(file),
            "standard input" if file == "-" else file,
            service=service,
            accelerator=accelerator,
        )
        chosen = _part(read_trace(trace), start, end)
        chosen = chosen if rate is None else _scaled(chosen, rate)
        runs = Runs(
            description=description,
            trace=chosen,
            arrivals=chosen.arrivals(seed),
            load_times=_load_times(load_time, description),
            seed=seed,
            failures=None
            if node_failures is None
            else Failures(mean_seconds=_positive(node_failures, "--node-failures")),
        )
    except (FileError, TraceError, PolicyError, PluginError) as error:
        _refuse(error)
    target = plot or (Path(f"{description.workload.name}.png") if output is Output.PNG else None)
    if target is not None:
        view.picture()
    for note in (*description.notes, *chosen.notes):
        print(f"Note: {note}.", file=sys.stderr)
    _answer(runs, _run(runs, makers), output, target)


def _answer(
    runs: Runs, found: Sequence[tuple[str, Outcome, Figures]], output: Output, target: Path | None
) -> None:
    if target is not None:
        courses = [(name, runs.course(outcome, view.PIXELS)) for name, outcome, _ in found]
        view.draw(target, f"{runs.description.workload.name} on {runs.trace.name}", courses)
    if output is Output.PNG:
        print(target)
    elif output is Output.JSON:
        print(json.dumps([row.to_dict() for _, _, row in found], indent=2, allow_nan=False))
    else:
        show(lambda out: _show(out, runs, found))
        if target is not None:
            print(f"Picture: {target}")


def _show(out: Console, runs: Runs, found: Sequence[tuple[str, Outcome, Figures]]) -> None:
    workload, trace = runs.description.workload, runs.trace
    out.print(
        f"{workload.name} on {workload.accelerator}, {trace.name}: {trace.mean_rps:.3g} requests/s "
        f"over {view.duration(trace.span)}; one replica serves {workload.rate:.3g}/s and loads for "
        f"{runs.load_times.p90:.3g} s (p90)"
    )
    out.print()
    view.show_figures(out, [row for *_, row in found], gpus=workload.gpus)
    for name, outcome, _ in found:
        view.show_course(out, name, runs.course(outcome, view.COLUMNS))


def _run(
    runs: Runs, makers: Sequence[tuple[str, PolicyMaker]]
) -> list[tuple[str, Outcome, Figures]]:
    """Simulate all policies, and the clairvoyant optimum that costs are compared with."""
    outcomes: dict[str, Outcome] = {}
    wanted = dict([(_CLAIRVOYANT, parse(_CLAIRVOYANT)), *makers])
    with _progress(len(runs.arrivals), len(wanted)) as begin:
        for name, maker in wanted.items():
            begin(name)
            outcomes[name] = runs.outcome(maker)
    best = outcomes[_CLAIRVOYANT]
    if best.judged_seconds <= 0:
        _refuse(
            TraceError(
                f"{runs.trace.name}: the first {WARM_UP:g} s, and as much after each hole, are not "
                f"judged, and this stretch of {runs.trace.span:.0f} s has no more"
            )
        )
    workload = runs.description.workload
    return [
        (n, outcomes[n], figures(n, workload, outcomes[n], best.replica_seconds)) for n, _ in makers
    ]


@contextmanager
def _progress(requests: int, runs: int) -> Iterator[Callable[[str], None]]:
    """Show on stderr which policy is simulated, where that is a terminal."""
    console = Console(stderr=True)
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task("", total=runs)
        done = iter(range(runs))

        def begin(name: str) -> None:
            number = next(done)
            text = f"{name}, {number + 1} of {runs}: {requests:,} requests"
            bar.update(task, completed=number, description=text)

        yield begin


def _read(file: str) -> str:
    """Return the text of a file, or of standard input. Raises FileError."""
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise FileError(f"{file} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise FileError(f"{file} is no text") from error


def _part(trace: Trace, start: str | None, end: str | None) -> Trace:
    """Return the wanted stretch of a trace. Raises TraceError, PluginError."""
    if start is None and end is None:
        return trace
    since = 0.0 if start is None else _moment(trace, start, "--start")
    until = trace.span if end is None else _moment(trace, end, "--end")
    if since >= until:
        raise PluginError(f"--start {start or 0} is not before --end {end or 'of the trace'}")
    return trace.cut(since, until)


def _moment(trace: Trace, text: str, option: str) -> float:
    """Return seconds from the trace's start. Raises PluginError."""
    try:
        return parse_duration(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise PluginError(
            f"{option} {text!r} is neither a duration such as 36h nor a time such as "
            "2026-03-29T09:30:00"
        ) from None
    if trace.origin is None:
        raise PluginError(f"{option}: {trace.name} has no dates; give a duration such as 36h")
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - trace.origin


def _scaled(trace: Trace, rate: float) -> Trace:
    if not 0 < rate < float("inf"):
        raise PluginError(f"--rate {rate:g} must be above zero")
    scaled = trace.scaled(rate)
    if scaled.mean_rps < 0.999 * rate:
        raise PluginError(
            f"--rate {rate:g} is more than the {trace.mean_rps:.3g} requests/s that {trace.name} "
            "has in the mean: requests recorded one by one can be thinned, not multiplied; give a "
            "trace of counts or of rates"
        )
    return scaled


def _load_times(text: str | None, description: Description) -> LoadTimes:
    """Return load times as asked for. Raises PluginError."""
    if text is None and description.load_seconds:
        return loads.fixed(description.load_seconds)
    if text in (None, "drawn"):
        return loads.FLEET
    return loads.fixed(_positive(str(text), "--load-time", "drawn, or "))


def _positive(text: str, option: str, other: str = "") -> float:
    try:
        seconds = parse_duration(text)
    except ValueError:
        seconds = 0.0
    if seconds <= 0:
        raise PluginError(f"{option} {text!r} must be {other}a duration such as 45s or 24h")
    return seconds


def _refuse(error: Exception) -> NoReturn:
    print(f"error: {error}", file=sys.stderr)
    raise typer.Exit(_USAGE) from error
