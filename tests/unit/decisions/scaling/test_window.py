"""The way down, for 300 s at least."""

from conch.decisions.scaling.window import Window, full, highest, watched, wished

LENGTH = 300.0


def seen(window: Window, now: float, wish: int) -> Window:
    return watched(wished(window, now, wish, length=LENGTH), now, gap=60.0)


def test_it_opens_empty_and_is_full_after_its_length() -> None:
    window = seen(Window(), 1000.0, 2)
    assert not full(Window(), 1000.0, LENGTH)
    assert not full(window, 1299.0, LENGTH)
    assert full(window, 1300.0, LENGTH)


def test_the_highest_wish_counts_until_it_is_older_than_the_window() -> None:
    window = Window()
    for now, wish in [(0.0, 3), (10.0, 7), (20.0, 5), (30.0, 2)]:
        window = seen(window, now, wish)
    assert highest(window, 310.0, LENGTH) == 7
    assert highest(window, 311.0, LENGTH) == 5
    assert highest(window, 321.0, LENGTH) == 2
    assert highest(window, 331.0, LENGTH) == 0


def test_it_holds_no_more_than_it_needs() -> None:
    window = Window()
    for now in range(10_000):
        window = seen(window, float(now), 3)
    assert len(window.wishes) == 1


def test_a_gap_opens_it_anew_and_forgets_no_wish() -> None:
    window = seen(seen(Window(), 0.0, 6), 50.0, 4)
    late = seen(window, 200.0, 1)
    assert late.opened == 200.0
    assert highest(late, 200.0, LENGTH) == 6


def test_wishes_from_the_future_are_none() -> None:
    window = seen(seen(Window(), 5000.0, 6), 100.0, 1)
    assert window.opened == 100.0
    assert highest(window, 100.0, LENGTH) == 1
