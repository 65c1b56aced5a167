"""Records the decisions of Knative's and Kubernetes' autoscalers for the tests of their imitations.

The programs beside this one link the autoscalers' own modules. What they write is the same each time.
"""

import gzip
import sys
from pathlib import Path

from e2e.cluster.cache import Cache, default_root
from e2e.cluster.commands import BuildError
from e2e.cluster.golang import find_go
from e2e.cluster.progress import terminal_reporter

PROGRAMS = {"kpa": "knative.dev/serving", "hpa": "k8s.io/kubernetes"}
HERE = Path(__file__).resolve().parent
TARGET = HERE.parents[1] / "tests" / "unit" / "simulate" / "golden"


def main() -> int:
    """Build and run each program, and keep what it wrote where the tests look for it."""
    report, cache = terminal_reporter(), Cache(default_root())
    for name, module in PROGRAMS.items():
        go = find_go(cache, report, cache.logs / f"golden-{name}.log")
        written = cache.logs / f"golden-{name}.json"
        try:
            made_by = f"{module} {go.required_version(HERE / name, module)}"
            with report.step(f"recording what {made_by} decides (minutes, the first time)"):
                go.run_test(HERE / name, ["-out", str(written), "-of", made_by])
        except BuildError as error:
            report.info(str(error))
            return 1
        packed = TARGET / f"{name}.json.gz"
        packed.write_bytes(gzip.compress(written.read_bytes(), compresslevel=9, mtime=0))
        written.unlink()
        report.info(f"{packed.relative_to(HERE.parents[1])}: {packed.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
