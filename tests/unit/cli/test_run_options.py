"""What `conch run` is given on its command line."""

import pytest
import typer

from conch.cli.main import variables


def test_variables_are_split_at_the_first_equals_sign() -> None:
    assert variables(["A=1", "B=x=y", "C="]) == {"A": "1", "B": "x=y", "C": ""}


@pytest.mark.parametrize("text", ["A", "=1", ""])
def test_what_is_no_variable_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="NAME=VALUE"):
        variables([text])
