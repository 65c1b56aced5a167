import io

import pytest
from rich.console import Console

from e2e.cluster.progress import PlainReporter, TerminalReporter, terminal_reporter


def plain() -> tuple[PlainReporter, io.StringIO]:
    output = io.StringIO()
    return PlainReporter(Console(file=output, width=40)), output


def terminal() -> tuple[TerminalReporter, io.StringIO]:
    output = io.StringIO()
    return TerminalReporter(Console(file=output, force_terminal=True, width=80)), output


def test_pipes_get_plain_lines_and_terminals_a_spinner() -> None:
    assert isinstance(terminal_reporter(Console(file=io.StringIO())), PlainReporter)
    on_terminal = Console(file=io.StringIO(), force_terminal=True)
    assert isinstance(terminal_reporter(on_terminal), TerminalReporter)


def test_a_plain_step_has_a_line_at_each_end() -> None:
    report, output = plain()
    with report.step("building [etcd] v3.6"):
        assert output.getvalue() == "building [etcd] v3.6 …\n"
    assert output.getvalue().splitlines()[1].startswith("building [etcd] v3.6: 0.")


def test_a_plain_step_says_that_it_failed() -> None:
    report, output = plain()
    with pytest.raises(OSError, match="no disk"), report.step("building"):
        raise OSError("no disk")
    assert "building: failed after 0." in output.getvalue()


def test_long_remarks_are_not_wrapped_in_logs() -> None:
    report, output = plain()
    report.info("word " * 40)
    assert output.getvalue() == "word " * 40 + "\n"


def test_a_finished_step_leaves_one_marked_line() -> None:
    report, output = terminal()
    with report.step("building"), report.step("within"):
        pass
    assert output.getvalue().count("✓") == 2
    assert "✗" not in output.getvalue()


def test_a_failed_step_is_marked_as_such() -> None:
    report, output = terminal()
    with pytest.raises(OSError, match="no disk"), report.step("building"):
        raise OSError("no disk")
    assert "✗" in output.getvalue()
    assert "✓" not in output.getvalue()
