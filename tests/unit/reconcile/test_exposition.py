"""What the operator's own metrics say."""

from prometheus_client import generate_latest

from conch.decisions.fleet import ServiceKey
from conch.reconcile.exposition import SCALING, Exposition

KEY = ServiceKey("vision", "digits")


def shown(**figures: float) -> str:
    exposition = Exposition()
    exposition.show((), (), {KEY: figures})
    return generate_latest(exposition.registry).decode()


def test_figures_of_a_decision_are_metrics() -> None:
    text = shown(demand=37.5, mu=12.0)
    labels = '{namespace="vision",service="digits"}'
    assert f"conch_service_demand_items_per_second{labels} 37.5" in text
    assert f"conch_service_replica_items_per_second{labels} 12.0" in text


def test_what_is_not_known_is_no_value() -> None:
    assert "digits" not in shown(something_else=1.0)


def test_each_has_a_name_of_its_own_and_a_unit_or_a_count() -> None:
    names = [name for name, _ in SCALING.values()]
    assert len(set(names)) == len(names)
    units = ("_per_second", "_seconds", "_ratio", "_min", "_max")
    assert all(name.startswith("conch_service_") and name.endswith(units) for name in names)
