"""Conch itself: the decisions of the operator, fed with what Prometheus would say."""

from dataclasses import replace

from conch.api.service import Objective
from conch.api.signals import Signals
from conch.decisions.scaling import PoolLoad, ScalingState, ServiceLoad, decide
from conch.reconcile.scaling import wishes_of
from conch.simulate.load_times import LoadTimes
from conch.simulate.policies.base import Policy, PolicyMaker, Tick
from conch.simulate.policies.options import Options
from conch.simulate.workload import Workload

SCRAPE_S = 5
"""Between two scrapes; the operator decides as soon as one is there."""


class Conch:
    """The policy: the operator's state of one service."""

    def __init__(self, workload: Workload, load_seconds: float, interval: float) -> None:
        self.interval = interval
        self._workload = workload
        self._state = ScalingState()
        self._load = replace(
            wishes_of(workload.scaling, Objective()),
            objective=workload.objective,
            load_seconds=load_seconds,
            max_batch=workload.max_batch,
            instances=workload.instances,
            queue_delay=workload.queue_delay,
            declared={workload.accelerator: workload.profile},
            may_sleep=workload.minimum == 0,
        )

    def replicas(self, tick: Tick) -> int:
        """Return what the operator would want."""
        decision = decide(self._seen(tick), self._state, tick.now)
        self._state = decision.state
        return decision.replicas

    def _seen(self, tick: Tick) -> ServiceLoad:
        held = tick.ready + tick.starting
        pool = PoolLoad(
            pool="pool",
            accelerator=self._workload.accelerator,
            ready=tick.ready,
            starting=tick.starting,
            room=max(0, self._load.maximum - held),
            signals=signals(tick) if tick.ready else None,
        )
        return replace(self._load, pools=(pool,), held_back=0 if tick.ready else tick.waiting)


def signals(tick: Tick) -> Signals:
    """Return what Triton's counters say between two scrapes; they count what has ended."""
    answered = tick.answered / tick.interval
    return Signals(
        inferences=answered,
        requests=answered,
        executions=tick.runs / tick.interval,
        mean_batch=tick.answered / tick.runs if tick.runs else 0.0,
        mean_execution=tick.busy_seconds / tick.runs if tick.runs else 0.0,
        queue_seconds=tick.waited_seconds / tick.begun if tick.begun else 0.0,
        pending=tick.waiting,
        pods_scraped=tick.ready,
    )


def maker(options: Options) -> PolicyMaker:
    """Return what ``conch`` means: the service's own settings, scraped every 5 seconds."""
    scrape = options.seconds("scrape", SCRAPE_S, least=1)

    def make(workload: Workload, _: object, load_times: LoadTimes) -> Policy:
        return Conch(workload, load_times.p90, float(scrape))

    return make
