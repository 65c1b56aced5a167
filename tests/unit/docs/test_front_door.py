"""docs/front-door.md is true to the code: refusals, commands, links, and what users are to write."""

import re
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from conch.api.endpoint import Endpoint
from conch.cli.plugin import app
from conch.frontdoor import refusals
from conch.frontdoor.refusals import Refusal

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "front-door.md"
TEXT = PAGE.read_text()
KNOWN = {n: r for n, r in vars(refusals).items() if isinstance(r, Refusal)}
START = ("NOT_YET", "NO_PAGES")
"""Of no request that a service was asked."""


def rows() -> dict[str, list[str]]:
    """Return the cells of the table of refusals, by HTTP status; gRPC's number is the second."""
    found: dict[str, list[str]] = {}
    for line in TEXT.splitlines():
        cells = [c.strip() for c in line.strip("|").split("|")]
        if line.startswith("|") and re.fullmatch("[0-9]{3}", cells[0]):
            found.setdefault(cells[0], []).append(cells[1].partition(" ")[0])
    return found


@pytest.mark.parametrize("name", [n for n in KNOWN if n not in START])
def test_every_refusal_is_in_the_table(name: str) -> None:
    refusal = KNOWN[name]
    told = rows()[str(refusal.status)]
    # Only REST says the length of its bodies in a header.
    assert str(refusal.grpc) in told or refusal is refusals.NO_LENGTH


def test_the_example_of_an_endpoint_is_valid() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    endpoint = yaml.safe_load(block)["spec"]["endpoint"]
    assert Endpoint.model_validate(endpoint).replay
    example = list(yaml.safe_load_all((ROOT / "examples" / "front-door.yaml").read_text()))
    (service,) = (d for d in example if d["kind"] == "ModelService")
    assert {**endpoint, "access": "Keys"} == {**service["spec"]["endpoint"], "access": "Keys"}


@pytest.mark.parametrize(
    ("field", "told"),
    [("timeout", "60s"), ("max_body", "64Mi"), ("max_wait", "120s"), ("max_waiting", "1000")],
)
def test_defaults_are_those_of_the_code(field: str, told: str) -> None:
    assert str(getattr(Endpoint(), field)) == told
    name = re.sub("_(.)", lambda m: m[1].upper(), field)
    assert re.search(rf"`{name}`\*{{0,2}} \({told}\)", TEXT)


def test_links_lead_somewhere() -> None:
    headings = re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)
    anchors = {re.sub("[^a-z0-9 -]", "", h.lower()).replace(" ", "-") for h in headings}
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        file, _, anchor = target.partition("#")
        assert (PAGE.parent / file).exists() if file else anchor in anchors, target


@pytest.mark.parametrize("words", sorted(set(re.findall(r"kubectl conch ((?:key )?[a-z]+)", TEXT))))
def test_commands_are_there(words: str) -> None:
    done = CliRunner().invoke(app, [*words.split(), "--help"])
    assert done.exit_code == 0


def test_options_are_there() -> None:
    line = r"kubectl conch (key [a-z]+|ask)([^\n`#)]*)"
    for words, rest in re.findall(line, TEXT):
        help_text = (
            CliRunner().invoke(app, [*words.split(), "--help"], env={"COLUMNS": "200"}).stdout
        )
        for option in re.findall(r"--[a-z-]+", rest):
            assert option in help_text, f"{words} {option}"


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`frontDoor\.([A-Za-z.]+)`", TEXT))))
def test_values_of_the_chart_are_there(path: str) -> None:
    found = yaml.safe_load((ROOT / "charts" / "conch" / "values.yaml").read_text())["frontDoor"]
    for part in path.split("."):
        assert part in found
        found = found[part]
