"""What the operator's own metrics say."""

from prometheus_client import generate_latest

from conch.decisions.fleet import ServiceKey
from conch.decisions.scaling import ScalingState, ServiceLoad, decide
from conch.decisions.scaling.account import Decided
from conch.decisions.scaling.margin import Margin
from conch.metrics.learned import LEARNED
from conch.reconcile.exposition import SCALING, Exposition
from tests.unit.decisions.scaling.story import Story, story

KEY = ServiceKey("vision", "digits")


def shown(tale: Story) -> str:
    exposition = Exposition()
    exposition.show((), (), {KEY: Decided(tale.seen, tale.last, tale.now)})
    return generate_latest(exposition.registry).decode()


def test_figures_of_a_decision_are_metrics() -> None:
    tale = story(ready=2)
    tale.run(12.5, 300)
    text = shown(tale)
    labels = '{namespace="vision",service="digits"}'
    assert f"conch_service_demand_items_per_second{labels} 12.5" in text
    assert f"conch_service_replica_items_per_second{labels} 5.0" in text


def test_what_is_not_known_is_no_value() -> None:
    tale = story(ready=1)
    tale.run(1.0, 5, blind=True)
    assert "conch_service_demand_items_per_second{" not in shown(tale)


def test_each_has_a_name_of_its_own_and_a_unit_or_a_count() -> None:
    names = [name for name, _ in SCALING.values()]
    assert len(set(names)) == len(names)
    units = ("_per_second", "_seconds", "_ratio", "_min", "_max", "_beta", "_dispersion")
    assert all(name.startswith("conch_service_") and name.endswith(units) for name in names)


def test_what_is_asked_for_after_a_restart_is_shown() -> None:
    exposition = Exposition()
    load, state = ServiceLoad(pools=()), ScalingState(margin=Margin(peak=90.0, watched=60.0))
    exposition.show((), (), {KEY: Decided(load, decide(load, state, 0.0), 0.0)})
    text = generate_latest(exposition.registry).decode()
    assert {m for m in LEARNED.values() if f"{m}{{" in text} == set(LEARNED.values())
    assert 'conch_service_peak_items_per_second{namespace="vision",service="digits"} 90.0' in text
