"""What is kept from one tick to the next spares work, and changes nothing that is decided."""

import itertools

import pytest

from conch.reconcile.gather import Gatherer
from conch.reconcile.profiles import Profiles
from conch.reconcile.resting import Resting
from conch.reconcile.sharing import Claims
from e2e.bench.plan_fleet import Size
from e2e.bench.plan_run import Run
from e2e.bench.plan_tick import Tick

TICKS = 8


def lived() -> list[Tick]:
    """Return the ticks of a small fleet in which loads, specs and pods change."""
    run = Run(Size(60))
    return [one for _ in range(TICKS) for one in (run.tick(), run.rest())]


@pytest.fixture(scope="module")
def remembered() -> list[Tick]:
    return lived()


def decided(ticks: list[Tick]) -> list[object]:
    """Return all that is decided in each tick, and the facts that it is decided on."""
    return [
        (
            tick.fleet.pools,
            [(o.facts.service, o.facts.shapes, o.plan, o.wanted, o.grant) for o in tick.outcomes],
            tick.shares.standings,
        )
        for tick in ticks
    ]


def test_much_is_remembered(remembered: list[Tick]) -> None:
    kept = sum(
        one.plan is other.plan
        for before, after in itertools.pairwise(remembered)
        for one, other in zip(before.outcomes, after.outcomes, strict=True)
    )
    assert kept > 100


@pytest.mark.parametrize("memory", ["facts", "claims", "plans", "load times"])
def test_without_it_the_same_is_decided(
    memory: str, remembered: list[Tick], monkeypatch: pytest.MonkeyPatch
) -> None:
    if memory == "facts":
        gather = Gatherer.gather

        def anew(self: Gatherer) -> object:
            self._facts, self._views = {}, {}
            return gather(self)

        monkeypatch.setattr(Gatherer, "gather", anew)
    elif memory == "claims":
        of = Claims.of
        monkeypatch.setattr(Claims, "of", lambda _, wishes, tenancy: of(Claims(), wishes, tenancy))
    elif memory == "plans":
        monkeypatch.setattr(Resting, "plan", lambda *_: None)
    else:
        learned = Profiles._learned

        def anew_learned(self: Profiles, model: dict[str, object], variant: str) -> object:
            self._seconds.clear()
            return learned(self, model, variant)

        monkeypatch.setattr(Profiles, "_learned", anew_learned)
    assert decided(lived()) == decided(remembered)
