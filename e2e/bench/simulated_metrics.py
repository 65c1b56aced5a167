"""A real Prometheus with the metrics of simulated pods: one page stands for all their Tritons."""

import contextlib
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from conch.api.names import LABEL_POOL, LABEL_REVISION, LABEL_SERVICE, LABEL_SERVING
from e2e.cluster.ports import free_ports

Object = dict[str, Any]

REQUESTS_PER_SECOND = 2.0
"""Of each pod; a fortieth of what it could answer, so that nothing scales."""
_RATES = {
    "nv_inference_request_success": REQUESTS_PER_SECOND,
    "nv_inference_count": REQUESTS_PER_SECOND,
    "nv_inference_exec_count": REQUESTS_PER_SECOND,
    "nv_inference_compute_input_duration_us": REQUESTS_PER_SECOND * 100,
    "nv_inference_compute_infer_duration_us": REQUESTS_PER_SECOND * 12_000,
    "nv_inference_compute_output_duration_us": REQUESTS_PER_SECOND * 100,
    "nv_inference_queue_duration_us": REQUESTS_PER_SECOND * 50,
    "nv_inference_request_failure": 0.0,
}


class Pods:
    """The running pods, as a watch tells of them, and what their Tritons would say."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._labels: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()

    def see(self, event: str, pod: Object) -> None:
        """Take over a watch event."""
        metadata = pod["metadata"]
        with self._lock:
            if event == "DELETED" or pod["status"].get("phase") != "Running":
                self._labels.pop(metadata["uid"], None)
            elif metadata["uid"] not in self._labels:
                self._labels[metadata["uid"]] = (_labels(metadata), time.monotonic())

    def page(self) -> str:
        """Return the metrics of all pods in Prometheus' text form."""
        now = time.monotonic()
        with self._lock:
            pods = list(self._labels.values())
        model = f'model="{self._model}",version="1"'
        lines = []
        for labels, since in pods:
            lines.append(f"up{{{labels}}} 1")
            lines.append(f"nv_inference_pending_request_count{{{labels},{model}}} 0")
            lines += [
                f"{name}{{{labels},{model}}} {rate * (now - since):.3f}"
                for name, rate in _RATES.items()
            ]
        return "\n".join(lines) + "\n"


def _labels(metadata: Object) -> str:
    own = metadata["labels"]
    labels = {
        "namespace": metadata["namespace"],
        "pod": metadata["name"],
        "instance": metadata["uid"],
        "conch_dev_service": own[LABEL_SERVICE],
        "conch_dev_revision": own[LABEL_REVISION],
        "conch_dev_pool": own[LABEL_POOL],
        "conch_dev_serving": own.get(LABEL_SERVING, ""),
    }
    return ",".join(f'{k}="{v}"' for k, v in labels.items())


@contextlib.contextmanager
def prometheus(program: Path, folder: Path, pods: Pods) -> Iterator[str]:
    """Run a Prometheus on loopback that scrapes the pods' page each 5 s; yield its URL."""
    with _serving(pods) as target:
        folder.mkdir(parents=True, exist_ok=True)
        scrape = {
            "job_name": "pods",
            "honor_labels": True,
            "static_configs": [{"targets": [target]}],
        }
        config = {"global": {"scrape_interval": "5s"}, "scrape_configs": [scrape]}
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        address = f"127.0.0.1:{free_ports(1)[0]}"
        argv = [
            *("/usr/bin/setpriv", "--pdeathsig", "KILL", "--", str(program.resolve())),
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={address}",
            "--log.level=warn",
        ]
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(argv, stdout=log, stderr=subprocess.STDOUT)
        try:
            yield f"http://{address}"
        finally:
            process.terminate()
            process.wait(20)


@contextlib.contextmanager
def _serving(pods: Pods) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = pods.page().encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Keep the benchmark's output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
