"""How long steps tell a person where they are."""

import contextlib
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn


class Reporter(Protocol):
    """Where steps and remarks go."""

    def step(self, text: str) -> AbstractContextManager[None]:
        """Shows `text` while the body runs, and how many seconds it took once it is done."""
        ...

    def info(self, text: str) -> None:
        """Shows one line."""
        ...


class PlainReporter:
    """One line as a step starts and one when it ends: for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextlib.contextmanager
    def step(self, text: str) -> Iterator[None]:
        started = time.monotonic()
        self._print(f"{text} …")
        try:
            yield
        except BaseException:
            self._print(f"{text}: failed after {time.monotonic() - started:.1f} s")
            raise
        self._print(f"{text}: {time.monotonic() - started:.1f} s")

    def info(self, text: str) -> None:
        self._print(text)

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class TerminalReporter:
    """A spinner with the elapsed time for each running step, and one line for each that is done."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._lock = threading.Lock()
        self._running = 0

    @contextlib.contextmanager
    def step(self, text: str) -> Iterator[None]:
        started = time.monotonic()
        mark = "[red]✗[/red]"
        self._enter()
        task = self._progress.add_task(text, total=None)
        try:
            yield
            mark = "[green]✓[/green]"
        finally:
            self._progress.remove_task(task)
            self._leave()
            self._line(mark, text, f"{time.monotonic() - started:.1f} s")

    def info(self, text: str) -> None:
        self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _enter(self) -> None:
        # The live display takes the terminal over, so it runs only while a step does.
        with self._lock:
            self._running += 1
            if self._running == 1:
                self._progress.start()

    def _leave(self) -> None:
        with self._lock:
            self._running -= 1
            if self._running == 0:
                self._progress.stop()

    def _line(self, mark: str, text: str, seconds: str) -> None:
        console = self._progress.console
        console.print(mark, end=" ", highlight=False)
        console.print(text, end=" ", markup=False, highlight=False, soft_wrap=True)
        console.print(seconds, style="dim", highlight=False)


def terminal_reporter(console: Console | None = None) -> Reporter:
    """A reporter that suits where `console` (standard error by default) writes to."""
    console = console or Console(stderr=True)
    return TerminalReporter(console) if console.is_terminal else PlainReporter(console)
