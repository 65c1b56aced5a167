"""What `conch run` is given on its command line."""

import pytest
import typer
from typer.testing import CliRunner

from conch.cli.main import app, variables


def test_variables_are_split_at_the_first_equals_sign() -> None:
    assert variables(["A=1", "B=x=y", "C="]) == {"A": "1", "B": "x=y", "C": ""}


@pytest.mark.parametrize("text", ["A", "=1", ""])
def test_what_is_no_variable_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="NAME=VALUE"):
        variables([text])


def test_a_neighbour_that_is_not_known_is_refused_with_those_that_are() -> None:
    done = CliRunner().invoke(app, ["run", "--beside=volcano"])
    assert done.exit_code == 2
    assert "'volcano' is none of kueue" in " ".join(done.output.split())
