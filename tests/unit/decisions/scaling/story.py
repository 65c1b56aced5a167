"""A service told minute by minute: load comes in, decisions are obeyed, time passes."""

from dataclasses import dataclass, field, replace

from conch.api.signals import Signals
from conch.decisions.scaling import (
    PoolLoad,
    Profile,
    ScalingDecision,
    ScalingState,
    ServiceLoad,
    decide,
)

A100, T4 = "NVIDIA-A100", "Tesla-T4"
PROFILES = {A100: Profile(0.1, 0.0), T4: Profile(0.2, 0.0)}
"""Ten and five items a second, without batches."""


def signals(rate: float, *, seconds: float = 0.1, pods: int = 1, **other: object) -> Signals:
    """Signals of pods that serve ``rate`` requests/s of one item, each in a run of its own."""
    plain = Signals(
        inferences=rate,
        requests=rate,
        executions=rate,
        mean_batch=1.0 if rate else 0.0,
        mean_execution=seconds if rate else 0.0,
        pods_scraped=pods,
    )
    return replace(plain, **other)  # type: ignore[arg-type]


@dataclass
class Pool:
    """A pool of the story's world: GPUs, and how long a run takes on one."""

    accelerator: str
    gpus: int
    seconds: float
    ready: int = 0
    starting: list[float] = field(default_factory=list)
    """When each becomes ready."""

    @property
    def held(self) -> int:
        return self.ready + len(self.starting)


@dataclass
class Story:
    """The world and the scaler's memory. One tick is one scrape."""

    load: ServiceLoad
    pools: list[Pool]
    state: ScalingState = field(default_factory=ScalingState)
    now: float = 1000.0
    tick: float = 5.0
    waiting: float = 0.0
    obeyed: bool = True
    log: list[ScalingDecision] = field(default_factory=list)
    seen: ServiceLoad = field(init=False)
    """What the last decision was made from."""

    @property
    def last(self) -> ScalingDecision:
        return self.log[-1]

    @property
    def held(self) -> int:
        return sum(p.held for p in self.pools)

    def run(self, rate: float, seconds: float, *, blind: bool = False, **odd: object) -> list[int]:
        """Let ``rate`` requests/s come in for ``seconds``; return the replicas of each decision.

        ``blind``: no metrics. ``odd``: fields of the signals that are overwritten.
        """
        told = []
        for _ in range(max(1, round(seconds / self.tick))):
            self.now += self.tick
            for pool in self.pools:
                pool.ready += sum(1 for t in pool.starting if t <= self.now)
                pool.starting = [t for t in pool.starting if t > self.now]
            seen = self._serve(rate)
            loads = tuple(
                PoolLoad(
                    p.accelerator.lower(),
                    p.accelerator,
                    ready=p.ready,
                    starting=len(p.starting),
                    room=p.gpus - p.held,
                    signals=None if blind or s is None else replace(s, **odd),  # type: ignore[arg-type]
                )
                for p, s in zip(self.pools, seen, strict=True)
            )
            self.seen = replace(self.load, pools=loads)
            decision = decide(self.seen, self.state, self.now)
            self.state = decision.state
            self.log.append(decision)
            told.append(decision.replicas)
            if self.obeyed:
                self._obey(decision)
        return told

    def _serve(self, rate: float) -> list[Signals | None]:
        """Serve what comes in and what waits, in proportion to what each pool can."""
        can = [p.ready / p.seconds for p in self.pools]
        total = sum(can)
        served = min(total, rate + self.waiting / self.tick)
        self.waiting = max(0.0, self.waiting + (rate - served) * self.tick)
        answers: list[Signals | None] = []
        for pool, most in zip(self.pools, can, strict=True):
            if not pool.ready:
                answers.append(None)
                continue
            share = most / total
            answers.append(
                signals(
                    served * share,
                    seconds=pool.seconds,
                    pods=pool.ready,
                    pending=self.waiting * share,
                    queue_seconds=self.waiting / served if served else 0.0,
                )
            )
        return answers

    def _obey(self, decision: ScalingDecision) -> None:
        for pool in self.pools:
            wanted = decision.by_pool[pool.accelerator.lower()]
            while pool.held > wanted and pool.starting:
                pool.starting.pop()
            pool.ready = min(pool.ready, wanted)
            pool.starting += [self.now + self.load.load_seconds] * (wanted - pool.held)


def story(*, ready: int = 1, profiles: bool = True, gpus: int = 4, **load: object) -> Story:
    """A service with ``ready`` replicas on 4 A100; T4 come second. Objective 1 s, L = 20 s.

    The window on the way down is 300 s, in so many words.
    """
    base = ServiceLoad(
        pools=(),
        maximum=8,
        objective=1.0,
        load_seconds=20.0,
        scale_down_window=300.0,
        declared=PROFILES if profiles else {},
    )
    first = min(ready, gpus)
    return Story(
        replace(base, **load),  # type: ignore[arg-type]
        [Pool(A100, gpus, 0.1, ready=first), Pool(T4, gpus, 0.2, ready=ready - first)],
    )
