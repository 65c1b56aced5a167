"""Thousands of pods played by one HAProxy on the loopback, each at an address of its own.

It answers as a Triton of the service whose pod has the address; the version of the model in its
answers is the address, so that callers see which pod answered.
"""

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from conch.api.names import PORT_HTTP
from e2e.cluster.prerequisites import HAPROXY, ensure_program
from e2e.cluster.progress import terminal_reporter
from e2e.kubectl import wait_for
from tests.kit.front_door import fetch

_CONFIG = """\
global
  nbthread 1
  maxconn 60000
  no strict-limits
defaults
  mode http
  timeout client 5m
  timeout server 5m
  timeout connect 5s
frontend pods
{binds}
  http-request set-var(txn.service) dst,map_ip({services})
  http-request set-var(txn.model) var(txn.service),field(2,/)
  http-request return status 404 if !{{ var(txn.service) -m found }}
  http-request return status 200 content-type application/json lf-string '{health}' if {{ path /v2 }}
  http-request return status 200 content-type application/json lf-string '{answer}'
"""
_HEALTH = '{"name":"%[var(txn.service)]","version":"2.51.0"}'
_ANSWER = (
    '{"model_name":"%[var(txn.model)]","model_version":"%[dst]",'
    '"outputs":[{"name":"sum","datatype":"FP32","shape":[1,4],"data":[1.0,2.0,3.0,4.0]}]}'
)
"""To the first of the questions, which is the only one that is asked here."""


@contextmanager
def backends(folder: Path, services: Mapping[str, str]) -> Iterator[int]:
    """Play the pods of ``services``, NAMESPACE/SERVICE by address; yield the process."""
    folder.mkdir(parents=True, exist_ok=True)
    known = folder / "services.map"
    known.write_text("".join(f"{address} {name}\n" for address, name in services.items()))
    file = folder / "haproxy.cfg"
    # Each by itself: tests beside this one have addresses of their own on this port.
    binds = "\n".join(f"  bind {address}:{PORT_HTTP}" for address in services)
    file.write_text(_CONFIG.format(binds=binds, services=known, health=_HEALTH, answer=_ANSWER))
    program = ensure_program(HAPROXY, report=terminal_reporter())
    log = folder / "log"
    with log.open("ab") as out:
        process = subprocess.Popen([str(program), "-db", "-f", str(file)], stdout=out, stderr=out)
    try:
        address, name = next(iter(services.items()))
        wait_for("the pods", lambda: _answers(address, name, process, log), timeout=20, every=0.1)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def _answers(address: str, name: str, process: "subprocess.Popen[bytes]", log: Path) -> bool:
    if process.poll() is not None:
        raise RuntimeError(f"the pods can't be played: {log.read_text()}")
    try:
        return f'"{name}"' in fetch(f"http://{address}:{PORT_HTTP}/v2").body
    except OSError:
        return False
