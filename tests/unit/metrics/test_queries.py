"""The fixed set of queries."""

import re

from conch.metrics.queries import GROUP, queries


def test_their_number_is_fixed_and_small() -> None:
    assert len(queries()) == 13


def test_each_covers_the_whole_fleet_at_once() -> None:
    for promql in queries().values():
        assert 'conch_dev_service!=""' in promql
        assert not re.search(r'conch_dev_(service|revision|pool)="', promql)


def test_each_answers_by_service_revision_pool_and_model() -> None:
    for promql in queries().values():
        assert f"by ({', '.join(GROUP)})" in promql


def test_the_lookback_is_in_milliseconds() -> None:
    assert "[2500ms]" in queries(2.5)["inferences"]
    assert "[120000ms]" in queries()["pods"]
