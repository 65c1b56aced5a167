"""The shape of the code base: layers, sizes, and generated files that are up to date."""

from pathlib import Path

import pytest
from importlinter.cli import lint_imports

from conch.api import crd

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "operator").rglob("*.py"))


def test_operator_folder_is_no_package() -> None:
    # It would shadow the standard library's module `operator`.
    assert not (ROOT / "operator" / "__init__.py").exists()


def test_layers_hold() -> None:
    assert lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True) == 0


def test_files_stay_short() -> None:
    assert SOURCES
    lengths = {str(p.relative_to(ROOT)): len(p.read_text().splitlines()) for p in SOURCES}
    assert {name: n for name, n in lengths.items() if n >= 500} == {}


@pytest.mark.parametrize("place", ["crds", "charts/conch/crds"])
def test_crds_are_what_the_models_generate(tmp_path: Path, place: str) -> None:
    crd.write(tmp_path)
    generated = {p.name: p.read_text() for p in tmp_path.iterdir()}
    stored = {p.name: p.read_text() for p in (ROOT / place).iterdir()}
    assert stored == generated, "run `make crds`"
