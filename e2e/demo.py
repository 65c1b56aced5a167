"""``make demo``: the main job, step by step, on a real cluster.

Brings the cluster up, installs Conch, serves two real models, asks them, scales one over both
nodes under load and back, loses a replica and gets it back. The cluster stays up.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from e2e.cluster.commands import BuildError
from e2e.cluster.prerequisites import PrerequisiteError
from e2e.cluster.progress import Reporter, terminal_reporter
from e2e.cluster.settings import ClusterError
from e2e.install import NAMESPACE, ROOT, Stage, ensure_stage
from e2e.kubectl import CommandError, WaitError, condition, names, wait_for
from e2e.load import Load, request_body
from e2e.models import DIGITS, TUMOR, Sample
from e2e.questions import ask_grpc, ask_rest
from e2e.samples import Question, questions
from e2e.services import address_of, apply_samples, pods_of, ready_replicas, service

READY_S = 120.0
SCALE_UP_S = 150.0
SCALE_DOWN_S = 180.0
BATCH = 8
"""Images in one request of the load."""
RATE_RPS = 16.0
"""Requests/s of the load at first: more than one replica serves, less than the fleet does."""
RAISE, RAISE_EVERY_S = 1.25, 15.0
"""How fast a replica is depends on the machine, so the load grows until one node is too small."""


class Demo:
    """The steps, and what they found."""

    def __init__(self, console: Console, report: Reporter) -> None:
        self.console = console
        self.report = report
        self.summary: list[tuple[str, str]] = []
        self.figures: dict[str, float] = {}
        """Seconds, for benchmarks."""

    def show(self, stage: Stage, *words: str) -> None:
        """Show what a user would type, and what it prints."""
        self.console.print(f"[bold cyan]$ kubectl {' '.join(words)}[/]", highlight=False)
        self.print(stage.tools.kubectl(*words))

    def print(self, text: str) -> None:
        """Print a program's output as it is: lines that are too long are the terminal's matter."""
        self.console.print(text.rstrip(), markup=False, highlight=False, soft_wrap=True)

    def title(self, text: str) -> None:
        """Begin a step."""
        self.console.print()
        self.console.rule(f"[bold]{text}", align="left")

    def timed(self, what: str, body: Callable[[], Any]) -> float:
        """Run a step and keep how long it took, in seconds."""
        started = monotonic()
        with self.report.step(what):
            body()
        seconds = monotonic() - started
        self.summary.append((what, f"{seconds:.1f} s"))
        return seconds


def run(console: Console, report: Reporter) -> dict[str, float]:
    """Run the whole demo; return its figures in seconds.

    Raises WaitError, CommandError and the cluster's errors.
    """
    demo = Demo(console, report)
    started = monotonic()
    demo.title("1. A cluster, Conch, and two trained models")
    stage = ensure_stage(report)
    serve(demo, stage)
    ask(demo, stage)
    scale(demo, stage)
    heal(demo, stage)
    demo.summary.append(("the whole demo", f"{monotonic() - started:.0f} s"))
    finish(demo, stage)
    return demo.figures


def serve(demo: Demo, stage: Stage) -> None:
    """Apply the examples and wait until both services answer."""
    demo.title("2. Two ModelServices")

    def both_answer() -> None:
        apply_samples(stage)
        for sample in (DIGITS, TUMOR):
            wait_ready(stage, sample, 1)

    demo.timed("both services answer after apply", both_answer)
    demo.show(stage, "get", "gpupools")
    demo.show(stage, "get", "modelservices", "-A")
    demo.show(stage, "get", "pods", "-n", DIGITS.namespace, "-o", "wide")


def wait_ready(stage: Stage, sample: Sample, replicas: int, timeout: float = READY_S) -> None:
    """Wait until so many replicas of a service answer."""
    wait_for(
        f"{replicas} ready replicas of {sample.name}",
        lambda: ready_replicas(stage, sample) >= replicas,
        timeout=timeout,
        seen=lambda: str(condition(service(stage, sample), "Ready").get("message")),
    )


def ask(demo: Demo, stage: Stage) -> None:
    """Ask both services over REST and gRPC, and compare the answers with the truth."""
    demo.title("3. Real questions, over REST and over gRPC (KServe v2)")
    table = Table("service", "protocol", "asked", "truth", "answer", "probability")
    for sample in (DIGITS, TUMOR):
        for protocol, client in (("REST", ask_rest), ("gRPC", ask_grpc)):
            for question in questions(sample, 2):
                answer = client(
                    address_of(stage, sample),
                    sample.name,
                    given=(sample.input, question.value),
                    wanted=sample.output,
                )
                table.add_row(*_row(sample, protocol, question, answer))
    demo.console.print(table)


def _row(sample: Sample, protocol: str, question: Question, answer: Any) -> tuple[str, ...]:
    likeliest = int(np.argmax(answer[0]))
    shown = question.names[likeliest]
    probability = f"{float(answer[0][likeliest]):.3f}"
    return sample.name, protocol, question.text, question.truth, shown, probability


def scale(demo: Demo, stage: Stage) -> None:
    """Put load on digits until it runs on both nodes; let it fall back."""
    demo.title("4. Load: it scales over both nodes, and falls back")
    rows = [q.value[0].tolist() for q in questions(DIGITS, BATCH)]
    url = f"http://{address_of(stage, DIGITS)}:8000/v2/models/{DIGITS.name}/infer"
    body = request_body(DIGITS.input, "FP32", rows)
    demo.console.print(f"{RATE_RPS:g} requests/s with {BATCH} images each, and more later")
    with Load(url, body, rate=RATE_RPS, seconds=SCALE_UP_S + 10) as load:
        seconds = demo.timed(
            "scaled over both nodes under load", lambda: _on_both_nodes(stage, load)
        )
        demo.figures["scale_up_s"] = seconds
        demo.show(stage, "get", "msvc", DIGITS.name, "-n", DIGITS.namespace, "-o", "wide")
        demo.show(stage, "get", "pods", "-n", DIGITS.namespace, "-o", "wide")
    demo.summary.append(("requests during scale-up", str(load.tally)))
    seconds = demo.timed("fell back to one replica", lambda: _fell_back(stage))
    demo.figures["scale_down_s"] = seconds
    described = stage.tools.kubectl("describe", "msvc", DIGITS.name, "-n", DIGITS.namespace)
    demo.console.print(f"[bold cyan]$ kubectl describe msvc {DIGITS.name} | tail[/]")
    events = described[described.index("Events:") :] if "Events:" in described else described
    demo.print("\n".join(events.splitlines()[-12:]))


def _on_both_nodes(stage: Stage, load: Load) -> None:
    raised = monotonic()

    def both() -> bool:
        nonlocal raised
        if monotonic() - raised > RAISE_EVERY_S:
            load.rate, raised = load.rate * RAISE, monotonic()
        ready = pods_of(stage, DIGITS, ready=True)
        return len({p["spec"]["nodeName"] for p in ready}) > 1

    wait_for(
        "replicas of digits on two nodes",
        both,
        timeout=SCALE_UP_S,
        seen=lambda: str(condition(service(stage, DIGITS), "ScalingActive").get("message")),
    )


def _fell_back(stage: Stage) -> None:
    wait_for(
        "one replica of digits",
        lambda: len(pods_of(stage, DIGITS)) == 1,
        timeout=SCALE_DOWN_S,
        seen=lambda: str(condition(service(stage, DIGITS), "ScalingActive").get("message")),
    )


def heal(demo: Demo, stage: Stage) -> None:
    """Lose the only replica of tumor and see it come back."""
    demo.title("5. A pod is lost, and comes back")
    (lost, *_) = names(pods_of(stage, TUMOR))
    stage.tools.kubectl("delete", "pod", lost, "-n", TUMOR.namespace, "--grace-period=1")

    def healed() -> bool:
        return any(p != lost for p in names(pods_of(stage, TUMOR, ready=True)))

    demo.timed(
        "a lost replica answers again",
        lambda: wait_for("another replica of tumor", healed, timeout=READY_S),
    )
    demo.show(stage, "get", "pods", "-n", TUMOR.namespace, "-o", "wide")


def finish(demo: Demo, stage: Stage) -> None:
    """Say what was seen, and what to try next."""
    demo.title("Summary")
    table = Table("what", "figure", show_header=False)
    for what, figure in demo.summary:
        table.add_row(what, figure)
    demo.console.print(table)
    plugin = ROOT / ".venv" / "bin"
    demo.console.print("[bold]Try next[/] (the cluster stays up):")
    lines = (
        f"export KUBECONFIG={stage.cluster.kubeconfig} PATH={plugin}:{stage.tools.bin}:$PATH",
        f"kubectl conch explain {DIGITS.name} -n {DIGITS.namespace}",
        f"kubectl scale msvc {DIGITS.name} -n {DIGITS.namespace} --replicas 3",
        f"kubectl -n {NAMESPACE} logs deploy/conch -f",
        "make cluster-down    # removes the cluster; nothing stays",
    )
    for line in lines:
        demo.print(f"  {line}")


def main() -> int:
    """Run the demo; on failure say the cause and where to look."""
    console = Console()
    parser = argparse.ArgumentParser("python -m e2e.demo", description="Shows the main job.")
    parser.add_argument("--figures", type=Path, help="a file for what was measured, as JSON")
    options = parser.parse_args()
    try:
        figures = run(console, terminal_reporter())
        if options.figures:
            options.figures.write_text(json.dumps(figures))
    except (WaitError, CommandError, ClusterError, BuildError, PrerequisiteError) as error:
        console.print(f"\n[bold red]The demo failed:[/] {error}", highlight=False)
        console.print(f"Look at: {_where_to_look()}", highlight=False)
        return 1
    return 0


def _where_to_look() -> str:
    state = Path("~/.local/state/conch/cluster").expanduser()
    return (
        f"`kubectl -n {NAMESPACE} logs deploy/conch`, `make cluster-status`, "
        f"and the logs below {state}"
    )


if __name__ == "__main__":
    sys.exit(main())
