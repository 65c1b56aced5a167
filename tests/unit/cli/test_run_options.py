"""What `conch run` is given on its command line."""

from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from conch.cli.main import app, variables
from conch.handlers import process
from conch.reconcile import garbage
from conch.reconcile.node_signs import SIGNS
from conch.reconcile.settings import FrontDoor, Settings


def test_variables_are_split_at_the_first_equals_sign() -> None:
    assert variables(["A=1", "B=x=y", "C="]) == {"A": "1", "B": "x=y", "C": ""}


@pytest.mark.parametrize("text", ["A", "=1", ""])
def test_what_is_no_variable_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="NAME=VALUE"):
        variables([text])


def test_a_neighbour_that_is_not_known_is_refused_with_those_that_are() -> None:
    done = CliRunner().invoke(app, ["run", "--beside=volcano"])
    assert done.exit_code == 2
    assert "'volcano' is none of kueue" in " ".join(done.output.split())


def settings_of(monkeypatch: pytest.MonkeyPatch, *options: str) -> Settings:
    """Return what the operator would run with."""
    found: list[Settings] = []

    async def run(settings: Settings, **_: Any) -> None:
        found.append(settings)

    monkeypatch.setattr(process, "run", run)
    monkeypatch.setattr(garbage, "settle", lambda: None)
    done = CliRunner().invoke(app, ["run", *options])
    assert done.exit_code == 0, done.output
    (settings,) = found
    return settings


def test_signs_of_failing_are_those_of_well_known_agents_and_what_options_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert settings_of(monkeypatch).node_signs == SIGNS
    options = ("--node-sign=Mine=False", "--node-sign=KernelDeadlock=ignore")
    found = settings_of(monkeypatch, *options).node_signs
    assert found["Mine"] == "False"
    assert "KernelDeadlock" not in found
    done = CliRunner().invoke(app, ["run", "--node-sign=Mine"])
    assert done.exit_code == 2
    assert "'Mine' is not of the form TYPE=True" in " ".join(done.output.replace("│", " ").split())


URL = "--front-door-url=http://conch-front-door.conch-system.svc"
GRPC = "--front-door-grpc=conch-front-door.conch-system.svc:8001"


def test_without_options_there_is_no_front_door(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings_of(monkeypatch).front_door is None


def test_a_front_door_is_told_by_its_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings_of(monkeypatch, f"{URL}/", GRPC).front_door == FrontDoor(
        url="http://conch-front-door.conch-system.svc",
        grpc="conch-front-door.conch-system.svc:8001",
    )


def test_a_front_door_may_have_a_domain_and_isolate_pods(monkeypatch: pytest.MonkeyPatch) -> None:
    more = ("--front-door-domain=models.example.com", "--isolate")
    namespaces = ("--metrics-namespace=monitoring", "--metrics-namespace=ops")
    door = settings_of(monkeypatch, URL, GRPC, *more, *namespaces).front_door
    assert door is not None
    assert (door.domain, door.isolate) == ("models.example.com", True)
    assert door.metrics_namespaces == ("monitoring", "ops")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([URL], "has both --front-door-url and --front-door-grpc"),
        ([GRPC], "has both --front-door-url and --front-door-grpc"),
        (["--isolate"], "without one there is no --front-door-domain and no --isolate"),
        (["--front-door-domain=a.example"], "without one there is no --front-door-domain"),
        (["--front-door-url=models.example.com", GRPC], "is not of the form http://HOST"),
        (["--front-door-url=http://a.example/path", GRPC], "is not of the form http://HOST"),
        (["--front-door-url=http://a.example:x", GRPC], "is not of the form http://HOST"),
        ([URL, "--front-door-grpc=a.example"], "is not of the form HOST:PORT"),
        ([URL, GRPC, "--front-door-domain=A.example"], "is not a domain in lower-case letters"),
    ],
)
def test_half_a_front_door_is_refused(options: list[str], words: str) -> None:
    done = CliRunner().invoke(app, ["run", *options])
    assert done.exit_code == 2
    assert words in " ".join(done.output.replace("│", " ").split())
