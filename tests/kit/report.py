"""Figures of tests in pytest's closing lines, also when workers run them side by side."""

from collections.abc import Callable

import pytest

Recorder = Callable[[str, object], None]
"""pytest's fixture ``record_property``."""
PROPERTY = "figure"
"""Properties of this name are shown, a line each."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what tests told."""
    reports = [r for found in terminalreporter.stats.values() for r in found]
    for report in reports:
        for name, text in getattr(report, "user_properties", ()):
            if name == PROPERTY and report.when == "call":
                terminalreporter.write_line(str(text))
