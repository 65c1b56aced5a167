"""The reference is what the code generates, and the pages point to what is there."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from conch.api.conditions import Reason
from conch.api.crd import KINDS
from conch.cli import main as operator_command
from conch.cli import plugin as plugin_command
from conch.metrics.queries import queries

ROOT = Path(__file__).resolve().parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
MAKE = re.compile(r"`make ([a-z0-9-]+)`")
PLUGIN = re.compile(r"kubectl conch ([a-z]+)")
YAML = re.compile(r"^```yaml\n(.*?)^```", re.DOTALL | re.MULTILINE)
VALUE = re.compile(r"--set '?([\w.]+)=")
FLAG = re.compile(r"`(--[a-z-]+)`")


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_up_to_date() -> None:
    folder = ROOT / "docs" / "reference"
    stored = {p.name: p.read_text() for p in folder.glob("*.md")}
    assert stored == generator().pages(), "run `make docs`"


def test_every_reason_stands_on_the_page_of_conditions() -> None:
    text = (ROOT / "docs" / "reference" / "conditions.md").read_text()
    assert [r for r in Reason if f"| `{r}` |" not in text] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    targets = LINK.findall(page.read_text())
    assert [t for t in targets if not (page.parent / t).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_exist(page: Path) -> None:
    text = page.read_text()
    made = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(MAKE.findall(text)) - made == set()
    app = plugin_command.app
    known = {c.name for c in app.registered_commands} | {g.name for g in app.registered_groups}
    assert set(PLUGIN.findall(text)) - known == set()


def test_options_of_the_operator_exist() -> None:
    help_text = (ROOT / "docs" / "operations.md").read_text()
    source = Path(operator_command.__file__).read_text()
    options = {
        f"--{name.replace('_', '-')}"
        for name in re.findall(r"^    (\w+): Annotated", source, re.MULTILINE)
    }
    assert set(FLAG.findall(help_text)) - options == set()


def test_the_number_of_queries_is_told() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    assert f"{len(queries())} queries every" in text


def shown() -> list[dict[str, Any]]:
    """Return the objects of ours that the pages show."""
    blocks = [block for page in PAGES for block in YAML.findall(page.read_text())]
    bodies = [body for block in blocks for body in yaml.safe_load_all(block)]
    return [b for b in bodies if str(b.get("apiVersion", "")).startswith("conch.dev/")]


def test_objects_on_the_pages_are_valid() -> None:
    specs = {kind.kind: kind.spec for kind in KINDS}
    assert {b["kind"] for b in shown()} == {"GPUPool", "Model", "ModelService", "Tenant"}
    for body in shown():
        specs[body["kind"]].model_validate(body["spec"])


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_chart_values_exist(page: Path) -> None:
    values = yaml.safe_load((ROOT / "charts" / "conch" / "values.yaml").read_text())
    for name in VALUE.findall(page.read_text()):
        part: Any = values
        for key in name.split("."):
            # An empty map, such as that of labels, takes any key.
            assert part == {} or key in part, f"{page.name}: no chart value {name}"
            part = part.get(key, {})
