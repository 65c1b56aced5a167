"""Threads that do tasks until all are done or one fails.

They are daemons: a download that is told to end does not wait for a server that says nothing.
"""

import threading
from collections import deque
from collections.abc import Callable

Task = Callable[[], None]


class StoppedError(Exception):
    """Another task failed, or the whole is to end: this one's result is not wanted any more."""


class Pool:
    """``workers`` threads at most, and their tasks; a task may add others."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._tasks: deque[Task] = deque()
        self._open = 0
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self.stopping = threading.Event()

    def add(self, *tasks: Task, first: bool = False) -> None:
        """Have tasks done, before those that wait if ``first``."""
        with self._changed:
            if first:
                self._tasks.extendleft(reversed(tasks))
            else:
                self._tasks.extend(tasks)
            self._open += len(tasks)
            self._changed.notify_all()

    def run(self, *, tick: Task, every: float) -> None:
        """Return once all tasks are done; call ``tick`` every so many seconds meanwhile.

        Raises what the first task to fail raised; the others are told to stop.
        """
        for _ in range(self._workers):
            threading.Thread(target=self._work, name="download", daemon=True).start()
        try:
            while not self._over(every):
                tick()
        finally:
            self.stopping.set()
            with self._changed:
                self._changed.notify_all()
        if self._error is not None:
            raise self._error

    def pause(self, seconds: float) -> None:
        """Wait, within a task. Raises StoppedError once the others are to stop."""
        if self.stopping.wait(seconds):
            raise StoppedError

    def check(self) -> None:
        """Raise StoppedError once the tasks are to stop."""
        if self.stopping.is_set():
            raise StoppedError

    def _over(self, seconds: float) -> bool:
        with self._changed:
            return bool(
                self._changed.wait_for(lambda: not self._open or self._error is not None, seconds)
            )

    def _work(self) -> None:
        while (task := self._next()) is not None:
            try:
                task()
            except StoppedError:
                pass
            except BaseException as error:  # noqa: BLE001  # handed to the one who waits
                self._fail(error)
            self._done()

    def _next(self) -> Task | None:
        with self._changed:
            self._changed.wait_for(lambda: self._tasks or not self._open or self.stopping.is_set())
            return self._tasks.popleft() if self._tasks and not self.stopping.is_set() else None

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._error = self._error or error
            self.stopping.set()

    def _done(self) -> None:
        with self._changed:
            self._open -= 1
            self._changed.notify_all()
