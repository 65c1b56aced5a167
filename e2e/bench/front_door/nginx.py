"""nginx between callers and the same pods: as many replicas and workers as the front door has."""

from typing import Any

from e2e.bench.front_door.flow import Flow, Protocol
from e2e.cluster.artifacts import ensure_nginx
from e2e.cluster.progress import Reporter
from e2e.images.nginx import NAME as IMAGE
from e2e.install import Stage
from e2e.kubectl import condition, wait_for
from e2e.scratch import Object, Scratch

NAME = "nginx"
HTTP_PORT, GRPC_PORT = 8080, 8081
REPLICAS, WORKERS = 2, 2
_CONFIG = """\
worker_processes {workers};
pid /tmp/nginx.pid;
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path /tmp/body;
  proxy_temp_path /tmp/proxy;
  fastcgi_temp_path /tmp/fastcgi;
  uwsgi_temp_path /tmp/uwsgi;
  scgi_temp_path /tmp/scgi;
  keepalive_requests 10000000;
  upstream rest {{ server {address}:8000; keepalive 64; keepalive_requests 10000000; }}
  upstream calls {{ server {address}:8001; keepalive 64; keepalive_requests 10000000; }}
  server {{
    listen {http};
    location / {{
      proxy_pass http://rest;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
    }}
  }}
  server {{
    listen {grpc} http2;
    location / {{ grpc_pass grpc://calls; }}
  }}
}}
"""


def config(address: str) -> str:
    """Return nginx's configuration before a Service's address."""
    return _CONFIG.format(address=address, http=HTTP_PORT, grpc=GRPC_PORT, workers=WORKERS)


def objects(address: str) -> list[Object]:
    """Return what runs nginx before a Service's address."""
    labels = {"app": NAME}
    ports = [("http", HTTP_PORT), ("grpc", GRPC_PORT)]
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": NAME},
            "data": {"nginx.conf": config(address)},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": NAME},
            "spec": {"selector": labels, "ports": [{"name": n, "port": p} for n, p in ports]},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": NAME},
            "spec": {
                "replicas": REPLICAS,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": _pod()},
            },
        },
    ]


def _pod() -> Object:
    container = {
        "name": "nginx",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["nginx", "-e", "stderr", "-c", "/config/nginx.conf", "-g", "daemon off;"],
        "ports": [{"containerPort": HTTP_PORT}, {"containerPort": GRPC_PORT}],
        "readinessProbe": {"tcpSocket": {"port": HTTP_PORT}, "periodSeconds": 1},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [
            {"name": "config", "mountPath": "/config"},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }
    return {
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65534,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
        "containers": [container],
        "volumes": [
            {"name": "config", "configMap": {"name": NAME}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }


def load(stage: Stage, report: Reporter) -> None:
    """Give the nodes the image of nginx."""
    image = ensure_nginx(report=report)
    if stage.cluster.backend is not None:
        stage.cluster.backend.load_images((image,), report=report)


def start(place: Scratch, service: str) -> str:
    """Have nginx run before a service; return its address once it answers."""
    place.apply(*objects(place.address(service)))
    wait_for(
        "nginx",
        lambda: condition(place.get("deployment", NAME), "Available").get("status") == "True",
        timeout=60,
        seen=lambda: str([condition(p, "Ready") for p in place.all("pods", "-l", f"app={NAME}")]),
    )
    return place.address(NAME)


def flow(name: str, address: str, model: str, protocol: Protocol, **other: Any) -> Flow:
    """Return a flow through nginx."""
    port = HTTP_PORT if protocol == "http" else GRPC_PORT
    return Flow(name, protocol, f"{address}:{port}", model, **other)
