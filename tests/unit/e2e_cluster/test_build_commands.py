import sys
from pathlib import Path

import pytest

from e2e.cluster.commands import BuildError, run


def test_output_and_command_land_in_the_log(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "build.log"
    script = (
        "import os, sys; print(os.environ['WHERE'], os.getcwd()); print('oops', file=sys.stderr)"
    )
    run([sys.executable, "-c", script], log=log, env={"WHERE": "here"}, cwd=tmp_path)
    text = log.read_text()
    assert text.startswith(f"$ {sys.executable} -c ")
    assert f"here {tmp_path}" in text
    assert "oops" in text


def test_a_failure_names_command_status_log_and_last_words(tmp_path: Path) -> None:
    log = tmp_path / "build.log"
    script = "for n in range(50): print('line', n)\nraise SystemExit(3)"
    with pytest.raises(BuildError) as failure:
        run([sys.executable, "-c", script], log=log)
    text = str(failure.value)
    assert f"{sys.executable} -c" in text
    assert "exited with 3" in text
    assert str(log) in text
    assert "line 49" in text
    assert "line 10\n" not in text


def test_a_program_that_is_absent_is_named(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="cannot run no-such-compiler"):
        run(["no-such-compiler"], log=tmp_path / "build.log")
