"""The operator's HTTP port."""

import math
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from prometheus_client import CollectorRegistry, Counter

from conch.handlers.serving import serve

KNOWN: dict[str, Any] = {"replicas": 3, "figures": {"mu": math.inf, "demand": 2.5}}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    registry = CollectorRegistry()
    Counter("things", "Counted.", registry=registry).inc()
    known = {("vision", "digits"): KNOWN}
    account = lambda namespace, name: known.get((namespace, name))  # noqa: E731
    server = serve(0, registry, account, lambda: {"at": None, "moves": []})
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_metrics(url: str) -> None:
    assert "things_total 1.0" in requests.get(f"{url}/metrics", timeout=5).text


def test_an_account_holds_only_numbers_that_json_has(url: str) -> None:
    answer = requests.get(f"{url}/scaling/vision/digits", timeout=5)
    assert answer.json() == {"replicas": 3, "figures": {"mu": None, "demand": 2.5}}


def test_what_the_planner_proposed(url: str) -> None:
    assert requests.get(f"{url}/plan", timeout=5).json() == {"at": None, "moves": []}


@pytest.mark.parametrize("path", ["vision/other", "vision", "", "a/b/c"])
def test_what_it_does_not_know_is_not_found(url: str, path: str) -> None:
    answer = requests.get(f"{url}/scaling/{path}", timeout=5)
    assert (answer.status_code, "no such service" in answer.text) == (404, True)
