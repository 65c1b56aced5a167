"""The local cluster from the command line: `python -m e2e.cluster up`."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from e2e.cluster import artifacts, teardown
from e2e.cluster.api import ApiError
from e2e.cluster.cluster import Choice, chosen, ensure_own, kind_cluster
from e2e.cluster.commands import BuildError
from e2e.cluster.local import ClusterState, LocalCluster
from e2e.cluster.prerequisites import PrerequisiteError
from e2e.cluster.progress import Reporter, terminal_reporter
from e2e.cluster.settings import ClusterError, Layout


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; the exit status is 0 if all is well."""
    options = _parser().parse_args(arguments)
    report = terminal_reporter()
    try:
        return _run(options, report)
    except (ApiError, BuildError, ClusterError, PrerequisiteError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _run(options: argparse.Namespace, report: Reporter) -> int:
    layout = Layout.default()
    match options.command:
        case "up":
            return _up(report)
        case "down" if chosen() is Choice.KIND:
            kind_cluster(layout, artifacts.ensure_binaries((), report=report)).down(report=report)
            return 0
        case "down":
            found = teardown.down(layout, report=report)
            report.info("The cluster is gone." if found else "There was no cluster.")
            return 0
        case "load-images":
            _cluster(layout, report).load_images(
                artifacts.ensure_images(report=report), report=report
            )
            return 0
        case "stop" | "start" | "lose":
            _break(_cluster(layout, report), options, report)
            return 0
        case _:
            return _status(_cluster(layout, report).state(), as_json=options.json)


def _up(report: Reporter) -> int:
    # With KUBECONFIG set too: it may name this very cluster, which is to be mended.
    found = ensure_own(report)
    report.info("The cluster is up. To use it:")
    report.info(f"  export KUBECONFIG={found.kubeconfig} PATH={found.bin}:$PATH")
    return 0


def _break(cluster: LocalCluster, options: argparse.Namespace, report: Reporter) -> None:
    match options.command:
        case "stop":
            cluster.stop_part(options.part, report=report)
        case "start":
            cluster.start_part(options.part, report=report)
        case _:
            cluster.lose_node(options.node, report=report)


def _cluster(layout: Layout, report: Reporter) -> LocalCluster:
    """The cluster with the programs that are there; builds none."""
    return LocalCluster(layout, artifacts.ensure_binaries((), report=report))


def _status(state: ClusterState, *, as_json: bool) -> int:
    if as_json:
        print(json.dumps({**dataclasses.asdict(state), "healthy": state.healthy}, indent=2))
    else:
        _print_status(state, Console())
    return 0 if state.healthy else 1


def _print_status(state: ClusterState, console: Console) -> None:
    if state.down:
        console.print("The cluster is down.")
        return
    parts = Table("part", "PID", "state", box=None)
    for part in state.parts:
        parts.add_row(part.name, str(part.pid or "-"), _words(part.problem))
    console.print(parts)
    fleet = Table("node", "GPUs", "state", box=None)
    for node in state.nodes:
        fleet.add_row(node.name, f"{node.gpus} {node.gpu_product}", _words(node.problem))
    console.print()
    console.print(fleet)
    if state.problem:
        console.print(_words(state.problem))


def _words(problem: str | None) -> str:
    return "[green]healthy[/green]" if problem is None else f"[red]{problem}[/red]"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m e2e.cluster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="start the cluster, or mend it")
    commands.add_parser("down", help="end and remove all of it")
    commands.add_parser("load-images", help="give the nodes the images that were built anew")
    status = commands.add_parser("status", help="show each part; exit status 1 if one fails")
    status.add_argument("--json", action="store_true", help="for programs")
    stop = commands.add_parser("stop", help="end one part, to see what happens; `up` mends")
    start = commands.add_parser("start", help="start one part that was stopped")
    for command in (stop, start):
        command.add_argument("part", help="its name, as `status` shows it")
    lose = commands.add_parser("lose", help="end a node and all on it, as a power cut; `up` mends")
    lose.add_argument("node", help="its name, as `status` shows it")
    return parser


if __name__ == "__main__":
    sys.exit(main())
