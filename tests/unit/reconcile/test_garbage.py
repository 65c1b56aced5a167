"""Garbage is looked for between ticks, and all of it in the end."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from conch.reconcile.garbage import Collector, settle, undisturbed


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)
    gc.enable()


class Knot:
    """An object that holds itself."""

    def __init__(self) -> None:
        self.itself = self


def test_nothing_is_looked_for_in_the_body_whatever_comes_of_it() -> None:
    with undisturbed():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ValueError, match="no"), undisturbed():
        raise ValueError("no")
    assert gc.isenabled()


def test_who_looks_for_none_at_all_still_does_not() -> None:
    gc.disable()
    with undisturbed():
        pass
    assert not gc.isenabled()


def test_what_lives_long_is_looked_at_when_it_is_due() -> None:
    settle()
    lost = weakref.ref(Knot())
    gc.collect(1)  # it has lived through a look: only one at everything finds such
    old = Knot()
    kept = weakref.ref(old)
    gc.collect(1)
    del old
    collector = Collector(every=60.0)
    assert not collector.look(100.0)
    assert not collector.look(159.0)
    assert kept() is not None
    assert collector.look(160.0)
    assert lost() is None
    assert kept() is None
    assert not collector.look(161.0)
