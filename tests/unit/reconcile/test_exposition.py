"""What the operator's own metrics say."""

from dataclasses import replace

from prometheus_client import generate_latest

from conch.decisions.fleet import ServiceKey
from conch.decisions.scaling import ScalingState, ServiceLoad, decide
from conch.decisions.scaling.account import Decided
from conch.decisions.scaling.margin import Margin
from conch.metrics.learned import LEARNED
from conch.reconcile.exposition import SCALING, Exposition

KEY = ServiceKey("vision", "digits")


def shown(**figures: float) -> str:
    exposition = Exposition()
    load = ServiceLoad(pools=())
    decision = replace(decide(load, ScalingState(), 0.0), figures=figures)
    exposition.show((), (), {KEY: Decided(load, decision, 0.0)})
    return generate_latest(exposition.registry).decode()


def test_figures_of_a_decision_are_metrics() -> None:
    text = shown(demand=37.5, mu=12.0)
    labels = '{namespace="vision",service="digits"}'
    assert f"conch_service_demand_items_per_second{labels} 37.5" in text
    assert f"conch_service_replica_items_per_second{labels} 12.0" in text


def test_what_is_not_known_is_no_value() -> None:
    assert "conch_service_demand_items_per_second{" not in shown(something_else=1.0)


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
