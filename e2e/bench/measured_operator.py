"""The operator as a process, with what it costs."""

import os
import re
import urllib.request
from pathlib import Path

from tests.kit.operator import Operator

_SAMPLE = re.compile(r"^(conch_\w+)(?:\{.*\})? (\S+)$", re.MULTILINE)
_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)


class MeasuredOperator(Operator):
    """An operator whose memory, time and own counters can be read while it runs."""

    @property
    def peak_rss_mb(self) -> float:
        """Its largest resident memory so far, in MB."""
        found = _PEAK.search(self._proc("status"))
        return int(found[1]) / 1024 if found else 0.0

    def counters(self) -> dict[str, float]:
        """Return its own metrics, summed over their labels."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=10) as answer:
            page = answer.read().decode()
        found: dict[str, float] = {}
        for name, value in _SAMPLE.findall(page):
            found[name] = found.get(name, 0.0) + float(value)
        return found

    def _proc(self, file: str) -> str:
        assert self._process is not None, "it was not started"
        return Path(f"/proc/{self._process.pid}/{file}").read_text()


def cpu_seconds(process: int) -> float:
    """Return the time that a process has spent on a CPU; raises OSError where there is none."""
    words = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
