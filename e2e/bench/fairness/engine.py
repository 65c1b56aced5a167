"""Runs a workload on a simulated fleet under a policy, in ticks.

A policy acts at ticks at which something came, ended or loaded, and every ten minutes while
somebody waits. Between ticks time is exact: work ends when it ends, and its GPUs are idle until the
next tick. A replica holds its GPUs from its grant on and loads for L before it works. A replica
that is preempted leaves at once; what its job has done is kept, and whoever takes its place loads
again.

Service is the GPU-seconds that replicas hold, with their first loading, which any fleet would owe
them; loading again after a preemption is no service, since the policy made it necessary.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from e2e.bench.fairness.entitlement import water_fill
from e2e.bench.fairness.scene import (
    GPUS_PER_NODE,
    LOAD_SECONDS,
    Plan,
    Replica,
    Scene,
    Start,
    Wish,
    Work,
    Workload,
)

REVIEW = 600.0
"""Seconds after which a policy is asked although nothing happened, while somebody waits."""

Policy = Callable[[Scene], Plan]


@dataclass(frozen=True, slots=True)
class Step:
    """One tick, or some at which nothing happened; by tenant in GPU-seconds."""

    start: float
    seconds: float
    served: Mapping[str, float]
    entitled: Mapping[str, float]
    preempted: int
    """Replicas at its start."""
    ready: Mapping[str, int]
    """GPUs of replicas that have loaded, at its end."""


@dataclass(slots=True)
class _State:
    """A work that is there."""

    work: Work
    left: float
    """Replica-seconds; infinite for a service."""
    wished: int = 0
    held: list[Replica] = field(default_factory=list)
    owed: int = 0
    """Replicas that were preempted and have not been replaced."""


class Engine:
    """One run."""

    def __init__(self, workload: Workload, *, nodes: int, policy: Policy, tick: float) -> None:
        self._workload, self._nodes, self._policy, self._tick = workload, nodes, policy, tick
        self._coming = sorted(workload.works, key=lambda w: (w.arrived, w.name), reverse=True)
        self._states: dict[str, _State] = {}
        self._started = 0
        self._asked = -REVIEW
        self._changed = True
        self.now = 0.0
        self.decisions = 0

    def until(self, span: float) -> Iterator[Step]:
        """Yield the steps of so many seconds."""
        while self.now < span:
            yield self.step()

    def step(self) -> Step:
        """Let what is due come, ask the policy where it has a reason to act, and let time pass."""
        self._arrive()
        self._follow_wishes()
        preempted = self._decide() if self._due() else 0
        return self._pass_time(preempted)

    def _arrive(self) -> None:
        while self._coming and self._coming[-1].arrived <= self.now:
            work = self._coming.pop()
            left = float("inf") if work.seconds is None else work.seconds
            self._states[work.name] = _State(work, left)

    def _follow_wishes(self) -> None:
        for state in self._states.values():
            wished = _wished(state.work, self.now)
            if wished == state.wished:
                continue
            self._changed = True
            state.wished = wished
            state.owed = min(state.owed, max(0, wished - len(state.held)))
            # whoever starts goes first, then who began last
            state.held.sort(key=lambda r: (r.ready, r.started, r.id))
            del state.held[wished:]

    def _due(self) -> bool:
        if self._changed:
            return True
        waits = any(len(s.held) < s.wished for s in self._states.values())
        return waits and self.now - self._asked >= REVIEW

    def scene(self) -> Scene:
        """Return what a policy sees now."""
        return Scene(
            now=self.now,
            weights=self._workload.weights,
            nodes=self._nodes,
            wishes=tuple(Wish(s.work, s.wished, tuple(s.held)) for s in self._states.values()),
        )

    def _decide(self) -> int:
        self._asked, self._changed = self.now, False
        self.decisions += 1
        plan = self._policy(self.scene())
        for state in self._states.values():
            staying = [r for r in state.held if r.id not in plan.stops]
            state.owed += len(state.held) - len(staying)
            state.held = staying
        for start in plan.starts:
            self._start(start)
        if plan.stops or plan.starts:
            self._changed = True
        self._check(plan)
        return len(plan.stops)

    def _start(self, start: Start) -> None:
        state = self._states[start.work]
        self._started += 1
        again = state.owed > 0
        state.owed -= again
        state.held.append(
            Replica(
                id=f"r{self._started:07}",
                work=start.work,
                tenant=state.work.tenant,
                gpus=state.work.gpus,
                node=start.node,
                started=self.now,
                ready=self.now + LOAD_SECONDS,
                again=again,
            )
        )

    def _check(self, plan: Plan) -> None:
        """No policy may hold what is not there, or more than is wished for."""
        scene = self.scene()
        if min(scene.free().free) < 0 or any(len(w.held) > w.wished for w in scene.wishes):
            raise AssertionError(f"{self.now} s: impossible plan {plan}")

    def _pass_time(self, preempted: int) -> Step:
        start, end = self.now, self.now + self._tick * self._quiet_ticks()
        seconds = end - start
        demand = dict.fromkeys(self._workload.weights, 0.0)
        served, ready = dict(demand), dict.fromkeys(demand, 0)
        for state in list(self._states.values()):
            until = self._work_on(state, start, end)
            tenant, gpus = state.work.tenant, state.work.gpus
            demand[tenant] += gpus * state.wished * (until - start) / seconds
            served[tenant] += gpus * sum(_service(r, start, until) for r in state.held)
            if state.left <= 0:
                del self._states[state.work.name]
                self._changed = True
                continue
            loaded = sum(r.ready <= end for r in state.held)
            ready[tenant] += gpus * loaded
            self._changed |= any(start < r.ready <= end for r in state.held)
        self.now = end
        return Step(start, seconds, served, self._entitled(demand, seconds), preempted, ready)

    def _quiet_ticks(self) -> int:
        """Return how many ticks pass at once: as long as nothing happens, at least one."""
        if self._changed:
            return 1
        events = [(self.now // REVIEW + 1) * REVIEW]
        if self._coming:
            events.append(self._coming[-1].arrived)
        for state in self._states.values():
            events += (time for time, _ in state.work.wishes if time > self.now)
            events += (r.ready for r in state.held if r.ready > self.now)
            if state.held:
                events.append(self.now + state.left / len(state.held))
        return max(1, int((min(events) - self.now) // self._tick))

    def _entitled(self, demand: Mapping[str, float], seconds: float) -> dict[str, float]:
        """Return the entitlements of a step, in GPU-seconds."""
        capacity = self._nodes * GPUS_PER_NODE
        filled = water_fill(demand, self._workload.weights, capacity)
        return {tenant: gpus * seconds for tenant, gpus in filled.items()}

    @staticmethod
    def _work_on(state: _State, start: float, end: float) -> float:
        """Let a work run, and return when it ends within the tick, or the tick's end."""
        if state.work.seconds is None:
            return end
        done = sum(max(0.0, end - max(start, r.ready)) for r in state.held)
        state.left -= done
        if state.left > 0:
            return end
        running = sum(r.ready < end for r in state.held)
        return end + state.left / running


def _wished(work: Work, now: float) -> int:
    """Return the replicas that a work wishes for at a time."""
    wished = 0
    for time, replicas in work.wishes:
        if time > now:
            break
        wished = replicas
    return wished


def _service(replica: Replica, start: float, end: float) -> float:
    """Return for how long a replica served within a tick."""
    return max(0.0, end - max(start, replica.ready if replica.again else start))
