"""What is applied reads the same as YAML and as JSON, whatever text is in it."""

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from conch.clients.encoding import as_yaml

texts = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.dictionaries(texts, st.one_of(texts, st.integers(), st.booleans(), st.lists(texts))))
def test_the_same_as_json(body: dict[str, Any]) -> None:
    assert json.loads(as_yaml(body)) == body


@pytest.mark.parametrize(
    "text",
    [
        "🚀",
        "\\🚀",
        "\\\\ud83d\\ude00",
        "\x00\x7f\x85\u2028",
        "é",
        "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"),
    ],
)
def test_the_same_as_yaml(text: str) -> None:
    assert yaml.safe_load(as_yaml({"x": text})) == {"x": text}
    assert "\\ud83d\\ude" not in as_yaml({"x": "🚀"})
