"""Single replicas are late, or busy, once they are for long; one odd sample says nothing."""

import pytest

from conch.metrics.queries import LOOKBACK
from conch.metrics.replicas import ReplicaSignals
from conch.reconcile.replica_figures import HELD_S, PACE_S, ReplicaFigures

POD = ("vision", "digits-a")
GOAL = 0.1
NOW = 1_700_000_000.0


class Story:
    """Looks at one pod at the pace of the operator."""

    def __init__(self) -> None:
        self.figures, self.now = ReplicaFigures(), NOW

    def look(self, *p99: float | None, busy: float | None = 0.5, every: float = PACE_S) -> None:
        for value in p99:
            self.now += every
            self.figures.take({POD: ReplicaSignals(self.now - 1, value, busy)}, self.now)

    @property
    def late(self) -> float | None:
        return self.figures.late(POD, GOAL, self.now)


@pytest.fixture
def story() -> Story:
    return Story()


def test_late_all_the_time_is_what_it_was_at_least(story: Story) -> None:
    story.look(0.3, 0.18, 0.2)
    assert story.late is None, "not for long enough"
    story.look(0.25)
    assert story.late == pytest.approx(1.8)


def test_one_odd_sample_is_no_lateness(story: Story) -> None:
    story.look(0.05, 0.05, 9.0, 0.05, 0.05)
    assert story.late is None, "now this, now that"
    story.look(0.06, 0.05)
    assert story.late == pytest.approx(0.6), "met all the time: what it was at most"


def test_who_moves_already_may_be_late_now_and_then(story: Story) -> None:
    story.look(0.2, 0.05, 0.2, 0.2)
    assert story.late is None
    assert story.figures.late(POD, GOAL, story.now, moves=True) == pytest.approx(2.0)
    story.look(0.05, 0.05, 0.05, 0.05)
    assert story.figures.late(POD, GOAL, story.now, moves=True) == pytest.approx(0.5)


def test_a_minute_of_an_odd_request_is_none_either(story: Story) -> None:
    """Triton tells of one slow request for about a minute."""
    story.look(0.05, 0.05, 0.05, 0.05)
    for value in (9.0, 9.0, 9.0, 0.05, 0.05, 0.05):
        story.look(value)
        assert story.late is None or story.late <= 1


def test_one_scrape_that_is_told_again_is_one(story: Story) -> None:
    same = ReplicaSignals(story.now, 9.0, 1.0)
    for after in (0, 30, 60, 90):
        story.figures.take({POD: same}, story.now + after)
        assert story.figures.late(POD, GOAL, story.now + after) is None
        assert story.figures.busy(POD, 1, story.now + after) is None


def test_seldom_scrapes_are_enough(story: Story) -> None:
    story.look(0.2, 0.2, 0.2, every=60.0)
    assert story.late == pytest.approx(2.0)


def test_what_was_before_a_gap_says_nothing(story: Story) -> None:
    story.look(0.2, 0.2, 0.2)
    story.look(0.2, every=LOOKBACK + 1)
    assert story.late is None


def test_what_is_old_is_not_known(story: Story) -> None:
    story.look(0.2, 0.2, 0.2, 0.2)
    assert story.late is not None
    assert story.figures.late(POD, GOAL, story.now + LOOKBACK) is None
    story.figures.take({}, story.now + LOOKBACK)
    assert story.late is None, "forgotten"


def test_a_look_without_it_changes_nothing_yet(story: Story) -> None:
    story.look(0.2, 0.2)
    story.now += PACE_S
    story.figures.take({}, story.now)
    story.look(0.2)
    assert story.late == pytest.approx(2.0)


def test_where_nobody_asked_for_a_while_nothing_is_known(story: Story) -> None:
    story.look(0.2, 0.2, None, 0.2)
    assert story.late is None


def test_busy_is_the_mean_by_instances_and_one_odd_sample_counts_as_one(story: Story) -> None:
    for busy in (0.1, 0.1, 1000.0, 0.1):
        story.look(0.05, busy=busy)
    assert story.figures.busy(POD, 1, story.now) == pytest.approx(0.325)
    story = Story()
    story.look(0.05, 0.05, 0.05, 0.05, busy=1.6)
    assert story.figures.busy(POD, 2, story.now) == pytest.approx(0.8)
    story.look(0.05, busy=None)
    assert story.figures.busy(POD, 2, story.now) is None


def test_who_is_not_known_is_not_known() -> None:
    assert ReplicaFigures().late(POD, GOAL, NOW) is None
    assert ReplicaFigures().busy(POD, 1, NOW) is None


def test_no_more_is_kept_than_is_needed(story: Story) -> None:
    story.look(*[0.2] * 20)
    assert len(story.figures._looks[POD]) == HELD_S / PACE_S + 1
