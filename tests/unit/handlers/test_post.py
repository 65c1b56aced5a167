"""What threads hear reaches the loop whole and in order."""

import asyncio
from typing import Any

from conch.handlers.watches import Post

LETTERS = 2000


async def test_every_letter_comes_in_the_order_of_its_thread() -> None:
    got: list[tuple[str, int]] = []
    post = Post(asyncio.get_running_loop(), lambda who, number: got.append((who, number)))

    def send(who: str) -> None:
        for number in range(LETTERS):
            post.hand(who, number)

    await asyncio.gather(asyncio.to_thread(send, "a"), asyncio.to_thread(send, "b"))
    await asyncio.sleep(0.01)
    for who in "ab":
        assert [n for w, n in got if w == who] == list(range(LETTERS))


async def test_one_that_can_not_be_taken_keeps_none_back() -> None:
    loop, got, wrong = asyncio.get_running_loop(), [], []

    def take(letter: Any) -> None:
        got.append(10 // letter)

    loop.set_exception_handler(lambda _, context: wrong.append(context["exception"]))
    post = Post(loop, take)
    for letter in (1, 0, 2):
        post.hand(letter)
    await asyncio.sleep(0.01)
    post.hand(5)
    await asyncio.sleep(0.01)
    assert got == [10, 5, 2]
    assert [type(e) for e in wrong] == [ZeroDivisionError]
