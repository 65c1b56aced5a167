"""What was measured of models lasts in their status."""

from collections.abc import Mapping
from typing import Any

from conch.api.model import ModelStatus
from conch.decisions.fleet import ServiceKey
from conch.decisions.scaling import ScalingState, measured, state_from_profiles
from conch.reconcile.profiles import Profiles
from tests.unit.reconcile import bodies
from tests.unit.reconcile.bodies import gathered, store

NOW = "2026-01-01T00:01:00Z"
KEY = ServiceKey("vision", "digits")


def state(fixed: float, item: float, accelerator: str = "NVIDIA-A100") -> ScalingState:
    return state_from_profiles([(accelerator, fixed, item)])


def written(
    states: Mapping[ServiceKey, ScalingState], **objects: Any
) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return the names of models and the profiles that would be written to them."""
    found = store(**{"ModelService": bodies.model_service(), **objects})
    wishes = Profiles(found).statuses(gathered(found).services, states, NOW)
    return [(model["metadata"]["name"], status["profiles"]) for model, status in wishes]


def with_status(fixed: float, item: float, **fields: Any) -> dict[str, Any]:
    profile = {
        "variant": "fp32",
        "accelerator": "NVIDIA-A100",
        "fixedMs": fixed,
        "perItemMs": item,
        "asOf": "2026-01-01T00:00:00Z",
        **fields,
    }
    return {**bodies.model(), "status": {"profiles": [profile]}}


def test_a_first_measurement_is_written() -> None:
    ((name, profiles),) = written({KEY: state(2.0, 0.5)})
    assert name == "digits"
    assert profiles == [
        {
            "variant": "fp32",
            "accelerator": "NVIDIA-A100",
            "fixedMs": 2.0,
            "perItemMs": 0.5,
            "asOf": NOW,
        }
    ]


def test_noise_is_not() -> None:
    assert written({KEY: state(2.0, 0.9)}, Model=with_status(2.0, 0.5)) == []


def test_a_telling_change_is() -> None:
    ((_, profiles),) = written({KEY: state(4.0, 0.5)}, Model=with_status(2.0, 0.5))
    assert profiles[0]["fixedMs"] == 4.0
    assert profiles[0]["asOf"] == NOW


def test_what_is_known_of_other_variants_and_accelerators_stays() -> None:
    other = with_status(9.0, 9.0, variant="int8")
    ((_, profiles),) = written({KEY: state(2.0, 0.5)}, Model=other)
    assert [p["variant"] for p in profiles] == ["fp32", "int8"]


def test_nothing_measured_writes_nothing() -> None:
    assert written({KEY: ScalingState()}) == []
    assert written({}) == []


def test_the_first_service_by_name_speaks_for_a_model() -> None:
    services = [bodies.model_service("b"), bodies.model_service("a")]
    states = {
        ServiceKey("vision", "a"): state(1.0, 0.0),
        ServiceKey("vision", "b"): state(7.0, 0.0),
    }
    ((_, profiles),) = written(states, ModelService=services)
    assert profiles[0]["fixedMs"] == 1.0


def test_a_restart_begins_with_what_is_written() -> None:
    found = store(ModelService=bodies.model_service(), Model=with_status(2.0, 0.5))
    (facts,) = gathered(found).services
    assert measured(Profiles(found).initial(facts)) == [("NVIDIA-A100", 2.0, 0.5)]


def test_but_not_with_another_variants() -> None:
    found = store(ModelService=bodies.model_service(), Model=with_status(2.0, 0.5, variant="int8"))
    (facts,) = gathered(found).services
    assert measured(Profiles(found).initial(facts)) == []


def test_the_written_form_is_a_models_status() -> None:
    found = store(ModelService=bodies.model_service())
    ((_, status),) = Profiles(found).statuses(gathered(found).services, {KEY: state(2, 1)}, NOW)
    assert ModelStatus.model_validate(status).observed_generation == 1


def test_an_edit_of_the_spec_is_observed_where_something_was_measured() -> None:
    model = with_status(2.0, 0.5)
    model["status"]["observedGeneration"] = 1
    assert written({KEY: state(2.0, 0.5)}, Model=model) == []
    model["metadata"]["generation"] = 2
    found = store(ModelService=bodies.model_service(), Model=model)
    services = gathered(found).services
    ((_, status),) = Profiles(found).statuses(services, {KEY: state(2.0, 0.5)}, NOW)
    assert status["observedGeneration"] == 2
    assert status["profiles"] == model["status"]["profiles"]
