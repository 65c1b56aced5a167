"""The most GPUs that any policy could have given to pods, however well it placed them: a bound."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from scipy.optimize import linprog  # type: ignore[import-untyped]
from scipy.sparse import csr_matrix  # type: ignore[import-untyped]

from e2e.bench.placement_trace import MILLI, Cluster, Pod

# scipy is there with scikit-learn, which trains the sample models; it solves the linear programme.

_Kind = tuple[int, int, int]
"""CPU, memory and devices of a node."""
_Fold = Callable[[float], float]


def least_unallocated_percent(nodes: Cluster, todo: Sequence[Pod]) -> float:
    """Return the share of GPUs, in percent, that stays without a pod whatever a policy does.

    A linear programme gives pods, also parts of them, to kinds of nodes. No node gets more than it
    has, and cuts from dual feasible functions count what does not go together in one device or one
    node (Fekete and Schepers, "New classes of fast lower bounds for bin packing problems", 2001):
    for such a function f, sizes x that fit into 1 have f(x) that add up to at most 1.
    """
    kinds = Counter(
        (int(c), int(m), int((d > 0).sum()))
        for c, m, d in zip(nodes.cpu, nodes.memory, nodes.devices, strict=True)
    )
    asked = Counter(todo)
    pairs = [(p, k) for p in asked for k in kinds if _fits(p, k)]
    if not pairs:
        return 100.0
    rows, limits = [], []
    for pod, count in asked.items():
        rows.append([float(p == pod) for p, _ in pairs])
        limits.append(float(count))
    for kind, count in kinds.items():
        for weigh, most in _cuts(kind, asked):
            rows.append([weigh[p] if k == kind else 0.0 for p, k in pairs])
            limits.append(count * most)
    gain = np.array([p.asked / MILLI for p, _ in pairs])
    solved = linprog(-gain, A_ub=csr_matrix(rows), b_ub=limits, method="highs")
    if not solved.success:
        raise RuntimeError(f"no bound: {solved.message}")
    return float(100.0 * (1.0 + solved.fun * MILLI / nodes.capacity))


def _fits(pod: Pod, kind: _Kind) -> bool:
    cpu, memory, devices = kind
    return pod.cpu <= cpu and pod.memory <= memory and pod.gpus <= devices


def _cuts(kind: _Kind, asked: Counter[Pod]) -> Iterator[tuple[dict[Pod, float], float]]:
    """Yield what each pod weighs and how much one node of the kind holds."""
    cpu, memory, devices = kind
    for fold in _folds():
        of_device = {p: p.gpus * fold(p.milli / MILLI) for p in asked}
        yield of_device, devices
        yield {p: fold(p.asked / MILLI / devices) for p in asked}, 1.0
        yield {p: fold(p.cpu / cpu) for p in asked}, 1.0
        yield {p: fold(p.memory / memory) for p in asked}, 1.0


def _folds() -> list[_Fold]:
    """Return dual feasible functions: the identity, and what rounds to multiples, or drops."""
    steps = [_rounding(k) for k in (1, 2, 3, 4, 5, 7)]
    return [
        lambda x: x,
        *steps,
        *(_dropping(least) for least in (0.18, 0.25, 0.3, 0.35, 0.41, 0.46)),
    ]


def _rounding(k: int) -> _Fold:
    def fold(x: float) -> float:
        times = x * (k + 1)
        whole = abs(times - round(times)) < 1e-9
        return x if whole else np.floor(times) / k

    return fold


def _dropping(least: float) -> _Fold:
    def fold(x: float) -> float:
        if x > 1 - least:
            return 1.0
        return x if x >= least else 0.0

    return fold
