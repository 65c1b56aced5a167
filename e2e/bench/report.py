"""Writes what a benchmark measured to build/bench/, with the commit and the machine it ran on."""

import json
import os
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / "build" / "bench"


@dataclass(frozen=True)
class Unmet:
    """A goal that was not reached."""

    goal: str
    figure: str


def write(name: str, figures: Mapping[str, Any], unmet: Iterable[Unmet]) -> Path:
    """Write ``build/bench/NAME.json`` and return its path."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{name}.json"
    body = {
        **figures,
        "commit": commit(),
        "machine": machine(),
        "unmet": [asdict(u) for u in unmet],
    }
    path.write_text(json.dumps(body, indent=2) + "\n")
    return path


def commit() -> str:
    """Return the commit that was measured; "+changes" where files differ from it."""
    try:
        head = _git("rev-parse", "HEAD")
        return f"{head}+changes" if _git("status", "--porcelain", "-uno") else head
    except (OSError, subprocess.CalledProcessError):
        return "unknown: not a git checkout"


def machine() -> dict[str, float]:
    """Return the cores and the memory, in GiB, that are to be had."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"cores": len(os.sched_getaffinity(0)), "memory_gib": round(memory / 2**30, 1)}


def _git(*words: str) -> str:
    done = subprocess.run(
        ["git", *words], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30
    )
    return done.stdout.strip()
